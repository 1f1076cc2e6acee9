"""A draft that corrects itself: its steps by definition, what they are good for, and that they change no text."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from ersd._core import Correction, Decoder, GenerationOptions, TableModel

import oracles

FULL = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}


def reference(bias, target, draft, temperature):
    """One step: the difference of the probabilities where it is more than 0.002, never beyond 4."""
    p, q = (oracles.softmax(row, max(temperature, 0.5)) for row in (target, draft))
    step = np.where(np.abs(p - q) > 0.002, p - q, 0)
    return np.clip(bias + step, -4, 4)


@pytest.mark.parametrize("temperature", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("n", [30, 1000])
def test_steps_by_definition(temperature, n):
    """Probabilities of both rows, the draft's corrected so far, move the correction towards the target."""
    rng, correction, bias = np.random.default_rng(n), Correction(), np.zeros(n)
    for _ in range(30):
        target, draft = ((rng.normal(size=n) * 3).astype(np.float32) for _ in range(2))
        corrected = correction.apply(draft)
        np.testing.assert_allclose(corrected, draft + bias, atol=2e-4)
        correction.observe(target, corrected, temperature)
        bias = reference(bias, target, corrected, temperature)
    assert np.count_nonzero(np.abs(bias) > 0.05) > 5


def test_it_is_bounded_and_ignores_what_says_nothing():
    """However long the two disagree; rows without probability teach nothing; a target or a draft may have more tokens."""
    correction = Correction()
    target, draft = np.zeros(20, np.float32), np.zeros(20, np.float32)
    target[3], draft[4] = 90, 90
    for _ in range(50):
        correction.observe(target, draft, 1.0)
    expected = np.zeros(20)
    expected[3:5] = 4, -4
    np.testing.assert_allclose(correction.apply(np.zeros(20, np.float32)), expected, atol=1e-6)
    for nothing in (np.full(20, np.nan, np.float32), np.full(20, -np.inf, np.float32)):
        correction.observe(nothing, draft, 1.0)
        correction.observe(target, nothing, 1.0)
    np.testing.assert_allclose(correction.apply(np.zeros(20, np.float32)), expected, atol=1e-6)
    correction.observe(np.zeros(25, np.float32), draft, 1.0)
    correction.observe(target[:15], draft, 1.0)
    assert np.isfinite(correction.apply(np.zeros(20, np.float32))).all()


def generate(decoder, seed, n=200, **more):
    """Tokens of one text, and the share of positions at which the draft's first choice was the target's."""
    decoder.start([7, seed], GenerationOptions(**FULL, seed=seed, strategy="sequence", draft_nodes=3, **more))
    tokens = []
    while len(tokens) < n:
        tokens += decoder.step(n - len(tokens))
    ranks = decoder.stats.to_dict()["rank_histogram"]
    return tokens, ranks[0] / sum(ranks)


def test_a_biased_draft_learns_its_bias():
    """A draft that is off by a constant for each token is right more often after some texts, and texts are those of plain decoding."""
    rng = np.random.default_rng(3)
    table = oracles.random_table(rng, 500, 60)
    draft = table + (rng.normal(size=60) * 1.5).astype(np.float32)
    adapting, fixed = (Decoder(TableModel(table), TableModel(draft)) for _ in range(2))
    first = []
    for seed in range(12):
        tokens, share = generate(adapting, seed)
        assert tokens == oracles.decode(table, [7, seed], 200, seed, temperature=1.0)
        first.append((share, generate(fixed, seed, adapt_draft=False)[1]))
    late = np.mean(first[6:], axis=0)
    assert late[0] > late[1] + 0.15
    assert all(share > 0.5 for share, _ in first[6:])


def test_only_where_it_is_asked_for():
    """Without adapt_draft nothing is learnt or applied; rejection sampling keeps the draft as it is."""
    rng = np.random.default_rng(3)
    table = oracles.random_table(rng, 100, 60)
    draft = table + (rng.normal(size=60) * 1.5).astype(np.float32)
    once = [generate(Decoder(TableModel(table), TableModel(draft)), 5, adapt_draft=False)]
    decoder = Decoder(TableModel(table), TableModel(draft))
    once += [generate(decoder, 5, adapt_draft=False) for _ in range(3)]
    generate(decoder, 6)  # learns
    once.append(generate(decoder, 5, adapt_draft=False))
    assert all(a == b for a, b in pairwise(once))
    for method in ("gsd", "match"):
        assert generate(decoder, 5, method=method) == generate(decoder, 5, method=method, adapt_draft=False)
    assert generate(decoder, 5)[1] != once[0][1]
