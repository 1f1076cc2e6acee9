"""What models take on devices, and caches that hold no more than they must."""

from __future__ import annotations

import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ersd._core import Context, DraftTree, Model, free_host_memory

import tiny
from conftest import Drafting
from ersd import Generator
from tiny_window import write_gemma

FULL: dict[str, Any] = {"top_k": 0, "top_p": 1.0, "min_p": 0.0}


def test_the_memory_of_each_model(tiny_target: Path, tiny_draft: Path) -> None:
    """Weights have the size of the file, and the cache has two layers of keys and values."""
    generator = Generator(
        tiny_target, tiny_draft, n_ctx=1024, n_threads=1, n_parallel=1, exact=False
    )
    assert {m.model for m in generator.memory} == {"target", "draft"}
    for memory in generator.memory:
        assert memory.weights == pytest.approx(generator.target.size, rel=0.1)
        cells = 1024 + 64 + 16  # trees and padding have cells too
        n = 2 * 2 * 2 * tiny.WIDTH * cells  # bytes: keys and values, layers, f16
        assert n <= memory.cache < 1.2 * n
        assert str(memory).startswith(f"{memory.model} on CPU: weights 0 MB, cache ")


def test_what_does_not_fit(tiny_target: Path) -> None:
    """One sentence has the numbers, before llama.cpp takes memory that is not there."""
    n_ctx = 10**9
    with pytest.raises(RuntimeError) as caught:
        Generator(tiny_target, n_ctx=n_ctx, n_threads=1, draft_sources=[])
    found = re.fullmatch(
        r"a context of 1000000000 tokens for '.*target\.gguf' needs ([\d.]+) GB for the cache"
        r" and ([\d.]+) GB for calls on CPU, where ([\d.]+) GB are free: a smaller n_ctx,"
        r" n_ctx_total or n_batch needs less, and so do type_k and type_v of fewer bits",
        str(caught.value),
    )
    assert found
    cache, calls, free = (float(number) * 1e9 for number in found.groups())
    # Keys and values of two layers in f16; a mask of attention for each token of a prompt's call.
    assert cache == pytest.approx(2 * 2 * 2 * tiny.WIDTH * n_ctx, rel=0.01)
    assert calls > 512 * n_ctx * 2
    assert free == pytest.approx(free_host_memory(), rel=0.2)


@pytest.mark.skipif(sys.platform != "linux", reason="a limit of the address space")
@pytest.mark.no_sanitizer  # AddressSanitizer ends a process that gets no memory
def test_what_llama_cpp_is_refused(tiny_target: Path) -> None:
    """Where the check before saw enough, the error has llama.cpp's words and the numbers."""
    script = f"""
import resource
from ersd import Generator
options = dict(n_batch=32, n_threads=1, draft_sources=[])
Generator({str(tiny_target)!r}, n_ctx=64, **options)
used = int(open("/proc/self/statm").read().split()[0]) * resource.getpagesize()
resource.setrlimit(resource.RLIMIT_AS, (used + 1_000_000_000, resource.RLIM_INFINITY))
try:
    Generator({str(tiny_target)!r}, n_ctx=4_000_000, **options)
except RuntimeError as error:
    print(error)
"""
    run = subprocess.run([sys.executable, "-c", script], capture_output=True, text=True, timeout=60)
    assert run.returncode == 0, run.stderr
    assert re.fullmatch(
        r"llama\.cpp could not make a context of \d+ tokens for '.*' \(.*\); it needs [\d.]+ GB for"
        r" the cache and [\d.]+ GB for calls on CPU, where [\d.]+ GB are free\n",
        run.stdout,
    )


def test_rows_of_logits_are_few(tiny_target: Path) -> None:
    """Calls take no memory for rows of logits that nobody asks for."""
    many, few = (
        Generator(tiny_target, n_ctx=256, n_threads=1, n_parallel=1, n_batch=n_batch, exact=exact)
        for n_batch, exact in ((2048, False), (512, False))
    )
    grown = many.memory[0].compute - few.memory[0].compute
    assert grown < 1536 * 515 * 4


