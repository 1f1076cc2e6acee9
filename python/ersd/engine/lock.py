"""The lock of an engine, which runs one generation at a time."""

from __future__ import annotations

import threading
from collections.abc import Callable

__all__ = ["EngineLock"]


class EngineLock:
    """Lets one thread use an engine while other threads wait.

    It is a context manager. A thread that already holds the lock gets an error, because waiting
    for itself would never end.
    """

    def __init__(self, before_release: Callable[[], None]) -> None:
        """before_release: called each time just before the lock is released."""
        self._before_release = before_release
        self._lock = threading.Lock()
        self._holder: int | None = None  # the thread that holds the lock

    def acquire(self) -> None:
        """Waits until the engine is free and takes it.

        Raises:
            RuntimeError: this thread holds the lock already.
        """
        if self._holder == threading.get_ident():
            raise RuntimeError(
                "this thread has an open stream of this Generator: finish it or close() it first"
            )
        self._lock.acquire()
        self._holder = threading.get_ident()

    def release(self) -> None:
        """Lets the next thread use the engine."""
        try:
            self._before_release()
        finally:
            self._holder = None
            self._lock.release()

    def __enter__(self) -> None:
        """Acquires the lock."""
        self.acquire()

    def __exit__(self, *_: object) -> None:
        """Releases the lock."""
        self.release()
