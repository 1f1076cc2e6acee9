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
