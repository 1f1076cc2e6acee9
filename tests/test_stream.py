"""Streams: their steps, stop strings, early ends, threads, interruption and memory."""

from __future__ import annotations

import gc
import itertools
import os
import random
import signal
import threading
import time
from pathlib import Path

import pytest

from conftest import ctrl_c
from ersd import Generator

FULL = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
STRATEGIES = ["simple", "sequence", "batch", "tree", "adaptive"]


def test_stream_is_the_answer_in_pieces(generator: Generator) -> None:
    """Texts and tokens of the steps join to the result, and each step is one target call."""
    whole = generator.generate("the", max_tokens=60, seed=4, **FULL)
    stream = generator.stream("the", max_tokens=60, seed=4, **FULL)
    steps = list(stream)
    assert "".join(step.text for step in steps) == whole.text == stream.text
    assert [token for step in steps for token in step.tokens] == whole.tokens
    assert len(steps) == stream.stats.target_calls
    assert sum(step.n_accepted for step in steps) == stream.stats.accepted
    assert stream.finish_reason == "length"


def test_trees_of_steps(generator: Generator) -> None:
    """A step's accepted path begins at the token before it and holds its drafted tokens."""
    options = FULL | {"max_tokens": 40, "seed": 4}
    for drafts in ({"strategy": "tree"}, {"strategy": "adaptive"}, {"method": "ar"}):
        before, n_drafted = generator.tokenize("the")[-1], 0
        stream = generator.stream("the", draft_trees=True, **options, **drafts)
        for step in stream:
            tree = step.tree
            assert tree is not None
            assert (tree.tokens[0], tree.parents[0], tree.accepted[0]) == (before, -1, 0)
            assert all(parent < node for node, parent in enumerate(tree.parents))
            for parent, node in itertools.pairwise(tree.accepted):
                assert tree.parents[node] == parent
            path = [tree.tokens[node] for node in tree.accepted[1:]]
            assert path[: step.n_accepted] == step.tokens[: step.n_accepted]
            n_drafted += len(tree.tokens) - 1
            before = step.tokens[-1]
        assert n_drafted == stream.stats.drafted
        assert (n_drafted > 0) == ("method" not in drafts)
    assert all(step.tree is None for step in generator.stream("the", **options))


def test_stop_strings_cut_exactly(generator: Generator) -> None:
    """A piece of the text as a stop string cuts the text there, also inside accepted blocks.

    The stream never shows more than the text before the stop string.
    """
    whole = generator.generate("the", max_tokens=120, seed=9, **FULL)
    rng, n_rounds = random.Random(0), 0
    for _ in range(60):
        begin = rng.randrange(len(whole.text) - 6)
        stop = whole.text[begin : begin + rng.randint(1, 6)]
        if "\ufffd" in stop:  # not text that the model wrote
            continue
        expected = whole.text[: whole.text.index(stop)]
        results = []
        for strategy in ("sequence", "tree", "ar"):
            method = {"method": "ar"} if strategy == "ar" else {"strategy": strategy}
            stream = generator.stream(
                "the", max_tokens=120, seed=9, stop=["never in it", stop], **FULL, **method
            )
            shown = ""
            for step in stream:
                shown += step.text
                assert expected.startswith(shown)
            assert (shown, stream.finish_reason) == (expected, "stop")
            assert stream.stats.generated == len(stream.tokens) <= len(whole.tokens)
            assert whole.tokens[: len(stream.tokens)] == stream.tokens
            results.append(stream.tokens)
        assert results[0] == results[1] == results[2]
        n_rounds += 1
    assert n_rounds > 40


def test_closing_a_stream_early_frees_the_generator(generator: Generator) -> None:
    """A stream ends by close(), at the end of a with block, and when it is garbage."""
    expected = generator.generate("the", max_tokens=30, seed=6, **FULL).tokens
    stream = generator.stream("a", max_tokens=200, seed=1, **FULL)
    next(stream)
    assert generator.generate("the", max_tokens=30, seed=6, **FULL).tokens == expected
    stream.close()
    assert list(stream) == []
    with generator.stream("a", max_tokens=200, seed=1, **FULL) as stream:
        next(stream)
    forgotten = generator.stream("a", max_tokens=200, seed=1, **FULL)
    next(forgotten)
    del forgotten
    gc.collect()
    assert generator.generate("the", max_tokens=30, seed=6, **FULL).tokens == expected


def test_threads_get_their_own_texts(generator: Generator) -> None:
    """Generations of several threads on one Generator all give the right tokens."""
    expected = [
        generator.generate("the", max_tokens=60, seed=seed, **FULL).tokens for seed in range(6)
    ]
    results: dict[int, list[int]] = {}

    def work(seed: int) -> None:
        results[seed] = generator.generate("the", max_tokens=60, seed=seed, **FULL).tokens

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [results[seed] for seed in range(6)] == expected


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs POSIX timers")
@pytest.mark.parametrize(
    "prompt", ["the", "the rain of " * 300], ids=["while generating", "in a long prompt"]
)
def test_ctrl_c_stops_and_the_generator_stays_usable(
    generator: Generator, tiny_target: Path, prompt: str
) -> None:
    """KeyboardInterrupt is raised soon, and the next answer is right."""
    big = Generator(tiny_target, n_ctx=4096, n_threads=1) if prompt != "the" else generator
    expected = big.generate("a", max_tokens=30, seed=6, **FULL).tokens

    def generate_often() -> None:
        for seed in range(10_000):
            big.generate(prompt, max_tokens=500, seed=seed, **FULL)

    started = time.monotonic()
    assert ctrl_c(0.05, generate_often)
    assert time.monotonic() - started < 20
    assert big.generate("a", max_tokens=30, seed=6, **FULL).tokens == expected


@pytest.mark.no_sanitizer
def test_memory_is_flat(generator: Generator) -> None:
    """500 generations, some of them abandoned, do not make the process larger."""

    def resident() -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    if not os.path.exists("/proc/self/statm"):
        pytest.skip("needs /proc")

    def work(n: int) -> None:
        for seed in range(n):
            if seed % 5 == 0:
                next(generator.stream("the of", max_tokens=20, seed=seed, **FULL))
            else:
                generator.generate(
                    "the of", max_tokens=20, seed=seed, strategy=STRATEGIES[seed % 4], **FULL
                )

    work(100)
    before = resident()
    work(500)
    assert resident() - before < 4 << 20
