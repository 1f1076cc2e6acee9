"""What the engine returns: steps, results and their statistics, as plain data."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import numpy as np
import numpy.typing as npt

__all__ = [
    "Exactness",
    "Forecast",
    "Memory",
    "Position",
    "Result",
    "Stats",
    "Step",
    "StepTree",
    "TokenLogprob",
]


@dataclass(frozen=True)
class Exactness:
    """Whether a Generator's text is the same to the bit, whatever is drafted. True if it is.

    Attributes:
        holds: whether that is promised.
        reason: a sentence that says why or why not.
    """

    holds: bool
    reason: str

    def __bool__(self) -> bool:
        """Whether it holds."""
        return self.holds


@dataclass(frozen=True)
class Memory:
    """What a model takes on a device, in bytes.

    Attributes:
        model: "target" or "draft".
        device: llama.cpp's name of the device, such as "CPU" or "CUDA0".
        weights: the weights; those of a file that is mapped are in memory once they are used.
        cache: keys, values and states.
        compute: what calls work with, their logits included.
    """

    model: str
    device: str
    weights: int
    cache: int
    compute: int

    def __str__(self) -> str:
        """Returns a line with the three in megabytes."""
        mb = [f"{n / 1e6:.0f} MB" for n in (self.weights, self.cache, self.compute)]
        return f"{self.model} on {self.device}: weights {mb[0]}, cache {mb[1]}, calls {mb[2]}"


@dataclass(frozen=True)
class TokenLogprob:
    """The log-probability of one token of the answer.

    It is the log-softmax of the target's own logits, before any option changes them.

    Attributes:
        token: the token.
        logprob: its log-probability.
        top: the most probable tokens at this position with their log-probabilities, the most
            probable first; as many as the option `logprobs` asks for.
    """

    token: int
    logprob: float
    top: list[tuple[int, float]]


@dataclass(frozen=True)
class Stats:
    """Counts and times of one generation. Times are in milliseconds.

    Attributes:
        strategy: the drafting strategy that was used. It is "sequence" instead of the one that was
            asked for where a model is recurrent or hybrid, because it cannot hold a tree.
        generated: tokens of the answer.
        target_calls: calls of the target after the prompt.
        draft_calls: calls of the draft after the prompt.
        drafted: drafted tokens, which are tree nodes without the roots.
        accepted: drafted tokens that are tokens of the answer.
        drafted_by: drafted tokens by source, like ``{"lookup": 12}``. A token that several sources
            proposed counts for each.
        accepted_by: accepted tokens by source.
        tokens_per_call: tokens of the answer, and its end token if there is one, for each target
            call; 1 where nothing is drafted.
        acceptance_rate: accepted / drafted.
        acceptance_histogram: ``[n]`` counts target calls that accepted n drafted tokens.
        rank_histogram: ``[r]`` counts verified positions whose token was the (r+1)-th in the
            draft's order; i64[65], 64 ranks and one entry for all later ranks.
        nodes_histogram: ``[k]`` counts target calls that checked k drafted tokens.
        expected_tokens: the sum of the expected tokens of all target calls, to compare with
            generated. It is 0 for rejection sampling, and until the costs of calls are measured,
            which ``draft_nodes="auto"`` does.
        expected_ms: the sum of the expected times of all calls, to compare with total_ms -
            prefill_ms. It is 0 where expected_tokens is 0.
        target_tokens: tokens that the target computed, the prompt included.
        draft_tokens: tokens that the draft computed, the prompt included.
        cached_tokens: prompt tokens that were not read, because the target's cache held them.
        prefill_ms: time to read the prompt with both models. The first use of
            ``draft_nodes="auto"`` also measures the costs of calls in this time.
        draft_ms: time of the draft's calls.
        target_ms: time of the target's calls.
        race_ms: time of the races of both models, truncation included.
        total_ms: time of everything, from the prompt on.
        tokens_per_second: generated tokens per second, without the time of the prompt.
    """

    strategy: str
    generated: int
    target_calls: int
    draft_calls: int
    drafted: int
    accepted: int
    drafted_by: dict[str, int]
    accepted_by: dict[str, int]
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
        """Returns the number of tokens, the speed and the tokens per target call, in one line.

        If tokens of several sources were accepted, their numbers follow.
        """
        accepted = ", ".join(f"{name} {n}" for name, n in self.accepted_by.items() if n)
        by_source = f" (accepted: {accepted})" if "," in accepted else ""
        return (
            f"{self.generated} tokens, {self.tokens_per_second:.1f} tokens/s, "
            f"{self.tokens_per_call:.2f} tokens per target call{by_source}"
        )


@dataclass(frozen=True)
class StepTree:
    """The tree of tokens that a target call checked, as flat arrays.

    Attributes:
        tokens: the nodes, parents before children. Node 0, the root, is the last token before the
            step; the others were drafted.
        parents: the parent of each node; -1 for the root.
        accepted: the nodes on the path that the target took, from the root on.
        sources: which sources proposed each node; empty for the root.
    """

    tokens: list[int]
    parents: list[int]
    accepted: list[int]
    sources: list[tuple[str, ...]]


@dataclass(frozen=True)
class Step:
    """The outcome of one target call.

    Attributes:
        text: the text that became certain. The texts of all steps, joined, are the answer.
        tokens: the tokens of this step that belong to the answer.
        n_accepted: how many of these tokens were drafted.
        sources: which sources proposed each of the first n_accepted tokens.
        logprobs: one entry per token; None unless the option `logprobs` is given.
        tree: what was drafted; None unless the option `draft_trees` is given.
    """

    text: str
    tokens: list[int]
    n_accepted: int
    logprobs: list[TokenLogprob] | None = None
    tree: StepTree | None = None
    sources: list[tuple[str, ...]] = field(default_factory=list)


@dataclass(frozen=True)
class Result:
    """A finished generation.

    Attributes:
        text: the answer; it ends before a stop string or an end token.
        tokens: the token ids of the answer, without the end token. If a stop string ended the
            answer, its tokens are included up to the one that completes it.
        finish_reason: "stop" after an end token or a stop string, "length" when max_tokens or the
            end of the context is reached.
        seed: the seed that gives this answer again.
        stats: counts and times.
        logprobs: one entry per token; None unless the option `logprobs` is given.
        parse: makes the object `parsed` of a text; None unless the option `response_format` is a
            class.
    """

    text: str
    tokens: list[int]
    finish_reason: str
    seed: int
    stats: Stats
    logprobs: list[TokenLogprob] | None = None
    parse: Callable[[str], Any] | None = field(default=None, repr=False, compare=False)

    @property
    def parsed(self) -> Any:
        """The answer as an object of the class that was the option `response_format`.

        Raises:
            ValueError: the option was no class, or the text is not complete, because the answer
                ended by its length or at a stop string.
        """
        if self.parse is None:
            raise ValueError("parsed needs a class as response_format")
        if self.finish_reason == "length":
            raise ValueError(
                f"the answer ended by its length, after {len(self.tokens)} tokens, and its text is "
                "not complete: raise max_tokens"
            )
        return self.parse(self.text)


@dataclass(frozen=True)
class Position:
    """One position of a text, as `Generator.ranks` yields it.

    Attributes:
        token: the token that the target emitted.
        rank: the index of this token in the order in which the draft's tokens are tried; 0 is the
            first, and 256 stands for all later ones.
        target_logits: the target's logits, f32[n_vocab]; None unless asked for.
        draft_logits: the draft's logits, f32[n], where n is the smaller of both vocabularies; None
            unless asked for.
    """

    token: int
    rank: int
    target_logits: npt.NDArray[np.float32] | None = None
    draft_logits: npt.NDArray[np.float32] | None = None


@dataclass(frozen=True)
class Forecast:
    """The expected outcome of target calls that check k drafted tokens.

    Attributes:
        draft_nodes: k; 0 is plain decoding.
        tokens_per_call: expected tokens per target call.
        ms_per_call: expected milliseconds per target call, the draft's calls included.
    """

    draft_nodes: int
    tokens_per_call: float
    ms_per_call: float

    @property
    def tokens_per_second(self) -> float:
        """Expected tokens per second."""
        return 1000 * self.tokens_per_call / self.ms_per_call
