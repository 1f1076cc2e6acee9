"""The texts to draft from that a request brings, as tokens."""

from __future__ import annotations

from typing import Any

from ersd import Generator
from ersd.serve.errors import ApiError

__all__ = ["MAX_REFERENCE_TOKENS", "with_tokens"]

MAX_REFERENCE_TOKENS = 32768  # of all references of a request


def with_tokens(generator: Generator, options: dict[str, Any]) -> dict[str, Any]:
    """Returns the options of a request with prediction and references as tokens.

    All choices of a request share them. They are bounded, because each choice looks them up in an
    index that takes many times their memory.

    Raises:
        ApiError: there are too many tokens.
    """
    options = dict(options)
    if "prediction" in options:
        tokens = generator.tokenize(options["prediction"], add_special=False)
        _check("prediction", len(tokens), generator.n_ctx)
        options["prediction"] = tokens
    if "references" in options:
        texts = [generator.tokenize(text, add_special=False) for text in options["references"]]
        _check("references", sum(map(len, texts)), MAX_REFERENCE_TOKENS)
        options["references"] = texts
    return options


def _check(name: str, n: int, most: int) -> None:
    if n > most:
        raise ApiError(400, f"{name} must have at most {most} tokens, got {n}", param=name)
