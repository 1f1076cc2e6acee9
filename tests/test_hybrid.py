"""Drafts on recurrent and hybrid models: chains on models that keep one state for each text."""

from __future__ import annotations

import gc
from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from ersd._core import Context, DraftTree, Model

import tiny
import tiny_hybrid
from ersd import Generator
from hybrid_pairs import FULL, LONG, Pair

ROLLS_BACK = ("qwen35", "lfm2", "nemotron_h")  # where llama.cpp takes back rows of a call


@pytest.fixture(scope="module")
def pairs(folder: Path) -> Any:
    """The pair of an architecture, by its name."""
    return cache(lambda arch: Pair(folder, arch))


@pytest.fixture(params=tiny_hybrid.ARCHS)
def models(request: pytest.FixtureRequest, pairs: Any) -> Pair:
    """The pair of each architecture."""
    return pairs(request.param)


@pytest.mark.parametrize("temperature", [0.0, 1.0])
def test_the_text_is_that_of_plain_sampling(models: Pair, temperature: float) -> None:
    """It is for every k, and some drafts are accepted and some rejected."""
    assert models.pair.exact
    expected = models.plain(LONG, max_tokens=60, seed=3, temperature=temperature)
    for k in (1, 2, 3, 4, 7, 11, 16):
        options = {"max_tokens": 60, "seed": 3, "temperature": temperature, **FULL}
        result = models.pair.generate(LONG, draft_nodes=k, **options)
        assert result.tokens == expected
        assert result.stats.strategy == "sequence"
        assert 0 < result.stats.accepted < result.stats.drafted


@pytest.mark.parametrize("method", ["match", "gsd", "gsd_iid", "block"])
def test_other_methods(pairs: Any, method: str) -> None:
    """Their chains are drafted too. A match gives the text of plain sampling."""
    for arch in ("qwen35", "mamba2"):
        models = pairs(arch)
        strategy = {"match": "adaptive", "block": "sequence"}.get(method, "tree")
        options = {"max_tokens": 40, "seed": 5, "strategy": strategy, "draft_nodes": 4}
        options["temperature"] = 0.3  # there, the most probable tokens are drawn now and then
        results = [models.pair.generate(LONG, method=method, **options, **FULL) for _ in range(2)]
        assert results[0].tokens == results[1].tokens
        assert results[0].stats.accepted > 0
        if method == "match":
            assert results[0].tokens == models.plain(LONG, max_tokens=40, seed=5, temperature=0.3)


@pytest.mark.parametrize("arch", tiny_hybrid.ARCHS)
def test_a_model_that_drafts_for_itself(pairs: Any, arch: str) -> None:
    """Nearly all drafts are accepted, so that few tokens are read again."""
    path = pairs(arch).path
    own = Generator(path, path, n_ctx=256, n_threads=1, n_parallel=1, exact=True)
    result = own.generate(LONG, max_tokens=80, seed=1, draft_nodes=4, **FULL)
    assert result.tokens == pairs(arch).plain(LONG, max_tokens=80, seed=1)
    assert result.stats.tokens_per_call > 4


def test_the_strategy_that_was_used(pairs: Any, generator: Generator) -> None:
    """Stats name it. One drafted token remains one."""
    pair = pairs("lfm2").pair
    for given, used in (("adaptive", "sequence"), ("batch", "sequence"), ("simple", "simple")):
        result = pair.generate(LONG, max_tokens=9, strategy=given, **FULL)
        assert result.stats.strategy == used
    assert generator.generate("a", max_tokens=3, strategy="batch").stats.strategy == "batch"


def test_rows_that_are_read_again(pairs: Any) -> None:
    """None are where llama.cpp takes back the rows of a call, and few are elsewhere."""
    for arch in tiny_hybrid.ARCHS:
        options = {"max_tokens": 60, "draft_nodes": 4, "seed": 5, "ignore_eos": True, **FULL}
        stats = pairs(arch).pair.generate(LONG, **options).stats
        n_first = len(LONG) - 1 - stats.cached_tokens
        again = stats.target_tokens - n_first - stats.target_calls - stats.drafted
        assert again == 0 if arch in ROLLS_BACK else 0 < again < 3 * stats.generated


