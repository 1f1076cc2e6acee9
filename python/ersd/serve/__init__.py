"""`ersd serve`: an HTTP server with OpenAI's protocol. It needs the extra "serve"."""

from __future__ import annotations

from ersd.serve.app import create_app
from ersd.serve.run import run
from ersd.serve.settings import Settings

__all__ = ["Settings", "create_app", "run"]
