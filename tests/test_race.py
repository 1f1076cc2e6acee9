"""Races give the winners and arrivals of brute force over all clocks.

They follow the probabilities of the logits.
"""

from itertools import permutations

import numpy as np
import pytest
from ersd._core import Clock, Race, SamplingOptions, cutoff, select

import oracles

SIZES = [1, 5, 127, 128, 129, 1000, 32000, 49152, 262144]
TEMPERATURES = [0.05, 0.6, 1.0, 1.5, 20.0]


@pytest.fixture(scope="module")
def race():
    """One race for all tests, so that working memory left by a race may spoil the next one."""
    return Race()


def winners(race, logits, n, seed=3, **options):
    """Returns the winners at n positions; i64[n]."""
    options = SamplingOptions(**options)
    return np.array([race.winner(logits, options, Clock(seed, position)) for position in range(n)])


def assert_arrivals(race, logits, seed, position, m, **options):
    """The first m arrivals and the winner equal those of brute force."""
    tokens, scores = race.arrivals(logits, SamplingOptions(**options), Clock(seed, position), m)
    clock = oracles.clocks(seed, position, len(logits))
    expected, expected_scores = oracles.arrivals(logits, clock, m, **options)
    np.testing.assert_array_equal(tokens, expected)
    np.testing.assert_allclose(scores, expected_scores, rtol=1e-12, atol=1e-12)
    assert race.winner(logits, SamplingOptions(**options), Clock(seed, position)) == expected[0]


@pytest.mark.parametrize("n", SIZES)
@pytest.mark.parametrize("kind", oracles.ROW_KINDS)
def test_winner_and_arrivals_equal_brute_force(race, n, kind):
    """Order and scores are right for any m, temperature and truncation."""
    rng = np.random.default_rng([n, len(kind)])
    for i in range(150 if n <= 1000 else 10 if n < 100_000 else 4):
        logits = oracles.random_row(rng, n, kind)
        truncation = oracles.random_truncation(rng, n) if i % 2 else {}
        m = int(rng.choice([1, 5, 64, 256, n + 3]))
        assert_arrivals(
            race,
            logits,
            int(rng.integers(2**63)),
            i,
            m,
            temperature=float(rng.choice(TEMPERATURES)),
            **truncation,
        )


@pytest.mark.parametrize("temperature", [0.6, 1.0])
def test_scores_to_the_bit(race, temperature):
    """Scores equal the scalar definition bit for bit, however many tokens are raced together."""
    rng = np.random.default_rng(3)
    for position in range(20):
        logits = oracles.random_row(rng, 5000, "normal")
        clock = oracles.clocks(9, position, 5000, oracles.fdlibm_log)
        expected = logits.astype(np.float64) / float(np.float32(temperature)) - oracles.fdlibm_log(
            clock
        )
        order = np.argsort(-expected, kind="stable")
        for m in (1, 9, 300):
            tokens, scores = race.arrivals(
                logits, SamplingOptions(temperature=temperature), Clock(9, position), m
            )
            np.testing.assert_array_equal(tokens, order[:m])
            np.testing.assert_array_equal(scores, expected[tokens])


def test_every_place_can_win(race):
    """The first and last tokens of a block can win, also in a last block that is short."""
    for n in (127, 128, 129, 300):
        for token in sorted({0, n - 1, min(127, n - 1), min(128, n - 1)}):
            logits = np.zeros(n, np.float32)
            logits[token] = 60
            assert (winners(race, logits, 20) == token).all()


@pytest.mark.parametrize("n", [1, 5, 128, 129, 1000])
def test_temperature_zero(race, n):
    """Without noise, tokens arrive in the order of their logits, equal ones from the lowest."""
    rng = np.random.default_rng(n)
    for kind in oracles.ROW_KINDS:
        for m in (1, 5, 64, n + 1):
            logits = oracles.random_row(rng, n, kind)
            assert_arrivals(race, logits, 1, m, m, temperature=0.0, top_k=2, top_p=0.5)
            assert (
                race.winner(logits, SamplingOptions(temperature=0), Clock(0, 0)) == logits.argmax()
            )


DISTRIBUTIONS = {
    "flat": np.zeros(300),
    "peaked": np.where(np.arange(300) == 170, 8.0, 0.0),
    "geometric": -0.05 * np.random.default_rng(0).permutation(400),
    "two-level": np.where(np.arange(1000) % 128 == 5, 4.0, 0.0),
    "one block": np.linspace(-2, 2, 60),
}


CUT = {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05}


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize(
    "options", [{"temperature": 1.0}, {"temperature": 0.6}, {"temperature": 1.5}, CUT]
)
def test_winners_follow_the_softmax(race, name, options):
    """Winners follow the distribution after temperature and truncation."""
    logits = DISTRIBUTIONS[name].astype(np.float32)
    counts = np.bincount(winners(race, logits, 20_000, **options), minlength=len(logits))
    assert oracles.goodness(counts, oracles.softmax(logits, **options)) > 1e-4


@pytest.mark.parametrize("places", [range(5), [0, 127, 128, 4000, 49151]])
@pytest.mark.parametrize("m", [2, 3])
def test_arrivals_are_samples_without_replacement(race, places, m):
    """Ordered pairs and triples have the probabilities of Plackett and Luce.

    This holds within a block and across blocks.
    """
    p = np.array([0.4, 0.25, 0.2, 0.1, 0.05])
    logits = np.full(max(places) + 1, -np.inf, np.float32)
    logits[list(places)] = np.log(p)
    exact = {}
    for order in permutations(range(5), m):
        taken = np.cumsum([0, *p[list(order)]])[:-1]
        exact[order] = np.prod(p[list(order)] / (1 - taken))
    counts, options, index = (
        dict.fromkeys(exact, 0),
        SamplingOptions(),
        {place: i for i, place in enumerate(places)},
    )
    for position in range(20_000):
        counts[
            tuple(
                index[token]
                for token in race.arrivals(logits, options, Clock(4, position), m)[0].tolist()
            )
        ] += 1
    assert oracles.goodness(list(counts.values()), list(exact.values())) > 1e-4


