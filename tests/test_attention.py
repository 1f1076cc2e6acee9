"""Attention whose bits do not depend on the call, beside NumPy in double precision."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from ersd import _core

VARIANTS = _core.attention_variants()
pytestmark = pytest.mark.skipif(not VARIANTS, reason="no variant for this processor")

Array = np.ndarray


class Case:
    """Random queries, keys and values, and which token sees which cell."""

    def __init__(
        self,
        seed: int = 0,
        *,
        tokens: int = 5,
        cells: int = 150,
        heads: int = 6,
        kv_heads: int = 2,
        key_size: int = 64,
        value_size: int = 64,
        streams: int = 1,
    ) -> None:
        rng = np.random.default_rng(seed)
        self.q = rng.normal(size=(streams, heads, tokens, key_size)).astype(np.float32)
        self.k = rng.normal(size=(streams, kv_heads, cells, key_size)).astype(np.float16)
        self.v = rng.normal(size=(streams, kv_heads, cells, value_size)).astype(np.float16)
        self.mask = np.zeros((streams, tokens, cells), np.float16)
        self.options = {"scale": key_size**-0.5, "max_bias": 0.0, "softcap": 0.0}
        self.sinks = np.zeros(0, np.float32)

    def hide(self, seed: int, share: float = 0.4) -> None:
        """Hides a random share of the cells from each token."""
        hidden = np.random.default_rng(seed).random(self.mask.shape) < share
        self.mask[hidden] = -np.inf

    def run(self, variant: str = VARIANTS[-1] if VARIANTS else "", threads: int = 1) -> Array:
        """Returns what the core computes."""
        halves = [np.ascontiguousarray(x).view(np.uint16) for x in (self.k, self.v, self.mask)]
        return _core.attend(
            variant,
            np.ascontiguousarray(self.q),
            *halves,
            sinks=self.sinks,
            n_threads=threads,
            **self.options,
        )

    def expected(self) -> Array:
        """Returns softmax(scale q k + mask) v in double precision."""
        q, k, v = (x.astype(np.float64) for x in (self.q, self.k, self.v))
        streams, heads, tokens, _ = q.shape
        group = heads // k.shape[1]
        out = np.zeros((streams, tokens, heads, v.shape[-1]))
        for s, h in itertools.product(range(streams), range(heads)):
            scores = q[s, h] @ k[s, h // group].T * self.options["scale"]
            if cap := self.options["softcap"]:
                scores = cap * np.tanh(scores / cap)
            scores = scores + slope(h, heads, self.options["max_bias"]) * self.mask[s].astype(float)
            if self.sinks.size:
                scores = np.concatenate([scores, np.full((tokens, 1), self.sinks[h])], 1)
            for t in range(tokens):
                greatest = scores[t].max()
                if greatest == -np.inf:
                    continue
                p = np.exp(scores[t] - greatest)
                out[s, t, h] = (p / p.sum())[: v.shape[2]] @ v[s, h // group]
        return out


def slope(head: int, heads: int, max_bias: float) -> float:
    """Return ALiBi's slope as its authors give it, for 2**n heads and others, or 1."""
    if max_bias == 0:
        return 1.0
    n = 2 ** int(np.log2(heads))
    if head < n:
        return 2 ** (-max_bias / n * (head + 1))
    return 2 ** (-max_bias / 2 / n * (2 * (head - n) + 1))


def assert_close(case: Case, tolerance: float = 3e-6, **how) -> None:
    """The core's result is within single precision of the expected one."""
    np.testing.assert_allclose(case.run(**how), case.expected(), rtol=0, atol=tolerance)


@pytest.mark.parametrize("variant", VARIANTS)
@pytest.mark.parametrize(
    "sizes",
    [
        {},
        {"tokens": 1, "cells": 1},
        {"tokens": 1, "cells": 700, "heads": 9, "kv_heads": 3},
        {"tokens": 70, "cells": 333, "heads": 4, "kv_heads": 4},
        {"heads": 8, "kv_heads": 1, "key_size": 256, "value_size": 256},
        {"key_size": 80, "value_size": 80},
        {"key_size": 192, "value_size": 128},
        {"streams": 3, "tokens": 2},
    ],
    ids=str,
)
def test_equals_numpy(variant: str, sizes: dict) -> None:
    """All shapes of calls, by one thread and by three, with and without hidden cells."""
    case = Case(**sizes)
    for threads in (1, 3):
        assert_close(case, variant=variant, threads=threads)
    if case.mask.shape[-1] > 1:
        case.hide(1)
        for threads in (1, 3):
            assert_close(case, variant=variant, threads=threads)


