"""Trials of drafting under load: the better way is used, and trials cost little."""

import numpy as np
import pytest
from ersd._core import DraftTrials

PLAIN_MS = 10.0  # of a plain step


def run(trials, n_sequences, speed, n_steps, rng):
    """Makes steps, and returns which drafted and how long all took. Noise is a tenth."""
    drafted, total_ms = [], 0.0
    for _ in range(n_steps):
        drafts = trials.drafts(n_sequences)
        ms = PLAIN_MS / (speed if drafts else 1.0) * rng.uniform(0.9, 1.1)
        trials.learn(n_sequences, PLAIN_MS, ms)
        drafted.append(drafts)
        total_ms += ms
    return np.array(drafted), total_ms


@pytest.mark.parametrize("n_sequences", [2, 3, 8, 64])
@pytest.mark.parametrize("speed", [0.3, 0.5, 0.8, 0.95, 1.1, 2.0])
def test_the_better_way_is_used(n_sequences, speed):
    """Beside the first trials, what is lost is at most two percent."""
    rng, trials = np.random.default_rng(0), DraftTrials()
    first, _ = run(trials, n_sequences, speed, 12, rng)
    assert list(first) == [False] * 6 + [True] * 6
    n_steps = 2000
    drafted, total_ms = run(trials, n_sequences, speed, n_steps, rng)
    assert np.mean(drafted == (speed > 1)) > 0.9
    assert total_ms < 1.02 * n_steps * PLAIN_MS / max(speed, 1)


def test_the_other_way_is_tried_again():
    """When drafts begin to pay, steps change to them."""
    rng, trials = np.random.default_rng(1), DraftTrials()
    drafted, _ = run(trials, 4, 0.7, 500, rng)
    assert 0 < np.mean(drafted[100:]) < 0.05
    drafted, _ = run(trials, 4, 1.5, 1500, rng)
    assert np.mean(drafted[-100:]) > 0.8


def test_each_magnitude_has_its_own_record():
    """Drafts may pay for two sequences and not for eight."""
    rng, trials = np.random.default_rng(2), DraftTrials()
    run(trials, 2, 1.5, 100, rng)
    run(trials, 8, 0.6, 100, rng)
    run(trials, 5, 0.6, 10, rng)  # shares the record of 8
    assert np.mean(run(trials, 2, 1.5, 50, rng)[0]) > 0.8
    assert np.mean(run(trials, 6, 0.6, 50, rng)[0]) < 0.2


def test_a_stall_changes_nothing():
    """A step that took a hundred times as long counts as four."""
    rng, trials = np.random.default_rng(3), DraftTrials()
    run(trials, 4, 1.5, 200, rng)
    while not trials.drafts(4):
        trials.learn(4, PLAIN_MS, PLAIN_MS)
    trials.learn(4, PLAIN_MS, 100 * PLAIN_MS)
    assert np.mean(run(trials, 4, 1.5, 50, rng)[0]) > 0.8
