"""Many generations at once: every text is the one that the request gives alone."""

from __future__ import annotations

from functools import partial
from itertools import zip_longest
from pathlib import Path
from typing import Any

import pytest

from ersd import Generator
from parallel_requests import LENGTHS, N_PARALLEL, N_REQUESTS, request, run_threads, stream


def test_sizes(parallel: Generator, tiny_target: Path) -> None:
    """A Generator says how many run at once, and how many tokens its cache has room for."""
    assert (parallel.n_parallel, parallel.n_ctx, parallel.n_ctx_total) == (
        N_PARALLEL,
        512,
        N_PARALLEL * 512,
    )
    plain = Generator(tiny_target, n_ctx=256)
    assert (plain.n_parallel, plain.n_ctx_total) == (4, 256)


def test_sixteen_threads(parallel: Generator, texts_alone: list[list[int]]) -> None:
    """Each of 16 threads makes several requests, so that they begin and end at any time."""
    found: dict[int, list[int]] = {}

    def work(k: int) -> None:
        for i in range(k, 3 * N_REQUESTS, 16):
            prompt, options = request(i % N_REQUESTS)
            found[i] = parallel.generate(prompt, **options).tokens

    run_threads([lambda k=k: work(k) for k in range(16)])
    assert [found[i] for i in range(3 * N_REQUESTS)] == 3 * texts_alone


@pytest.mark.parametrize("room", [512, 700])
def test_short_memory(
    tiny_target: Path, tiny_draft: Path, texts_alone: list[list[int]], room: int
) -> None:
    """Where the cache has too little room, some requests wait; their texts are the same."""
    options = {"n_ctx": 512, "n_ctx_total": room, "n_threads": 1, "exact": True}
    small = Generator(tiny_target, tiny_draft, n_parallel=6, **options)
    found: dict[int, list[int]] = {}

    def work(k: int) -> None:
        for i in range(k, N_REQUESTS, 6):
            prompt, options = request(i)
            found[i] = small.generate(prompt, **options).tokens

    run_threads([lambda k=k: work(k) for k in range(6)])
    assert [found[i] for i in range(N_REQUESTS)] == texts_alone


def test_one_thread_advances_more_streams_than_there_are_places(
    parallel: Generator, texts_alone: list[list[int]]
) -> None:
    """It never waits for itself: a stream whose steps nobody takes gives up its place."""
    streams = [stream(parallel, i) for i in range(N_PARALLEL + 2)]
    for _ in zip_longest(*streams):
        pass
    assert [each.tokens for each in streams] == texts_alone[: len(streams)]
    assert {each.finish_reason for each in streams} == {"length"}


def test_idle_streams_give_way(parallel: Generator, texts_alone: list[list[int]]) -> None:
    """A thread that holds streams in all places may begin another one, and then go on."""
    indices = [i for i in range(N_REQUESTS) if LENGTHS[i // 2 % 3] == 110][: N_PARALLEL + 1]
    *streams, last = [stream(parallel, i) for i in indices]
    for each in streams:
        next(each)
    for _ in last:
        pass
    for each in reversed(streams):
        for _ in each:
            pass
    assert [each.tokens for each in [*streams, last]] == [texts_alone[i] for i in indices]


def test_a_stream_moves_between_threads(parallel: Generator, texts_alone: list[list[int]]) -> None:
    """Each step is taken by another thread, as in a web server."""
    moved = stream(parallel, 0)
    while moved.finish_reason is None:
        run_threads([lambda: next(moved, None)])
    assert moved.tokens == texts_alone[0]


def test_threads_share_a_stream(parallel: Generator, texts_alone: list[list[int]]) -> None:
    """Each of them gets other steps, and the stream has the whole text."""
    for i in (0, 4, 5):
        shared, taken = stream(parallel, i), [[] for _ in range(4)]
        run_threads([partial(mine.extend, shared) for mine in taken])
        tokens = [token for mine in taken for step in mine for token in step.tokens]
        assert sorted(tokens) == sorted(texts_alone[i])
        assert shared.tokens == texts_alone[i]
        assert shared.text == parallel.detokenize(texts_alone[i])


def test_ranks_beside_streams(parallel: Generator, texts_alone: list[list[int]]) -> None:
    """Positions are those of the prompt alone, and streams beside them keep their texts."""
    options: dict[str, Any] = {"max_tokens": 30, "seed": 3}
    alone = list(parallel.ranks("the rain", **options))
    assert len(alone) == 30
    streams = [stream(parallel, i) for i in range(3)]
    positions = [rows[0] for rows in zip_longest(parallel.ranks("the rain", **options), *streams)]
    assert [each for each in positions if each is not None] == alone
    assert [each.tokens for each in streams] == texts_alone[:3]


def test_completions_from_threads(parallel: Generator) -> None:
    """The dictionaries of llama-cpp-python's interface are the same, streamed or not."""

    def texts(seed: int) -> list[str]:
        options: dict[str, Any] = {"max_tokens": 30, "seed": seed, "draft_nodes": 8}
        whole = parallel.create_completion("the", **options)
        chunks = parallel.create_completion("the", stream=True, **options)
        joined = "".join(chunk["choices"][0]["text"] for chunk in chunks)
        assert isinstance(whole, dict)
        return [whole["choices"][0]["text"], joined]

    alone = [texts(seed)[0] for seed in range(8)]
    found: dict[int, list[str]] = {}
    run_threads([lambda s=seed: found.update({s: texts(s)}) for seed in range(8)])
    assert [found[seed] for seed in range(8)] == [[text, text] for text in alone]


def test_costs_are_written_once_by_many_threads(
    tiny_target: Path, tiny_draft: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The file is whole, and the next Generator begins with it."""
    monkeypatch.setenv("ERSD_CACHE", str(tmp_path))
    options: dict[str, Any] = {"n_ctx": 256, "n_threads": 1}
    pair = Generator(tiny_target, tiny_draft, **options)
    run_threads([lambda: pair.generate("a", max_tokens=4) for _ in range(6)])
    assert len(list(tmp_path.glob("*.npz"))) == 1
    assert Generator(tiny_target, tiny_draft, **options).profile().has_costs
