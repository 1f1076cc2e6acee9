"""Stopping criteria of llama-cpp-python, as a logits processor that lets only the end token win."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import numpy as np
import numpy.typing as npt

from ersd.engine import Model
from ersd.engine.options import LogitsProcessor

__all__ = ["StoppingCriteria", "stopping_processor"]

StoppingCriteria = Callable[[npt.NDArray[np.intc], npt.NDArray[np.single]], bool]


def stopping_processor(
    target: Model, criteria: StoppingCriteria | Sequence[StoppingCriteria]
) -> LogitsProcessor:
    """Returns a logits processor that ends the answer where one of the criteria is true.

    Args:
        target: the model whose end token ends the answer.
        criteria: callables ``(input_ids, logits) -> bool``, i32[n] and f32[n_vocab]. Like a logits
            processor they see verified positions only, in order, once each.

    Raises:
        ValueError: the model has no end token.
    """
    each = [criteria] if callable(criteria) else criteria
    if not isinstance(each, Iterable) or not all(map(callable, each)):
        raise TypeError(
            f"stopping_criteria must be callables (input_ids, logits) -> bool, got {criteria!r}"
        )
    end = target.eos
    if end < 0:
        raise ValueError(
            f"stopping_criteria need a model with an end token: '{target.path}' has none"
        )

    def process(
        input_ids: npt.NDArray[np.intc], scores: npt.NDArray[np.single]
    ) -> npt.NDArray[np.single]:
        # llama-cpp-python asks all criteria, even if the first is true.
        answers = [criterion(input_ids, scores) for criterion in each]
        if any(answers):
            scores = np.full_like(scores, -np.inf)
            scores[end] = 0
        return scores

    return process
