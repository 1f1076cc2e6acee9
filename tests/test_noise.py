"""Clocks: the bits are those of Philox, the variates are i.i.d. Exp(1), and the bounds hold."""

from concurrent.futures import ThreadPoolExecutor

import numpy as np
import pytest
from ersd._core import Clock, philox
from scipy import stats

import oracles

# Random123's known answers for philox4x32-10 (examples/kat_vectors): counter, key, words.
KNOWN = [
    (
        "00000000 00000000 00000000 00000000",
        "00000000 00000000",
        "6627e8d5 e169c58d bc57ac4c 9b00dbd8",
    ),
    (
        "ffffffff ffffffff ffffffff ffffffff",
        "ffffffff ffffffff",
        "408f276d 41c83b0e a20bc7c6 6d5451fd",
    ),
    (
        "243f6a88 85a308d3 13198a2e 03707344",
        "a4093822 299f31d0",
        "d16cfe09 94fdcceb 5001e420 24126ea1",
    ),
]

# Seed, position, token, clock. If one of these clocks changes, so do the texts of its seed.
GOLDEN = [
    (0, 0, 0, 0.2011271190053605),
    (0, 1, 127, 0.9081765625395911),
    (1, 3, 1000, 4.424495839985325),
    (2**32, 3, 1000, 2.3773098155089465),
    (7, 4096, 49151, 2.681248454590486),
    (2**64 - 1, 2**32 - 1, 262143, 1.1028106997084102),
]


def words(text):
    """Parses hexadecimal words."""
    return [int(word, 16) for word in text.split()]


@pytest.fixture(scope="module")
def block():
    """The clocks of one block at 20,000 positions; f64[20000, 128]."""
    return np.stack([Clock(11, position).clocks(oracles.BLOCK) for position in range(20_000)])


@pytest.mark.parametrize(("counter", "key", "expected"), KNOWN)
def test_philox_known_answers(counter, key, expected):
    """The core and the oracle give the published words."""
    assert philox(words(counter), words(key)) == words(expected)
    assert [int(word) for word in oracles.philox(words(counter), words(key))] == words(expected)


@pytest.mark.parametrize(("seed", "position", "token", "clock"), GOLDEN)
def test_golden_clocks(seed, position, token, clock):
    """Clocks never change and are the same on every machine."""
    assert Clock(seed, position)(token) == clock


@pytest.mark.parametrize("n", [1, 127, 128, 129, 1000, 49152, 262144])
@pytest.mark.parametrize(
    ("seed", "position"),
    [(0, 0), (5, 1), (2**32, 77), (2**64 - 1, 2**32 - 1), (0x123456789ABCDEF0, 4095)],
)
def test_clocks_equal_oracle(n, seed, position):
    """Scalar and vectorised clocks equal the oracle.

    They equal it bit for bit if the oracle takes fdlibm's logarithm.
    """
    clocks = Clock(seed, position).clocks(n)
    np.testing.assert_allclose(clocks, oracles.clocks(seed, position, n), rtol=1e-15)
    np.testing.assert_array_equal(clocks, oracles.clocks(seed, position, n, oracles.fdlibm_log))
    tokens = np.random.default_rng(n).permutation(n)[:5000]
    for some in (tokens, tokens[:3]):
        np.testing.assert_array_equal(Clock(seed, position).compute_clocks(some)[0], clocks[some])


def test_clocks_are_pure():
    """A clock does not depend on the order of calls or on the thread."""
    keys = [
        (seed, position, token)
        for seed in (0, 9)
        for position in (0, 1, 300)
        for token in range(0, 5000, 7)
    ]
    once = {key: Clock(*key[:2])(key[2]) for key in keys}
    shared = {key: Clock(*key) for key in {key[:2] for key in keys}}
    shuffled = [keys[i] for i in np.random.default_rng(0).permutation(len(keys))]
    with ThreadPoolExecutor(8) as pool:
        again = dict(
            zip(shuffled, pool.map(lambda key: shared[key[:2]](key[2]), shuffled), strict=True)
        )
    assert again == once


def test_exponential_over_tokens_and_positions(block):
    """Clocks are Exp(1) over tokens, over positions and over seeds."""
    for seed, position in [(0, 0), (1, 2), (2**63, 9)]:
        assert stats.kstest(Clock(seed, position).clocks(262_144), "expon").pvalue > 1e-4
    for token in (0, 1, 64, 127):
        assert stats.kstest(block[:, token], "expon").pvalue > 1e-4
    assert stats.kstest([Clock(seed, 3)(200) for seed in range(20_000)], "expon").pvalue > 1e-4


