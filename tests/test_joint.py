"""Joint coupling: formulas against brute force, and what is recorded of models."""

from __future__ import annotations

import itertools
import sys
from pathlib import Path

import numpy as np
import pytest
from ersd._core import Context

from ersd import Generator, theory

sys.path.append(str(Path(__file__).parent.parent / "bench"))
if not (Path(sys.path[-1]) / "joint.py").exists():
    pytest.skip("needs the benchmarks beside the tests", allow_module_level=True)

import joint
import joint_paths

pytestmark = pytest.mark.no_sanitizer
N, K = 3, 3


@pytest.fixture(scope="module")
def small():
    """A target and a draft over three tokens, whose rows depend on all tokens before."""
    return joint.SmallModels(N, K, 1.0, np.random.default_rng(5))


def index(word):
    """The place of a word among all words of its length."""
    return int(np.ravel_multi_index(word, (N,) * len(word)))


def test_no_rule_beats_races_in_the_worst_case():
    """The best of all rules agrees as often as races; positions multiply."""
    for n in (3, 4):
        assert joint.best_agreement(n, 1) == pytest.approx((1 - 1 / n) / (1 + 1 / n))
    assert joint.best_agreement(2, 2) == pytest.approx(joint.best_agreement(2, 1) ** 2)


def test_acceptance_of_each_form(small):
    """Sums over all sequences, the formula of a race, and block verification as published."""
    p, q = small.p, small.q
    bound = [np.minimum(p[j], q[j]).sum() for j in range(1, K + 1)]
    np.testing.assert_allclose(small.acceptance("bound, 1 - TV"), bound)
    for form, of_row, of_token in (
        ("races", theory.ersd_acceptance, joint_paths.agreement),
        ("rejection", theory.overlap, lambda a, b, x: min(1, b[x] / a[x])),
    ):
        assert small.acceptance(form)[0] == pytest.approx(of_row(p[1], q[1]))
        second = sum(
            p[1][x] * of_token(p[1], q[1], x) * of_row(*(t[2].reshape(N, N)[x] for t in (p, q)))
            for x in range(N)
        )
        assert small.acceptance(form)[1] == pytest.approx(second)
    np.testing.assert_allclose(small.acceptance("block verification"), block_verification(small))


def block_verification(small):
    """P(at least j tokens are accepted) by algorithm 2 of Sun et al., arXiv 2403.10444."""
    out = np.zeros(K)
    for word in itertools.product(range(N), repeat=K):
        share, chances = 1.0, []
        for j in range(1, K + 1):
            place = index(word[:j])
            before = index(word[: j - 1]) if j > 1 else 0
            ratio = small.p[j][place] / small.p[j - 1][before]
            ratio /= small.q[j][place] / small.q[j - 1][before]
            share = min(share * ratio, 1)
            chance = share
            if j < K:
                p, q = (t[j + 1].reshape(-1, N)[place] / t[j][place] for t in (small.p, small.q))
                rest = np.maximum(share * p - q, 0).sum()
                chance = rest / (rest + 1 - share) if rest + 1 - share > 0 else 1.0
            chances.append(chance)
        weight = small.q[K][index(word)]
        for j in range(K):
            out[j] += weight * (1 - np.prod(1 - np.array(chances[j:])))
    return out


def test_sequence_race(small):
    """Races over sampled paths agree as often as races in which each sequence has its clock."""
    rng = np.random.default_rng(2)
    words = np.array(list(itertools.product(range(N), repeat=K)), np.int32)
    expected, calls = small.race(rng, 8_000)
    assert expected[-1] == pytest.approx(theory.ersd_acceptance(small.p[K], small.q[K]), abs=0.02)
    assert 1 <= calls <= K
    found = []
    for _ in range(400):
        from_target = rng.choice(len(words), 16, p=small.p[K])
        drawn = np.where(
            rng.random(16) < 0.5, from_target, rng.choice(len(words), 16, p=small.q[K])
        )
        paths = joint_paths.Paths(words[drawn], small.ratio[drawn], small.agree[drawn])
        found.append((joint.sequence_race(paths, K, rng, 50), paths))
    np.testing.assert_allclose(np.mean([f for f, _ in found], axis=0), expected, atol=0.03)
    races = np.mean([p.mean(np.cumprod(p.agreement, axis=1)) for _, p in found], axis=0)
    np.testing.assert_allclose(races, small.acceptance("races"), atol=0.03)


def test_rows_that_a_search_reads():
    """A best-first search with explicit clocks stops after as many rows on average."""
    rng, n, trials = np.random.default_rng(3), 6, 4000
    p = theory.softmax(rng.normal(size=5))
    read = 0
    for _ in range(trials):
        clocks = rng.exponential(size=(5, n))
        rows = rng.dirichlet(np.full(n, 0.3), size=5)
        best = np.inf
        for x in np.argsort(clocks.min(axis=1) / p):
            if clocks[x].min() / p[x] > best:
                break
            read += 1
            best = min(best, (clocks[x] / np.maximum(rows[x], 1e-300)).min() / p[x])
    assert read / trials == pytest.approx(joint_paths.rows_to_read(p, n), abs=0.06)


