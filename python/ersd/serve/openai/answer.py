"""What writes an answer in the form of an endpoint, whole or as events."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from typing import Any, NamedTuple

from ersd.results import Step
from ersd.serve.errors import ApiError

__all__ = ["Answer", "Event"]


class Event(NamedTuple):
    """An event of a streamed answer.

    Attributes:
        data: what the event says.
        name: the name of the event; None for a nameless one.
    """

    data: dict[str, Any]
    name: str | None = None


class Answer(ABC):
    """Writes an answer."""

    @abstractmethod
    def whole(self) -> dict[str, Any]:
        """Returns the answer after all choices have ended."""

    @abstractmethod
    def begin(self) -> Iterator[Event]:
        """Yields the events before the first step."""

    @abstractmethod
    def step(self, i: int, step: Step) -> Iterator[Event]:
        """Yields the events of a step of choice i."""

    @abstractmethod
    def end_choice(self, i: int, *, is_last: bool) -> Iterator[Event]:
        """Yields the events of the end of choice i, which may be the last one that ends."""

    def error(self, error: ApiError) -> Event:
        """Returns the event that ends an answer that cannot go on."""
        return Event(error.body())