def test_stop_strings_and_cancellations(models: Pair) -> None:
    """What ends within a chain leaves the cache right for the next texts."""
    rng = np.random.default_rng(0)
    for i in range(8):
        seed, k = int(rng.integers(1000)), int(rng.integers(1, 17))
        options = {"seed": seed, "max_tokens": 40, **FULL}
        text = models.alone.detokenize(models.plain(LONG, **options))
        options["stop"] = [text[len(text) // 2 :][:3]] if i % 2 else []
        expected = models.plain(LONG, **options)
        assert models.pair.generate(LONG, draft_nodes=k, **options).tokens == expected
        stream = models.pair.stream(LONG, draft_nodes=k, **options)
        for _, _step in zip(range(3), stream, strict=False):
            pass
        del stream, _step
        gc.collect()
        assert models.pair.generate(LONG, draft_nodes=k, **options).tokens == expected


def test_the_prompt_cache(models: Pair) -> None:
    """Another answer begins at the prompt's end, and a text that goes on where it ended."""
    pair = models.pair
    pair.reset()
    prompt = LONG
    for turn in range(5):
        results = [pair.generate(prompt, max_tokens=12, seed=s, **FULL) for s in (turn, turn, 50)]
        for result, seed in zip(results, (turn, turn, 50), strict=True):
            assert result.tokens == models.plain(prompt, max_tokens=12, seed=seed)
        assert [r.stats.cached_tokens for r in results[1:]] == [len(prompt) - 1] * 2
        longer = [*prompt, *results[-1].tokens, *range(300 + turn, 340 + turn)]
        assert pair.generate(longer, max_tokens=1, **FULL).stats.cached_tokens > len(prompt)
        prompt = [*prompt, *range(400 + turn, 435 + turn)]  # what the last answer was not
        result = pair.generate(prompt, max_tokens=12, seed=9, **FULL)
        assert result.tokens == models.plain(prompt, max_tokens=12, seed=9)
        if turn < 2:
            assert result.stats.cached_tokens >= len(LONG) - 1
    fresh = [1, 499, *LONG[5:]]
    assert pair.generate(fresh, max_tokens=12, seed=4, **FULL).tokens == models.plain(
        fresh, max_tokens=12, seed=4
    )


def test_context_shift(pairs: Any) -> None:
    """A shift reads the kept half again, and the text is that of plain sampling."""
    for arch in ("qwen35", "falcon-h1", "rwkv7"):
        models = pairs(arch)
        options: dict[str, Any] = {"n_ctx": 96, "n_threads": 1, "n_parallel": 1, "exact": True}
        shifting = {"context_shift": True, **options}
        alone, pair = (
            Generator(models.path, **shifting),
            Generator(models.path, models.draft, **shifting),
        )
        given = {"max_tokens": 150, "seed": 2, **FULL}
        expected = alone.generate(LONG[:40], method="ar", **given)
        assert len(expected.tokens) == 150
        assert pair.generate(LONG[:40], draft_nodes=5, **given).tokens == expected.tokens


def test_saved_states(pairs: Any) -> None:
    """A state goes to another Generator, and its text goes on there."""
    for arch in ("lfm2", "mamba2"):
        models = pairs(arch)
        result = models.pair.generate(LONG, max_tokens=20, seed=1, draft_nodes=6, **FULL)
        state = models.pair.save_state()
        longer = [*LONG, *result.tokens, 300, 301]
        expected = models.plain(longer, max_tokens=20, seed=2)
        models.pair.reset()
        models.pair.load_state(state)
        again = models.pair.generate(longer, max_tokens=20, seed=2, draft_nodes=6, **FULL)
        assert again.tokens == expected
        assert again.stats.cached_tokens >= len(LONG)


@pytest.mark.parametrize("arch", ["qwen35", "lfm2", "granitehybrid", "rwkv7"])
def test_several_texts_at_once(pairs: Any, arch: str) -> None:
    """Each has a state of its own, and its text is that of a Generator of one."""
    models = pairs(arch)
    options = {"n_ctx": 256, "n_threads": 1, "exact": True, "n_parallel": 3}
    many = Generator(models.path, models.draft, **options)
    rng = np.random.default_rng(1)
    prompts = [[1, *rng.integers(260, 500, size=n).tolist()] for n in (5, 90, 40, 60, 33, 70)]
    given = {"max_tokens": 40, **FULL}
    for k in (1, 4, 9):
        results = many.generate_batch(prompts, seed=0, draft_nodes=k, **given)
        for seed, (prompt, result) in enumerate(zip(prompts, results, strict=True)):
            assert result.tokens == models.plain(prompt, seed=seed, **given)


def test_with_a_model_that_branches(
    pairs: Any, tiny_target: Path, tiny_draft: Path, generator: Generator
) -> None:
    """A hybrid drafts for a transformer and the other way round, by chains."""
    options = {"n_ctx": 256, "n_threads": 1, "exact": True}
    given = {"max_tokens": 30, "seed": 6, **FULL}
    expected = generator.generate(LONG, method="ar", **given).tokens
    for arch in ("qwen35", "mamba2"):
        models = pairs(arch)
        mixed = Generator(tiny_target, models.path, **options)
        assert mixed.generate(LONG, draft_nodes=4, **given).tokens == expected
        mixed = Generator(models.path, tiny_draft, **options)
        result = mixed.generate(LONG, draft_nodes=4, **given)
        assert result.tokens == models.plain(LONG, **given)
        assert result.stats.strategy == "sequence"


def test_interruptions(models: Pair) -> None:
    """After an interruption, the cache holds what it says, and the next rows are right."""
    model = Model(str(models.path))
    n_polls, limit = 0, 0

    def interrupted() -> bool:
        nonlocal n_polls
        n_polls += 1
        return n_polls > limit

    context = Context(model, n_ctx=256, interrupted=interrupted)
    rng = np.random.default_rng(2)
    n_interrupted = 0
    for _ in range(12):
        text = LONG[: int(rng.integers(40, 80))]
        tree = DraftTree(text[-1])
        for i, token in enumerate(rng.integers(260, 500, size=6).tolist()):
            tree.add(i, token)
        part = (0, text[:-1], tree, list(range(7)))
        keep_common(context, text[: int(rng.integers(40, len(text)))])
        n_polls, limit = 0, int(rng.integers(1, 300))
        try:
            context.decode([part])
        except KeyboardInterrupt:
            n_interrupted += 1
            limit = 10**9
            keep_common(context, text[:-1])
            context.decode([part])
        alone = Context(model, n_ctx=256)
        alone.decode([part])
        for node in range(7):
            np.testing.assert_array_equal(context.logits(node), alone.logits(node))
        context.commit([(0, tree, int(rng.integers(7)))])
    assert n_interrupted > 0


def keep_common(context: Context, text: list[int]) -> None:
    """Keeps what a context has in common with a text."""
    cached = context.cached()
    n = next((i for i, (a, b) in enumerate(zip(cached, text, strict=False)) if a != b), len(text))
    context.rollback(min(n, len(cached), len(text)))
    assert context.cached() == text[: len(context.cached())]


def test_auto(pairs: Any) -> None:
    """The controller measures calls of such models, and the text stays the same."""
    for arch in ("qwen35", "mamba2"):
        models = pairs(arch)
        result = models.pair.generate(LONG, max_tokens=40, seed=8, draft_nodes="auto", **FULL)
        assert result.tokens == models.plain(LONG, max_tokens=40, seed=8)
        assert len(models.pair.forecast()) > 1


def test_padding_is_refused(folder: Path) -> None:
    """exact=True needs logits that do not depend on widths: padding needs cells to spare."""
    kind = tiny.gguf.GGMLQuantizationType.F16
    path = tiny_hybrid.write_hybrid(folder / "hybrid-f16.gguf", "qwen35", kind=kind)
    with pytest.raises(ValueError, match="exact=True cannot hold"):
        Generator(path, n_ctx=128, n_threads=1, exact=True)
    loose = Generator(path, path, n_ctx=128, n_threads=1)
    assert not loose.exact
    options = {"max_tokens": 20, "draft_nodes": 4, "ignore_eos": True, **FULL}
    assert len(loose.generate(LONG, **options).tokens) == 20
