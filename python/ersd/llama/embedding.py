"""Embeddings of many texts, in as few calls as llama-cpp-python makes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ersd.engine import Embedder

__all__ = ["embed_texts"]

Rows = list[Any]  # of numbers, or of rows


def embed_texts(
    embedder: Embedder, texts: Sequence[Sequence[int]], *, normalize: bool
) -> list[Rows]:
    """Returns the embedding of each text: a list of numbers, or of one row per token.

    Args:
        embedder: reads the texts.
        texts: the tokens of each text.
        normalize: whether rows have the length 1.

    Raises:
        ValueError: a text is empty or longer than a call.
    """
    found: list[Rows] = []
    for call in _calls(texts, embedder.n_batch, embedder.n_texts):
        rows = embedder.embed(call)
        if normalize:
            lengths = np.linalg.norm(rows, axis=1, keepdims=True)
            rows = np.divide(rows, lengths, out=rows, where=lengths != 0)
        if embedder.pooling_type != 0:
            found += rows.tolist()
            continue
        begin = 0
        for text in call:
            found.append(rows[begin : begin + len(text)].tolist())
            begin += len(text)
    return found


def _calls(
    texts: Sequence[Sequence[int]], n_tokens: int, n_texts: int
) -> Iterator[list[Sequence[int]]]:
    """Yields the texts of each call, which has at most so many tokens and texts."""
    call: list[Sequence[int]] = []
    room = n_tokens
    for text in texts:
        if call and (len(text) > room or len(call) == n_texts):
            yield call
            call, room = [], n_tokens
        call.append(text)
        room -= len(text)
    if call:
        yield call
