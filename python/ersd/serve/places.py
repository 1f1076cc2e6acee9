"""The places in which generations run."""

from __future__ import annotations

import asyncio
import time
from typing import Generic, TypeVar

__all__ = ["Places"]

T = TypeVar("T")


class Places(Generic[T]):
    """A fixed number of places. Who finds none waits, first come first served.

    Attributes:
        taken: who is in which place.
        n_waiting: how many wait.
        mean_seconds: how long the last ones stayed, on average; 0 before anyone has left.
    """

    def __init__(self, n: int) -> None:
        """n: the number of places."""
        self.taken: dict[int, T] = {}
        self.n_waiting = 0
        self.mean_seconds = 0.0
        self._n = n
        self._free = asyncio.Semaphore(n)
        self._since: dict[int, float] = {}

    async def take(self, guest: T) -> int:
        """Waits for a free place, and returns its number from 0 to n - 1."""
        self.n_waiting += 1
        try:
            await self._free.acquire()
        finally:
            self.n_waiting -= 1
        place = next(i for i in range(self._n) if i not in self.taken)
        self.taken[place] = guest
        self._since[place] = time.perf_counter()
        return place

    def leave(self, place: int) -> None:
        """Frees a place."""
        del self.taken[place]
        seconds = time.perf_counter() - self._since.pop(place)
        self.mean_seconds += (seconds - self.mean_seconds) * (0.2 if self.mean_seconds else 1.0)
        self._free.release()
