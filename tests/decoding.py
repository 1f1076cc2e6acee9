"""One sequence at a time on an engine of table models, for tests of the decoding step."""

from __future__ import annotations

import ctypes
from collections.abc import Callable
from collections.abc import Sequence as Tokens

import numpy as np
from ersd._core import Engine, GenerationOptions, LanguageModel, RankHistogram, Sequence

__all__ = ["Decoder", "HistoryGrammar"]


class HistoryGrammar:
    """A grammar for tests: a function says which tokens may follow all tokens so far.

    It is its own matcher. See `ersd.grammars.Grammar` for the methods.
    """

    def __init__(
        self,
        prompt: Tokens[int],
        n_vocab: int,
        allows: Callable[[list[int], Tokens[int]], list[bool]],
    ) -> None:
        """allows(history, tokens) says which of the tokens may follow a history."""
        self._history, self._n_vocab, self._allows = list(prompt), n_vocab, allows
        self.ends: list[int] = []
        self.asked: set[tuple[int, ...]] = set()  # the histories of all masks

    def start(self) -> HistoryGrammar:
        """Begins the only answer."""
        return self

    def deep_copy(self) -> HistoryGrammar:
        """Returns a matcher of the same history, which goes its own way."""
        other = HistoryGrammar(self._history, self._n_vocab, self._allows)
        other.asked = self.asked
        return other

    def unsafe_compute_mask_ptr(self, address: int, n_bytes: int) -> None:
        """Writes a bit for each token that may follow. No position is asked for twice."""
        history = tuple(self._history)
        assert history not in self.asked
        self.asked.add(history)
        bits = np.zeros(-(-self._n_vocab // 32) * 32, bool)
        bits[: self._n_vocab] = self._allows(self._history, range(self._n_vocab))
        mask = np.packbits(bits, bitorder="little")
        assert mask.nbytes == n_bytes
        ctypes.memmove(address, mask.ctypes.data, n_bytes)

    def try_consume_tokens(self, tokens: list[int]) -> int:
        """Appends tokens to the history."""
        self._history += tokens
        return len(tokens)

    def is_error(self) -> bool:
        """It does not fail."""
        return False


class Decoder:
    """Runs generations one after the other at place 0 of an engine."""

    def __init__(self, target: LanguageModel, draft: LanguageModel | None) -> None:
        """Makes an engine that learns from all generations."""
        self.target, self.draft = target, draft
        self.engine = Engine(target, draft)
        self.sequence: Sequence | None = None

    def start(
        self,
        prompt: Tokens[int],
        options: GenerationOptions,
        ranks: bool = False,
    ) -> None:
        """Begins a generation; ranks: whether its steps have ranks."""
        self.sequence = Sequence(prompt, options, self.target, self.draft)
        if ranks:
            self.sequence.want_ranks()
        self.engine.begin(self.sequence)

    def read(self) -> None:
        """Reads the prompt, as the first step does by itself if a draft is used."""
        if self.target.n_cached < len(self.sequence.tokens) - 1:
            self.engine.step([self.sequence])
            assert not self.sequence.emitted

    def step(self, limit: int) -> list[int]:
        """Returns the tokens of the next target call after the prompt. Raises what stopped it."""
        sequence = self.sequence
        sequence.set_limit(limit)
        while True:
            self.engine.step([sequence])
            sequence.raise_failure()
            if sequence.emitted:
                return sequence.emitted

    def step_with_rank(self) -> tuple[int, int]:
        """Returns one token and its rank; needs start(ranks=True)."""
        return self.step(1)[0], self.sequence.rank

    @property
    def logprobs(self):
        """The log-probabilities of the last step's tokens."""
        return self.sequence.logprobs

    @property
    def stats(self):
        """Counts and times of the generation."""
        return self.sequence.stats

    @property
    def histogram(self) -> RankHistogram:
        """The ranks of method "ersd"."""
        return self.engine.histogram

    @property
    def margins(self):
        """The margin model of method "ersd"."""
        return self.engine.margins
