"""Theory against brute force, dynamic programming, simulation and its own identities."""

import itertools
from functools import cache
from math import prod

import numpy as np
import pytest
from ersd._core import Coupling, SamplingOptions

import oracles
from ersd import theory

pytestmark = pytest.mark.no_sanitizer


def pair(seed, n=6, spread=1.0):
    """Returns two similar distributions over n tokens."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(size=n) * spread
    return theory.softmax(logits), theory.softmax(logits + rng.normal(size=n))


def test_entropy_slope_and_bound():
    """Uniform weights have log2 n bits; with one bit per rank the slope is 1."""
    assert theory.entropy([3, 3, 3, 3]) == pytest.approx(2)
    assert theory.entropy([5]) == 0
    assert theory.slope([1, 1]) == pytest.approx(1)
    assert theory.slope([1, 0]) == np.inf
    assert theory.expected_tokens_bound([1, 1, 1, 1], 7, 2**10) == pytest.approx((10 + 3) / 2)


@pytest.mark.parametrize("n_ranks", [2, 3])
def test_leaf_entropy_identity_and_bound(n_ranks):
    """E[#generated] H[R] is the entropy of the place where a walk leaves the tree.

    It is at most log2(leaves), from which the bound follows.
    """
    rng = np.random.default_rng(n_ranks)
    for k in range(1, 30, 4):
        ranks = np.sort(rng.dirichlet(np.ones(n_ranks)))[::-1]
        tree = theory.optimal_tree(ranks, k)
        path = np.ones(len(tree))
        for i in range(1, len(tree)):
            path[i] = path[tree.parent[i]] * ranks[tree.rank[i]]
        drafted = {(tree.parent[i], tree.rank[i]) for i in range(1, len(tree))}
        leaves = [
            path[i] * ranks[r]
            for i in range(len(tree))
            for r in range(n_ranks)
            if (i, r) not in drafted
        ]
        assert sum(leaves) == pytest.approx(1)
        assert theory.expected_tokens(tree, ranks) * theory.entropy(ranks) == pytest.approx(
            theory.entropy(leaves)
        )
        assert theory.expected_tokens(tree, ranks) <= theory.expected_tokens_bound(
            ranks, k, n_ranks
        )


@pytest.mark.parametrize("ranks", [[0.6, 0.2, 0.1], [0.4, 0.3, 0.2, 0.1], [0.9, 0.05]])
@pytest.mark.parametrize("depth", [1, 2, 3, 5])
@pytest.mark.parametrize("width", [1, 2, 3])
def test_optimal_tree_equals_dynamic_programming(ranks, depth, width):
    """A recursion like Sequoia's (arXiv 2402.12374) finds the same expected tokens.

    It splits the nodes over the root's children, each of which is the root of a shallower tree.
    """

    @cache
    def best(nodes, levels):  # expected tokens of a tree with so many nodes, its root included
        return 1 + share(nodes - 1, levels, 0) if nodes else -np.inf

    @cache
    def share(nodes, levels, rank):  # what children from this rank on can add
        if nodes == 0 or levels == 0 or rank == min(width, len(ranks)):
            return 0.0
        return max(
            [0.0]
            + [
                ranks[rank] * best(n, levels - 1) + share(nodes - n, levels, rank + 1)
                for n in range(1, nodes + 1)
            ]
        )

    for k in range(14):
        tree = theory.optimal_tree(ranks, k, max_depth=depth, max_width=width)
        assert theory.expected_tokens(tree, ranks) == pytest.approx(best(k + 1, depth), abs=1e-12)
        assert max(tree.depth) <= depth
        assert max(tree.rank) < width


@pytest.mark.parametrize("seed", range(5))
def test_acceptance_at_the_first_rank(seed):
    """The sorted sum equals the double sum and lies between its bounds.

    It is the first entry of the exact rank distribution.
    """
    p, q = pair(seed, n=40, spread=2)
    q[:3] = 0
    p[5:8] = 0
    p, q = p / p.sum(), q / q.sum()
    both = [j for j in range(40) if p[j] > 0 and q[j] > 0]
    double_sum = sum(1 / np.maximum(p / p[j], q / q[j]).sum() for j in both)
    tv = np.abs(p - q).sum() / 2
    assert theory.overlap(p, q) == pytest.approx(1 - tv)
    assert theory.ersd_acceptance(p, q) == pytest.approx(double_sum)
    assert (1 - tv) / (1 + tv) <= theory.ersd_acceptance(p, q) <= 1 - tv
    assert theory.ersd_ranks(p, q, 40)[0] == pytest.approx(double_sum, abs=1e-8)
    assert theory.gsd_ranks(p, q, 1, replacement=True)[0] == pytest.approx(1 - tv)
    assert theory.gsd_ranks(p, q, 1)[0] == pytest.approx(1 - tv)
    assert theory.ersd_acceptance(p, p) == pytest.approx(1)


@pytest.mark.parametrize("seed", range(3))
def test_rank_distributions(seed):
    """Exact values agree with simulations and with the couplings of the core."""
    p, q = pair(seed)
    n, m = 40_000, 4
    rng = np.random.default_rng(seed)
    exact = {
        "ersd": theory.ersd_ranks(p, q, m),
        "gsd": theory.gsd_ranks(p, q, m),
        "gsd_iid": theory.gsd_ranks(p, q, m, replacement=True),
    }
    for simulated, name in ((theory.ersd_ranks, "ersd"), (theory.gsd_ranks, "gsd")):
        assert (
            oracles.goodness(np.round(simulated(p, q, m, samples=n, rng=rng) * n), exact[name])
            > 1e-4
        )
    target, draft = (np.log(x).astype(np.float32) for x in (p, q))
    for name, expected in exact.items():
        assert expected.sum() == pytest.approx(1)
        coupling = Coupling(name, SamplingOptions(), seed)
        ranks = [min(coupling.sample(target, draft, position)[1], m) for position in range(n)]
        assert oracles.goodness(np.bincount(ranks, minlength=m + 1), expected) > 1e-4, name


def test_ranks_of_a_draft_that_lacks_tokens():
    """A token that the draft cannot propose counts as a later rank."""
    p, q = np.array([0.5, 0.25, 0.25]), np.array([0.5, 0.5, 0.0])
    assert theory.ersd_ranks(p, q, 3)[3] == pytest.approx(0.25)
    assert theory.ersd_ranks(p, q, 3, samples=20_000, rng=np.random.default_rng(0))[
        3
    ] == pytest.approx(0.25, abs=0.02)
    for replacement in (False, True):
        assert theory.gsd_ranks(p, q, 3, replacement=replacement) == pytest.approx(
            [0.75, 0, 0, 0.25]
        )
    assert theory.gsd_ranks(p, q, 3, samples=20_000, rng=np.random.default_rng(0)) == pytest.approx(
        [0.75, 0, 0, 0.25], abs=0.02
    )


@pytest.mark.parametrize("seed", range(6))
def test_divergences_and_entropy_bounds(seed):
    """D_CS equals a fine sum over h and is at least D.

    The entropies of exact rank distributions are within the bounds.
    """
    p, q = pair(seed, n=12, spread=2)
    h = np.linspace(0, (p / q).max(), 400_001)[1:]
    width = ((p / q) >= h[:, None]).astype(float) @ q
    width = width[width > 0]
    assert theory.channel_simulation_divergence(p, q) == pytest.approx(
        -(width * np.log2(width)).sum() * h[0], abs=1e-3
    )
    assert theory.kl_divergence(p, q) == pytest.approx((p * np.log2(p / q)).sum())
    assert theory.kl_divergence(p, q) <= theory.channel_simulation_divergence(p, q)
    bounds = theory.rank_entropy_bounds(p, q)
    assert (
        bounds["gsd_least"]
        <= theory.entropy(theory.gsd_ranks(p, q, 2000, replacement=True))
        <= bounds["gsd_most"]
    )
    assert theory.entropy(theory.ersd_ranks(p, q, 12)) <= bounds["ersd_most"]
    assert (
        theory.kl_divergence([0.5, 0.5], [1, 0])
        == theory.channel_simulation_divergence([0.5, 0.5], [1, 0])
        == np.inf
    )
    assert (
        theory.kl_divergence(p, p)
        == theory.channel_simulation_divergence(p, p)
        == pytest.approx(0, abs=1e-12)
    )


def test_expected_tokens_by_simulation():
    """Random walks down a tree with i.i.d. ranks give its expected tokens."""
    ranks = np.array([0.5, 0.25, 0.15, 0.1])
    tree = theory.optimal_tree(ranks, 12)
    children = {(tree.parent[i], tree.rank[i]): i for i in range(1, len(tree))}
    rng, n, total = np.random.default_rng(1), 20_000, 0
    for _ in range(n):
        node = 0
        while node is not None:
            total += 1
            node = children.get((node, rng.choice(4, p=ranks)))
    assert total / n == pytest.approx(theory.expected_tokens(tree, ranks), abs=0.05)
    for k, shape in itertools.product([1, 5], [theory.sequence_shape, theory.batch_shape]):
        tree = shape(k, k) if shape is theory.sequence_shape else shape(k)
        by_hand = (
            sum(prod([0.5] * d) for d in range(k + 1))
            if shape is theory.sequence_shape
            else 1 + ranks[:k].sum()
        )
        assert theory.expected_tokens(tree, ranks) == pytest.approx(by_hand)


@pytest.mark.parametrize("wrong", [[-1, 2], [0, 0], [[1, 2]], [np.nan, 1]])
def test_bad_distributions(wrong):
    """The error says in one sentence what was expected."""
    with pytest.raises(ValueError, match="must be a vector of weights"):
        theory.entropy(wrong)
    with pytest.raises(ValueError, match="must have one length, got 2 and 3"):
        theory.overlap([1, 1], [1, 1, 1])
    with pytest.raises(ValueError, match="temperature must be above 0"):
        theory.softmax([1, 2], 0)