@pytest.mark.parametrize("variant", VARIANTS)
def test_options_of_models(variant: str) -> None:
    """ALiBi, limited scores, sinks, and scores of thousands, whose last bits are large."""
    alibi = Case(heads=12, kv_heads=4)
    alibi.options["max_bias"] = 8.0
    alibi.mask[:] = -np.arange(150)[::-1]
    capped = Case(1)
    capped.options["softcap"] = 2.0
    capped.options["scale"] = 1.0
    sinks = Case(2)
    sinks.sinks = np.array([0.0, 3.0, -2.0, 10.0, 0.5, -50.0], np.float32)
    steep = Case(3)
    steep.options["scale"] = 40.0
    for case in (alibi, capped, sinks, steep):
        case.hide(4)
        assert_close(case, 3e-4 if case is steep else 3e-6, variant=variant)


def test_token_that_sees_nothing_is_zero() -> None:
    """Also beside tokens that see something."""
    case = Case()
    case.mask[0, 2] = -np.inf
    out = case.run()
    assert np.all(out[0, 2] == 0)
    np.testing.assert_allclose(out, case.expected(), atol=3e-6)


def test_many_cells_of_one_weight() -> None:
    """The sum of 70,000 equal weights is right."""
    case = Case(tokens=1, cells=70_000, heads=1, kv_heads=1, key_size=16, value_size=16)
    case.q[:] = 0
    assert_close(case)


def test_variants_and_threads_give_the_same_bits() -> None:
    """Each number is one chain of operations, whoever computes it."""
    for tokens in (1, 3, 40, 130):
        case = Case(tokens=tokens, cells=300, heads=9, kv_heads=3)
        case.hide(tokens)
        out = case.run()
        for variant, threads in itertools.product(VARIANTS, (1, 2, 3, 7)):
            assert np.array_equal(case.run(variant, threads), out)


@pytest.mark.parametrize("variant", VARIANTS)
def test_bits_of_a_token_do_not_depend_on_the_others(variant: str) -> None:
    """Alone and in company, of tokens that see the same cells, fewer, or quite others."""
    case = Case(tokens=150, cells=400, heads=9, kv_heads=3)
    rng = np.random.default_rng(5)
    case.mask[0, :100][np.triu(np.ones((100, 400), bool), 250)] = -np.inf  # a prompt
    case.mask[0, 100:120, 100:] = -np.inf  # another sequence
    case.hide(6, 0.1)
    case.mask[0, 120:][rng.random((30, 400)) < 0.8] = -np.inf
    whole = case.run(variant, threads=2)
    for token in rng.permutation(150)[:40]:
        alone = Case(tokens=1, cells=400, heads=9, kv_heads=3)
        alone.q, alone.k, alone.v = case.q[:, :, [token]], case.k, case.v
        alone.mask = case.mask[:, [token]]
        assert np.array_equal(alone.run(variant)[0, 0], whole[0, token])


@pytest.mark.parametrize("variant", VARIANTS)
def test_bits_do_not_depend_on_cells_that_are_not_seen(variant: str) -> None:
    """Cells of others between a token's own ones change nothing."""
    case = Case(tokens=2, cells=200)
    out = case.run(variant)
    rng = np.random.default_rng(7)
    for _ in range(5):
        places = np.sort(rng.permutation(500)[:200])
        spread = Case(9, tokens=2, cells=500)
        spread.q = case.q
        spread.k[:, :, places], spread.v[:, :, places] = case.k, case.v
        spread.mask[:] = -np.inf
        spread.mask[:, :, places] = 0
        assert np.array_equal(spread.run(variant), out)


def test_refuses_what_it_cannot_compute() -> None:
    """Heads of other sizes, and variants that do not exist."""
    with pytest.raises(ValueError, match="the size of a head must be a multiple of 16, got 24"):
        Case(key_size=24).run()
    with pytest.raises(ValueError, match="variant must be one of attention_variants"):
        Case().run("sse1")