def test_nodes_are_reserved_when_they_are_asked_for(tiny_target: Path, tiny_draft: Path) -> None:
    """The context is made anew for larger trees, with what its cache holds, and rows are equal."""
    options: dict[str, Any] = {"n_ctx": 256, "n_threads": 1, "n_parallel": 2, "n_ctx_total": 512}
    pair = Generator(tiny_target, tiny_draft, exact=True, **options)
    prompt = [1, *range(300, 340)]
    before = pair.memory[0].compute
    first = pair.generate(prompt, max_tokens=30, seed=1, draft_nodes=8, **FULL)
    assert pair.memory[0].compute == before
    wide = {"strategy": "batch", "draft_nodes": 200}
    second = pair.generate(prompt, max_tokens=30, seed=1, **wide, **FULL)
    assert second.tokens == first.tokens
    assert second.stats.cached_tokens == len(prompt) - 1
    assert max(np.flatnonzero(second.stats.nodes_histogram)) == 200
    assert pair.memory[0].compute > before
    assert (
        pair.generate(prompt, max_tokens=30, seed=1, draft_nodes=8, **FULL).tokens == first.tokens
    )


def test_a_context_grows_around_places(tiny_target: Path) -> None:
    """Places keep their tokens and their bits while the context is made anew, padded or not."""
    model = Model(str(tiny_target))
    context = Context(model, n_ctx=256, n_ctx_total=600, n_sequences=3, max_nodes=4)
    alone = Context(model, n_ctx=256)
    rng = np.random.default_rng(0)
    texts = [rng.integers(3, 500, size=n).tolist() for n in (20, 50, 80)]
    for n in (4, 30, 200):
        context.reserve_nodes(n)
        assert context.max_nodes >= n
        for place, text in enumerate(texts):
            tree = DraftTree(text[-1])
            nodes = [0] + [tree.add(0, 300 + i) for i in range(n)]
            kept = context.cached(place)
            assert kept == text[: len(kept)]
            context.decode([(place, text[:-1], tree, nodes)])
            alone.rollback(0)
            alone.decode([(0, [*text, 300 + n - 1][:-2], DraftTree(text[-1]), [0])])
            np.testing.assert_array_equal(context.logits(0, place), alone.logits(0))
            context.commit([(place, tree, nodes[-1])])
            texts[place] = [*text, 300 + n - 1, 7]


def test_padding_and_a_window(folder: Path) -> None:
    """What has left the window stays where calls are padded, so that a place can return to it."""
    context = Context(
        Model(str(write_gemma(folder / "window-padded.gguf"))), n_ctx=512, exact=False
    )
    context.set_widths(8)
    assert context.occupy(256) == 256
    base, expected = context.cached(), None
    for _ in range(3):
        text = list(base)
        for token in range(300, 340):
            tree = DraftTree(token)
            context.decode([(0, text, tree, [0])])
            row = context.logits(0).copy()
            context.commit([(0, tree, 0)])
            text.append(token)
        expected = row if expected is None else expected
        np.testing.assert_array_equal(row, expected)
        context.rollback(len(base))
        assert context.cached() == base


def test_a_window_keeps_no_more_than_it_needs(folder: Path) -> None:
    """Without a draft, layers with a window keep few cells; texts and prompts stay."""
    path = write_gemma(folder / "window-memory.gguf")
    options: dict[str, Any] = {"n_threads": 1, "n_parallel": 1, "n_batch": 64}
    options["draft_sources"] = []
    lean, whole = Generator(path, n_ctx=2048, **options), Generator(path, n_ctx=190, **options)
    cell = 2 * 2 * tiny.WIDTH  # bytes of a layer's keys and values, f16
    assert lean.memory[0].cache < cell * (2048 + 512)
    rng = np.random.default_rng(0)
    for n in (100, 20, 130, 100):
        prompt = [1, *rng.integers(260, 500, size=n).tolist()]
        for seed in (1, 2, 1):
            given = {"max_tokens": 150 - n, "seed": seed, **FULL}
            whole.reset()
            result = lean.generate(prompt, **given)
            assert result.tokens == whole.generate(prompt, **given).tokens
        assert result.stats.cached_tokens == len(prompt) - 1
    long = [1, *rng.integers(260, 500, size=1500).tolist()]
    results = [lean.generate(long, max_tokens=100, seed=4, **FULL) for _ in range(2)]
    assert results[0].tokens == results[1].tokens
    assert results[1].stats.cached_tokens == len(long) - 1


def lean_and_whole(path: Path, n_ctx: int, n_parallel: int) -> tuple[Generator, Generator]:
    """A Generator that keeps a window, and one that keeps all; neither is exact."""
    options: dict[str, Any] = {"n_threads": 1, "n_parallel": n_parallel, "n_batch": 64}
    options |= {"exact": False, "n_ctx": n_ctx}
    lean, whole = Drafting(path, **options), Generator(path, **(options | {"n_ctx": 160}))
    assert lean.memory[0].cache / n_ctx < 0.8 * whole.memory[0].cache / (160 + 64 + 16)
    return lean, whole


