"""Embeddings are those of llama-cpp-python, for models that generate and for models that do not."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import llama_cpp
import numpy as np
import pytest

from ersd import Llama
from tiny_bert import write_bert

pytestmark = pytest.mark.no_sanitizer

TEXTS = ["the rain in the world", "hello", "a different prompt of 12 words, or so"]
COMMON: dict[str, Any] = {
    "embedding": True,
    "n_ctx": 64,
    "n_threads": 1,
    "n_threads_batch": 1,
    "verbose": False,
}
POOLED = {"mean": 1, "cls": 2, "last": 3}


@pytest.fixture(scope="module", params=["generates", "reads"])
def path(request: pytest.FixtureRequest, tiny_target: Path, folder: Path) -> Path:
    """A model that generates text, and one that only reads it."""
    return tiny_target if request.param == "generates" else write_bert(folder / "bert.gguf")


def both(path: Path, **options: Any) -> Iterator[Any]:
    """Yields the model as each class loads it."""
    for cls in (Llama, llama_cpp.Llama):
        yield cls(str(path), **COMMON, **options)


@pytest.mark.parametrize("pooling", POOLED.values(), ids=POOLED.keys())
def test_pooled_embeddings_are_llamas(path: Path, pooling: int) -> None:
    """One text, several in one call, in several calls, and normalised ones."""
    ours, theirs = both(path, pooling_type=pooling)
    assert ours.pooling_type() == theirs.pooling_type() == pooling
    assert ours.context_params.n_seq_max == theirs.context_params.n_seq_max
    for given in (TEXTS[0], TEXTS, TEXTS * 4):
        for normalize in (False, True):
            found, n = ours.embed(given, normalize=normalize, return_count=True)
            expected, n_expected = theirs.embed(given, normalize=normalize, return_count=True)
            np.testing.assert_allclose(found, expected, rtol=1e-4, atol=1e-5)
            assert n == n_expected
            assert isinstance(found, list)
            assert np.shape(found)[-1] == ours.n_embd()
    answer, expected = ours.create_embedding(TEXTS), theirs.create_embedding(TEXTS)
    for each in (*answer["data"], *expected["data"]):
        each["embedding"] = np.round(each["embedding"], 4).tolist()
    assert answer == expected


def test_embeddings_of_tokens_are_llamas(path: Path) -> None:
    """Without pooling, each token has a row. llama-cpp-python gets those of a single text right."""
    ours, theirs = both(path, pooling_type=0)
    for text in TEXTS:
        found = ours.embed(text)
        np.testing.assert_allclose(found, theirs.embed(text), rtol=1e-4, atol=1e-5)
        assert len(found) == len(ours.tokenize(text.encode()))
    for found, text in zip(ours.embed(TEXTS), TEXTS, strict=True):
        np.testing.assert_allclose(found, ours.embed(text), rtol=1e-3, atol=1e-3)


@pytest.mark.parametrize("pooling", [gguf.PoolingType.MEAN, gguf.PoolingType.CLS])
def test_the_models_own_pooling_is_the_default(folder: Path, pooling: gguf.PoolingType) -> None:
    """The type is read from the file unless the constructor says otherwise."""
    path = write_bert(folder / f"bert.{pooling}.gguf", pooling=pooling)
    ours, theirs = both(path)
    assert ours.pooling_type() == theirs.pooling_type() == pooling
    np.testing.assert_allclose(ours.embed("hello"), theirs.embed("hello"), rtol=1e-4, atol=1e-5)


@pytest.mark.parametrize("n_classes", [1, 3])
def test_texts_are_ranked(folder: Path, n_classes: int) -> None:
    """A reranker gives a number for each class. llama-cpp-python reads beyond them, see `ranks`."""
    path = write_bert(
        folder / f"ranks{n_classes}.gguf", pooling=gguf.PoolingType.RANK, n_classes=n_classes
    )
    for options in ({}, {"pooling_type": 4}):
        ours, theirs = both(path, **options)
        assert ours.pooling_type() == theirs.pooling_type() == 4
        expected = [ranks(theirs, text, n_classes) for text in TEXTS]
        np.testing.assert_allclose(ours.embed(TEXTS), expected, rtol=1e-4, atol=1e-5)
        np.testing.assert_allclose(ours.embed(TEXTS[0]), expected[0], rtol=1e-4, atol=1e-5)
        answer = ours.create_embedding(TEXTS)
        rows = [each["embedding"] for each in answer["data"]]
        np.testing.assert_allclose(rows, expected, rtol=1e-4, atol=1e-5)
        assert answer["usage"] == {"prompt_tokens": 28, "total_tokens": 28}


def ranks(theirs: Any, text: str, n_classes: int) -> list[float]:
    """Returns what llama.cpp gives for one text, by the calls that llama_cpp.Llama.embed makes.

    The latter copies as many numbers as a hidden state has, which the classes need not be.
    """
    theirs._ctx.kv_cache_clear()
    theirs._batch.reset()
    theirs._batch.add_sequence(theirs.tokenize(text.encode()), 0, True)
    theirs._ctx.decode(theirs._batch)
    found = llama_cpp.llama_get_embeddings_seq(theirs._ctx.ctx, 0)
    return [found[i] for i in range(n_classes)]


def test_long_texts_are_cut_or_refused(path: Path) -> None:
    """A text has at most n_batch tokens."""
    ours, theirs = both(path, pooling_type=1, n_batch=8)
    text = "the rain " * 10
    np.testing.assert_allclose(ours.embed(text), theirs.embed(text), rtol=1e-4, atol=1e-5)
    with pytest.raises(ValueError, match=r"Requested tokens \(\d+\) exceed batch size of 8"):
        ours.embed(text, truncate=False)


def test_what_cannot_be_embedded(tiny_target: Path) -> None:
    """A model for generation says that it must be loaded for embeddings; texts must have tokens."""
    generating = Llama(str(tiny_target), n_ctx=64, n_threads=1, verbose=False)
    with pytest.raises(RuntimeError, match="embedding=True"):
        generating.embed("the")
    ours = next(both(tiny_target))
    with pytest.raises(ValueError, match="pooling_type must be between -1 and 4, got 7"):
        Llama(str(tiny_target), **COMMON, pooling_type=7)
    assert ours("the", max_tokens=2)["usage"]["completion_tokens"] == 2  # it can generate as well
    ours.close()
    with pytest.raises(RuntimeError, match="closed"):
        ours.embed("the")
