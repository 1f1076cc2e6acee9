"""An answer that comes step by step."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, Any

from ersd.results import Result, Stats, Step, StepTree, TokenLogprob

if TYPE_CHECKING:
    from ersd import _core

__all__ = ["Answer", "result_of"]


class Answer:
    """What a request of the core has given so far. `ersd.Stream` describes the attributes."""

    def __init__(self, options: _core.GenerationOptions, seed: int) -> None:
        """Begins with an empty answer.

        Args:
            options: say whether there are log-probabilities.
            seed: the seed of these options.
        """
        self.seed = seed
        self.text = ""
        self.tokens: list[int] = []
        self.logprobs: list[TokenLogprob] | None = [] if options.logprobs is not None else None
        self.finish_reason: str | None = None
        self.end_token: int | None = None
        self._request: _core.Request | None = None  # None until it is submitted

    @property
    def stats(self) -> Stats:
        """Counts and times so far.

        Raises:
            RuntimeError: the stream has not begun.
        """
        if self._request is None:
            raise RuntimeError("the stream has not begun: take a step before its stats")
        return Stats(**self._request.stats)

    def _add(self, step: _core.GenerationStep) -> Step:
        """Adds a step of the request to the answer, and returns it as plain data."""
        self.text += step.text
        self.tokens += step.tokens
        logprobs = None
        if self.logprobs is not None:
            logprobs = [TokenLogprob(each.token, each.logprob, each.top) for each in step.logprobs]
            self.logprobs += logprobs
        if step.finish_reason:
            self.finish_reason = step.finish_reason
            self.end_token = step.end_token if step.end_token >= 0 else None
        tree = None
        if (found := step.tree) is not None:
            tree = StepTree(found.tokens, found.parents, found.accepted, found.sources)
        return Step(step.text, step.tokens, step.n_accepted, logprobs, tree, step.sources)


def result_of(answer: Answer, parse: Callable[[str], Any] | None) -> Result:
    """Returns a finished answer as a result. parse makes the object of `Result.parsed`."""
    assert answer.finish_reason is not None
    return Result(
        answer.text,
        answer.tokens,
        answer.finish_reason,
        answer.seed,
        answer.stats,
        answer.logprobs,
        parse,
    )
