"""One sequence at a time on an engine of table models, for tests of the decoding step."""

from __future__ import annotations

from collections.abc import Callable
from collections.abc import Sequence as Tokens

from ersd._core import Engine, GenerationOptions, LanguageModel, RankHistogram, Sequence

__all__ = ["Decoder"]


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
        filter: Callable[[Tokens[int], Tokens[int]], list[bool]] | None = None,
        ranks: bool = False,
    ) -> None:
        """Begins a generation; ranks: whether its steps have ranks."""
        self.sequence = Sequence(prompt, options, self.target, self.draft, filter)
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
