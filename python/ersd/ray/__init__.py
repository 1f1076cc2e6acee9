"""Batches and servers on clusters of Ray. It needs the extra "ray"."""

from __future__ import annotations

from ersd.ray.app import AppArgs, build_app
from ersd.ray.udf import GeneratorUDF
from ersd.ray.workers import Workers
from ersd.tables import row_seed

__all__ = ["AppArgs", "GeneratorUDF", "Workers", "build_app", "row_seed"]
