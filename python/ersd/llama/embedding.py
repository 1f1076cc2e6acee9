"""Embeddings of many texts, in as few calls as llama-cpp-python makes."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np

from ersd import arguments
from ersd.api.responses import Response
from ersd.engine import Embedder
from ersd.llama.loaded import LoadedLlama

__all__ = ["EmbeddingLlama"]

Rows = list[Any]  # of numbers, or of rows


class EmbeddingLlama(LoadedLlama):
    """Gives embeddings. See `ersd.Llama`."""

    def create_embedding(self, input: str | list[str], model: str | None = None) -> Response:
        """Returns embeddings as OpenAI's interface writes them.

        Args:
            input: one text or several.
            model: the model's name in the answer; None for its path.

        Raises:
            RuntimeError, TypeError, ValueError: see `embed`.
        """
        found, n_tokens = self.embed(_texts(input), return_count=True)
        return {
            "object": "list",
            "data": [
                {"object": "embedding", "embedding": embedding, "index": i}
                for i, embedding in enumerate(found)
            ],
            "model": self.model_path if model is None else model,
            "usage": {"prompt_tokens": n_tokens, "total_tokens": n_tokens},
        }

    def embed(
        self,
        input: str | list[str],
        normalize: bool = False,
        truncate: bool = True,
        return_count: bool = False,
    ) -> Any:
        """Returns the embedding of a text, or a list of those of several.

        With pooling, an embedding is a list of numbers. Without, it has such a list for each token.

        Args:
            input: one text or several.
            normalize: whether each list of numbers has the length 1.
            truncate: whether longer texts are cut after n_batch tokens.
            return_count: whether to return the number of tokens, too.

        Raises:
            RuntimeError: the constructor did not get embedding=True.
            TypeError: the input is neither a text nor a list of texts.
            ValueError: a text has no tokens, or more than n_batch, or a lone surrogate.
        """
        tokens = [self.tokenize(text.encode()) for text in _texts(input)]
        embedder = self._need_embedder()
        if truncate:
            tokens = [each[: self.n_batch] for each in tokens]
        if too_long := [len(each) for each in tokens if len(each) > self.n_batch]:
            raise ValueError(
                f"Requested tokens ({too_long[0]}) exceed batch size of {self.n_batch}"
            )
        found: Rows = _embed_texts(embedder, tokens, normalize=normalize)
        output = found[0] if isinstance(input, str) else found
        return (output, sum(map(len, tokens))) if return_count else output

    def _need_embedder(self) -> Embedder:
        self._check_open()
        if self._embedder is None:
            raise RuntimeError(
                "Llama model must be created with embedding=True to call this method"
            )
        return self._embedder


def _texts(given: Any) -> list[str]:
    """Returns one text, or several, as a list."""
    if given is None or isinstance(given, str):
        return [arguments.text("input", given, "a str or a sequence of str")]
    return arguments.texts("input", given)


def _embed_texts(
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
