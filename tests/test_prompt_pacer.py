"""The pacer: steps that read prompts take the wanted share longer than others."""

import numpy as np
import pytest
from ersd._core import PromptPacer

# Milliseconds of calls by their rows, as kernels have them: in proportion, in steps of eight rows,
# and with a jump from one row to two.
COSTS = {
    "proportion": lambda n: 5.0 + 0.5 * n,
    "steps": lambda n: 4.0 + 2.0 * np.ceil(n / 8),
    "jump": lambda n: 7.0 if n == 1 else 12.0 + 1.2 * n,
}


def run(pacer, cost, n_steps, rng):
    """Makes steps of one row beside prompts. Returns tokens and times of those that read."""
    tokens, times = [], []
    for _ in range(n_steps):
        n = pacer.n_tokens(1)
        pacer.learn(1, n, cost(1 + n) * rng.uniform(0.95, 1.05))
        if n:
            tokens.append(n)
            times.append(cost(1 + n))
    return tokens, times


@pytest.mark.parametrize("share", [0.55, 0.7, 0.9])
@pytest.mark.parametrize("name", COSTS)
def test_steps_take_the_wanted_share_longer(share, name):
    """No step is much longer than wanted, and as many tokens are read as the share allows."""
    rng, pacer, cost = np.random.default_rng(0), PromptPacer(share), COSTS[name]
    tokens, times = run(pacer, cost, 300, rng)
    wanted = cost(1) / (1 - share)
    assert max(times) < 1.4 * wanted
    assert np.mean(times[-100:]) < 1.1 * wanted
    most = max((n for n in range(1, 3000) if cost(1 + n) <= wanted), default=1)
    assert np.mean(tokens[-100:]) > 0.55 * most


@pytest.mark.parametrize("share", [0.3, 0.6])
@pytest.mark.parametrize("depth", [0, 700, 3000])
@pytest.mark.parametrize("known", [False, True])
def test_no_piece_is_long_from_the_first_one_on(share, depth, known):
    """Whatever is learnt, a step is at most three ordinary ones, or reads one token.

    That holds at the share of 0.6 for costs that grow in proportion. A prompt whose first tokens
    are cached begins deep, where attention takes as long as all else. If the costs of calls are
    known, no step takes more than the share allows.
    """

    def extra(n, n_cached):
        return n * (0.8 + 0.0008 * n_cached)

    rng, pacer = np.random.default_rng(6), PromptPacer(share)
    most = 1 / (1 - share) if known else (1 + 4 / 3 * share / (1 - share))
    for n_cached in (0, depth, 0, depth):
        for _ in range(100):
            expected = (lambda n, at=n_cached: extra(n, at) / 5.0) if known else None
            n = pacer.n_tokens(1, n_cached, expected)
            ms = 5.0 + extra(n, n_cached)
            assert n <= 1 or ms <= 1.001 * most * 5.0
            pacer.learn(1, n, ms * rng.uniform(0.99, 1.0), n_cached)
            n_cached += n


def test_a_busy_moment_makes_no_piece_long():
    """An ordinary step that stalled does not let later ones take as long, if costs are known."""
    rng, pacer = np.random.default_rng(7), PromptPacer(0.6)

    def cost(n):
        return 5.0 + 0.5 * n

    read = []
    for i in range(400):
        n = pacer.n_tokens(1, 0, lambda n: cost(1 + n) / cost(1) - 1)
        assert cost(1 + n) <= 2.5 * cost(1)
        read.append(n)
        stall = 20.0 if i % 51 == 0 else 1.0
        pacer.learn(1, n, stall * cost(1 + n) * rng.uniform(0.95, 1.05), 0)
    assert np.mean(read) > 8


def test_it_reads_at_least_one_token():
    """Even where a token takes far too long, the prompt is read to its end."""
    rng, pacer = np.random.default_rng(1), PromptPacer(0.1)
    tokens, _ = run(pacer, lambda n: 1.0 if n == 1 else 1000.0, 100, rng)
    assert set(tokens) == {1}
    assert len(tokens) > 90


def test_it_follows_what_reading_costs():
    """Deep in a long prompt, a token takes longer."""
    rng, pacer = np.random.default_rng(2), PromptPacer(0.6)
    for depth in range(400):
        run(pacer, lambda n, depth=depth: 5.0 + (0.1 + depth / 400) * (n - 1), 5, rng)
    _, times = run(pacer, lambda n: 5.0 + 1.1 * (n - 1), 50, rng)
    assert np.mean(times) < 1.2 * 5.0 / 0.4


def test_the_end_of_a_prompt_teaches_nothing():
    """A step that had less to read than it might is short for that reason."""
    rng, pacer = np.random.default_rng(3), PromptPacer(0.6)
    run(pacer, lambda n: 5.0 + 0.1 * n, 100, rng)
    pacer.learn(1, 0, 5.1)
    before = pacer.n_tokens(1)
    for _ in range(15):
        pacer.learn(1, before - 1, 5.1)
    assert pacer.n_tokens(1) == before


def test_it_looks_at_steps_without_reading():
    """The time of ordinary steps changes with the sequences that generate."""
    rng, pacer = np.random.default_rng(4), PromptPacer(0.5)
    assert pacer.n_tokens(1) == 0
    tokens, _ = run(pacer, lambda n: 5.0 + n, 170, rng)
    assert len(tokens) == pytest.approx(160, abs=2)


def test_more_sequences_have_longer_steps():
    """What was learnt with one sequence does not make reading slower beside eight."""
    rng, pacer = np.random.default_rng(5), PromptPacer(0.6)
    run(pacer, lambda n: 5.0 + n, 100, rng)
    assert pacer.n_tokens(8) == 0
    pacer.learn(8, 0, 20.0)
    for _ in range(12):
        if n := pacer.n_tokens(8):
            pacer.learn(8, n, 20.0 + n)
    assert pacer.n_tokens(8) == 24
    pacer.learn(1, 0, 6.0)
    assert pacer.n_tokens(1) <= 8
