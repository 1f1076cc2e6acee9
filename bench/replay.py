"""What rules of drafting would do on texts that are known: token sequences alone, without models.

n-gram rules of other programs give their tokens per call. Our own texts give the calibration of
their hit probabilities.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import NamedTuple

import numpy as np
from llama_cpp.llama_speculative import LlamaPromptLookupDecoding

from ersd import _core

__all__ = ["RULES", "Hits", "Replay", "calibrate", "replay"]

Rule = Callable[[list[int]], list[int]]  # from the tokens so far to those that it drafts
_lookup = LlamaPromptLookupDecoding(max_ngram_size=2, num_pred_tokens=10)
_SOURCES = ("lookup", "history", "prediction")  # in the order of the bits of the core


def ngram_simple(tokens: list[int], n: int = 12, m: int = 48) -> list[int]:
    """llama.cpp's rule of this name with its own sizes (common_ngram_simple_draft).

    The last n tokens are looked for from the end, and up to m tokens that followed them are
    drafted, but none if fewer than n followed. The rule of llama.cpp sees the tokens before the
    last one as its history.
    """
    history, pattern = tokens[:-1], tokens[-n:]
    if len(history) <= n + m + 1:
        return []
    for at in range(len(history) - n - 1, 0, -1):
        if history[at : at + n] == pattern:
            drafted = history[at + n : at + n + m]
            return drafted if len(drafted) >= n else []
    return []


def prompt_lookup(tokens: list[int]) -> list[int]:
    """llama-cpp-python's class for this, with its defaults; transformers has the same rule."""
    return [int(token) for token in _lookup(np.asarray(tokens, np.intc))]


RULES: dict[str, Rule] = {
    "llama.cpp ngram-simple, n = 12, m = 48": ngram_simple,
    "prompt lookup, n = 2, m = 10": prompt_lookup,
}


class Replay(NamedTuple):
    """What a rule did.

    Attributes:
        n_tokens: tokens of the answers.
        n_calls: calls of the target.
        n_drafted: drafted tokens.
    """

    n_tokens: int
    n_calls: int
    n_drafted: int


def replay(rule: Rule, texts: Sequence[tuple[list[int], list[int]]]) -> Replay:
    """Return what a rule does on pairs of prompt and answer."""
    n_tokens = n_calls = n_drafted = 0
    for prompt, answer in texts:
        at = 0
        while at < len(answer):
            drafted = rule(prompt + answer[:at])
            n_accepted = 0
            while (
                n_accepted < len(drafted)
                and at + n_accepted < len(answer)
                and drafted[n_accepted] == answer[at + n_accepted]
            ):
                n_accepted += 1
            at += n_accepted + 1
            n_calls += 1
            n_drafted += len(drafted)
        n_tokens += len(answer)
    return Replay(n_tokens, n_calls, n_drafted)


class Hits:
    """Predicted probabilities and whether the tokens came, by source."""

    def __init__(self) -> None:
        """Begin without any."""
        self._seen: dict[str, list[tuple[float, bool]]] = {name: [] for name in _SOURCES}

    def add(self, sources: int, probability: float, is_hit: bool) -> None:
        """Add a candidate of these sources, which are bits."""
        for i, name in enumerate(_SOURCES):
            if sources >> i & 1:
                self._seen[name].append((probability, is_hit))

    @property
    def sources(self) -> list[str]:
        """The sources of which there are candidates."""
        return [name for name, seen in self._seen.items() if seen]

    def deciles(self, source: str) -> list[tuple[float, float, int]]:
        """Return the mean prediction, the share of hits and the number of each tenth, by size."""
        seen = np.array(sorted(self._seen[source]), float).reshape(-1, 2)
        parts = [part for part in np.array_split(seen, 10) if len(part)]
        return [(*map(float, part.mean(axis=0)), len(part)) for part in parts]


def calibrate(
    hits: Hits,
    texts: Sequence[tuple[list[int], list[int]]],
    seeds: Sequence[int] | None = None,
    predictions: Sequence[list[int]] | None = None,
) -> None:
    """Add what texts predict of each token of answers that follow each other, while they learn.

    History is the prompts and answers before. Candidates are proposed as at the root of a tree.

    Args:
        hits: gets the predictions.
        texts: pairs of prompt and answer.
        seeds: the seeds of the answers, so that counted continuations race; None for T = 0.
        predictions: the expected answers; None for none.
    """
    rates, history = _core.HitRates(), list[int]()
    for i, (prompt, answer) in enumerate(texts):
        others = [("history", history)] if history else []
        if predictions is not None:
            others.append(("prediction", predictions[i]))
        drafts = _core.TextDrafts()
        drafts.begin(prompt, True, others)
        for n, token in enumerate(answer):
            drafts.reset()
            clock = None if seeds is None else (seeds[i], len(prompt) + n)
            for candidate, probability, sources in drafts.propose(0, rates, clock):
                hits.add(sources, probability, candidate == token)
            drafts.learn([0], [token], rates)
            drafts.append([token])
        history += [*([-1] if history else []), *prompt, *answer]
