"""Ranks: replaying them gives what the engine does, and figures agree with their definitions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from ersd import Generator, theory
from ersd.ranks import Texts, ratio, replay, strategy_tree

pytestmark = pytest.mark.no_sanitizer

PLAIN = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}


def test_replay_by_hand() -> None:
    """A call accepts tokens while each rank is a child of the node reached."""
    ranks = [0, 0, 1, 0, 0, 0, 2, 0]
    assert replay(ranks, theory.sequence_shape(2, 2)) == [3, 3, 1, 1]
    assert replay(ranks, theory.sequence_shape(9, 9)) == [3, 4, 1]
    assert replay(ranks, theory.batch_shape(2)) == [2, 2, 2, 1, 1]
    assert replay(ranks, theory.batch_shape(3)) == [2, 2, 2, 2]
    # The best three nodes are the first child, its first child, and the second child.
    tree = theory.optimal_tree([0.6, 0.3, 0.1], 3)
    assert sorted(zip(tree.parent, tree.rank, strict=True)) == [(-1, 0), (0, 0), (0, 1), (1, 0)]
    assert replay(ranks, tree) == [3, 3, 1, 1]


@pytest.mark.parametrize("method", ["ersd", "match"])
@pytest.mark.parametrize("strategy", ["simple", "sequence", "batch"])
def test_races_replay_exactly(generator: Generator, method: str, strategy: str) -> None:
    """The engine makes as many target calls as follow from the ranks, and emits the same tokens."""
    for seed in range(4):
        options = {"max_tokens": 40, "seed": seed, "method": method, **PLAIN}
        positions = list(generator.ranks("the rain", **options))
        for k in (1, 3, 9):
            result = generator.generate(
                "the rain", strategy=strategy, draft_nodes=k, adapt_draft=False, **options
            )
            assert result.tokens == [p.token for p in positions]
            assert result.stats.target_calls == len(
                replay([p.rank for p in positions], strategy_tree(strategy, k, []))
            )


@pytest.mark.parametrize("method", ["gsd", "gsd_iid"])
def test_rejection_replays_in_distribution(generator: Generator, method: str) -> None:
    """Tokens per target call of the engine and of the replay agree within their standard errors."""
    options = {"max_tokens": 25, "method": method, **PLAIN}
    ranks = [
        [p.rank for p in generator.ranks("the rain", seed=seed, **options)] for seed in range(100)
    ]
    for strategy, k in (("simple", 1), ("sequence", 3), ("batch", 6)):
        calls = [len(replay(r, strategy_tree(strategy, k, []))) for r in ranks]
        stats = [
            generator.generate(
                "the rain", seed=500 + s, strategy=strategy, draft_nodes=k, **options
            ).stats
            for s in range(100)
        ]
        ours, error = ratio([len(r) for r in ranks], calls)
        theirs, other_error = ratio([s.generated for s in stats], [s.target_calls for s in stats])
        assert abs(ours - theirs) < 4 * np.hypot(error, other_error)


def test_ranks_of_a_generator(generator: Generator, tiny_target: Path) -> None:
    """Positions have the logits of the race. A closed iterator leaves its generator free again."""
    options = {"max_tokens": 5, "temperature": 0.0, "seed": 1, "logits": True}
    found = list(generator.ranks("the rain", **options))
    assert len(found) == 5
    for position in found:
        assert position.target_logits is not None
        assert position.draft_logits is not None
        assert position.token == position.target_logits.argmax()
        assert (
            position.rank == (position.draft_logits > position.draft_logits[position.token]).sum()
        )
    for i, _ in enumerate(positions := generator.ranks("the rain", max_tokens=None)):
        assert generator.generate("x", max_tokens=1).tokens
        if i == 3:
            break
    assert i == 3
    positions.close()  # type: ignore[attr-defined]
    assert generator.generate("the rain", max_tokens=3).tokens
    assert list(generator.ranks("the rain", max_tokens=0)) == []
    for refused in (
        lambda: generator.ranks("x", method="ar"),
        lambda: generator.ranks("x", method="block"),
        lambda: Generator(tiny_target, n_ctx=64).ranks("x"),
    ):
        with pytest.raises(ValueError, match="need a draft model and a method other than 'ar' and"):
            refused()


def texts(ranks: list[list[int]]) -> Texts:
    """Returns recorded texts of one category."""
    return Texts({"category": "c", "prompt": i, "ranks": r} for i, r in enumerate(ranks))


def test_figures_by_their_definitions() -> None:
    """Figures agree with other ways to compute them.

    The error of a ratio agrees with the jackknife, the autocorrelation with that of a known series,
    and the distribution with counts.
    """
    rng = np.random.default_rng(0)
    a, b = rng.poisson(20, 200).astype(float), rng.poisson(8, 200) + 1.0
    left_out = (a.sum() - a) / (b.sum() - b)
    jackknife = np.sqrt(199 / 200 * ((left_out - left_out.mean()) ** 2).sum())
    assert ratio(a, b) == pytest.approx((a.sum() / b.sum(), jackknife), rel=0.02)
    # Each position repeats the last one with probability 0.6, so the correlation is 0.6 ** lag.
    stays = rng.random(40_000) < 0.6
    series = [0]
    for stay, fresh in zip(stays, rng.integers(2, size=40_000), strict=True):
        series.append(series[-1] if stay else int(fresh))
    for lag in (1, 2, 3):
        value, error = texts([series]).autocorrelation(lag)
        assert value == pytest.approx(0.6**lag, abs=4 * error)
    ranks = texts([[0, 0, 0, 1, 3], [0, 2, 2, 2, 300 - 44]])
    assert ranks.counts()[[0, 1, 2, 3, 256]].tolist() == [4, 1, 3, 1, 1]
    # Ranks 1 and 2 get the same probability, because the distribution must not increase.
    assert ranks.rank_distribution()[:5] == pytest.approx([0.4, 0.2, 0.2, 0.1, 0])


def test_acceptance_by_depth() -> None:
    """On a chain of 2, the share of walks that go on at each depth; P(R = 0) if independent."""
    ranks = texts([[0, 0, 1] * 40, [0, 1] * 40])
    chain = theory.sequence_shape(2, 2)
    depths = list(ranks.acceptance_by_depth([chain, chain]))
    assert [d for d, _, _ in depths] == [1, 2]
    # Both texts accept a first token; only the first text accepts a second one.
    assert [share for _, (share, _), _ in depths] == pytest.approx([1.0, 0.5])
    assert [iid for _, _, iid in depths] == pytest.approx([0.6, 0.6])
