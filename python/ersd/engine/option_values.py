"""Values of options that are checked one by one: biases, grammars, logprobs and mirostat_mode."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np

from ersd.arguments import text, whole

__all__ = ["bias_pairs", "check_grammars", "check_logprobs", "check_mirostat"]


def bias_pairs(logit_bias: Mapping[int, float] | None) -> list[tuple[int, float]]:
    """Returns tokens and biases. JSON writes the tokens as text.

    Raises:
        TypeError: it is no mapping from token ids to numbers.
        ValueError: a token is in no vocabulary.
    """
    expected = "a mapping from token ids to numbers"
    if logit_bias is not None and not isinstance(logit_bias, Mapping):
        raise TypeError(f"logit_bias must be {expected}, got {logit_bias!r}")
    pairs = []
    for token, bias in (logit_bias or {}).items():
        written = isinstance(token, str) and token.isascii() and token.isdecimal()
        number = int(token) if written else whole("logit_bias", token, expected)
        if isinstance(bias, bool) or not isinstance(bias, int | float | np.number):
            raise TypeError(f"logit_bias must be {expected}, got {bias!r} for token {number}")
        if not 0 <= number < 1 << 31:
            raise ValueError(f"logit_bias must be of tokens of the vocabulary, got {number}")
        pairs.append((number, float(bias)))
    return pairs


def check_grammars(given: Mapping[str, Any]) -> None:
    """Raises an error for text that is none, before the libraries of grammars see it."""
    for name in ("grammar", "regex", "lark"):
        if isinstance(given[name], str):
            text(name, given[name])
    if isinstance(given["response_format"], str):
        raise TypeError(
            "response_format must be a mapping or a type that pydantic knows, "
            f"got {given['response_format']!r}"
        )


def check_logprobs(logprobs: int | None) -> int | None:
    """Returns logprobs. Raises TypeError for anything but an int or None."""
    return None if logprobs is None else whole("logprobs", logprobs, "an int or None")


def check_mirostat(mirostat_mode: int | None) -> None:
    """Raises ValueError for anything but 0 or None."""
    if mirostat_mode not in (0, None):
        raise ValueError(
            "mirostat_mode must be 0: mirostat truncates by a state that it carries from token to "
            "token, and here every token is a function of the tokens before it, its position and "
            f"the seed, got {mirostat_mode!r}"
        )
