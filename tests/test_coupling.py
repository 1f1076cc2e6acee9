"""Methods: rejection sampling and matching against closed forms, enumeration and sorting."""

import itertools

import numpy as np
import pytest
from ersd._core import (
    Clock,
    Coupling,
    GenerationOptions,
    Race,
    SamplingOptions,
    TableModel,
)

import oracles
from decoding import Decoder

GSD = ["gsd", "gsd_iid"]
PLAIN = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
CUT = {"temperature": 0.7, "top_k": 4, "top_p": 0.97, "min_p": 0.01}
N = 40_000


def pair(seed, n=6, spread=1.2, n_draft=None):
    """Returns logits of a target and of a similar draft; f32[n], f32[n_draft]."""
    rng = np.random.default_rng(seed)
    target = rng.normal(size=n) * spread
    return target.astype(np.float32), (target + rng.normal(size=n))[:n_draft].astype(np.float32)


def sampled(method, target, draft, sampling, n=N, seed=11):
    """Returns tokens and ranks at n positions; i64[n], i64[n]."""
    coupling = Coupling(method, SamplingOptions(**sampling), seed)
    return np.array([coupling.sample(target, draft, position) for position in range(n)]).T


def rejection_ranks(p, q, distinct, m):
    """Returns P(rank = r) of the accepted sibling among m, the last entry for none; f64[m + 1].

    Every order of siblings is enumerated.
    """

    def walk(residual, draft, reach, depth):
        if depth == m or draft.sum() <= 0:
            out[m] += reach
            return
        draft = draft / draft.sum()
        out[depth] += reach * np.minimum(residual, draft).sum()
        rest = np.maximum(residual - draft, 0)
        if rest.sum() < 1e-12:
            return
        for x in np.flatnonzero(draft):
            rejected = draft[x] - min(residual[x], draft[x])
            walk(
                rest / rest.sum(),
                np.where(np.arange(len(q)) == x, 0, draft) if distinct else draft,
                reach * rejected,
                depth + 1,
            )

    out = np.zeros(m + 1)
    walk(p, q, 1.0, 0)
    return out


@pytest.mark.parametrize("method", GSD)
@pytest.mark.parametrize("sampling", [PLAIN, CUT])
@pytest.mark.parametrize("seed", range(4))
def test_rejection_is_exact(method, sampling, seed):
    """Tokens follow the target's distribution for any draft; ranks follow the enumeration."""
    target, draft = pair(seed)
    p, q = (oracles.softmax(row, **sampling) for row in (target, draft))
    tokens, ranks = sampled(method, target, draft, sampling)
    assert oracles.goodness(np.bincount(tokens, minlength=6), p) > 1e-4
    m = 3
    expected = rejection_ranks(p, q, method == "gsd", m)
    assert oracles.goodness(np.bincount(np.minimum(ranks, m), minlength=m + 1), expected) > 1e-4
    # Tokens that were accepted as the first sibling are distributed as min(p, q).
    assert (
        oracles.goodness(
            np.bincount(tokens[ranks == 0], minlength=6), np.minimum(p, q) / np.minimum(p, q).sum()
        )
        > 1e-4
    )


@pytest.mark.parametrize("seed", range(3))
def test_first_rank(seed):
    """The first sibling is accepted with 1 - TV, a first arrival by the formula of races.

    The formula is sum_j 1 / sum_i max(p_i / p_j, q_i / q_j).
    """
    target, draft = pair(seed, n=20)
    p, q = oracles.softmax(target), oracles.softmax(draft)
    closed = {
        "gsd": np.minimum(p, q).sum(),
        "ersd": sum(1 / np.maximum(p / p[j], q / q[j]).sum() for j in range(20)),
    }
    closed["gsd_iid"] = closed["gsd"]
    for method, expected in closed.items():
        hits = (sampled(method, target, draft, PLAIN)[1] == 0).mean()
        assert abs(hits - expected) < 4 * np.sqrt(expected * (1 - expected) / N), method


@pytest.mark.parametrize("method", GSD)
def test_a_smaller_draft_and_none(method):
    """Tokens that the draft lacks come from the residual; without a draft the target is sampled."""
    target, draft = pair(5, n=300, n_draft=200)
    p = oracles.softmax(target)
    for row, rank in ((draft, None), (np.empty(0, np.float32), -1)):
        tokens, ranks = sampled(method, target, row, PLAIN)
        assert oracles.goodness(np.bincount(tokens, minlength=300), p) > 1e-4
        assert (ranks >= 0).all() if rank is None else (ranks == rank).all()
    with pytest.raises(RuntimeError, match="no token a probability"):
        Coupling(method, SamplingOptions(**PLAIN), 1).sample(
            np.full(300, np.nan, np.float32), draft, 0
        )


