"""Chains in theory against a published example, the draft's own chains, and simulation."""

from __future__ import annotations

import itertools

import numpy as np
import pytest

from ersd import chains, theory

pytestmark = pytest.mark.no_sanitizer


def rows(seed: int, k: int = 3, n: int = 4) -> tuple[np.ndarray, np.ndarray]:
    """Returns distributions of a target and of a similar draft; f64[k, n] each."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=(k, n))
    both = [logits, logits + rng.normal(size=(k, n))]
    return tuple(np.exp(x) / np.exp(x).sum(axis=1, keepdims=True) for x in both)  # type: ignore


def by_drafted_chains(p: np.ndarray, q: np.ndarray) -> dict[str, float]:
    """Returns tokens per call by the methods' own definitions, over all chains of the draft."""
    found = {"gsd": 1.0, "block": 1.0}
    for chain in itertools.product(range(p.shape[1]), repeat=len(p)):
        drawn = np.prod([q[i, x] for i, x in enumerate(chain)])
        if drawn == 0:
            continue
        accepted, weight = 1.0, 1.0
        for i, x in enumerate(chain):
            accepted *= min(1, p[i, x] / q[i, x])
            weight = min(1, weight * p[i, x] / q[i, x])
            found["gsd"] += drawn * accepted
            found["block"] += drawn * weight
    agree = np.cumprod([theory.ersd_acceptance(a, b) for a, b in zip(p, q, strict=True)])
    found["ersd"] = 1 + agree.sum()
    joint = [p[0], q[0]]
    found["joint"] = 1 + np.minimum(*joint).sum()
    for a, b in zip(p[1:], q[1:], strict=True):
        joint = [np.outer(joint[0], a).ravel(), np.outer(joint[1], b).ravel()]
        found["joint"] += np.minimum(*joint).sum()
    return found


def test_the_example_of_block_verification() -> None:
    """Sun et al. (arXiv 2403.10444) accept 10/9, 11/9 and at most 12/9 of two drafted tokens."""
    p, q = [[1 / 3, 2 / 3]] * 2, [[2 / 3, 1 / 3]] * 2
    for chain, ninths in (("gsd", 10), ("block", 11), ("joint", 12)):
        assert theory.chain_tokens(chain, p, q) == pytest.approx((1 + ninths / 9, 0))


@pytest.mark.parametrize("seed", range(4))
def test_tokens_per_call(seed: int) -> None:
    """Exact values equal those over the draft's chains; samples agree within their errors."""
    p, q = rows(seed)
    expected = by_drafted_chains(p, q)
    assert expected["gsd"] <= expected["block"] <= expected["joint"]
    assert expected["ersd"] <= expected["gsd"]
    for chain in chains.CHAINS:
        assert theory.chain_tokens(chain, p, q) == pytest.approx((expected[chain], 0))
        rng = np.random.default_rng(seed)
        mean, error = theory.chain_tokens(chain, p, q, samples=20_000, rng=rng)
        assert 0 < error < 0.02
        assert abs(mean - expected[chain]) < 4 * error


def test_rows_without_common_tokens() -> None:
    """A token that the draft lacks ends every chain; one that the target lacks never comes."""
    p, q = [[0.5, 0.5, 0.0]] * 2, [[0.5, 0.0, 0.5]] * 2
    expected = by_drafted_chains(np.array(p), np.array(q)) | {"ersd": 1 + 1 / 3 + 1 / 9}
    for chain in chains.CHAINS:
        assert theory.chain_tokens(chain, p, q)[0] == pytest.approx(expected[chain])
    assert theory.race_agreement(p[0], q[0], 1) == 0
    with pytest.raises(ValueError, match="the target must give token 2 a probability, got 0"):
        theory.token_ratio(p[0], q[0], 2)


@pytest.mark.parametrize("chain", ["ersd", "gsd", "block"])
def test_calls_of_a_text(chain: str) -> None:
    """Calls that end at random, each as far as its acceptance says, begin as often as expected."""
    rng = np.random.default_rng(3)
    values = rng.uniform(0.3, 1.6, 12) if chain != "ersd" else rng.random(12)
    n, k = 6_000, 4
    counts = np.zeros(12)
    for u in rng.random((n, 12)):
        t = 0
        while t < 12:
            counts[t] += 1
            accepted = chains.CHAINS[chain](values[t : min(t + k, 11)])
            t += 1 + int((u[t] < accepted).sum())
    starts = theory.call_starts(chain, values, k)
    assert starts[0] == 1
    assert np.abs(counts / n - starts).max() < 4 * 0.5 / np.sqrt(n)
    # Without drafted tokens every token takes a call. All accepted, a call gives k + 1 tokens.
    assert theory.call_starts(chain, values, 0).tolist() == [1] * 12
    assert theory.call_starts(chain, np.ones(12), 3).sum() == 3
    assert theory.call_starts(chain, [], 3).sum() == 0


def test_bad_arguments() -> None:
    """The error says in one sentence what was expected."""
    p, q = rows(0)
    with pytest.raises(ValueError, match=r"chain must be one of 'ersd', .*, got 'tree'"):
        theory.chain_tokens("tree", p, q)
    for chain in ("joint", "tree"):
        with pytest.raises(ValueError, match="chain must be 'ersd', 'gsd' or 'block', got"):
            theory.call_starts(chain, [1.0], 1)
    with pytest.raises(ValueError, match="43046721 texts are too many to enumerate: give samples"):
        theory.chain_tokens("block", *rows(0, k=16, n=3))
    assert theory.joint_bound([0.5, 4.0, 0.25]) == pytest.approx(1 + 0.5 + 1 + 0.5)
