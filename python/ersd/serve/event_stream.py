"""An answer of server-sent events."""

from __future__ import annotations

import asyncio
from types import TracebackType

from starlette.types import Send

__all__ = ["EventStream"]

_PING_SECONDS = 15.0  # proxies cut connections on which nothing is sent for a minute or so
_HEADERS = [
    (b"content-type", b"text/event-stream; charset=utf-8"),
    (b"cache-control", b"no-store"),
    (b"connection", b"keep-alive"),
    (b"x-accel-buffering", b"no"),  # nginx would hold events back
]


class EventStream:
    """Sends events as they come, and comments while none comes. ``async with`` begins and ends it.

    An event is sent for each token of each stream, between two calls of the model. So there is no
    task between the one that makes an event and the connection.
    """

    def __init__(self, send: Send) -> None:
        """send: that of the ASGI app."""
        self._send = send
        self._pings: asyncio.Task[None] | None = None

    async def write(self, events: bytes) -> None:
        """Sends events. It waits while the client does not read."""
        await self._send({"type": "http.response.body", "body": events, "more_body": True})

    async def __aenter__(self) -> EventStream:
        """Sends the head."""
        await self._send({"type": "http.response.start", "status": 200, "headers": _HEADERS})
        self._pings = asyncio.create_task(self._ping())
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Sends the end, unless an error has come: then the connection is cut."""
        assert self._pings is not None
        self._pings.cancel()
        if error is None:
            await self._send({"type": "http.response.body", "body": b"", "more_body": False})

    async def _ping(self) -> None:
        while True:
            await asyncio.sleep(_PING_SECONDS)
            await self.write(b": ping\n\n")
