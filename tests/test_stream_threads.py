"""A stream belongs to nobody: one thread may step several, and several threads may step one."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor

import pytest

from ersd import Generator


def test_one_thread_steps_several_streams(generator: Generator) -> None:
    """Steps of two streams alternate on a thread that made neither."""
    options = {"max_tokens": 24, "draft_nodes": 4}
    expected = [generator.generate("the rain", seed=seed, **options).text for seed in (1, 2)]
    streams = [generator.stream("the rain", seed=seed, **options) for seed in (1, 2)]
    with ThreadPoolExecutor(1) as worker:
        left = list(streams)
        while left:
            left = [each for each in left if worker.submit(next, each, None).result() is not None]
    assert [stream.text for stream in streams] == expected


@pytest.mark.parametrize("n_parallel", [1, 2])
def test_a_second_stream_waits_or_runs(generator: Generator, n_parallel: int) -> None:
    """With one place, the stream that steps takes the place of the one that does not."""
    narrow = Generator(
        generator.target.path, n_ctx=128, n_threads=1, n_parallel=n_parallel, profile=False
    )
    first, second = (narrow.stream("the", max_tokens=8, seed=seed) for seed in (1, 2))
    with ThreadPoolExecutor(1) as worker:
        for stream in (first, second, first, second):
            assert worker.submit(next, stream).result().tokens
        for stream in (second, first):
            worker.submit(list, stream).result()
    assert len(first.tokens) == len(second.tokens) == 8
