"""The app: its routes, and what stands around them."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable
from http import HTTPStatus

from starlette.applications import Starlette
from starlette.exceptions import HTTPException
from starlette.middleware import Middleware
from starlette.middleware.cors import CORSMiddleware
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from ersd import Generator
from ersd.serve import openapi, routes
from ersd.serve.errors import ApiError, client_left, refused
from ersd.serve.request_log import RequestLog
from ersd.serve.routes import page
from ersd.serve.security import LOCALHOST, Access, Limits
from ersd.serve.server import Server
from ersd.serve.settings import Settings

__all__ = ["create_app"]


def create_app(load: Callable[[], Generator], settings: Settings | None = None) -> Starlette:
    """Returns the ASGI app of a server. Its lifespan loads the models.

    Args:
        load: loads the models; it is called in a thread.
        settings: what the operator decides; None for the defaults.
    """
    settings = settings or Settings()
    server = Server(load, settings)

    @contextlib.asynccontextmanager
    async def lifespan(app: Starlette) -> AsyncIterator[None]:
        loading = asyncio.create_task(server.load())
        yield
        await loading
        await server.drain()

    app = Starlette(
        routes=[
            *routes.ROUTES,
            openapi.route(routes.OPERATIONS, needs_key=bool(settings.api_keys)),
            *(page.routes() if settings.page else []),
        ],
        middleware=_middleware(server),
        exception_handlers={
            ApiError: _answer_error,
            ClientDisconnect: _answer_error,
            HTTPException: _answer_error,
            ValueError: _answer_error,
        },
        lifespan=lifespan,
    )
    app.state.server = server
    return app


def _middleware(server: Server) -> list[Middleware]:
    """Returns the layers around the routes, the outermost first."""
    settings = server.settings
    layers = [Middleware(RequestLog, server=server)]
    if settings.cors_origins:
        layers.append(
            Middleware(
                CORSMiddleware,
                allow_origins=settings.cors_origins,
                allow_origin_regex=LOCALHOST if "localhost" in settings.cors_origins else None,
                allow_methods=["GET", "POST"],
                allow_headers=["*"],
                expose_headers=["x-request-id", "retry-after"],
            )
        )
    layers += [
        Middleware(Access, keys=settings.api_keys, origins=settings.cors_origins),
        Middleware(Limits, max_head=settings.max_header_bytes, max_body=settings.max_body_bytes),
    ]
    return layers


async def _answer_error(request: Request, error: Exception) -> Response:
    """Answers with an error that an endpoint raised. ValueErrors are those of the engine."""
    return _api_error(request, error).response()


def _api_error(request: Request, error: Exception) -> ApiError:
    if isinstance(error, ApiError):
        return error
    if isinstance(error, ClientDisconnect):
        return client_left()
    if isinstance(error, HTTPException):  # of the router: there is no such path or method
        what = HTTPStatus(error.status_code).phrase.lower()
        return ApiError(
            error.status_code,
            f"{what}: {request.method} {request.url.path}",
            kind="not_found_error" if error.status_code == 404 else "invalid_request_error",
            headers=error.headers,
        )
    return refused(error)
