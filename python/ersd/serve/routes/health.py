"""Whether the server is ready."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from ersd.serve.openapi import Operation
from ersd.serve.server import server_of

__all__ = ["OPERATIONS", "ROUTES"]


class Health(BaseModel):
    """The answer of a server that is ready."""

    status: Literal["ok"] = "ok"


async def health(request: Request) -> JSONResponse:
    """Answers 200 if the server takes requests, and 503 while it loads or ends."""
    server_of(request).jobs.check_open()
    return JSONResponse(Health().model_dump())


ROUTES = [Route("/health", health), Route("/v1/health", health)]
OPERATIONS = [Operation("/health", "GET", None, Health)]
