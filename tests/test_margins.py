"""Race margins: predictions by definition, coefficients that learn, and trees that grow."""

from __future__ import annotations

import numpy as np
import pytest
from ersd._core import (
    Clock,
    GenerationOptions,
    MarginModel,
    Race,
    SamplingOptions,
    TableModel,
)
from scipy.optimize import minimize

import oracles
from decoding import Decoder

pytestmark = pytest.mark.no_sanitizer

M = MarginModel.n_arrivals
FULL = {"top_k": 0, "top_p": 1.0, "min_p": 0.0}


def features(row, clock, temperature):
    """Returns the features of the first M arrivals and of all later ones together; f64[n + 1, 5].

    They are: score gap times T, logit gap over T, log rank, whether first, whether later.
    """
    order, scores = oracles.arrivals(row, clock, M, temperature=temperature)
    scale = float(np.float32(temperature)) or 1.0
    logits = row[order].astype(np.float64) / scale
    n = len(order)
    rank = np.arange(1, n + 1)
    x = np.stack(
        [(scores - scores[0]) * scale, logits - logits[0], np.log(rank), rank == 1, np.zeros(n)],
        axis=1,
    )
    return np.vstack([x, [(scores[-1] - scores[0]) * scale, 0, np.log(n + 1), 0, 1]])


def logit(x, coefficients):
    """Returns the probabilities of the alternatives; f64[n + 1]."""
    u = x @ np.asarray(coefficients)
    p = np.exp(u - u.max())
    return p / p.sum()


@pytest.mark.parametrize("temperature", [0.0, 0.6, 1.0])
@pytest.mark.parametrize("n", [5, 300])
def test_prediction_is_the_conditional_logit(temperature, n):
    """Predictions are those of the definition, with fewer and with more than M tokens."""
    rng, race, model = np.random.default_rng(n), Race(), MarginModel()
    for position in range(20):
        row = (rng.normal(size=n) * 3).astype(np.float32)
        hits = model.predict(
            race, row, SamplingOptions(temperature=temperature), Clock(3, position)
        )
        x = features(row, oracles.clocks(3, position, n), temperature)
        np.testing.assert_allclose(hits, logit(x, model.coefficients)[:-1], rtol=1e-6)


def test_row_without_probability():
    """A row without probability has no predictions and teaches nothing."""
    model, row = MarginModel(), np.full(10, -np.inf, np.float32)
    before = model.coefficients
    assert len(model.predict(Race(), row, SamplingOptions(), Clock(1, 1))) == 0
    model.learn(Race(), row, SamplingOptions(), Clock(1, 1), 3)
    assert model.coefficients == before


