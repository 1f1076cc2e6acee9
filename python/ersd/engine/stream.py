"""A generation under way: it drives the core step by step and holds the engine's lock meanwhile."""

from __future__ import annotations

from collections.abc import Iterator
from types import TracebackType
from typing import TYPE_CHECKING

from ersd.engine.lock import EngineLock
from ersd.results import Position, Stats, Step, TokenLogprob

if TYPE_CHECKING:
    from ersd import _core

__all__ = ["Stream", "ranked_positions"]


class Stream:
    """A generation under way: iterate over its steps, then read the rest from its attributes.

    The Generator is busy from the first step until the stream ends or is closed. A stream that is
    closed early leaves the Generator usable. It is an iterator and a context manager.

    Attributes:
        seed: the seed of this generation.
        text: the text so far.
        tokens: the tokens so far.
        logprobs: one entry per token so far; None unless the option `logprobs` is given.
        finish_reason: None until the generation is finished.
    """

    def __init__(
        self,
        core: _core.Generator,
        lock: EngineLock,
        prompt: list[int],
        options: _core.GenerationOptions,
        seed: int,
    ) -> None:
        """Use `Generator.stream` to make a stream."""
        self.seed = seed
        self.text = ""
        self.tokens: list[int] = []
        self.logprobs: list[TokenLogprob] | None = [] if options.logprobs is not None else None
        self.finish_reason: str | None = None
        self._core = core
        self._lock = lock
        self._prompt = prompt
        self._options = options
        self._state = "new"  # then "open", while the lock is held, then "closed"
        self._stats: Stats | None = None

    def __iter__(self) -> Iterator[Step]:
        """Returns the stream itself."""
        return self

    def __next__(self) -> Step:
        """Runs the target once."""
        if self._state == "closed":
            raise StopIteration
        try:
            if self._state == "new":
                self._lock.acquire()
                self._state = "open"
                self._core.start(self._prompt, self._options)
            step = self._core.step()
        except BaseException:
            self.close()
            raise
        self.text += step.text
        self.tokens += step.tokens
        logprobs = None
        if self.logprobs is not None:
            logprobs = [TokenLogprob(each.token, each.logprob, each.top) for each in step.logprobs]
            self.logprobs += logprobs
        if step.finish_reason:
            self.finish_reason = step.finish_reason
            self.close()
            if not step.text and not step.tokens:
                raise StopIteration
        return Step(step.text, step.tokens, step.n_accepted, logprobs)

    def close(self) -> None:
        """Ends the generation and frees the Generator. It does nothing on a finished stream."""
        if self._state == "open":
            self._stats = Stats(**self._core.stats)
            self._core.end()
            self._lock.release()
        self._state = "closed"

    @property
    def stats(self) -> Stats:
        """Counts and times so far.

        Raises:
            RuntimeError: the stream has not begun.
        """
        if self._stats is not None:
            return self._stats
        if self._state == "new":
            raise RuntimeError("the stream has not begun: take a step before its stats")
        return Stats(**self._core.stats)

    def __enter__(self) -> Stream:
        """Returns the stream itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes the stream."""
        self.close()

    def __del__(self) -> None:
        """Closes the stream."""
        self.close()


def ranked_positions(
    core: _core.Generator,
    lock: EngineLock,
    prompt: list[int],
    options: _core.GenerationOptions,
    with_logits: bool,
) -> Iterator[Position]:
    """Yields the positions of one generation; see `Generator.ranks`."""
    with lock:
        core.start(prompt, options)
        while core.n_remain > 0:
            token, rank = core.step_with_rank()
            if with_logits:
                yield Position(token, rank, core.target_row(), core.draft_row())
            else:
                yield Position(token, rank)
