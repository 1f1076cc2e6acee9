"""Draft trees: nodes, parents and children."""

import numpy as np
import pytest
from ersd._core import DraftTree


def test_draft_tree():
    """Nodes are numbered in the order of add(); child() finds the first child with a token."""
    rng = np.random.default_rng(1)
    for _ in range(100):
        tree, parents, tokens = DraftTree(9), [-1], [9]
        for node in range(1, 40):
            parent, token = int(rng.integers(node)), int(rng.integers(6))
            assert tree.add(parent, token) == node
            parents.append(parent)
            tokens.append(token)
        assert len(tree) == 40
        assert (tree.parents, tree.tokens) == (parents, tokens)
        for node in range(40):
            for token in range(6):
                children = [i for i in range(40) if parents[i] == node and tokens[i] == token]
                assert tree.child(node, token) == (children[0] if children else -1)


@pytest.mark.parametrize("parent", [-2, -1, 3, 2**31 - 1])
def test_draft_tree_refuses_unknown_parents(parent):
    """An IndexError says which nodes there are, and the tree stays as it was."""
    tree = DraftTree(1)
    tree.add(0, 5)
    tree.add(1, 6)
    with pytest.raises(IndexError, match=f"parent must be a node from 0 to 2, got {parent}"):
        tree.add(parent, 7)
    assert (tree.parents, tree.tokens) == ([-1, 0, 1], [1, 5, 6])


def random_nodes(rng, n):
    """Returns the parent, token and sources of n nodes after the root."""
    return [
        (int(rng.integers(node)), int(rng.integers(6)), int(rng.integers(32)))
        for node in range(1, n + 1)
    ]


def tree_of(nodes):
    """Returns a tree of these nodes."""
    tree = DraftTree(9)
    for parent, token, sources in nodes:
        tree.add(parent, token, sources)
    return tree


def described(tree):
    """Returns all that can be asked of a tree."""
    children = [tree.child(node, token) for node in range(len(tree)) for token in range(6)]
    return tree.tokens, tree.parents, tree.sources, tree.n_branches, children


def test_truncated_trees():
    """A tree without its last nodes is one that never had them, and grows on like that."""
    rng = np.random.default_rng(2)
    for _ in range(60):
        nodes, more = random_nodes(rng, 30), random_nodes(rng, 30)
        n = int(rng.integers(31))
        tree = tree_of(nodes)
        tree.truncate(n + 1)
        assert described(tree) == described(tree_of(nodes[:n]))
        kept = nodes[:n] + more[n:]
        for node in kept[n:]:
            tree.add(*node)
        assert described(tree) == described(tree_of(kept))


def test_branches_are_the_nodes_that_are_no_first_child():
    """n_branches counts them, and each node has the sources that it was added with."""
    rng = np.random.default_rng(3)
    for n in (0, 1, 2, 40):
        nodes = random_nodes(rng, n)
        tree = tree_of(nodes)
        assert tree.n_branches == n - len({parent for parent, _, _ in nodes})
        assert tree.sources == [0, *(sources for _, _, sources in nodes)]
