"""The addresses of the server."""

from __future__ import annotations

from ersd.serve import openai
from ersd.serve.routes import health, metrics, models, props, slots, tokens

__all__ = ["OPERATIONS", "ROUTES"]

_PARTS = (openai, health, metrics, models, props, slots, tokens)

ROUTES = [route for part in _PARTS for route in part.ROUTES]
OPERATIONS = [operation for part in _PARTS for operation in part.OPERATIONS]
