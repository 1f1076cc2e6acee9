"""What a generation gives: steps while it runs, a result at its end, and its stats."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from types import TracebackType
from typing import TYPE_CHECKING

from ersd import _core

if TYPE_CHECKING:
    from ersd.generator import Generator

__all__ = ["Result", "Stats", "Step", "Stream", "TokenLogprob"]


@dataclass(frozen=True)
class TokenLogprob:
    """The log-probability of a token of the answer: log-softmax of the target's own logits, before any option shapes them.

    Attributes:
        token: the token.
        logprob: its log-probability.
        top: the most probable tokens at its position and their log-probabilities, as many as were asked for.
    """

    token: int
    logprob: float
    top: list[tuple[int, float]]


@dataclass(frozen=True)
class Stats:
    """Counts of one generation. Times are in milliseconds.

    Attributes:
        generated: tokens of the answer.
        target_calls: calls of the target after the prompt.
        draft_calls: calls of the draft after the prompt.
        drafted: drafted tokens, that is tree nodes without the roots.
        accepted: drafted tokens that are tokens of the answer.
        tokens_per_call: generated / target_calls; 1 without a draft.
        acceptance_rate: accepted / drafted.
        acceptance_histogram: ``[n]`` counts target calls that accepted n drafted tokens.
        rank_histogram: ``[r]`` counts verified positions whose token was the (r+1)-th in the draft's order; 64 ranks, then all later.
        nodes_histogram: ``[k]`` counts target calls that checked k drafted tokens.
        expected_tokens: what was expected of all target calls together, to be held against generated; 0 as long as it is not known what
            calls cost, which ``draft_nodes="auto"`` measures, and for rejection sampling.
        expected_ms: the same of the time of all calls, to be held against total_ms - prefill_ms.
        target_tokens: tokens that went through the target, the prompt included.
        draft_tokens: the same for the draft.
        cached_tokens: prompt tokens that needed no reading, as the target's cache held them from the call before.
        prefill_ms: reading the prompt, both models; the first time with ``draft_nodes="auto"`` also measuring what calls cost.
        draft_ms: calls of the draft.
        target_ms: calls of the target.
        race_ms: races on both sides, truncation included.
        total_ms: everything, from the prompt on.
        tokens_per_second: generated per second, the prompt's time left out.
    """

    generated: int
    target_calls: int
    draft_calls: int
    drafted: int
    accepted: int
    tokens_per_call: float
    acceptance_rate: float
    acceptance_histogram: list[int]
    rank_histogram: list[int]
    nodes_histogram: list[int]
    expected_tokens: float
    expected_ms: float
    target_tokens: int
    draft_tokens: int
    cached_tokens: int
    prefill_ms: float
    draft_ms: float
    target_ms: float
    race_ms: float
    total_ms: float
    tokens_per_second: float

    def __str__(self) -> str:
        """One line: tokens, speed, tokens per target call."""
        return f"{self.generated} tokens, {self.tokens_per_second:.1f} tokens/s, {self.tokens_per_call:.2f} tokens per target call"


@dataclass(frozen=True)
class Step:
    """What one target call gave.

    Attributes:
        text: the text that became certain; the texts of all steps joined are the whole answer.
        tokens: the tokens of this step that belong to the answer.
        n_accepted: how many of them were drafted.
        logprobs: one for each of them; None unless asked for.
    """

    text: str
    tokens: list[int]
    n_accepted: int
    logprobs: list[TokenLogprob] | None = None


@dataclass(frozen=True)
class Result:
    """A finished generation.

    Attributes:
        text: the answer; it ends before a stop string or an end token.
        tokens: its tokens, without the end token. A stop string's tokens are included up to the one that completes it.
        finish_reason: "stop" for an end token or stop string, "length" for max_tokens or a full context.
        seed: the seed that gives this answer again.
        stats: counts and times.
        logprobs: one for each of the tokens; None unless asked for.
    """

    text: str
    tokens: list[int]
    finish_reason: str
    seed: int
    stats: Stats
    logprobs: list[TokenLogprob] | None = None


class Stream:
    """A generation under way: iterate over its steps, then read the rest from its attributes.

    The Generator is busy from the first step until the stream ends or is closed; closing it early leaves the Generator usable.
    Use it as an iterator or in a ``with`` block.

    Attributes:
        seed: the seed of this generation.
        text, tokens: what has come so far.
        logprobs: of these tokens; None unless asked for.
        finish_reason: None until the generation is finished.
    """

    def __init__(
        self, generator: Generator, prompt: list[int], options: _core.GenerationOptions, seed: int
    ) -> None:
        """Made by `Generator.stream`."""
        self.seed = seed
        self.text = ""
        self.tokens: list[int] = []
        self.logprobs: list[TokenLogprob] | None = [] if options.logprobs is not None else None
        self.finish_reason: str | None = None
        self._generator = generator
        self._prompt = prompt
        self._options = options
        self._state = "new"
        self._stats: Stats | None = None

    def __iter__(self) -> Iterator[Step]:
        """The stream itself."""
        return self

    def __next__(self) -> Step:
        """Run the target once."""
        if self._state == "closed":
            raise StopIteration
        core = self._generator._core
        try:
            if self._state == "new":
                self._generator._acquire()
                self._state = "open"
                core.start(self._prompt, self._options)
            step = core.step()
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
        """End the generation and free the Generator; harmless when it is over."""
        if self._state == "open":
            self._stats = Stats(**self._generator._core.stats)
            self._generator._core.end()
            self._generator._release()
        self._state = "closed"

    @property
    def stats(self) -> Stats:
        """Counts and times so far."""
        if self._stats is not None:
            return self._stats
        if self._state == "new":
            raise RuntimeError("the stream has not begun: take a step before its stats")
        return Stats(**self._generator._core.stats)

    def __enter__(self) -> Stream:
        """The stream itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Close."""
        self.close()

    def __del__(self) -> None:
        """Close."""
        self.close()
