"""Generations among others that end early: closed, dropped, failed or interrupted."""

from __future__ import annotations

import gc
import signal
import threading
from typing import Any

import numpy as np
import pytest

from conftest import ctrl_c
from ersd import Generator
from parallel_requests import N_PARALLEL, request, run_threads, stream


def test_abandoned_streams_free_their_places(
    parallel: Generator, texts_alone: list[list[int]]
) -> None:
    """A stream ends by close(), at the end of a with block, and when it is garbage."""
    for i in range(3 * N_PARALLEL):
        begun = stream(parallel, i)
        next(begun)
        if i % 3 == 0:
            begun.close()
            begun.close()
            assert list(begun) == []
            assert begun.stats.target_calls >= 1
        elif i % 3 == 1:
            with begun:
                next(begun)
        del begun
    gc.collect()
    prompt, options = request(2)
    assert parallel.generate(prompt, **options).tokens == texts_alone[2]
    assert (parallel._core.n_active, parallel._core.n_waiting) == (0, 0)


def test_a_failing_processor_ends_its_request_alone(
    parallel: Generator, texts_alone: list[list[int]]
) -> None:
    """Its caller gets the error, and the others get their texts."""
    found: dict[int, list[int]] = {}

    def fail(ids: np.ndarray, scores: np.ndarray) -> np.ndarray:
        if len(ids) > 20:
            raise LookupError("mine")
        return scores

    def work(i: int) -> None:
        prompt, options = request(i)
        if i % 3 == 0:
            with pytest.raises(LookupError, match="mine"):
                parallel.generate("the", max_tokens=100, draft_nodes=4, logits_processor=fail)
        else:
            found[i] = parallel.generate(prompt, **options).tokens

    run_threads([lambda i=i: work(i) for i in range(9)])
    assert found == {i: texts_alone[i] for i in range(9) if i % 3}


def test_a_processor_must_not_use_the_generator_that_calls_it(parallel: Generator) -> None:
    """A step inside a step would wait for itself for ever, so it is refused."""
    other = stream(parallel, 0)
    next(other)
    for use in (
        lambda: parallel.generate("a", max_tokens=2),
        lambda: list(other),  # what it has already is given first
        lambda: next(parallel.ranks("a")),
        lambda: parallel.generate_batch(["a"]),
        parallel.reset,
        parallel.forecast,
    ):

        def process(ids: np.ndarray, scores: np.ndarray, use=use) -> np.ndarray:
            use()
            return scores

        with pytest.raises(RuntimeError, match="must not use the Generator that calls it"):
            parallel.generate("the", max_tokens=3, draft_nodes=1, logits_processor=process)


def test_a_processor_may_close_streams(parallel: Generator) -> None:
    """Closing waits for nothing."""
    other = stream(parallel, 0)
    next(other)

    def process(ids: np.ndarray, scores: np.ndarray) -> np.ndarray:
        other.close()
        return scores

    options: dict[str, Any] = {"max_tokens": 5, "draft_nodes": 1, "logits_processor": process}
    assert len(parallel.generate("the", **options).tokens) == 5
    assert list(other) == []


def test_closing_ends_the_wait_of_another_thread(parallel: Generator) -> None:
    """The thread that iterates gets no more steps, and no error."""
    begun, endless = threading.Event(), parallel.stream("the", max_tokens=None, draft_nodes=1)

    def iterate() -> None:
        for _ in endless:
            begun.set()

    def close() -> None:
        begun.wait(60)
        endless.close()

    run_threads([iterate, close])
    assert endless.finish_reason is None


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs POSIX timers")
def test_ctrl_c_ends_the_generation_of_the_main_thread_alone(
    parallel: Generator, texts_alone: list[list[int]]
) -> None:
    """Others go on, also if the main thread was making their step."""
    is_over = threading.Event()
    found: list[bool] = []

    def work(i: int) -> None:
        prompt, options = request(i)
        while not is_over.is_set():
            found.append(parallel.generate(prompt, **options).tokens == texts_alone[i])

    threads = [threading.Thread(target=work, args=(i,), daemon=True) for i in range(N_PARALLEL)]
    for thread in threads:
        thread.start()

    def generate_often() -> None:
        for seed in range(10_000):
            parallel.generate("the", max_tokens=400, seed=seed, draft_nodes=4)

    try:
        for _ in range(3):
            assert ctrl_c(0.1, generate_often)
    finally:
        is_over.set()
    for thread in threads:
        thread.join(60)
        assert not thread.is_alive()
    assert found
    assert all(found)


def test_a_stream_that_was_not_begun_holds_no_place(parallel: Generator) -> None:
    """It is submitted with its first step."""
    streams = [stream(parallel, i) for i in range(3 * N_PARALLEL)]
    assert (parallel._core.n_active, parallel._core.n_waiting) == (0, 0)
    with pytest.raises(RuntimeError, match="the stream has not begun"):
        _ = streams[0].stats
