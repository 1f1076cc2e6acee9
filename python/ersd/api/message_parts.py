"""What a message consists of: text and calls of tools, as they are read from the model's text."""

from __future__ import annotations

import uuid
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Protocol

__all__ = ["CallPart", "Message", "NamedCallReader", "Part", "PlainReader", "Reader", "TextPart"]


@dataclass(frozen=True)
class TextPart:
    """Text of a message.

    Attributes:
        text: the text that comes next.
    """

    text: str


@dataclass(frozen=True)
class CallPart:
    """A call of a tool, or more of its arguments.

    Attributes:
        index: counts the calls of a message from 0.
        id: identifies the call.
        name: the tool.
        arguments: the text of the arguments, or what comes next of it.
        is_new: whether this is the first part of the call.
    """

    index: int
    id: str
    name: str
    arguments: str
    is_new: bool = True


Part = TextPart | CallPart


class Reader(Protocol):
    """Reads a message from the text of an answer, piece by piece."""

    def read(self, text: str) -> Iterator[Part]:
        """Yields the parts that are certain once this text has come, too."""

    def end(self) -> Iterator[Part]:
        """Yields what is left after the last text."""


class PlainReader:
    """Reads a message that is only text."""

    def read(self, text: str) -> Iterator[Part]:
        """See `Reader`."""
        if text:
            yield TextPart(text)

    def end(self) -> Iterator[Part]:
        """See `Reader`."""
        return iter(())


class NamedCallReader:
    """Reads a message that is one call of a given tool: its text is the arguments."""

    def __init__(self, name: str) -> None:
        """name: the tool."""
        self._name, self._id, self._is_new = name, new_call_id(), True

    def read(self, text: str) -> Iterator[Part]:
        """See `Reader`."""
        if text:
            yield CallPart(0, self._id, self._name, text, self._is_new)
            self._is_new = False

    def end(self) -> Iterator[Part]:
        """See `Reader`."""
        return iter(())


@dataclass
class Message:
    """A whole message.

    Attributes:
        text: all of its text.
        calls: its calls of tools, in order.
    """

    text: str = ""
    calls: list[CallPart] = field(default_factory=list)

    def add(self, part: Part) -> None:
        """Adds the part that comes next."""
        if isinstance(part, TextPart):
            self.text += part.text
        elif part.is_new:
            self.calls.append(part)
        else:
            so_far = self.calls[part.index]
            self.calls[part.index] = CallPart(
                so_far.index, so_far.id, so_far.name, so_far.arguments + part.arguments
            )


def new_call_id() -> str:
    """Returns a fresh identifier of a call."""
    return f"call_{uuid.uuid4().hex[:24]}"