def test_minimum_of_a_block(block):
    """The least of 128 clocks is Exp(128) at a uniform place; the others are Exp(1) above it."""
    least, place = block.min(axis=1), block.argmin(axis=1)
    assert stats.kstest(least * oracles.BLOCK, "expon").pvalue > 1e-4
    assert (
        oracles.goodness(
            np.bincount(place, minlength=oracles.BLOCK), np.full(oracles.BLOCK, 1 / oracles.BLOCK)
        )
        > 1e-4
    )
    above = (block - least[:, None])[np.arange(oracles.BLOCK) != place[:, None]]
    assert stats.kstest(above[::7], "expon").pvalue > 1e-4


def test_tokens_of_a_block_are_uncorrelated(block):
    """No two tokens are correlated, nor are their squares.

    The least clock of a block is not correlated with its place.
    """
    uniform = np.exp(-block)
    n = len(uniform)
    for values in (uniform, (uniform - 0.5) ** 2):
        z = np.corrcoef(values, rowvar=False)[np.triu_indices(oracles.BLOCK, 1)] * np.sqrt(n)
        assert 1e-4 < stats.chi2(len(z)).cdf(np.sum(z**2)) < 1 - 1e-4
        assert np.abs(z).max() < 5.5
    z = np.corrcoef(block.min(axis=1), block.argmin(axis=1))[0, 1] * np.sqrt(n)
    assert abs(z) < 4


@pytest.mark.parametrize("pair", [(0, 1), (0, 4), (3, 127), (62, 63), (63, 64)])
def test_two_tokens_of_a_block_jointly(block, pair):
    """Two clocks are independent: a grid of quantiles, the order, and the minimum."""
    a, b = np.exp(-block[:, pair[0]]), np.exp(-block[:, pair[1]])
    cells = (a * 8).astype(int) * 8 + (b * 8).astype(int)
    assert oracles.goodness(np.bincount(cells, minlength=64), np.full(64, 1 / 64)) > 1e-4
    assert stats.binomtest(int(np.count_nonzero(a > b)), len(a)).pvalue > 1e-4
    assert stats.kstest(np.minimum(block[:, pair[0]], block[:, pair[1]]) * 2, "expon").pvalue > 1e-4


def test_orders_of_three_tokens(block):
    """All six orders of three tokens are equally frequent."""
    for tokens in [(0, 1, 2), (5, 40, 100), (3, 4, 127)]:
        order = block[:, tokens].argsort(axis=1) @ np.array([9, 3, 1])
        assert oracles.goodness(np.unique(order, return_counts=True)[1], np.full(6, 1 / 6)) > 1e-4


def test_blocks_seeds_and_positions_are_uncorrelated():
    """Neighbouring blocks, seeds and positions are uncorrelated, and so are similar seeds."""
    n = 100_352
    base = np.exp(-Clock(1, 5).clocks(n))
    others = [
        Clock(seed, position).clocks(n)
        for seed, position in [(2, 5), (1, 6), (5, 1), (1 + 2**32, 5), (2**32, 5), (1, 5 + 2**31)]
    ]
    others += [np.roll(Clock(1, 5).clocks(n), shift) for shift in (oracles.BLOCK, 4, 1)]
    for other in others:
        assert abs(np.corrcoef(base, np.exp(-other))[0, 1]) * np.sqrt(n) < 4
    least = base.reshape(-1, oracles.BLOCK).max(axis=1)
    assert abs(np.corrcoef(least[:-1], least[1:])[0, 1]) * np.sqrt(len(least)) < 4


def test_block_bounds():
    """The noise of a block never exceeds its bound, which is close if the noise is great."""
    n_blocks, positions = 2048, np.arange(300)
    value, place = oracles.minima(3, positions, n_blocks)
    noise = -np.log(value)
    draws = [Clock(3, position).draw_blocks(n_blocks) for position in positions]
    bounds, tokens = (np.stack(rows) for rows in zip(*draws, strict=True))
    assert (bounds - noise).min() >= 0
    assert (bounds - noise)[(noise > 9) & (noise < 15)].max() < 0.07
    np.testing.assert_array_equal(tokens, place)
    for few, many in zip(Clock(3, 7).draw_blocks(5), draws[7], strict=True):
        np.testing.assert_array_equal(few, many[:5])


def test_token_bounds():
    """The noise of a token never exceeds its bound, which is close if the noise is great."""
    tokens = np.arange(262_144)
    for position in range(20):
        clocks, bounds = Clock(8, position).compute_clocks(tokens)
        slack = bounds + np.log(clocks)
        assert slack.min() >= 0
        assert slack[(clocks < 1e-3) & (clocks > 1e-5)].max() < 0.08
