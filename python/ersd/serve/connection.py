"""A connection to a client, which is cut if the client is too slow."""

from __future__ import annotations

import asyncio

from uvicorn.protocols.http.h11_impl import H11Protocol

__all__ = ["Connection"]


class Connection(H11Protocol):
    """A connection of uvicorn, with limits that uvicorn does not have.

    timeout_keep_alive seconds after the connection was made, or after the answer before, a request
    must have arrived whole. For as long a client may leave an answer unread.
    """

    _request: asyncio.TimerHandle | None = None
    _answer: asyncio.TimerHandle | None = None

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begins to wait for a request."""
        super().connection_made(transport)
        self._expect_request()

    def connection_lost(self, exc: Exception | None) -> None:
        """Waits for nothing any more."""
        for timer in (self._request, self._answer):
            if timer is not None:
                timer.cancel()
        super().connection_lost(exc)

    def on_response_complete(self) -> None:
        """Begins to wait for the next request."""
        super().on_response_complete()
        self._expect_request()

    def pause_writing(self) -> None:
        """Begins to wait for the client to read."""
        super().pause_writing()
        self._answer = self.loop.call_later(self.timeout_keep_alive, self.transport.abort)

    def resume_writing(self) -> None:
        """The client has read."""
        super().resume_writing()
        if self._answer is not None:
            self._answer.cancel()

    def _expect_request(self) -> None:
        if self._request is not None:
            self._request.cancel()
        self._request = self.loop.call_later(self.timeout_keep_alive, self._check_request)

    def _check_request(self) -> None:
        """Cuts the connection unless a request has arrived whole and is not answered yet."""
        if self.cycle is None or self.cycle.more_body or self.cycle.response_complete:
            self.transport.abort()