def test_coefficients_find_the_truth():
    """Coefficients come near to the maximum likelihood, and nonsense does not spoil the model."""
    rng, race, model = np.random.default_rng(0), Race(), MarginModel()
    truth = [0.4, 0.6, -1.0, 0.5, 1.0]
    seen, losses, count = [], [], 4000
    for position in range(count):
        row = (rng.normal(size=200) * 2).astype(np.float32)
        x = features(row, oracles.clocks(5, position, 200), 1.0)
        rank = int(rng.choice(M + 1, p=logit(x, truth)))
        hits = model.predict(race, row, SamplingOptions(), Clock(5, position))
        losses.append(-np.log(hits[rank] if rank < M else 1 - hits.sum()))
        model.learn(race, row, SamplingOptions(), Clock(5, position), rank)
        seen.append((x, rank))
    late = seen[count // 2 :]

    def loss(coefficients):
        return np.mean([-np.log(logit(x, coefficients)[rank]) for x, rank in late])

    best = minimize(loss, truth, method="Nelder-Mead", options={"maxiter": 300}).fun
    assert np.mean(losses[count // 2 :]) < best + 0.02
    assert loss(MarginModel().coefficients) > best + 0.1
    for position in range(2000):  # ranks that are independent of the race
        model.learn(race, row, SamplingOptions(), Clock(6, position), int(rng.integers(M + 1)))
    hits = model.predict(race, row, SamplingOptions(), Clock(7, 0))
    assert np.isfinite(model.coefficients).all()
    assert hits.max() < 0.2


def pair(spread=0.7, n_rows=600, n_vocab=150):
    """Returns the tables of a target and of a similar draft."""
    rng = np.random.default_rng(4)
    table = oracles.random_table(rng, n_rows, n_vocab)
    return table, table + oracles.random_table(rng, n_rows, n_vocab, spread=spread)


def run(strategy, k, steps, **more):
    """Returns a decoder after some steps, and the tokens and drafted nodes of each step."""
    table, draft = pair()
    decoder = Decoder(TableModel(table, n_ctx=1 << 14), TableModel(draft, n_ctx=1 << 14))
    decoder.start(
        [1],
        GenerationOptions(
            temperature=1.0,
            **FULL,
            seed=9,
            strategy=strategy,
            draft_nodes=k,
            adapt_draft=False,
            **more,
        ),
    )
    lengths, drafted = [], [0]
    for _ in range(steps):
        lengths.append(len(decoder.step(1000)))
        drafted.append(decoder.stats.to_dict()["drafted"])
    return decoder, np.array(lengths), np.diff(drafted)


@pytest.mark.parametrize("k", [1, 4, 16, 60])
def test_trees_have_k_nodes_on_average(k):
    """Trees have k nodes on average and at most 4 k."""
    _, _, drafted = run("adaptive", k, 700)
    assert drafted[200:].mean() == pytest.approx(k, rel=0.12)
    assert drafted.min() >= 1
    assert drafted.max() <= 4 * k


def test_margins_beat_the_static_tree():
    """Grown trees give more tokens per call with as many nodes, and predictions are calibrated."""
    _, static, _ = run("tree", 8, 1500)
    decoder, adaptive, drafted = run("adaptive", 8, 1500)
    assert drafted.mean() < 8.3
    assert adaptive.mean() > 1.06 * static.mean()
    table, draft = pair()
    race, model, hits, came = Race(), decoder.margins, [], []
    for position, (row, other) in enumerate(zip(table, draft, strict=True)):
        clock = Clock(77, position)
        winner = race.winner(row, SamplingOptions(), clock)
        hits.append(model.predict(race, other, SamplingOptions(), clock))
        came.append(race.arrivals(other, SamplingOptions(), clock, M)[0] == winner)
    hits, came = np.concatenate(hits), np.concatenate(came)
    for low in (0.1, 0.4, 0.7):
        bin_ = (hits >= low) & (hits < low + 0.3)
        assert came[bin_].mean() == pytest.approx(
            hits[bin_].mean(), abs=4 * np.sqrt(0.25 / bin_.sum())
        )


@pytest.mark.parametrize("temperature", [0.6, 1.0])
def test_predictions_are_calibrated(temperature):
    """Of the arrivals with about the same probability, such a share is the target's token."""
    table, draft = pair(n_rows=8000)
    race, model, hits, came = Race(), MarginModel(), [], []
    options = SamplingOptions(temperature=temperature)
    for position, (row, other) in enumerate(zip(table, draft, strict=True)):
        at = race, other, options, Clock(78, position)
        token = race.winner(row, options, at[3])
        order = race.arrivals(other, options, at[3], M)[0]
        rank = int(np.argmax(order == token)) if token in order else M
        hits.append(model.predict(*at))
        came.append(np.arange(len(order)) == rank)
        model.learn(*at, rank)
    hits, came = np.concatenate(hits[1000:]), np.concatenate(came[1000:])
    n_checked = 0
    for low in np.arange(10) / 10:
        inside = (hits >= low) & (hits < low + 0.1)
        if inside.sum() >= 300:
            error = 2 * came[inside].std() / np.sqrt(inside.sum())
            expected = pytest.approx(hits[inside].mean(), abs=0.03 + error)
            assert came[inside].mean() == expected
            n_checked += 1
    assert n_checked >= 8


def test_depth_and_cache():
    """No node is too deep, committed tokens stay cached, the target decodes each node once."""
    table, draft = pair()
    target, drafter = TableModel(table, n_ctx=1 << 14), TableModel(draft, n_ctx=1 << 14)
    decoder = Decoder(target, drafter)
    decoder.start(
        [1],
        GenerationOptions(
            temperature=1.0, **FULL, seed=9, strategy="adaptive", draft_nodes=12, draft_depth=3
        ),
    )
    n_tokens = 1
    for _ in range(100):
        before = (
            target.n_decoded,
            drafter.n_decoded,
            drafter.n_calls,
            decoder.stats.to_dict()["drafted"],
        )
        step = decoder.step(1000)
        n_tokens += len(step)
        nodes = decoder.stats.to_dict()["drafted"] - before[3]
        assert len(step) <= 4
        assert target.n_decoded - before[0] == nodes + 1
        assert target.n_cached == n_tokens - 1
        assert n_tokens - 2 <= drafter.n_cached <= n_tokens - 1
        assert drafter.n_calls - before[2] <= 3
        assert drafter.n_decoded - before[1] <= nodes + 2


@pytest.mark.parametrize("method", ["gsd", "gsd_iid"])
def test_rejection_is_refused(method):
    """Rejection sampling would be biased by a tree that was chosen after the draws."""
    with pytest.raises(
        ValueError, match="strategy 'adaptive' needs a method of races, 'ersd' or 'match', got 'gsd"
    ):
        GenerationOptions(method=method, strategy="adaptive")
