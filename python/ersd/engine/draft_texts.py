"""Texts to draft from, and which sources draft: the options of a generation in the core's form."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from ersd import arguments

__all__ = ["SHOWN_SOURCES", "SOURCES", "DraftTexts", "check_sources", "shown_sources"]

# All sources of drafts, in the order of the core.
SOURCES = ("lookup", "history", "prediction", "grammar", "model")

# The same in the order in which they are shown. A token has the colour of its first source here.
SHOWN_SOURCES = ("model", "lookup", "history", "prediction", "grammar")


def shown_sources(sources: Sequence[str]) -> list[str]:
    """Returns the sources of a token in the order in which they are shown."""
    return [source for source in SHOWN_SOURCES if source in sources]


class DraftTexts:
    """Reads the options draft_sources, prediction and references of one Generator's requests."""

    def __init__(
        self, tokenize: Callable[[str], list[int]], sources: Sequence[str] | None = None
    ) -> None:
        """Checks the sources of a Generator.

        Args:
            tokenize: converts a part of a text to tokens.
            sources: those that are used unless a request names others; None for all.

        Raises:
            TypeError: sources are not a sequence of names.
            ValueError: there is no such source.
        """
        self._tokenize = tokenize
        self._sources = SOURCES if sources is None else check_sources(sources)

    @property
    def drafts_without_model(self) -> bool:
        """Whether requests draft without a draft model, unless they ask for other sources."""
        return any(source != "model" for source in self._sources)

    @property
    def keeps_history(self) -> bool:
        """Whether requests draft from what earlier ones said and read."""
        return "history" in self._sources

    def sources(self, sources: Sequence[str] | None) -> list[str]:
        """Returns the sources that a request asks for, or those of the Generator for None."""
        return list(self._sources if sources is None else check_sources(sources))

    def prediction(self, given: object) -> list[int]:
        """Returns the tokens of an expected answer.

        Args:
            given: a text, OpenAI's ``{"type": "content", "content": ...}``, tokens, or None.

        Raises:
            TypeError: it is none of these.
            ValueError: the text has a lone surrogate, or a number is too large for a token.
        """
        if given is None:
            return []
        if isinstance(given, Mapping):
            given = _content(given)
        return self._text("prediction", given)

    def references(self, given: object) -> list[list[int]]:
        """Returns the tokens of texts, which are strings or tokens.

        Raises:
            TypeError: it is not a sequence of them.
            ValueError: as `prediction`.
        """
        if given is None:
            return []
        if isinstance(given, str) or not isinstance(given, Sequence):
            raise TypeError(f"references must be a sequence of texts, got {given!r}")
        return [self._text("references", text) for text in given]

    def _text(self, name: str, given: object) -> list[int]:
        if isinstance(given, str):
            return self._tokenize(arguments.text(name, given))
        return arguments.token_ids(name, given, "a text or tokens")


def check_sources(sources: object) -> tuple[str, ...]:
    """Returns names of sources. Raises TypeError or ValueError as `DraftTexts` does."""
    if isinstance(sources, str) or not isinstance(sources, Sequence):
        raise TypeError(f"draft_sources must be a sequence of names, got {sources!r}")
    for source in sources:
        if source not in SOURCES:
            names = ", ".join(map(repr, SOURCES))
            raise ValueError(f"draft_sources must be of {names}, got {source!r}")
    return tuple(sources)


def _content(given: Mapping[str, Any]) -> str:
    """Returns the text of OpenAI's form, whose content is a string or a list of text parts."""
    content = given.get("content")
    if given.get("type") == "content":
        if isinstance(content, str):
            return content
        if isinstance(content, Sequence) and all(
            isinstance(part, Mapping) and isinstance(part.get("text"), str) for part in content
        ):
            return "".join(part["text"] for part in content)
    raise TypeError(
        'prediction must be a text, tokens or {"type": "content", "content": ...}, '
        f"got {dict(given)!r}"
    )
