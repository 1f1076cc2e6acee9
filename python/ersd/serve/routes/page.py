"""The page of the server: a folder of static files."""

from __future__ import annotations

from pathlib import Path

from starlette.requests import Request
from starlette.responses import FileResponse
from starlette.routing import Route

__all__ = ["routes"]

_FOLDER = Path(__file__).parent.parent / "static"
_HEADERS = {
    "Cache-Control": "no-cache",  # which asks whether a file has changed
    "Content-Security-Policy": "default-src 'none'; script-src 'self'; style-src 'self'; "
    "img-src 'self' data:; connect-src 'self'; base-uri 'none'; form-action 'none'; "
    "frame-ancestors 'none'",
    "X-Content-Type-Options": "nosniff",
}


def routes() -> list[Route]:
    """Returns a route for each file of the page; that of index.html is /."""
    files = sorted(path for path in _FOLDER.rglob("*") if path.is_file())
    return [_route(path) for path in files]


def _route(path: Path) -> Route:
    async def answer(request: Request) -> FileResponse:
        return FileResponse(path, headers=_HEADERS)

    name = path.relative_to(_FOLDER).as_posix()
    return Route("/" if name == "index.html" else f"/{name}", answer)
