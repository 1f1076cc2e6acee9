"""What writes an answer in the form of an endpoint, whole or as events."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any

from ersd.results import Step
from ersd.serve.errors import ApiError

__all__ = ["Answer", "event"]


def event(data: dict[str, Any], name: str | None = None) -> bytes:
    """Returns a server-sent event.

    Args:
        data: what it says, as JSON in ASCII, because some clients take further characters of
            Unicode for ends of lines.
        name: its name; None for a nameless one.
    """
    head = f"event: {name}\n" if name else ""
    return f"{head}data: {json.dumps(data, separators=(',', ':'))}\n\n".encode("ascii")


class Answer(ABC):
    """Writes an answer, whole or as server-sent events."""

    @abstractmethod
    def whole(self) -> dict[str, Any]:
        """Returns the answer after all choices have ended."""

    @abstractmethod
    def begin(self) -> Iterator[bytes]:
        """Yields the events before the first step."""

    @abstractmethod
    def step(self, i: int, step: Step) -> Iterator[bytes]:
        """Yields the events of a step of choice i."""

    @abstractmethod
    def end_choice(self, i: int, *, is_last: bool) -> Iterator[bytes]:
        """Yields the events of the end of choice i, which may be the last one that ends."""

    def error(self, error: ApiError) -> bytes:
        """Returns the event that ends an answer that cannot go on."""
        return event(error.body())
