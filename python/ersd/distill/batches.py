"""Batches: the texts of a corpus as rows of equal length."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import torch
from torch import Tensor

from ersd.distill.corpus import N_TOP, Text

__all__ = ["ROW", "Batch", "Batches"]

ROW = 1024  # tokens of a row; its texts follow each other as in a long conversation


@dataclass(frozen=True)
class Batch:
    """Rows of tokens, and the target's distribution of the token after each of them.

    Where there is no distribution, `top` is 0 and `logprobs` is -inf.
    """

    tokens: Tensor  # i64[rows, ROW]
    top: Tensor  # i64[rows, ROW, N_TOP]
    logprobs: Tensor  # f32[rows, ROW, N_TOP]


class Batches:
    """All texts one after another, cut into batches. Each epoch has a new order.

    A batch is a function of the seed and its number.

    Attributes:
        texts: the texts.
        rows: rows of a batch.
        seed: seed of the order.
        lengths: tokens of each text; i64[texts].
        per_epoch: batches of an epoch.
    """

    def __init__(self, texts: Sequence[Text], rows: int, seed: int) -> None:
        """Keep the texts.

        Raises:
            ValueError: the texts have fewer tokens than a batch.
        """
        self.texts, self.rows, self.seed = texts, rows, seed
        self.lengths = np.array([len(text.tokens) for text in texts])
        self.per_epoch = int(self.lengths.sum()) // (ROW * rows)
        if self.per_epoch < 1:
            raise ValueError(
                f"the texts have {self.lengths.sum()} tokens, a batch needs {ROW * rows}"
            )
        self._epoch = -1

    def __call__(self, number: int) -> Batch:
        """Return the batch with this number."""
        epoch, place = divmod(number, self.per_epoch)
        if epoch != self._epoch:
            self._epoch = epoch
            self._order = np.random.default_rng([self.seed, epoch]).permutation(len(self.texts))
            self._ends = np.cumsum(self.lengths[self._order])
        begin, n = place * self.rows * ROW, self.rows * ROW
        tokens, top = np.zeros(n, np.int64), np.zeros((n, N_TOP), np.int64)
        logprobs = np.full((n, N_TOP), -np.inf, np.float32)
        for i in range(int(np.searchsorted(self._ends, begin, "right")), len(self._order)):
            text = self.texts[self._order[i]]
            start = int(self._ends[i]) - len(text.tokens) - begin
            if start >= n:
                break
            _paste(tokens, text.tokens, start)
            known_top, known_logprobs = text.distributions()
            _paste(top, known_top, start + text.first)
            _paste(logprobs, known_logprobs, start + text.first)
        shape = (self.rows, ROW)
        return Batch(
            *(torch.from_numpy(a.reshape(*shape, *a.shape[1:])) for a in (tokens, top, logprobs))
        )


def _paste(array: np.ndarray[Any, Any], part: np.ndarray[Any, Any], at: int) -> None:
    """Copy a part into an array from row `at` on, as far as it lies inside.

    The part may have fewer columns: those of a small vocabulary.
    """
    first, last = max(at, 0), min(at + len(part), len(array))
    if first < last:
        columns = [slice(n) for n in part.shape[1:]]
        array[(slice(first, last), *columns)] = part[first - at : last - at]
