"""What a Generator does for all generations together."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["Traffic"]


@dataclass(frozen=True)
class Traffic:
    """How busy a Generator is, and what it has done since it was made, as of its last step.

    Attributes:
        running: generations that have places.
        waiting: generations that wait for one.
        cells: tokens that the target's cache has room for.
        cells_used: those that it holds, also for later prompts that begin alike.
        target_calls: calls of the target.
        sequences: generations in these calls, summed.
        rows: tokens that these calls computed: of prompts, the last ones of texts, and drafted
            ones.
        prompt_rows: those of prompts.
        tokens: tokens that these calls brought.
        preemptions: how often a generation had to give its place to another one, to go on later.
    """

    running: int
    waiting: int
    cells: int
    cells_used: int
    target_calls: int
    sequences: int
    rows: int
    prompt_rows: int
    tokens: int
    preemptions: int

    @property
    def tokens_per_call(self) -> float:
        """Tokens that a call of the target brought, on average, for all generations in it."""
        return self._per_call(self.tokens)

    @property
    def rows_per_call(self) -> float:
        """Tokens that a call of the target computed, on average."""
        return self._per_call(self.rows)

    @property
    def sequences_per_call(self) -> float:
        """Generations that shared a call of the target, on average."""
        return self._per_call(self.sequences)

    def _per_call(self, n: int) -> float:
        return n / self.target_calls if self.target_calls else 0.0
