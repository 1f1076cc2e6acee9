"""The figures of the server, for Prometheus."""

from __future__ import annotations

from prometheus_client import CONTENT_TYPE_LATEST
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from ersd.serve.openapi import Operation
from ersd.serve.server import server_of

__all__ = ["OPERATIONS", "ROUTES"]


async def metrics(request: Request) -> Response:
    """Answers with all figures in Prometheus's text format."""
    server = server_of(request)
    headers = {
        "Content-Type": CONTENT_TYPE_LATEST,
        "Process-Start-Time-Unix": str(server.created),  # which llama-server tells, too
    }
    return Response(server.metrics.page(), headers=headers)


ROUTES = [Route("/metrics", metrics)]
OPERATIONS = [Operation("/metrics", "GET", None, None)]
