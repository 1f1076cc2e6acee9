"""Stopping criteria of `Llama.generate`."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ersd.api.stopping_criteria import StoppingCriteria

__all__ = ["Criteria"]


class Criteria:
    """Stopping criteria that remember whether one of them held."""

    def __init__(self, criteria: StoppingCriteria | Sequence[StoppingCriteria] | None) -> None:
        """criteria: callables ``(input_ids, logits) -> bool``; None for none."""
        self._each: Sequence[StoppingCriteria] = ()
        if criteria is not None:
            self._each = [criteria] if callable(criteria) else criteria
        self.held = False

    def __call__(self, input_ids: npt.NDArray[np.intc], scores: npt.NDArray[np.single]) -> bool:
        """Asks all criteria whether the answer ends."""
        answers = [criterion(input_ids, scores) for criterion in self._each]  # all are asked
        self.held = any(answers)
        return self.held
