"""Tree shapes: the optimal one is the best of all trees, and all are stored level by level."""

from functools import cache
from itertools import pairwise
from math import prod

import numpy as np
import pytest
from ersd._core import (
    RankHistogram,
    batch_shape,
    expected_tokens,
    optimal_shape,
    sequence_shape,
)

N_RANKS = 4
DISTRIBUTIONS = {
    "steep": [0.9, 0.06, 0.03, 0.01],
    "usual": [0.6, 0.2, 0.12, 0.08],
    "even": [0.25, 0.25, 0.25, 0.25],
    "open": [0.3, 0.2, 0.1, 0.05],  # the rest belongs to later ranks
    "zeros": [0.7, 0.3, 0.0, 0.0],
}


@cache
def all_trees(k):
    """Returns all trees of k nodes beside the root, as sets of paths, which are tuples of ranks."""
    if k == 0:
        return {frozenset([()])}
    return {
        tree | {(*path, rank)}
        for tree in all_trees(k - 1)
        for path in tree
        for rank in range(N_RANKS)
        if (*path, rank) not in tree
    }


def paths(shape):
    """Returns the path of each node of a shape."""
    found = [()]
    for parent, rank in zip(shape.parent[1:], shape.rank[1:], strict=True):
        found.append((*found[parent], rank))
    return found


def value(tree, p):
    """Returns the expected tokens of a tree, the sum of path products. Ranks beyond p never win."""
    return sum(prod(p[rank] if rank < len(p) else 0.0 for rank in path) for path in tree)


def assert_levels(shape):
    """Asserts that nodes are stored level by level, siblings side by side and by rank."""
    assert shape.parent[0] == -1
    assert len(shape.parent) == len(shape.rank) == len(shape.depth) == len(shape)
    assert [len(path) for path in paths(shape)] == shape.depth
    order = list(zip(shape.depth, shape.parent, shape.rank, strict=True))
    assert order == sorted(order)
    assert len(set(paths(shape))) == len(shape)


@pytest.mark.parametrize("name", DISTRIBUTIONS)
@pytest.mark.parametrize("k", range(7))
def test_optimal_shape_equals_brute_force(name, k):
    """No tree of k nodes has more expected tokens, with and without a limit of the depth."""
    p = DISTRIBUTIONS[name]
    values = [(max(map(len, tree)), value(tree, p)) for tree in all_trees(k)]
    for max_depth in (1, 2, 3, 6):
        shape = optimal_shape(p, k, max_depth)
        assert_levels(shape)
        assert max(shape.depth) <= max_depth
        assert max(shape.rank) < N_RANKS
        if len(shape) == k + 1:
            best = max(v for depth, v in values if depth <= max_depth)
            assert expected_tokens(shape, p) == pytest.approx(best, rel=1e-12)
        else:
            assert (max_depth, len(shape)) == (1, N_RANKS + 1)  # all that fit


def test_shapes_grow_by_one_node():
    """The best tree of k + 1 nodes is that of k nodes and one more, which adds no more tokens."""
    p, gains, before = RankHistogram().probabilities()[:64], [], {()}
    for k in range(1, 257):
        shape = optimal_shape(p, k, 64)
        assert_levels(shape)
        assert len(shape) == k + 1
        new = set(paths(shape)) - before
        assert len(new) == 1
        gains.append(value(new, p))
        before |= new
    assert all(a >= b - 1e-15 for a, b in pairwise(gains))


@pytest.mark.parametrize("max_depth", [1, 2, 5, 256])
def test_large_shapes_respect_the_depth(max_depth):
    """A shape has 256 nodes, or fewer if no more fit into the depth."""
    for p in (np.full(64, 1 / 64), 0.5 ** np.arange(1, 65), np.array([1.0])):
        shape = optimal_shape(p, 256, max_depth)
        room = (
            sum(len(p) ** depth for depth in range(1, min(max_depth, 9) + 1))
            if len(p) > 1
            else max_depth
        )
        assert len(shape) - 1 == min(256, room)
        assert max(shape.depth) <= max_depth
        assert_levels(shape)


def test_expected_tokens_is_the_sum_of_path_products():
    """The sum holds for shapes that are not optimal too, and for ranks beyond the probabilities."""
    rng = np.random.default_rng(0)
    for _ in range(50):
        p, q = rng.dirichlet(np.ones(6)), np.sort(rng.dirichlet(np.ones(8)))[::-1]
        for shape in (sequence_shape(7, 20), batch_shape(9), optimal_shape(q, 30, 4)):
            assert expected_tokens(shape, p) == pytest.approx(value(paths(shape), p), rel=1e-12)
    assert expected_tokens(sequence_shape(3, 9), [0.5]) == 1 + 0.5 + 0.25 + 0.125
    assert expected_tokens(batch_shape(4), [0.5, 0.25]) == 1.75


@pytest.mark.parametrize("k", [0, 1, 2, 16, 256])
def test_sequence_and_batch_shapes(k):
    """A sequence is a chain of first ranks, cut at the depth; a batch is one level of all ranks."""
    for max_depth in (0, 1, 8, 256):
        chain = sequence_shape(k, max_depth)
        assert len(chain) == min(k, max_depth) + 1
        assert chain.parent == list(range(-1, len(chain) - 1))
        assert set(chain.rank) == {0}
        assert_levels(chain)
    fan = batch_shape(k)
    assert fan.parent == [-1] + [0] * k
    assert fan.rank[1:] == list(range(k))
    assert_levels(fan)