@pytest.mark.parametrize("n_parallel", [1, 3])
def test_drafts_beyond_a_window(folder: Path, n_parallel: int) -> None:
    """Chains of texts leave what is in the window, whatever is rejected."""
    path = write_gemma(folder / "window-drafts.gguf")
    lean, whole = lean_and_whole(path, 4096, n_parallel)
    rng = np.random.default_rng(3)
    for n in (20, 70, 90):
        prompt = [1, *rng.integers(260, 500, size=n).tolist()]
        for seed in range(3):
            given = {"max_tokens": 150 - n, "seed": seed, "ignore_eos": True, **FULL}
            expected = whole.generate(prompt, method="ar", **given).tokens
            wrong = [t if rng.random() < 0.8 else 300 for t in expected]
            for k in (1, 5, 16):
                drafts = {"draft_nodes": k, "draft_sources": ["prediction"]}
                result = lean.generate(prompt, prediction=wrong, **drafts, **given)
                assert result.tokens == expected
                assert 0 < result.stats.accepted < result.stats.drafted
                assert result.stats.strategy == "sequence"


def test_places_are_opened_when_they_are_used(folder: Path) -> None:
    """One text needs no memory for others. With others, it goes on as it would alone."""
    path = write_gemma(folder / "window-places.gguf")
    options: dict[str, Any] = {"n_ctx": 700, "n_threads": 1, "n_parallel": 4, "n_ctx_total": 2800}
    one = Generator(path, exact=True, **options)
    alone = Generator(path, exact=True, **(options | {"n_parallel": 1}))
    before = one.memory[0].compute
    rng = np.random.default_rng(1)
    prompts = [[1, *rng.integers(260, 500, size=n).tolist()] for n in (60, 5, 40, 90, 33, 70)]
    given = {"max_tokens": 60, **FULL}
    plain = [
        alone.generate(prompt, seed=seed, method="ar", **given).tokens
        for seed, prompt in enumerate(prompts)
    ]
    assert one.generate(prompts[0], seed=0, draft_nodes=9, **given).tokens == plain[0]
    assert one.memory[0].compute == before
    stream = one.stream(prompts[0], seed=0, draft_nodes=9, **given)
    tokens = list(next(stream).tokens)
    results = one.generate_batch(prompts[1:], seed=list(range(1, 6)), draft_nodes=9, **given)
    assert [result.tokens for result in results] == plain[1:]
    for step in stream:
        tokens += step.tokens
    assert tokens == plain[0]
    assert one.memory[0].compute > before
    assert one.generate(prompts[0], seed=0, draft_nodes=9, **given).tokens == plain[0]


def test_many_places_and_few_branches(folder: Path) -> None:
    """A context for a large vocabulary begins with few branches, and wide trees get more."""
    path = tiny.write_llama(folder / "large-vocabulary.gguf", n_words=17_000)
    options: dict[str, Any] = {"n_ctx": 300, "n_threads": 1, "n_ctx_total": 4800, "exact": True}
    many, alone = Drafting(path, path, n_parallel=16, **options), Generator(path, **options)
    rng = np.random.default_rng(1)
    prompts = [[1, *rng.integers(260, 500, size=n).tolist()] for n in (60, 5, 40, 90, 33, 70)]
    given = {"max_tokens": 40, "seed": list(range(6)), **FULL}
    plain = [r.tokens for r in alone.generate_batch(prompts, method="ar", **given)]
    for k, strategy in ((4, "sequence"), (5, "tree"), (40, "batch")):
        results = many.generate_batch(prompts, draft_nodes=k, strategy=strategy, **given)
        assert [result.tokens for result in results] == plain
        assert max(result.stats.accepted for result in results) > 0


def test_branches_grow(folder: Path) -> None:
    """A context for large rows begins with few branches, and wide trees get theirs."""
    path = write_gemma(folder / "window-branches.gguf")
    pair = Drafting(path, path, n_ctx=512, n_threads=1, n_parallel=1, exact=True)
    alone = Generator(path, n_ctx=512, n_threads=1, n_parallel=1, exact=True)
    before = {m.model: m.compute for m in pair.memory}["target"]
    prompt = [1, *range(300, 340)]
    given = {"max_tokens": 60, "seed": 1, **FULL}
    expected = alone.generate(prompt, method="ar", **given).tokens
    assert pair.generate(prompt, strategy="sequence", **given).tokens == expected
    assert {m.model: m.compute for m in pair.memory}["target"] == before
    for k in (3, 20, 60, 200):
        result = pair.generate(prompt, strategy="batch", draft_nodes=k, **given)
        assert result.tokens == expected
        assert max(np.flatnonzero(result.stats.nodes_histogram)) == k
    assert {m.model: m.compute for m in pair.memory}["target"] > before
