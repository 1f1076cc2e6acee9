"""Races among allowed tokens: the winner is that of the masked row, and few are asked about."""

import numpy as np
import pytest
from ersd._core import Clock, FilteredRace, SamplingOptions

import oracles

N = 2000


def masked(row, allowed):
    """Returns the row with -inf for tokens that are not allowed."""
    return np.where(allowed, row, -np.inf).astype(np.float32)


@pytest.mark.parametrize("kind", oracles.ROW_KINDS)
@pytest.mark.parametrize("share", [0.001, 0.02, 0.5, 1.0])
def test_winner_is_that_of_the_masked_row(kind, share):
    """The winner is right for all options, and for filters that refuse few or nearly all tokens."""
    rng, race = np.random.default_rng(int(share * 1000)), FilteredRace()
    for position in range(60):
        n = int(rng.choice([5, 130, N]))
        row = oracles.random_row(rng, n, kind)
        allowed = rng.random(n) < share
        allowed[rng.integers(n)] = True
        if position % 2:  # like a grammar that refuses the most probable tokens
            allowed &= row < np.sort(row)[-min(3, n - 1)]
            allowed[np.argmin(row)] = True
        options = {
            "temperature": float(rng.choice([0, 0.6, 1.0, 1.7])),
            **oracles.random_truncation(rng, n),
        }
        clocks = oracles.clocks(9, position, n)
        winner, n_asked = race.winner(
            row, SamplingOptions(**options), Clock(9, position), allowed.tolist()
        )
        assert winner == oracles.winner(masked(row, allowed), clocks, **options), options
        assert n_asked <= n


CUT = {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05}


@pytest.mark.parametrize("options", [{"temperature": 1.0}, CUT, {"temperature": 0.0}], ids=str)
def test_few_tokens_are_asked_about(options):
    """If half of the tokens are allowed, the filter is asked about few of 49,152."""
    rng, race, asked = np.random.default_rng(3), FilteredRace(), []
    for position in range(50):
        row = (rng.normal(size=49152) * 4).astype(np.float32)
        allowed = rng.random(49152) < 0.5
        winner, n_asked = race.winner(
            row, SamplingOptions(**options), Clock(1, position), allowed.tolist()
        )
        assert allowed[winner]
        asked.append(n_asked)
    assert np.median(asked) < 100


def test_no_token_left():
    """If no token is left, an error says so."""
    with pytest.raises(RuntimeError, match="leave no token"):
        FilteredRace().winner(
            np.zeros(10, np.float32), SamplingOptions(), Clock(0, 0), [False] * 10
        )
