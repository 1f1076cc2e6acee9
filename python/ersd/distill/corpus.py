"""The texts that a draft learns from, and the file that holds them.

The file grows by a record with every call of the target, so a run that ends at any moment loses
nothing of the texts that it has begun.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

__all__ = ["N_TOP", "Call", "Corpus", "Text", "fingerprint"]

N_TOP = 64  # tokens kept of each distribution

# The header of each record: a magic word, the number of tokens, the number of distributions, and
# the tokens kept per distribution. The arrays of `Call` follow.
_HEADER = struct.Struct("<4sIII")
_MAGIC = b"call"

Ids = npt.NDArray[np.int32]
Halves = npt.NDArray[np.float16]
Bytes = npt.NDArray[np.uint8]


@dataclass(frozen=True)
class Call:
    """What one call of the target adds to texts.

    Attributes:
        texts: the number of the text that each token belongs to; i32[n].
        tokens: i32[n], in the order of each text.
        top: the most probable tokens after each of the last n_rows tokens, in falling order;
            i32[n_rows, n_top]. The tokens before these have no distributions.
        logprobs: their log-probabilities at temperature 1; f16[n_rows, n_top].
    """

    texts: Ids
    tokens: Ids
    top: Ids
    logprobs: Halves

    def write(self, file: IO[bytes]) -> None:
        """Append the record to a file."""
        n_rows, n_top = self.top.shape
        rows = np.empty(n_rows, _row_type(n_top))
        rows["top"], rows["logprobs"] = self.top, self.logprobs
        header = _HEADER.pack(_MAGIC, len(self.tokens), n_rows, n_top)
        ids = np.concatenate([self.texts, self.tokens]).astype("<i4")
        file.write(header + ids.tobytes() + rows.tobytes())
        file.flush()


def _row_type(n_top: int) -> np.dtype[np.void]:
    """Return the type of a distribution in the file."""
    return np.dtype([("top", "<i4", (n_top,)), ("logprobs", "<f2", (n_top,))])


class Text:
    """A text, and the target's distributions of its next tokens.

    There is a distribution after each position from `first` on.

    Attributes:
        index: the number of the text.
        tokens: i32[n].
        first: the first position with a distribution.
    """

    def __init__(self, index: int, tokens: Ids, data: Bytes, places: npt.NDArray[np.int64]) -> None:
        """Keep the tokens and where the distributions are.

        Args:
            index: the number of the text.
            tokens: i32[n].
            data: the bytes of the file.
            places: where the row of each distribution begins in the file; i64[n - first].
        """
        self.index, self.tokens, self._data, self._places = index, tokens, data, places
        self.first = len(tokens) - len(places)

    def __len__(self) -> int:
        """Return the number of positions to learn from."""
        return len(self._places)

    def distributions(self) -> tuple[Ids, Halves]:
        """Return the most probable tokens after each position, and their log-probabilities.

        Returns:
            i32[n - first, n_top] in falling order, and f16[n - first, n_top] at temperature 1. They
            are read from the file anew at each call.
        """
        _, _, _, n_top = _HEADER.unpack(self._data[: _HEADER.size].tobytes())
        kind = _row_type(n_top)
        rows = self._data[self._places[:, None] + np.arange(kind.itemsize)].view(kind)[:, 0]
        return rows["top"], rows["logprobs"]


class Corpus:
    """The texts of a file, or what its first calls wrote of them.

    Attributes:
        texts: the texts, ordered by index.
        n_positions: their positions together.
        end: where the last whole record that was read ends, in bytes.
    """

    def __init__(self, path: Path, n_positions: int | None = None) -> None:
        """Read the records of a file. A file that does not exist has none.

        Args:
            path: the file.
            n_positions: read no more records than have this many positions; None for all.
        """
        has_data = path.exists() and path.stat().st_size > 0
        data: Bytes = np.memmap(path, np.uint8, "r") if has_data else np.empty(0, np.uint8)
        self.end = self.n_positions = 0
        parts: list[tuple[Ids, Ids, npt.NDArray[np.int64]]] = []
        while n_positions is None or self.n_positions < n_positions:
            found = _read(data, self.end)
            if not found:
                break
            texts, tokens, places, self.end = found
            parts.append((texts, tokens, places))
            self.n_positions += int((places >= 0).sum())
        self.texts = _texts(data, *map(np.concatenate, zip(*parts, strict=True))) if parts else []


def _read(data: Bytes, begin: int) -> tuple[Ids, Ids, npt.NDArray[np.int64], int] | None:
    """Read the record that begins at an offset.

    Returns:
        Texts and tokens; where the distribution after each token begins, -1 if there is none; and
        the offset of the next record. None if the data does not have the whole record.
    """
    if begin + _HEADER.size > len(data):
        return None
    first = begin + _HEADER.size
    magic, n, n_rows, n_top = _HEADER.unpack(data[begin:first].tobytes())
    first_row, size = first + 8 * n, _row_type(n_top).itemsize
    end = first_row + n_rows * size
    if magic != _MAGIC or n_rows > n or end > len(data):
        return None
    texts, tokens = data[first:first_row].view("<i4").reshape(2, n)
    places = np.full(n, -1, np.int64)
    places[n - n_rows :] = np.arange(first_row, end, size)
    return texts, tokens, places, end


def _texts(data: Bytes, texts: Ids, tokens: Ids, places: npt.NDArray[np.int64]) -> list[Text]:
    """Return the texts whose tokens these are."""
    order = np.argsort(texts, kind="stable")
    indices, begins = np.unique(texts[order], return_index=True)
    return [
        Text(int(index), tokens[part], data, places[part][places[part] >= 0])
        for index, part in zip(indices, np.split(order, begins[1:]), strict=True)
    ]


def fingerprint(given: Sequence[Sequence[int]]) -> str:
    """Return a hash of the tokens of given texts."""
    return hashlib.sha256(repr([list(tokens) for tokens in given]).encode()).hexdigest()[:16]
