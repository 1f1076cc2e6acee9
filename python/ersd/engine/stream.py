"""A generation under way, which any thread may advance step by step."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING

from ersd.engine.answer import Answer
from ersd.engine.shared_core import SharedCore
from ersd.results import Position, Step

if TYPE_CHECKING:
    from ersd import _core

__all__ = ["Stream", "ranked_positions"]


class Stream(Answer):
    """A generation under way: iterate over its steps, then read the rest from its attributes.

    It is an iterator and a context manager. Any thread may take the next step. A stream begins with
    its first step. Up to n_parallel streams of a Generator run at once; another one waits until a
    place is free, or takes the place of one whose steps nobody takes. Closing or dropping a stream
    frees its place.

    Attributes:
        seed: the seed of this generation.
        text: the text so far.
        tokens: the tokens so far.
        logprobs: one entry per token so far; None unless the option `logprobs` is given.
        finish_reason: None until the generation is finished.
        end_token: the token that ended the answer, which is not one of `tokens`; None if it ended
            otherwise, or has not ended.
    """

    def __init__(
        self,
        core: SharedCore,
        prompt: list[int],
        options: _core.GenerationOptions,
        seed: int,
    ) -> None:
        """Use `Generator.stream` to make a stream."""
        super().__init__(options, seed)
        self._core = core
        self._submit: Callable[[], _core.Request] | None = partial(core.submit, prompt, options)
        self._turn = threading.Lock()  # the thread that holds it takes the next step
        self._closed = False

    def __iter__(self) -> Iterator[Step]:
        """Returns the stream itself."""
        return self

    def __next__(self) -> Step:
        """Waits for the next step. Several threads that ask at once get different steps."""
        self._core.check_not_in_step()  # before the lock, which another thread may hold
        with self._turn:
            step = None if self._closed else self._take()
        if step is None:
            raise StopIteration
        return step

    def _take(self) -> Step | None:
        """Returns the next step, or None at the end."""
        try:
            found = self._core.next(self._request or self._begin())
            if found is None:  # close() was called meanwhile
                self._closed = True
                return None
            step = self._add(found)
        except BaseException:
            self.close()
            raise
        if not found.finish_reason:
            return step
        self._closed = True
        return step if step.text or step.tokens else None

    def _begin(self) -> _core.Request:
        """Submits the request."""
        assert self._submit is not None
        request = self._request = self._submit()
        self._submit = None  # which holds the prompt and the logits processors
        if self._closed:  # by another thread, which found no request to cancel
            self._core.cancel(request)
        return request

    def close(self) -> None:
        """Ends the generation and frees its place. It does nothing on a finished stream."""
        self._cancel()
        self._core.write_costs()

    def _cancel(self) -> None:
        self._closed = True
        if self._request is not None:
            self._core.cancel(self._request)

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
        """Frees the place. It waits for nothing, because it may run inside any other call."""
        self._cancel()


def ranked_positions(
    core: SharedCore,
    prompt: list[int],
    options: _core.GenerationOptions,
    with_logits: bool,
) -> Iterator[Position]:
    """Yields the positions of one generation; see `Generator.ranks`."""
    request = core.submit(prompt, options, wants_ranks=True)
    try:
        while (step := core.next(request)) is not None:
            for token in step.tokens:  # one, or none in a last step that brings only its reason
                if with_logits:
                    rows = request.target_row(), request.draft_row()
                    yield Position(token, request.rank, *rows)
                else:
                    yield Position(token, request.rank)
    finally:
        core.cancel(request)
