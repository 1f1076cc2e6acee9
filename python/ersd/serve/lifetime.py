"""How long the work of a request may go on."""

from __future__ import annotations

import time
from collections.abc import Awaitable
from typing import TypeVar

import anyio

from ersd.serve.errors import ApiError

__all__ = ["Lifetime"]

T = TypeVar("T")


class Lifetime:
    """Ends all that a request waits for by one error: its deadline, its client, or the server.

    Attributes:
        began: when it began, in seconds of time.perf_counter.
        error: why it has ended; None before that.
    """

    def __init__(self) -> None:
        """Begins."""
        self.began = time.perf_counter()
        self.error: ApiError | None = None
        self._scopes: set[anyio.CancelScope] = set()  # of what waits

    async def wait(self, work: Awaitable[T]) -> T:
        """Awaits something, and cancels it at the end of the lifetime.

        Raises:
            ApiError: why the lifetime has ended.
        """
        with anyio.CancelScope() as scope:
            self._scopes.add(scope)
            try:
                if self.error is not None:
                    scope.cancel()
                return await work
            finally:
                self._scopes.discard(scope)
        assert self.error is not None
        raise self.error

    def end(self, error: ApiError) -> None:
        """Lets everything that waits, now or later, raise an error. The first one stays."""
        self.error = self.error or error
        for scope in self._scopes:
            scope.cancel()
