"""A Generator that remembers what it was last asked for."""

from __future__ import annotations

import threading
from collections.abc import Callable, Sequence
from typing import Any, NamedTuple

from ersd.engine.stream import Stream
from ersd.generator import Generator

__all__ = ["Recorded", "RecordedGenerator"]


class Recorded(NamedTuple):
    """A generation.

    Attributes:
        prompt: the tokens of the prompt.
        stream: the stream of the answer.
    """

    prompt: list[int]
    stream: Stream

    def text(self) -> list[int]:
        """Returns the tokens of prompt and answer that the model has read.

        The last token of an answer is not read, unless an end token was drawn after it.
        """
        tokens, ended = self.stream.tokens, self.stream.end_token is not None
        return self.prompt + (tokens if ended else tokens[:-1])


class RecordedGenerator(Generator):
    """Remembers the last generation of each thread.

    Attributes:
        before: is called with the tokens of each prompt before it is read.
    """

    before: Callable[[list[int]], None] = staticmethod(lambda prompt: None)

    def __init__(self, *args: Any, **options: Any) -> None:
        """Loads the models; see `ersd.Generator`."""
        super().__init__(*args, **options)
        self._threads = threading.local()

    def stream(self, prompt: str | Sequence[int], **options: Any) -> Stream:
        """See `Generator.stream`."""
        tokens = self._prompt(prompt)
        self.before(tokens)
        stream = super().stream(tokens, **options)
        self._threads.last = Recorded(tokens, stream)
        return stream

    def last(self) -> Recorded:
        """Returns the generation that this thread began last."""
        recorded: Recorded = self._threads.last
        return recorded
