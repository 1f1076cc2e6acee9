"""Threads that help llama.cpp: two teams on few cores would slow each other down."""

from __future__ import annotations

import os
import sys
import threading
from pathlib import Path

import pytest

from ersd import Generator

pytestmark = [
    pytest.mark.no_sanitizer,
    pytest.mark.skipif(sys.platform != "linux", reason="needs /proc"),
]

OPTIONS = {"method": "ar", "ignore_eos": True}


@pytest.fixture
def generator(target: Path) -> Generator:
    """Makes calls by two threads."""
    return Generator(target, n_ctx=512, n_threads=2, n_parallel=2)


def threads() -> set[str]:
    """Returns the ids of this process' threads."""
    return set(os.listdir("/proc/self/task"))


def test_no_team_is_left_after_an_answer(generator: Generator) -> None:
    """Otherwise it would hinder the calls for other threads."""
    before = threads()
    generator.generate("the", max_tokens=20, **OPTIONS)
    assert not threads() - before


def test_a_thread_that_waits_has_no_team(generator: Generator) -> None:
    """The main thread has one while its stream is alone, and none beside another request."""
    before = threads()
    with generator.stream("the", max_tokens=400, **OPTIONS) as stream:
        next(stream)
        helpers = threads() - before
        if not helpers:
            pytest.skip("this llama.cpp has no lasting threads")
        other = threading.Thread(
            target=generator.generate, args=("a",), kwargs={"max_tokens": 100, **OPTIONS}
        )
        other.start()
        while other.is_alive() and helpers & threads():
            next(stream)
        assert other.is_alive()
        other.join()