@pytest.mark.parametrize("method", GSD)
def test_extreme_pairs(method):
    """Equal rows accept the first sibling, rows without a common token none."""
    target, _ = pair(6, n=500, spread=3)
    tokens, ranks = sampled(method, target, target, PLAIN, n=2000)
    assert (ranks == 0).mean() > 0.999
    left, right = np.full(40, -np.inf, np.float32), np.full(40, -np.inf, np.float32)
    left[:20], right[20:] = 0, 0
    tokens, ranks = sampled(method, left, right, PLAIN, n=2000)
    assert (tokens < 20).all()
    assert (ranks == 256).all()
    spiked = np.zeros(40, np.float32)
    spiked[7] = 90  # a float sum does not resolve the other probabilities
    tokens, _ = sampled(method, target[:40], spiked, PLAIN)
    assert oracles.goodness(np.bincount(tokens, minlength=40), oracles.softmax(target[:40])) > 1e-4


@pytest.mark.parametrize("sampling", [PLAIN, CUT])
def test_orders_of_siblings(sampling):
    """Distinct siblings are drawn without replacement, independent ones with it.

    A longer order begins with the shorter one.
    """
    _, draft = pair(7, n=5)
    q = oracles.softmax(draft, **sampling)
    kept = np.flatnonzero(q)
    firsts = {method: [] for method in GSD}
    for method in GSD:
        coupling = Coupling(method, SamplingOptions(**sampling), 3)
        for position in range(N // 2):
            order = coupling.draft_order(draft, position, 3)
            if position < 100:
                assert order[:2] == coupling.draft_order(draft, position, 2)
                assert len(coupling.draft_order(draft, position, 50)) == (
                    len(kept) if method == "gsd" else 50
                )
            firsts[method].append(order[0] * 5 + order[1])
    both = np.array([[q[a] * q[b] for b in range(5)] for a in range(5)])
    distinct = np.array(
        [
            [0 if a == b or q[a] == 0 else q[a] * q[b] / (1 - q[a]) for b in range(5)]
            for a in range(5)
        ]
    )
    assert oracles.goodness(np.bincount(firsts["gsd_iid"], minlength=25), both.ravel()) > 1e-4
    assert oracles.goodness(np.bincount(firsts["gsd"], minlength=25), distinct.ravel()) > 1e-4


@pytest.mark.parametrize("sampling", [PLAIN, CUT, {**PLAIN, "temperature": 0.0}])
def test_match_and_greedy(sampling):
    """Match tries tokens by logit and emits the target's winner, as all methods do at T = 0."""
    rng = np.random.default_rng(2)
    for position in range(200):
        target, draft = (rng.normal(size=700).astype(np.float32) * 3 for _ in range(2))
        sorted_draft = np.argsort(-draft, kind="stable")
        winner = oracles.winner(target, oracles.clocks(9, position, 700), **sampling)
        for method in ["match"] if sampling["temperature"] else ["match", "ersd", *GSD]:
            coupling = Coupling(method, SamplingOptions(**sampling), 9)
            assert coupling.draft_order(draft, position, 20) == sorted_draft[:20].tolist()
            place = int(np.flatnonzero(sorted_draft == winner)[0])
            assert coupling.sample(target, draft, position) == (winner, min(place, 256))


@pytest.mark.parametrize("n", [50, 1000, 49_152])
@pytest.mark.parametrize("sampling", [PLAIN, CUT, {**PLAIN, "temperature": 0.0}])
def test_rank_in_a_race(n, sampling):
    """Race.rank is the place in the order of all arrivals."""
    rng, race = np.random.default_rng(n), Race()
    for position in range(20):
        row, clock = (
            oracles.random_row(rng, n, oracles.ROW_KINDS[position % 4]),
            oracles.clocks(4, position, n),
        )
        order = oracles.arrivals(row, clock, **sampling)[0].tolist()
        for token in [*order[:3], *order[20:300:60], *rng.integers(n, size=5).tolist()]:
            place = order.index(token) if token in order else 10**6
            for m in (1, 64, 256):
                assert race.rank(
                    row, SamplingOptions(**sampling), Clock(4, position), token, m
                ) == min(place, m)


STRATEGIES = ["simple", "sequence", "batch", "tree"]


@pytest.mark.parametrize("method", GSD)
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("k", [1, 3, 9])
def test_texts_follow_the_target(method, strategy, k):
    """Over many seeds, texts of four tokens have the probabilities that the target gives them."""
    rng = np.random.default_rng(8)
    table, n, n_texts = oracles.random_table(rng, 13, 3, spread=1), 4, 6000
    draft = table + oracles.random_table(rng, 13, 3, spread=0.8)
    decoder, counts = Decoder(TableModel(table), TableModel(draft)), np.zeros((3,) * n)
    for seed in range(n_texts):
        decoder.start(
            [1, 2],
            GenerationOptions(**PLAIN, seed=seed, method=method, strategy=strategy, draft_nodes=k),
        )
        tokens = []
        while len(tokens) < n:
            tokens += decoder.step(n - len(tokens))
        counts[tuple(tokens)] += 1
    expected = np.ones((3,) * n)
    for text in itertools.product(range(3), repeat=n):
        for i, token in enumerate(text):
            expected[text] *= oracles.softmax(
                oracles.table_row(table, oracles.table_hash([1, 2, *text[:i]]))
            )[token]
    assert oracles.goodness(counts.ravel(), expected.ravel()) > 1e-4


@pytest.mark.parametrize("method", ["match", "ersd"])
def test_match_gives_the_plain_text(method):
    """Races decide what is emitted; the method decides only what is drafted."""
    rng = np.random.default_rng(9)
    table = oracles.random_table(rng, 64, 90)
    draft = table + oracles.random_table(rng, 64, 90, spread=0.7)
    plain = oracles.decode(table, [5], 60, 3, temperature=1.0)
    for strategy, k in itertools.product([*STRATEGIES, "adaptive"], [1, 8, 40]):
        decoder = Decoder(TableModel(table), TableModel(draft))
        decoder.start(
            [5], GenerationOptions(**PLAIN, seed=3, method=method, strategy=strategy, draft_nodes=k)
        )
        tokens = []
        while len(tokens) < 60:
            tokens += decoder.step(60 - len(tokens))
        assert tokens == plain


@pytest.mark.parametrize("method", ["ersd", "match", *GSD])
def test_observed_ranks_foretell_trees(method):
    """The ranks that step_with_rank() gives are the places in the draft's order."""
    rng = np.random.default_rng(10)
    table = oracles.random_table(rng, 64, 90)
    draft = table + oracles.random_table(rng, 64, 90, spread=0.7)
    decoder, n = Decoder(TableModel(table), TableModel(draft)), 400
    options = GenerationOptions(**PLAIN, seed=3, method=method, adapt_draft=False)
    decoder.start([5], options, ranks=True)
    tokens, ranks = zip(*(decoder.step_with_rank() for _ in range(n)), strict=True)
    if method not in GSD:
        assert list(tokens) == oracles.decode(table, [5], n, 3, temperature=1.0)
    for position, (token, rank) in enumerate(zip(tokens, ranks, strict=True)):
        row = oracles.table_row(draft, oracles.table_hash([5, *tokens[:position]]))
        order = Coupling(method, SamplingOptions(**PLAIN), 3).draft_order(row, position + 1, 256)
        assert order.index(token) == rank if token in order else rank == 256
    assert (
        decoder.stats.to_dict()["rank_histogram"]
        == np.bincount(np.minimum(ranks, 64), minlength=65).tolist()
    )


@pytest.mark.parametrize(
    ("method", "strategy"), [*itertools.product(GSD, STRATEGIES), ("block", "sequence")]
)
def test_a_seed_gives_one_text(method, strategy):
    """Rejection sampling is reproducible: its trees depend on neither earlier texts nor times.

    This holds for "auto" too.
    """
    rng = np.random.default_rng(12)
    table = oracles.random_table(rng, 64, 90)
    decoder, texts = (
        Decoder(
            TableModel(table), TableModel(table + oracles.random_table(rng, 64, 90, spread=0.7))
        ),
        [],
    )
    for seed in (3, 4, 5, 3):
        decoder.start([5], GenerationOptions(**PLAIN, seed=seed, method=method, strategy=strategy))
        tokens = []
        while len(tokens) < 150:
            tokens += decoder.step(150 - len(tokens))
        texts.append(tokens)
        assert (
            strategy == "simple"
            or max(k for k, n in enumerate(decoder.stats.to_dict()["nodes_histogram"]) if n) == 16
        )
    assert texts[0] == texts[3] != texts[1]
