"""llama-cpp-python beside a Generator, and comparisons of their answers."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import pytest

from conftest import Drafting
from ersd import Generator, models

GREEDY = {"temperature": 0.0}
TALK = [
    {"role": "system", "content": "You are an assistant who perfectly describes images."},
    {"role": "user", "content": "Describe this image in detail please."},
]


def drafting(target: Path) -> Generator:
    """Returns the default target and its twin, with llama-cpp-python's cache types."""
    generator = Drafting(
        target, models.twin(), n_ctx=512, n_threads=1, type_k="f16", flash_attn=True
    )
    generator.nodes = 4
    return generator


def llama(target: Path) -> Any:
    """Returns llama-cpp-python with the same target."""
    return llama_cpp.Llama(
        str(target),
        n_ctx=512,
        n_threads=1,
        n_threads_batch=1,
        flash_attn=True,
        logits_all=True,
        verbose=False,
    )


def shape(thing: Any) -> Any:
    """Returns keys and types at every level, without the key that llama-cpp-python lacks."""
    if isinstance(thing, dict):
        return {key: shape(value) for key, value in thing.items() if key != "from_draft"}
    if isinstance(thing, list):
        return [shape(thing[0])] if thing else []
    return float if isinstance(thing, np.floating) else type(thing)


def shapes(chunks: list[Any]) -> list[Any]:
    """Returns the shapes of chunks in order; equal ones that follow each other count once."""
    every = [shape(chunk) for chunk in chunks]
    return [every[0], *(b for a, b in itertools.pairwise(every) if a != b)]


def plain(answer: Any) -> Any:
    """Returns an answer without what differs between calls: id, time and accepted drafts."""
    choices = [
        {key: value for key, value in choice.items() if key != "from_draft"}
        for choice in answer["choices"]
    ]
    return {**answer, "id": 0, "created": 0, "choices": choices}


def same(ours: Any, theirs: Any) -> None:
    """Asserts that shapes and values are equal, except ids and times."""
    assert shape(ours) == shape(theirs)
    assert plain(ours) == plain(theirs)
    assert ours["id"].rsplit("-", 5)[0] == theirs["id"].rsplit("-", 5)[0]
    assert len(ours["id"]) == len(theirs["id"])
    assert abs(ours["created"] - theirs["created"]) < 60


def close(ours: Any, theirs: Any) -> None:
    """Asserts equality, with a tolerance for numbers.

    The key "bytes" is not compared, because llama-cpp-python leaves it out.
    """
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys()
        for key in theirs:
            if key != "bytes":
                close(ours[key], theirs[key])
    elif isinstance(theirs, list):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            close(a, b)
    else:
        assert ours == (
            pytest.approx(theirs, abs=1e-4) if isinstance(theirs, float | np.floating) else theirs
        )
