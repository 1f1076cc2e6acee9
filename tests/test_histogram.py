"""The rank histogram: a prior that favours early ranks, and counts that fade."""

import numpy as np
import pytest
from ersd._core import RankHistogram

N_RANKS = 64


def test_prior():
    """There are 65 probabilities, and earlier ranks are at least as probable as later ones."""
    p = RankHistogram().probabilities()
    assert p.shape == (N_RANKS + 1,)
    assert p.dtype == np.float64
    assert p.sum() == pytest.approx(1, rel=1e-12)
    assert (p > 0).all()
    assert (np.diff(p[:N_RANKS]) <= 0).all()


@pytest.mark.parametrize("rank", [0, 1, 5, 63, 64, 65, 1000, 2**40])
def test_observing_moves_the_probabilities(rank):
    """The observed rank gains, others keep their proportions, later ranks share the last entry."""
    histogram = RankHistogram()
    entry = min(rank, N_RANKS)
    for _ in range(5):
        before = histogram.probabilities()
        histogram.learn(rank)
        after = histogram.probabilities()
        assert after.sum() == pytest.approx(1, rel=1e-12)
        assert after[entry] > before[entry]
        others = np.arange(N_RANKS + 1) != entry
        np.testing.assert_allclose(
            after[others] / before[others], (1 - after[entry]) / (1 - before[entry]), rtol=1e-9
        )


def test_prior_weighs_as_200_observations():
    """After 200 observations of one rank it has about half of the probability."""
    histogram = RankHistogram()
    prior = histogram.probabilities()[7]
    for _ in range(200):
        histogram.learn(7)
    assert histogram.probabilities()[7] == pytest.approx((1 + prior) / 2, abs=0.04)


def test_probabilities_approach_the_frequencies():
    """Many observations outweigh the prior."""
    rng, histogram = np.random.default_rng(0), RankHistogram()
    p = rng.dirichlet(np.ones(4))
    for rank in rng.choice([0, 2, 40, 80], p=p, size=20_000).tolist():
        histogram.learn(rank)
    np.testing.assert_allclose(histogram.probabilities()[[0, 2, 40, 64]], p, atol=0.05)


def test_older_observations_fade():
    """After 2,000 positions an observation counts half."""
    histogram = RankHistogram()
    for _ in range(40_000):
        histogram.learn(3)
    for n in (2000, 2000):
        before = histogram.probabilities()[3]
        for _ in range(n):
            histogram.learn(64)
        assert histogram.probabilities()[3] == pytest.approx(before / 2, rel=1e-3)
