"""What a grammar allows after an answer so far, by the code that the core uses."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np

from ersd import Generator, _core
from ersd.grammars import Compiler, Source

__all__ = ["BYTE", "Allowed"]

BYTE = 3  # the token of the byte 0 in a tiny model


class Allowed:
    """Follows an answer through a grammar."""

    def __init__(self, generator: Generator, source: Source) -> None:
        """Begins an answer of a model."""
        grammar = Compiler(generator.target).compile(source)
        self._n_vocab, self._end = generator.target.n_vocab, generator.target.eos
        self._matcher = _core.start_grammar(grammar)

    def after(self, path: Sequence[int] = ()) -> np.ndarray:
        """Returns which tokens may follow the answer so far and these tokens; bool[n_vocab]."""
        mask = self._matcher.mask(list(path), self._n_vocab)
        return np.unpackbits(mask.view(np.uint8), bitorder="little")[: self._n_vocab].astype(bool)

    def append(self, tokens: Sequence[int]) -> None:
        """Adds tokens to the answer."""
        self._matcher.commit(list(tokens))

    def reads(self, text: str) -> bool:
        """Adds a text to the answer, byte by byte. Returns whether every byte was allowed."""
        for byte in text.encode():
            if not self.after()[BYTE + byte]:
                return False
            self.append([BYTE + byte])
        return True

    def may_end(self) -> bool:
        """Returns whether the answer may end here."""
        return bool(self.after()[self._end])
