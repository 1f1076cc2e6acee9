"""The texts that a draft learns from, and the file that holds them."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

__all__ = ["N_TOP", "Corpus", "Text", "fingerprint"]

N_TOP = 64  # tokens kept of each distribution

# The header of each text: a magic word, the index, the number of tokens, the first position with a
# distribution, and the tokens kept per distribution. The three arrays follow.
_HEADER = struct.Struct("<4sIIII")
_MAGIC = b"text"

Ids = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Text:
    """A text, and the target's distributions of its next tokens.

    There is a distribution after each position from `first` to the last but one.

    Attributes:
        index: the number of the text. A text is a function of the seed and the index.
        tokens: i32[n].
        first: the first position with a distribution.
        top: the most probable tokens in falling order; i32[n - 1 - first, N_TOP].
        logprobs: their log-probabilities at temperature 1; f16[n - 1 - first, N_TOP].
    """

    index: int
    tokens: Ids
    first: int
    top: Ids
    logprobs: npt.NDArray[np.float16]

    def __len__(self) -> int:
        """Return the number of positions to learn from."""
        return len(self.top)

    def write(self, file: IO[bytes]) -> None:
        """Append the text to a file."""
        n_top = self.top.shape[1]
        file.write(_HEADER.pack(_MAGIC, self.index, len(self.tokens), self.first, n_top))
        for part, kind in ((self.tokens, "<i4"), (self.top, "<i4"), (self.logprobs, "<f2")):
            file.write(np.ascontiguousarray(part, kind).tobytes())
        file.flush()

    @classmethod
    def read(cls, data: memoryview, offset: int) -> tuple[Text, int] | None:
        """Read the text at an offset.

        Returns:
            The text and the offset of the next one; None if the data does not have the whole text.
        """
        if offset + _HEADER.size > len(data):
            return None
        magic, index, n, first, n_top = _HEADER.unpack_from(data, offset)
        offset += _HEADER.size
        rows = n - 1 - first
        end = offset + 4 * n + 6 * rows * n_top
        if magic != _MAGIC or rows < 0 or end > len(data):
            return None
        tokens = np.frombuffer(data, "<i4", n, offset)
        offset += 4 * n
        top = np.frombuffer(data, "<i4", rows * n_top, offset).reshape(rows, n_top)
        offset += 4 * rows * n_top
        logprobs = np.frombuffer(data, "<f2", rows * n_top, offset).reshape(rows, n_top)
        return cls(index, tokens, first, top, logprobs), end


class Corpus:
    """The texts of a file. Their arrays are views of the file.

    Attributes:
        texts: the texts, ordered by index.
        end: where the last whole text ends, in bytes.
    """

    def __init__(self, path: Path) -> None:
        """Read all whole texts of a file. A file that does not exist has none."""
        has_data = path.exists() and path.stat().st_size > 0
        mapped = np.memmap(path, np.uint8, "r") if has_data else b""
        data = memoryview(mapped)  # type: ignore[arg-type]
        self.end, texts = 0, {}
        while found := Text.read(data, self.end):
            text, self.end = found
            texts[text.index] = text
        self.texts = [texts[index] for index in sorted(texts)]

    def up_to(self, n_positions: int) -> list[Text]:
        """Return the first texts that together have n_positions, without a gap in their indices.

        They have fewer positions if the file does not have enough.
        """
        chosen: list[Text] = []
        total = 0
        for text in self.texts:
            if total >= n_positions or text.index != len(chosen):
                break
            chosen.append(text)
            total += len(text)
        return chosen


def fingerprint(given: Sequence[Sequence[int]]) -> str:
    """Return a hash of the tokens of given texts."""
    return hashlib.sha256(repr([list(tokens) for tokens in given]).encode()).hexdigest()[:16]
