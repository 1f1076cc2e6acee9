"""The path threshold: it follows the sizes of trees, and it begins anew when k changes."""

import numpy as np
import pytest
from ersd._core import PathThreshold


def threshold_of(k):
    """Returns a new threshold for trees of k nodes."""
    threshold = PathThreshold()
    threshold.set_nodes(k)
    return threshold


@pytest.mark.parametrize("k", [1, 4, 16, 256])
def test_first_value(k):
    """The first threshold is 0.6 / k; setting the same k again changes nothing."""
    threshold = threshold_of(k)
    assert threshold.value == 0.6 / k
    threshold.learn(3 * k)
    learnt = threshold.value
    threshold.set_nodes(k)
    assert threshold.value == learnt
    threshold.set_nodes(k + 1)
    assert threshold.value == 0.6 / (k + 1)
    threshold.reset()
    threshold.set_nodes(k)
    assert threshold.value == 0.6 / k


@pytest.mark.parametrize(
    ("n_nodes", "excess"), [(0, -1), (4, -0.5), (8, 0), (12, 0.5), (16, 1), (24, 2), (32, 2)]
)
def test_one_step(n_nodes, excess):
    """Larger trees raise the threshold and smaller ones lower it; above 3 k nodes no further."""
    threshold = threshold_of(8)
    threshold.learn(n_nodes)
    assert threshold.value == pytest.approx(0.6 / 8 * np.exp(0.05 * excess), rel=1e-12)


@pytest.mark.parametrize(("n_nodes", "bound"), [(0, 1e-4), (100, 0.9)])
def test_bounds(n_nodes, bound):
    """The threshold stays between 0.0001 and 0.9."""
    threshold = threshold_of(4)
    for _ in range(1000):
        threshold.learn(n_nodes)
    assert threshold.value == bound


def test_trees_have_k_nodes_on_average():
    """If 100 paths have random probabilities, k of them reach the threshold on average."""
    rng, threshold, sizes = np.random.default_rng(0), threshold_of(16), []
    for _ in range(2000):
        n_nodes = int(np.count_nonzero(rng.random(100) ** 3 >= threshold.value))
        threshold.learn(n_nodes)
        sizes.append(n_nodes)
    assert np.mean(sizes[500:]) == pytest.approx(16, rel=0.03)
