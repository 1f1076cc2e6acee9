"""Threads while other processes compete: a simulated machine whose speeds are those measured."""

from __future__ import annotations

import numpy as np
import pytest
from ersd._core import ThreadGovernor

QUIET = {1: 112.0, 2: 145.0}  # calls per second by threads, nothing else running
BUSY = {1: 100.0, 2: 45.0}  # with one busy process beside
VERY_BUSY = {1: 57.0, 2: 1.7}  # with two
SHARES = {100.0: 1.0, 45.0: 0.66, 57.0: 0.98, 1.7: 0.4}  # of the time that the threads run


def run(
    governor: ThreadGovernor, speeds: dict[int, float], n: int, rng: np.random.Generator
) -> float:
    """The mean calls per second; the threads of a stalled call run for two thirds of its time."""
    total = 0.0
    for _ in range(n):
        threads = governor.n_threads
        ms = 1000 / speeds[threads] * rng.uniform(0.95, 1.05)
        share = SHARES.get(speeds[threads], 1.0)
        governor.learn(1, ms, share * threads * ms)
        total += ms
    return 1000 * n / total


def test_quiet_machine_is_left_alone() -> None:
    """No call uses other than all threads while none stalls."""
    governor, rng = ThreadGovernor(2), np.random.default_rng(1)
    for _ in range(500):
        assert governor.n_threads == 2
        run(governor, QUIET, 1, rng)


@pytest.mark.parametrize("seed", range(5))
@pytest.mark.parametrize("busy", [BUSY, VERY_BUSY], ids=["busy", "very busy"])
def test_busy_neighbours(busy: dict[int, float], seed: int) -> None:
    """Calls reach 0.9 of the best fixed number, and go back to all threads when it is quiet."""
    governor, rng = ThreadGovernor(2), np.random.default_rng(seed)
    run(governor, busy, 8, rng)  # the first calls find out
    assert run(governor, busy, 1000, rng) > 0.9 * busy[1]
    run(governor, QUIET, 4500, rng)  # after a costly trial the next one waits for half a minute
    assert governor.n_threads == 2
    assert run(governor, QUIET, 500, rng) > 0.97 * QUIET[2]


def test_stalls_without_a_cure_are_tried_less_and_less() -> None:
    """On a machine that looks busy but is not slower, trials cost little."""
    speeds, rng = {1: 70.0, 2: 100.1}, np.random.default_rng(1)
    SHARES[100.1] = 0.7
    assert run(ThreadGovernor(2), speeds, 2000, rng) > 0.97 * speeds[2]


def test_many_threads_give_up_one_at_a_time() -> None:
    """With 8 cores and one busy neighbour 7 threads are fastest, and are found."""
    speeds = {t: 50.0 * t for t in range(1, 8)} | {8: 150.0}
    governor = ThreadGovernor(8)
    for _ in range(300):
        t = governor.n_threads
        ms = 1000 / speeds[t]
        governor.learn(1, ms, ms * t * (0.7 if t == 8 else 1.0))
    assert governor.n_threads in (7, 8)
    assert sum(1 for _ in range(100) if step(governor, speeds) == 7) > 85


def step(governor: ThreadGovernor, speeds: dict[int, float]) -> int:
    """One call; returns its threads."""
    t = governor.n_threads
    ms = 1000 / speeds[t]
    governor.learn(1, ms, ms * t * (0.7 if t == 8 else 1.0))
    return t


def test_one_thread_has_no_choice() -> None:
    """Stalls change nothing where there is one thread; nonsense times are ignored."""
    governor = ThreadGovernor(1)
    for ms in (10.0, 0.0, -1.0, float("nan")):
        governor.learn(1, ms, 0.0)
    assert governor.n_threads == 1
