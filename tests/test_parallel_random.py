"""Random requests at random times, some of them cancelled: no text changes and nothing leaks."""

from __future__ import annotations

import ctypes
import platform
import random
import threading
import time
from collections import Counter
from pathlib import Path
from typing import Any

import pytest

from conftest import Drafting
from ersd import Generator
from parallel_requests import run_threads

N_THREADS, N_PARALLEL = 16, 8
BEGINNINGS = ["", "the rain of the " * 12, "in a land of the " * 20]
WAYS: list[dict[str, Any]] = [
    {"strategy": "adaptive", "draft_nodes": 24},
    {"strategy": "sequence", "draft_nodes": 3},
    {"strategy": "tree", "draft_nodes": 9},
    {"method": "match", "draft_nodes": 6},
    {"draft_sources": ["lookup"], "draft_nodes": 8},
    {"draft_sources": ["lookup", "history", "prediction"], "strategy": "tree", "draft_nodes": 12},
    {"draft_sources": ["history", "model"], "draft_nodes": 5, "prediction": "the rain of the"},
    {"method": "ar"},
]


def random_request(i: int) -> tuple[str, dict[str, Any]]:
    """Returns a prompt, which begins like some others, and options without a way to draft."""
    rng = random.Random(i)
    words = " ".join(rng.choices(["the", "rain", "of", "snow", "日本"], k=rng.randint(1, 30)))
    options = {
        "seed": rng.randrange(1 << 32),
        "max_tokens": rng.choice([1, 5, 30, 80]),
        "temperature": rng.choice([0.0, 0.7, 1.0]),
        "top_k": rng.choice([0, 40]),
        "repeat_penalty": rng.choice([1.0, 1.3]),
        "logprobs": rng.choice([None, 2]),
    }
    return rng.choice(BEGINNINGS) + words, options


def resident() -> int:
    """Returns the memory of this process in bytes; 0 where it cannot be read.

    What glibc keeps for each thread after it was freed does not count.
    """
    if platform.libc_ver()[0] == "glibc":
        ctypes.CDLL(None).malloc_trim(0)
    path = Path("/proc/self/statm")
    return int(path.read_text().split()[1]) << 12 if path.exists() else 0


class Traffic:
    """Threads that send requests and compare their answers with those given alone."""

    def __init__(self, many: Generator, alone: Generator) -> None:
        """many: gets the requests. alone: gives the expected answers."""
        self.many = many
        self.alone = alone
        self.lock = threading.Lock()  # of alone
        self.n_finished = 0
        self.accepted: Counter[str] = Counter()  # tokens by the source of their drafts

    def send(self, i: int) -> None:
        """Sends one request, and may stop it early."""
        rng = random.Random(-i)
        time.sleep(rng.random() * 0.004)
        prompt, options = random_request(i)
        stops_after = rng.randrange(20) if rng.random() < 0.3 else None
        with self.many.stream(prompt, **options, **rng.choice(WAYS)) as stream:
            for n, _ in enumerate(stream):
                if n == stops_after:
                    return
        with self.lock:
            expected = self.alone.generate(prompt, method="ar", **options)
            assert (stream.tokens, stream.text) == (expected.tokens, expected.text)
            assert stream.logprobs == expected.logprobs
            self.n_finished += 1
            self.accepted.update(stream.stats.accepted_by)

    def run(self, first: int, n: int) -> None:
        """Sends n requests from several threads."""
        rest = iter(range(first, first + n))

        def work() -> None:
            while (i := next(rest, None)) is not None:
                self.send(i)

        run_threads([work] * N_THREADS)


@pytest.mark.parametrize("n", [120, pytest.param(1000, marks=pytest.mark.grid)])
@pytest.mark.parametrize("room", [1, 3], ids=["short memory", "memory for three"])
def test_random_requests(tiny_target: Path, tiny_draft: Path, n: int, room: int) -> None:
    """Every finished text, and every log-probability, is that of the request alone."""
    options: dict[str, Any] = {"n_ctx": 512, "n_threads": 1, "exact": True, "profile": False}
    many = Drafting(
        tiny_target, tiny_draft, n_parallel=N_PARALLEL, n_ctx_total=room * 512, **options
    )
    traffic = Traffic(many, Generator(tiny_target, n_parallel=1, **options))
    traffic.run(0, n // 2)
    before = resident()
    traffic.run(n // 2, n - n // 2)
    assert traffic.n_finished > n / 2
    assert min(traffic.accepted[source] for source in ("lookup", "history", "model")) > 20
    assert resident() - before < 16 << 20
    many.reset()
    core = many._core
    assert (core.n_active, core.n_waiting, core.n_free) == (0, 0, core.n_cells)
