"""Typical-p and XTC equal their definitions in NumPy.

All of truncation is compared with llama.cpp's own samplers.
"""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ersd._core import Coupling, SamplingOptions, select, uniform

import oracles
import samplers
from ersd import Generator


def expected(row, typical_p=1.0, xtc_threshold=None, **truncation):
    """Returns the tokens that are kept by definition; bool[n]."""
    first = {"top_k": truncation.pop("top_k", 0)} if typical_p < 1 else {}
    mask = oracles.kept(row, **(first or truncation))
    if typical_p < 1:
        p = oracles.softmax(np.where(mask, row, -np.inf))
        with np.errstate(divide="ignore", invalid="ignore"):
            surprise = -np.log(p)
            deviation = np.where(
                mask, np.abs(surprise - np.sum(np.where(mask, p * surprise, 0))), np.inf
            )
        order = np.argsort(deviation, kind="stable")
        n = np.searchsorted(np.cumsum(p[order]), float(np.float32(typical_p)), side="right") + 1
        mask &= deviation <= deviation[order[: min(n, mask.sum())]].max()
        mask &= oracles.kept(np.where(mask, row, -np.inf), **truncation)
    if xtc_threshold is not None:
        p = oracles.softmax(np.where(mask, row, -np.inf))
        top = row[p >= np.float32(xtc_threshold)]
        if len(top) > 1:
            mask &= row <= top.min()
    return mask


@pytest.mark.parametrize("kind", oracles.ROW_KINDS)
@pytest.mark.parametrize("n", [2, 50, 3000])
def test_kept_tokens_by_definition(kind, n):
    """Random rows and options keep the tokens of the definition, with unchanged logits."""
    rng = np.random.default_rng(n)
    for _ in range(100):
        row = oracles.random_row(rng, n, kind)
        row[rng.random(n) < 0.05] = -np.inf
        row[0] = 1
        truncation = oracles.random_truncation(rng, n)
        typical_p, xtc = float(rng.choice([1.0, 0.2, 0.9])), [None, 0.05, 0.3][rng.integers(3)]
        options = SamplingOptions(
            **truncation,
            typical_p=typical_p,
            xtc_probability=0.5,
            xtc_threshold=0.1 if xtc is None else xtc,
        )
        kept = select(row, options, 0.6 if xtc is None else 0.4)
        mask = expected(row, typical_p, xtc, **truncation)
        np.testing.assert_array_equal(kept > -np.inf, mask)
        np.testing.assert_array_equal(kept[mask], row[mask])


def test_coin_of_xtc():
    """XTC removes the top token if uniform(seed, position) <= xtc_probability, else nothing."""
    row = np.array([5, 4.5, 1, 0.5, 0], np.float32)
    coupling = Coupling(
        "ersd", SamplingOptions(temperature=1.0, xtc_probability=0.4, xtc_threshold=0.2), 77
    )
    acted, n_top = [], 0
    for position in range(400):
        token = coupling.sample(row, np.array([], np.float32), position)[0]
        words = oracles.philox((0, position, 4, 0), (77, 0))
        coin = (((int(words[0]) << 32 | int(words[1])) >> 12) + 0.5) * 2.0**-52
        assert uniform(77, position, 4) == coin
        acted.append(coin <= 0.4)
        assert token != 0 or not acted[-1]
        n_top += token == 0
    assert 120 < sum(acted) < 200
    assert n_top > 100


def test_no_coin_without_probability():
    """XTC is off if its probability is 0 or its threshold is above one half."""
    row = np.array([5, 5, 1], np.float32)
    assert (select(row, SamplingOptions(xtc_probability=0.0), 0.3) > -np.inf).all()
    assert (
        select(row, SamplingOptions(xtc_probability=1.0, xtc_threshold=0.6), 0.3) > -np.inf
    ).all()


@pytest.fixture(scope="module")
def recorded(target: Path) -> list[np.ndarray]:
    """The logits of the default target along some answers; f32[n_vocab] each."""
    rows = []

    def record(input_ids, scores):
        rows.append(scores.copy())
        return scores

    generator = Generator(target, n_ctx=512, n_threads=1, type_k="bf16", flash_attn=True)
    for seed, prompt in enumerate(
        ["The capital of France is", "def quicksort(", "Once upon a time", "1, 2, 3,"]
    ):
        generator.generate(
            prompt,
            max_tokens=25,
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            min_p=0.0,
            seed=seed,
            logits_processor=record,
        )
    return rows


TRUNCATIONS = [
    {"top_k": 40},
    {"top_p": 0.9},
    {"min_p": 0.05},
    {"typical_p": 0.5, "top_k": 100},
    {"typical_p": 0.95, "top_k": 100},
    {"typical_p": 0.5},
    {"typical_p": 0.95},
    {"top_k": 40, "typical_p": 0.9, "top_p": 0.95, "min_p": 0.05},
    {"xtc": 0.1},
    {"xtc": 0.02, "top_k": 40, "top_p": 0.95, "min_p": 0.02},
    {"xtc": 0.05, "typical_p": 0.9, "top_p": 0.9, "top_k": 100},
]


def support(row, xtc=None, **options):
    """Returns the tokens that ersd keeps; bool[n]."""
    if xtc is not None:
        options |= {"xtc_probability": 1.0, "xtc_threshold": xtc}
    return select(row, SamplingOptions(**options), 0.5) > -np.inf


@pytest.mark.no_sanitizer
@pytest.mark.parametrize("options", TRUNCATIONS, ids=str)
def test_support_is_that_of_llama_cpp(recorded, options):
    """On real rows ersd keeps the tokens that llama.cpp keeps, and exactly those of NumPy.

    Where llama.cpp sums 49,152 floats, its cutoff may be off by thousandths of the probability.
    """
    rough, weights = "top_k" not in options and {"top_p", "typical_p"} & set(options), []
    by_definition = {
        {"xtc": "xtc_threshold"}.get(name, name): value for name, value in options.items()
    }
    for row in recorded:
        ours = support(row, **options)
        other = oracles.softmax(row)[ours != (samplers.truncate(row, **options) > -np.inf)]
        # The token at the cutoff may have any probability, so it does not count.
        weights.append(other.sum() - other.max(initial=0) if rough else other.sum())
        np.testing.assert_array_equal(ours, expected(row, **by_definition))
    assert np.max(weights) < (5e-3 if rough else 1e-12), weights
    assert np.mean(np.equal(weights, 0)) > 0.5
