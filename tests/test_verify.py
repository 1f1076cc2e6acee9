"""Verification: for any tree, the emitted tokens are those of plain decoding."""

import numpy as np
import pytest
from ersd._core import DraftTree, SamplingOptions, TableModel, verify

import oracles

OPTIONS = [
    {"temperature": 0.0},
    {"temperature": 0.7},
    {"temperature": 1.0},
    {"temperature": 1.5, "top_k": 3},
    {"temperature": 0.9, "top_k": 4, "top_p": 0.9, "min_p": 0.02},
]


def grow(rng, root, truth, n_vocab):
    """Returns a random tree of up to 16 nodes, some of which have true tokens."""
    tree, depths = DraftTree(root), [0]
    for node in range(1, int(rng.integers(1, 17))):
        parent = node - 1 if rng.random() < 0.4 else int(rng.integers(node))
        token = truth[depths[parent]] if rng.random() < 0.4 else int(rng.integers(n_vocab))
        tree.add(parent, token)
        depths.append(depths[parent] + 1)
    return tree


def matched_path(tree, truth):
    """Returns the nodes with the true tokens from the root on; the first of equal siblings."""
    nodes, path = list(zip(tree.parents, tree.tokens, strict=True)), [0]
    while (child := (path[-1], truth[len(path) - 1])) in nodes:
        path.append(nodes.index(child))
    return path


@pytest.mark.parametrize("options", OPTIONS)
def test_emitted_tokens_equal_plain_decoding(options):
    """Random trees over random tables are accepted as far as they are right, and one token more."""
    rng = np.random.default_rng(len(str(options)))
    lengths = []
    for _ in range(24):
        n_vocab = int(rng.choice([2, 5, 40, 300]))
        table = oracles.random_table(rng, 64, n_vocab)
        model, seed = TableModel(table), int(rng.integers(2**64, dtype=np.uint64))
        for _ in range(25):
            history, root = (
                rng.integers(n_vocab, size=rng.integers(12)).tolist(),
                int(rng.integers(n_vocab)),
            )
            truth = oracles.decode(table, [*history, root], 17, seed, **options)
            tree = grow(rng, root, truth, n_vocab)
            path, emitted = verify(model, history, tree, SamplingOptions(**options), seed)
            assert path == matched_path(tree, truth)
            assert emitted == truth[: len(path)]
            lengths.append(len(path))
    assert set(lengths) >= set(range(1, 7))
    assert min(np.bincount(lengths)[1:4]) > 50


def test_true_chain_is_accepted_whole():
    """A chain of the true tokens is accepted, of any length and with wrong siblings beside it."""
    rng = np.random.default_rng(9)
    table = oracles.random_table(rng, 32, 50)
    model = TableModel(table)
    for length in (0, 1, 7, 100):
        for decoys in (0, 2):
            truth = oracles.decode(table, [3, 4], length + 1, 5)
            tree, node, chain = DraftTree(4), 0, [0]
            for token in truth[:length]:
                for _ in range(decoys):
                    tree.add(node, (token + 1) % 50)
                node = tree.add(node, token)
                chain.append(node)
            assert verify(model, [3], tree, SamplingOptions(), 5) == (chain, truth)


def test_row_without_probability():
    """If the target gives no token a probability, an error says so."""
    model = TableModel(np.full((1, 4), -np.inf, np.float32))
    with pytest.raises(RuntimeError, match="no token a probability"):
        verify(model, [1], DraftTree(2), SamplingOptions(), 0)
