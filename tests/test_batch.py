"""Batch layout: in its sequence a row sees the history, its ancestors and itself, nothing else."""

import numpy as np
import pytest
from ersd._core import DraftTree, lay_out


def random_tree(rng, n):
    """Returns a random tree of n nodes, from chain to star, its parents and its depths."""
    tree, parents, depths = DraftTree(0), [-1], [0]
    reach = int(rng.choice([1, 3, 300]))  # how far back a parent may lie
    for node in range(1, n):
        parents.append(int(rng.integers(max(0, node - reach), node)))
        depths.append(depths[parents[-1]] + 1)
        tree.add(parents[-1], int(rng.integers(1000)))
    return tree, parents, depths


def n_leaves(parents):
    """Returns the number of nodes without children."""
    return len(set(range(len(parents))) - set(parents))


def test_visible_rows_are_history_and_ancestors():
    """The first sequence of a row holds exactly its path up to its position, in any tree."""
    rng = np.random.default_rng(0)
    for _ in range(2000):
        n, n_history = int(rng.integers(1, 30)), int(rng.integers(4))
        tree, parents, depths = random_tree(rng, n)
        history = rng.integers(1000, size=n_history).tolist()
        tokens, positions, sequences = lay_out(tree, history)
        assert tokens == history + tree.tokens
        assert positions == list(range(n_history)) + [n_history + depth for depth in depths]
        sets = [set(row) for row in sequences]
        assert all(len(row) == len(members) for row, members in zip(sequences, sets, strict=True))
        for node in range(n):
            row, path = n_history + node, {node}
            while (parent := parents[min(path)]) >= 0:  # parents come before children
                path.add(parent)
            visible = {
                i
                for i in range(len(tokens))
                if sequences[row][0] in sets[i] and positions[i] <= positions[row]
            }
            assert visible == set(range(n_history)) | {n_history + i for i in path}


def test_there_is_one_sequence_for_each_leaf():
    """Each path has a sequence with one token per position; the history is in all sequences."""
    rng = np.random.default_rng(1)
    for _ in range(1000):
        tree, parents, _ = random_tree(rng, int(rng.integers(1, 60)))
        _, positions, sequences = lay_out(tree, [1, 2])
        used = sorted({sequence for row in sequences for sequence in row})
        assert used == list(range(n_leaves(parents)))
        assert sorted(sequences[0]) == sorted(sequences[1]) == sorted(sequences[2]) == used
        for sequence in used:
            held = [
                position
                for row, position in zip(sequences, positions, strict=True)
                if sequence in row
            ]
            assert held == list(range(len(held)))


def test_largest_trees():
    """256 children of the root take 256 sequences; a chain takes one."""
    star, chain = DraftTree(0), DraftTree(0)
    for node in range(256):
        star.add(0, node)
        chain.add(node, 0)
    assert sorted(sequence for row in lay_out(star)[2][1:] for sequence in row) == list(range(256))
    assert lay_out(chain)[2] == [[0]] * 257


def test_too_many_sequences():
    """As many sequences as leaves suffice; one sequence less is refused."""
    rng, n_refused = np.random.default_rng(2), 0
    for _ in range(200):
        tree, parents, _ = random_tree(rng, int(rng.integers(3, 60)))
        leaves = n_leaves(parents)
        assert len(lay_out(tree, [], leaves)[0]) == len(parents)
        if leaves > 1:
            with pytest.raises(ValueError, match=f"needs more than {leaves - 1} sequences"):
                lay_out(tree, [], leaves - 1)
            n_refused += 1
    assert n_refused > 100
