"""Rejected branches: which of them corrects the draft where, by definition and in the engine."""

from __future__ import annotations

import numpy as np
import pytest
from ersd._core import GenerationOptions, RejectedBranches, TableModel

import oracles
from decoding import Decoder

N = 40  # tokens of the vocabulary
Branch = tuple[int, int, int, np.ndarray]  # position, the last two tokens, differences of logits


def correction(trees: list[list[Branch]], position: int, path: tuple[int, int]) -> np.ndarray:
    """Returns half of the differences of the nearest branch, 0 without one; f64[N].

    With the same last two tokens is nearer than with the same last one; then the last tree's first.
    """
    best, best_key = np.zeros(N), (-1, -1, 0)
    for number, tree in enumerate(trees):
        for place, (at, before, token, differences) in enumerate(tree):
            nearness = int(token == path[1]) + int((before, token) == path)
            key = (nearness, number, -place)
            if at == position and key > best_key:
                best, best_key = differences / 2, key
    return best


def random_branch(rng: np.random.Generator, position: int) -> Branch:
    """Returns a branch at one of some positions, with few different tokens."""
    differences = np.where(rng.random(N) < 0.2, rng.normal(size=N), 0)
    before, token = rng.integers(3, size=2).tolist()
    return position + int(rng.integers(4)), before, token, differences


def test_the_nearest_branch_corrects() -> None:
    """Rows are corrected by definition, while positions pass and trees come."""
    rng, branches, trees = np.random.default_rng(0), RejectedBranches(), []
    n_corrected, position = 0, 5
    for _ in range(300):
        position += int(rng.integers(3))
        branches.begin(position)
        trees.append([random_branch(rng, position) for _ in range(rng.integers(6))])
        for at, before, token, d in trees[-1]:
            branches.add(at, before, token, [(int(i), float(d[i])) for i in np.flatnonzero(d)])
        for _ in range(5):
            at, row = position + int(rng.integers(5)), rng.normal(size=N).astype(np.float32)
            before, token = rng.integers(4, size=2).tolist()
            expected = correction(trees, at, (before, token))
            found = branches.correct(at, before, token, row)
            np.testing.assert_allclose(found, row + expected, atol=1e-5)
            short = branches.correct(at, before, token, row[:9])
            np.testing.assert_allclose(short, (row + expected)[:9], atol=1e-5)
            n_corrected += bool(expected.any())
    assert n_corrected > 500


def test_positions_that_passed_are_forgotten() -> None:
    """And of many branches, the first ones."""
    branches, row = RejectedBranches(), np.zeros(N, np.float32)
    branches.begin(3)
    for position in (3, 4):
        branches.add(position, 1, 2, [(7, 1.0)])
    branches.begin(4)
    assert not branches.correct(3, 1, 2, row).any()
    assert branches.correct(4, 1, 2, row)[7] == 0.5
    for token in range(300):
        branches.add(4, 1, token, [(token % N, 2.0)])
    branches.begin(4)
    assert branches.correct(4, 1, 299, row)[299 % N] == 1
    assert branches.correct(4, 9, 2, row)[2] == 0  # the nearest one is forgotten


class Simulation:
    """Drafts chains by definition, and learns from accepted and rejected nodes."""

    def __init__(
        self, target: np.ndarray, draft: np.ndarray, seed: int, temperature: float
    ) -> None:
        """target, draft: tables of logits."""
        self.target, self.draft, self.seed, self.temperature = target, draft, seed, temperature
        self.learnt, self.trees = oracles.Correction(N), []

    def race(self, row: np.ndarray, position: int) -> int:
        """Returns the winner of a race."""
        clock = oracles.cached_clocks(self.seed, position, N)
        return int(oracles.winner(row, clock, temperature=self.temperature))

    def step(self, tokens: list[int], k: int) -> list[int]:
        """Returns the tokens that follow some tokens by one call with a chain of k nodes."""
        path, rows, emitted = list(tokens), [], []
        for _ in range(k):
            row = oracles.table_row(self.draft, oracles.table_hash(path)).astype(np.float64)
            row = row + self.learnt(path[-1])
            row += correction(self.trees, len(path), (path[-2], path[-1]))
            rows.append(row.astype(np.float32))
            path.append(self.race(rows[-1], len(path)))
        for n in range(len(tokens), len(path) + 1):
            row = oracles.table_row(self.target, oracles.table_hash(path[:n]))
            emitted.append(self.race(row, n))
            if n == len(path) or emitted[-1] != path[n]:
                break
        self.learn(path, rows, len(tokens), len(emitted))
        return emitted

    def learn(self, path: list[int], rows: list[np.ndarray], first: int, n_emitted: int) -> None:
        """Learns from all nodes, and keeps the differences at positions to come."""
        self.trees.append([])
        for n, row in enumerate(rows, start=first):
            target = oracles.table_row(self.target, oracles.table_hash(path[:n]))
            d = self.learnt.learn(path[n - 1], target, row, self.temperature)
            if n > first + n_emitted - 1:
                self.trees[-1].append((n, path[n - 2], path[n - 1], d))


@pytest.mark.parametrize("temperature", [0.0, 0.6, 1.0])
def test_chains_by_definition(temperature: float) -> None:
    """Each call gives as many tokens as chains by definition do, and the text is the plain one."""
    rng, k, seed = np.random.default_rng(6), 5, 11
    table = oracles.random_table(rng, 30, N)
    draft = table + oracles.random_table(rng, 30, N, spread=1.0)
    options = {"top_k": 0, "top_p": 1.0, "min_p": 0.0}
    decoder = Decoder(TableModel(table), TableModel(draft))
    decoder.start(
        [7, 8],
        GenerationOptions(
            temperature=temperature, seed=seed, strategy="sequence", draft_nodes=k, **options
        ),
    )
    simulation, tokens = Simulation(table, draft, seed, temperature), [7, 8]
    for _ in range(60):
        emitted = decoder.step(1000)
        assert emitted == simulation.step(tokens, k)
        tokens += emitted
    assert tokens[2:] == oracles.decode(
        table, [7, 8], len(tokens) - 2, seed, temperature=temperature
    )
    assert sum(map(len, simulation.trees)) > 60
