"""Colours of drafted tokens in a terminal: each source has its own."""

from __future__ import annotations

import codecs
import sys
from typing import TYPE_CHECKING

from ersd.engine.draft_texts import SHOWN_SOURCES, shown_sources

if TYPE_CHECKING:
    from ersd.generator import Generator
    from ersd.results import Step

__all__ = ["PLAIN", "DraftColours", "enable_colours"]

PLAIN = "\x1b[0m"
# Cyan, green, yellow, magenta and blue.
_COLOURS = dict(zip(SHOWN_SOURCES, (f"\x1b[{n}m" for n in (36, 32, 33, 35, 34)), strict=True))


def enable_colours() -> None:
    """Let a Windows console understand colours."""
    if sys.platform == "win32":
        import os

        os.system("")


class DraftColours:
    """Colours the characters of answers that come from drafted tokens, by what drafted them.

    A token of several sources has the colour of the first one in `SHOWN_SOURCES`. The text of a
    step can lag behind its tokens: stop strings hold text back, and a character may need several
    tokens. So the characters of each token are counted when the token comes.
    """

    def __init__(self, generator: Generator) -> None:
        """Begin the answers of this Generator."""
        self._piece = generator.target.piece
        self._named: set[str] = set()  # sources that a legend has named
        self._shown: set[str] = set()  # sources that have drafted
        self.begin()

    def begin(self) -> None:
        """Begin another answer."""
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        # Number of characters and the source, or "", of tokens whose text is yet to come.
        self._waiting: list[tuple[int, str]] = []
        self._n_early = 0  # characters that came before they were counted: broken ones may

    def paint(self, step: Step) -> str:
        """Colour the text of a step. The last token of a character decides its colour."""
        for i, token in enumerate(step.tokens):
            n = len(self._decoder.decode(self._piece(token)))
            n_early = min(n, self._n_early)
            self._n_early -= n_early
            source = shown_sources(step.sources[i])[0] if i < step.n_accepted else ""
            self._waiting.append((n - n_early, source))
        painted, text = "", step.text
        while text and self._waiting:
            n, source = self._waiting.pop(0)
            part, text = text[:n], text[n:]
            if len(part) < n:
                self._waiting.insert(0, (n - len(part), source))
            painted += self._coloured(part, source)
        self._n_early += len(text)
        return painted + text

    def legend(self) -> str:
        """Return the names of the sources that have drafted since the last legend, or ""."""
        new = shown_sources(list(self._shown - self._named))
        self._named |= self._shown
        return "drafted by " + " ".join(self._coloured(name, name) for name in new) if new else ""

    def _coloured(self, text: str, source: str) -> str:
        if not source or not text:
            return text
        self._shown.add(source)
        return f"{_COLOURS[source]}{text}{PLAIN}"