def two_rows(kind):
    """The rows of both models for two tokens, the second the same after every first one."""
    if kind == "surplus":  # each model gives half of the tokens twice what the other gives them
        p = np.repeat([2.0, 1.0], 6) / 18
        return (p, p[::-1]), (p, p[::-1])
    rng = np.random.default_rng(7)
    logits, noise = rng.normal(size=(2, 6)), rng.normal(size=(2, 6))
    return tuple(
        (theory.softmax(a), theory.softmax(a + b)) for a, b in zip(logits, noise, strict=True)
    )


@pytest.mark.parametrize("kind", ["surplus", "random"])
def test_races_that_carry_their_luck(kind):
    """The estimate along paths equals what explicit clocks give; the target keeps its text."""
    rng, trials, rows = np.random.default_rng(4), 80_000, two_rows(kind)
    n = len(rows[0][0])
    known = rng.random(trials)
    lucks, words = [known, known], []
    for pair in rows:
        clocks = rng.exponential(size=(trials, n))
        for i, row in enumerate(pair):
            swing = joint.tilted(row, 1.0, 1.0) - row
            arrivals = clocks / (row + swing * (2 * lucks[i][:, None] - 1))
            words.append(np.argmin(arrivals, axis=1))
            lucks[i] = 1 - np.exp(-arrivals.min(axis=1))
    texts = np.bincount(words[0] * n + words[2], minlength=n * n)
    expected = trials * np.outer(rows[0][0], rows[1][0]).ravel()
    assert ((texts - expected) ** 2 / expected).sum() < n * n + 4 * np.sqrt(2 * n * n)
    first = words[0] == words[1]
    agreed = [first.mean(), (first & (words[2] == words[3])).mean()]
    means = {tilt: mean_over_words(rows, tilt, rng) for tilt in (0.0, 1.0)}
    np.testing.assert_allclose(means[1.0], agreed, atol=0.012)
    races = np.cumprod([theory.ersd_acceptance(p, q) for p, q in rows])
    np.testing.assert_allclose(means[0.0], races, atol=0.012)
    if kind == "surplus":  # so no bound forbids a gain for every pair of models
        assert agreed[1] > races[1] + 0.01


def mean_over_words(rows, tilt, rng, draws=6_000):
    """The mean of the estimates along all pairs of tokens, by their probability."""
    words = list(itertools.product(range(len(rows[0][0])), repeat=2))
    total = np.zeros(2)
    for x, y in words:
        path = [(*rows[0], x), (*rows[1], y)]
        weight = rows[0][0][x] * rows[1][0][y] / (draws // len(words))
        for _ in range(draws // len(words)):
            total += weight * joint.carried(path, tilt, rng.random(3))
    return total


def test_recorded_paths(tiny_target, tiny_draft, tmp_path):
    """Ratios along a path are those of texts read alone, and a file gives back what it got."""
    generator = Generator(tiny_target, tiny_draft, n_ctx=512, n_threads=1, profile=False)
    pair = joint_paths.Pair(generator, 0.7, 1)
    rng, text = np.random.default_rng(6), [3, 4, 5, 6]
    found = [pair.paths(text[:3], rng), pair.paths(text, rng)]
    path = found[1].tokens[3].tolist()
    alone = [Context(model, n_ctx=512) for model in (generator.target, generator.draft)]
    for j in (0, 9, joint_paths.DEPTH - 1):
        p, q = (row_after(context, [*text, *path[:j]]) for context in alone)
        assert found[1].ratio[3, j] == pytest.approx(q[path[j]] / p[path[j]])
        assert found[1].agreement[3, j] == pytest.approx(joint_paths.agreement(p, q, path[j]))
    joint_paths.save(tmp_path / "paths.npz", found, 0.7, "a draft")
    again, temperature, draft = joint_paths.load(tmp_path / "paths.npz")
    assert (temperature, draft) == (0.7, "a draft")
    np.testing.assert_array_equal(again[1].tokens, found[1].tokens)
    assert [len(f.rows) for f in again] == [len(f.rows) for f in found]
    for (p, q, x), (p2, q2, x2) in zip(found[1].rows[-1], again[1].rows[-1], strict=True):
        assert x == x2
        np.testing.assert_allclose([p, q], [p2, q2], rtol=1e-6)


def row_after(context, tokens):
    """A model's row at temperature 0.7 after these tokens."""
    tree = joint_paths.DraftTree(tokens[-1])
    context.rollback(0)
    context.decode([(0, tokens[:-1], tree, [0])])
    row = theory.softmax(context.logits(0), 0.7)
    context.commit([(0, tree, -1)])
    return row