def test_first_arrivals_begin_longer_ones(race):
    """The first m arrivals do not depend on how many are asked for."""
    logits = oracles.random_row(np.random.default_rng(1), 5000, "normal")
    all_tokens = race.arrivals(logits, SamplingOptions(), Clock(1, 2), 5000)[0]
    assert sorted(all_tokens) == list(range(5000))
    for m in (0, 1, 2, 64, 65, 4999):
        np.testing.assert_array_equal(
            race.arrivals(logits, SamplingOptions(), Clock(1, 2), m)[0], all_tokens[:m]
        )


ODD_VALUES = [
    np.inf,
    -np.inf,
    np.nan,
    0.0,
    1.0,
    1e30,
    -1e30,
    np.finfo(np.float32).max,
    np.finfo(np.float32).min,
    1e-40,
]


ODD_ROWS = {
    "mixture": lambda rng, n: np.where(
        rng.random(n) < rng.choice([0.1, 0.9, 1.0]),
        rng.choice(ODD_VALUES, size=n),
        rng.normal(size=n),
    ),
    "equal": lambda rng, n: np.full(n, rng.choice(ODD_VALUES)),
    "one finite": lambda rng, n: np.where(
        np.arange(n) == rng.integers(max(n, 1)), rng.choice([-1e30, 0.0, 7.0]), -np.inf
    ),
    "none": lambda rng, n: rng.choice([np.nan, -np.inf], size=n),
    "denormal": lambda rng, n: rng.normal(size=n) * 1e-40,
    "huge": lambda rng, n: rng.normal(size=n) * 10.0 ** rng.integers(3, 38),
    "two levels": lambda rng, n: rng.choice([-1e4, 1e4], size=n) * rng.integers(2),
}


@pytest.mark.parametrize("kind", ODD_ROWS)
def test_odd_logits(race, kind):
    """Rows that no model should give have the cutoff, arrivals and ranks of brute force.

    If no token has a probability, there is one error.
    """
    rng, n_raced = np.random.default_rng(len(kind)), 0
    for i in range(400):
        n = int(rng.choice([0, 1, 2, 5, 127, 128, 129, 300, 700]))
        logits = ODD_ROWS[kind](rng, n).astype(np.float32)
        given = {
            "temperature": float(rng.choice([0.0, 1e-6, 1e6, *TEMPERATURES])),
            **(oracles.random_truncation(rng, n) if i % 3 else {}),
        }
        options, clock, m = (
            SamplingOptions(**given),
            Clock(5, i),
            int(rng.choice([1, 7, 64, n + 1])),
        )
        if not (logits > -np.inf).any():
            assert (cutoff(logits, options), race.rank(logits, options, clock, 0, m)) == (
                -np.inf,
                m,
            )
            assert race.arrivals(logits, options, clock, m)[0].size == 0
            assert (select(logits, options, 0.5) > -np.inf).sum() == 0
            with pytest.raises(RuntimeError, match=f"no token a probability: all {n} logits"):
                race.winner(logits, options, clock)
            continue
        kept = (logits >= cutoff(logits, options)) & (logits > -np.inf)
        np.testing.assert_array_equal(kept, oracles.kept(logits, **given))
        assert_arrivals(race, logits, 5, i, m, **given)
        order = oracles.arrivals(logits, oracles.clocks(5, i, n), m, **given)[0].tolist()
        for token in (*order[:2], *order[-1:], int(rng.integers(n))):
            assert race.rank(logits, options, clock, token, m) == (
                order.index(token) if token in order else m
            )
        n_raced += 1
    assert n_raced > 200 or kind == "none"


@pytest.mark.parametrize("temperature", [1e-6, 0.7, 1.0, 1e6])
def test_masked_blocks(race, temperature):
    """Blocks that are masked by the least float, as padding does, do not change the others."""
    rng = np.random.default_rng(7)
    for position in range(300):
        logits = oracles.random_row(rng, 1280, "normal")
        logits.reshape(10, 128)[rng.random(10) < 0.5] = np.finfo(np.float32).min
        assert_arrivals(race, logits, 6, position, 3, temperature=temperature)


@pytest.mark.parametrize("m", [1, 5, 20])
def test_odd_logits_of_the_least_clocks(race, m):
    """The tokens with the least clocks of their blocks may have infinite or huge logits."""
    rng = np.random.default_rng(m)
    for position in range(150):
        logits, (_, leaders) = (
            rng.normal(size=5120).astype(np.float32),
            oracles.minima(8, position, 40),
        )
        logits[leaders] = np.where(
            rng.random(40) < rng.random(), rng.choice(ODD_VALUES, size=40), logits[leaders]
        )
        assert_arrivals(
            race, logits, 8, position, m, temperature=float(rng.choice([1e-6, *TEMPERATURES]))
        )


def test_one_finite_logit(race):
    """If only one token has a probability, it always wins."""
    for token in (0, 127, 128, 999):
        logits = np.full(1000, -np.inf, np.float32)
        logits[token] = -50
        assert (winners(race, logits, 50) == token).all()
        assert race.arrivals(logits, SamplingOptions(), Clock(0, 0), 9)[0].tolist() == [token]
