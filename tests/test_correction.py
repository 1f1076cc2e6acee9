"""A draft that corrects itself: its steps, what it gains, and that no text changes."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from ersd._core import Correction, GenerationOptions, TableModel

import oracles
from decoding import Decoder

FULL = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}


def learn_both(correction, reference, n, steps, temperature, rng):
    """Teaches both random rows of a few contexts; what they add must be the same at every step."""
    for _ in range(steps):
        before = int(rng.integers(3))
        target, draft = ((rng.normal(size=n) * 3).astype(np.float32) for _ in range(2))
        corrected = correction.apply(before, draft)
        np.testing.assert_allclose(corrected, draft + reference(before), atol=2e-4)
        correction.learn(before, target, corrected, temperature)
        tokens, logits = correction.differences()
        expected = reference.learn(before, target, corrected, temperature)
        np.testing.assert_array_equal(tokens, np.flatnonzero(expected))
        np.testing.assert_allclose(logits, expected[tokens], atol=2e-4)


@pytest.mark.parametrize("temperature", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("n", [30, 1000])
def test_steps_by_definition(temperature, n):
    """Every step is that of the definition."""
    correction, reference = Correction(), oracles.Correction(n)
    learn_both(correction, reference, n, 30, temperature, np.random.default_rng(n))
    assert np.count_nonzero(np.abs(reference(0)) > 0.05) > 5
    assert np.abs(reference(0) - reference(1)).max() > 0.05


def test_state_and_restore():
    """A restored correction learns as the original does, and impossible states are refused."""
    rng, first, second, reference = (
        np.random.default_rng(0),
        Correction(),
        Correction(),
        oracles.Correction(50),
    )
    learn_both(first, reference, 50, 20, 1.0, rng)
    second.restore(*first.state())
    learn_both(second, reference, 50, 20, 1.0, rng)
    before, token, bias, squares = second.state()
    assert set(before) == {-1, 0, 1, 2}
    for wrong in (
        (before, token[::-1].copy(), bias, squares),
        (before, token, bias + np.float32(5), squares),
        (before, token, bias * np.float32(np.nan), squares),
        (before, token, bias, squares - np.float32(1e9)),
        (before, token, bias, squares[1:].copy()),
    ):
        with pytest.raises(ValueError, match="correction"):
            second.restore(*wrong)
    assert all(
        np.array_equal(a, b)
        for a, b in zip(second.state(), (before, token, bias, squares), strict=True)
    )


def test_bounds_and_empty_rows():
    """Biases stay within 4, rows without probability teach nothing, vocabularies may differ."""
    correction = Correction()
    target, draft, zero = (
        np.zeros(20, np.float32),
        np.zeros(20, np.float32),
        np.zeros(20, np.float32),
    )
    target[3], draft[4] = 90, 90
    for _ in range(200):
        correction.learn(7, target, draft, 1.0)
    expected = np.zeros(20)
    expected[3:5] = 4, -4
    np.testing.assert_allclose(correction.apply(8, zero), expected, atol=1e-6)
    np.testing.assert_allclose(correction.apply(7, zero), 2 * expected, atol=1e-6)
    for nothing in (np.full(20, np.nan, np.float32), np.full(20, -np.inf, np.float32)):
        correction.learn(7, nothing, draft, 1.0)
        correction.learn(7, target, nothing, 1.0)
    np.testing.assert_allclose(correction.apply(8, zero), expected, atol=1e-6)
    correction.learn(7, np.zeros(25, np.float32), draft, 1.0)
    correction.learn(7, target[:15], draft, 1.0)
    assert np.isfinite(correction.apply(7, zero)).all()


def test_memory_is_bounded():
    """At most 2**20 entries are kept, and they go on learning when no more are added."""
    correction, n = Correction(), 600
    flat, peaked = np.zeros(n, np.float32), np.full(n, -90, np.float32)
    peaked[::2] = 9
    flat[::5] += 4
    for before in range(3500):
        correction.learn(before, peaked, flat, 1.0)
    before, _, _, squares = correction.state()
    assert len(before) == 1 << 20
    assert (before == 0).any()
    correction.learn(0, peaked, flat, 1.0)
    assert (correction.state()[3][before == 0] > squares[before == 0]).all()


def generate(decoder, seed, n=200, **more):
    """Returns a text, and the share of positions whose token was the draft's first."""
    decoder.start(
        [7, seed], GenerationOptions(**FULL, seed=seed, strategy="sequence", draft_nodes=3, **more)
    )
    tokens = []
    while len(tokens) < n:
        tokens += decoder.step(n - len(tokens))
    ranks = decoder.stats.to_dict()["rank_histogram"]
    return tokens, ranks[0] / sum(ranks)


def test_a_biased_draft_learns_its_bias():
    """A draft with a constant error per token improves, and texts are those of plain decoding."""
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


def test_only_with_adapt_draft():
    """Without adapt_draft, and for other methods than "ersd", nothing is learnt or applied."""
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
        assert generate(decoder, 5, method=method) == generate(
            decoder, 5, method=method, adapt_draft=False
        )
    assert generate(decoder, 5)[1] != once[0][1]
