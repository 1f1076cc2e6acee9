"""The controller: the fastest k by brute force, the price of probing, and calibration."""

from __future__ import annotations

import numpy as np
import pytest
from ersd._core import (
    CostCurve,
    DraftController,
    GenerationOptions,
    RankHistogram,
    TableModel,
    expected_tokens,
    optimal_shape,
    sequence_shape,
)

import oracles
from decoding import Decoder

RANKS = RankHistogram().probabilities()[:64].tolist()
NODES = [*range(1, 17), 20, 24, 32, 48]


def curve(one, per_token):
    """Returns costs of `one` ms for a token and `per_token` ms for each further token."""
    cost = CostCurve()
    cost.set([[one + per_token * (n - 1) for n in CostCurve.widths]] * 2)
    return cost


def speed(k, ranks, target, draft, depth=64):
    """Returns tokens per ms of the optimal tree with k nodes.

    The target checks k + 1 tokens, and the draft runs once per level that has children.
    """
    tree = optimal_shape(ranks, k, depth)
    with_children = {tree.parent[i] for i in range(1, len(tree))}
    levels = [sum(tree.depth[node] == d for node in with_children) for d in range(max(tree.depth))]
    ms = target(len(tree)) + sum(draft(n + (d == 0)) for d, n in enumerate(levels))
    return expected_tokens(tree, ranks) / ms


def test_the_plan_is_the_fastest():
    """The plan has the k of the greatest expected speed, or no nodes if none is faster."""
    rng, chosen = np.random.default_rng(0), []
    for _ in range(60):
        target = curve(10.0, rng.choice([0.05, 0.5, 2.0, 6.0]))
        draft = curve(float(rng.choice([0.2, 1.0, 4.0, 10.0])), float(rng.choice([0.01, 0.3])))
        ranks = np.sort(rng.dirichlet(np.full(64, rng.choice([0.1, 0.01]))))[::-1].tolist()
        speeds = {k: speed(k, ranks, target, draft) for k in NODES}
        best = max(speeds, key=speeds.get)
        plan = DraftController().plan(ranks, target, draft)
        if speeds[best] <= 1.02 / 10.0:
            assert (plan.nodes, plan.tokens, plan.ms) == (0, 1, 10.0)
        else:
            assert plan.nodes == best
            assert plan.tokens / plan.ms == pytest.approx(speeds[best])
        chosen.append(plan.nodes)
    assert chosen.count(0) > 15
    assert len(set(chosen)) > 5


@pytest.mark.parametrize("seed", range(10))
def test_fixed_plans_and_forecasts(seed):
    """Expected tokens and times are those of the definition, calibrated by what calls brought."""
    rng = np.random.default_rng(seed)
    controller, target, draft, k = (
        DraftController(),
        curve(10.0, 0.7),
        curve(2.0, 0.1),
        int(rng.integers(1, 40)),
    )
    tree = optimal_shape(RANKS, k, 64)
    plan = controller.plan_fixed(tree, RANKS, target, draft)
    assert (plan.nodes, plan.tokens) == (k, pytest.approx(expected_tokens(tree, RANKS)))
    assert plan.tokens / plan.ms == pytest.approx(speed(k, RANKS, target, draft))
    for _ in range(2000):
        controller.plan_fixed(tree, RANKS, target, draft)
        controller.learn(2, 1.5 * plan.ms)
    later = controller.plan_fixed(tree, RANKS, target, draft)
    assert (later.tokens, later.ms) == (
        pytest.approx(3, rel=1e-3),
        pytest.approx(1.5 * plan.ms, rel=1e-3),
    )
    forecasts = controller.forecast(RANKS, target, draft)
    assert [f.nodes for f in forecasts] == [0, *NODES]
    assert (forecasts[0].tokens, forecasts[0].ms) == (1, 10)
    share = 2 / (plan.tokens - 1)
    for f in forecasts[1:]:
        assert (f.tokens - 1) / share + 1 == pytest.approx(
            expected_tokens(optimal_shape(RANKS, f.nodes, 64), RANKS), rel=1e-3
        )
        assert ((f.tokens - 1) / share + 1) / (f.ms / 1.5) == pytest.approx(
            speed(f.nodes, RANKS, target, draft), rel=1e-3
        )


def test_tokens_that_are_read_again_have_a_price():
    """A chain of k nodes of which the first a are accepted costs a + 1 more tokens, if a < k."""
    target, draft, p = curve(10.0, 0.7), curve(2.0, 0.1), RANKS[0]
    for k in (1, 3, 16):
        chain = sequence_shape(k, k)
        plans = [
            DraftController().plan_fixed(chain, RANKS, target, draft, reads_again=again)
            for again in (False, True)
        ]
        n_again = sum(p**a * (1 - p) * (a + 1) for a in range(k))
        assert plans[1].ms == pytest.approx(plans[0].ms + 0.7 * n_again)
        assert plans[1].tokens == plans[0].tokens


def simulate(controller, target, draft, n_calls, accepted, time=1.0):
    """Runs a controller for n_calls; returns the number of drafting calls, of tokens, and of ms.

    accepted(k) is the number of accepted tokens of a call with k nodes, and time the ratio of the
    time that calls take to the expected time.
    """
    drafted, tokens, ms, missing = 0, 0, 0.0, 0
    for _ in range(n_calls):
        plan = controller.plan(RANKS, target, draft, missing)
        n, took = (
            (accepted(plan.nodes), time * plan.ms + (draft(missing) if missing > 1 else 0))
            if plan.nodes
            else (0, target(1))
        )
        controller.learn(n, took)
        drafted += plan.nodes > 0
        tokens += 1 + n
        ms += took
        missing = 0 if plan.nodes else missing + 1
    return drafted, tokens, ms


@pytest.mark.parametrize("draft_ms", [0.3, 1.0, 5.0])
def test_a_draft_that_is_never_right_costs_little(draft_ms):
    """Drafting stops after a few calls, and probing costs about one percent of the time."""
    controller, target, draft = DraftController(), curve(10.0, 0.5), curve(draft_ms, 0.02)
    simulate(controller, target, draft, 60, lambda _: 0)
    drafted, tokens, ms = simulate(controller, target, draft, 5000, lambda _: 0)
    assert tokens == 5000
    assert ms < 1.012 * 10.0 * tokens
    assert drafted < 300


def test_probing_finds_that_drafting_pays():
    """A cheap draft that was never right and then always is right gets used again."""
    controller, target, draft = DraftController(), curve(10.0, 0.5), curve(0.3, 0.01)
    simulate(controller, target, draft, 300, lambda _: 0)
    simulate(controller, target, draft, 4000, lambda k: min(k, 4))
    drafted, tokens, _ = simulate(controller, target, draft, 200, lambda k: min(k, 4))
    assert drafted == 200
    assert tokens > 3 * 200


def test_no_probing_if_nothing_could_pay():
    """The draft is as slow as the target and wide calls are no cheaper, so nothing is drafted."""
    controller, target, draft = DraftController(), curve(10.0, 5.0), curve(10.0, 5.0)
    for _ in range(3000):
        plan = controller.plan(RANKS, target, draft, 0)
        assert plan.nodes == 0
        controller.learn(0, plan.ms)


def test_slow_calls_stop_drafting():
    """If drafting takes three times as long as the costs say, it stops."""
    target, draft = curve(10.0, 0.5), curve(1.0, 0.02)
    assert DraftController().plan(RANKS, target, draft).nodes > 0
    controller = DraftController()
    simulate(controller, target, draft, 200, lambda k: min(k, 1), time=3.0)
    assert simulate(controller, target, draft, 200, lambda k: min(k, 1), time=3.0)[0] < 20


def test_calls_that_took_far_less_time_do_not_stop_drafting():
    """Their time fades where no node is worth its time. New costs forget it at once."""
    tree, target, draft = optimal_shape(RANKS, 6, 64), curve(10.0, 0.5), curve(1.0, 0.02)
    for heal in (
        lambda controller: [controller.learn(0, 10.0, n_drafted=0) for _ in range(500)],
        lambda controller: controller.forget_times(),
    ):
        controller = DraftController()
        first = controller.plan_fixed(tree, RANKS, target, draft)
        for _ in range(500):
            controller.plan_fixed(tree, RANKS, target, draft)
            controller.learn(2, first.ms / 50)
        assert controller.plan_fixed(tree, RANKS, target, draft).ms < first.ms / 40
        heal(controller)
        healed = controller.plan_fixed(tree, RANKS, target, draft)
        assert healed.ms == pytest.approx(first.ms, rel=1e-2)


def test_calls_that_draft_nothing_do_not_hide_slow_ones():
    """Where drafting took longer than expected, plain calls in between change nothing of that."""
    tree, target, draft = optimal_shape(RANKS, 6, 64), curve(10.0, 0.5), curve(1.0, 0.02)
    controller = DraftController()
    first = controller.plan_fixed(tree, RANKS, target, draft)
    for _ in range(500):
        controller.plan_fixed(tree, RANKS, target, draft)
        controller.learn(2, 2 * first.ms)
    slow = controller.plan_fixed(tree, RANKS, target, draft)
    for _ in range(500):
        controller.learn(0, 10.0, n_drafted=0)
    assert controller.plan_fixed(tree, RANKS, target, draft).ms == slow.ms > 1.9 * first.ms


@pytest.mark.parametrize("n", [2, 5, 8])
def test_a_plan_beside_other_sequences(n):
    """A sequence has its share of a call in which the others have as many nodes."""
    target, draft, read = curve(10.0, 0.9), curve(1.0, 0.1), 6
    rows = n + read  # the others' tokens, one of its own, and those of a prompt

    def load_speed(k):
        tree = optimal_shape(RANKS, k, 64)
        parents = {tree.parent[i] for i in range(1, len(tree))}
        levels = [sum(tree.depth[node] == d for node in parents) for d in range(max(tree.depth))]
        ms = target(rows + n * k) / n
        ms += sum(draft(n * (width + (d == 0))) / n for d, width in enumerate(levels))
        return expected_tokens(tree, RANKS) / ms

    plan = DraftController().plan(RANKS, target, draft, n_sequences=n, n_rows=rows)
    best = max(NODES, key=load_speed)
    if load_speed(best) <= 1.02 * n / target(rows):
        assert plan.nodes == 0
    else:
        assert plan.nodes == best
        assert plan.tokens / plan.ms == pytest.approx(load_speed(best))


def test_trees_shrink_under_load():
    """The more sequences share a call, the fewer nodes are worth their time, down to none."""
    target, draft = curve(10.0, 1.0), curve(0.3, 0.03)
    chosen = [
        DraftController().plan(RANKS, target, draft, n_sequences=n, n_rows=n).nodes
        for n in (1, 2, 4, 8, 16, 32)
    ]
    assert chosen == sorted(chosen, reverse=True)
    assert chosen[0] > 2
    assert chosen[-1] == 0


def test_a_text_is_judged_by_itself_too():
    """A few calls of one text change what is expected of it; the next text begins anew."""
    controller, target, draft = DraftController(), curve(10.0, 0.7), curve(1.0, 0.05)
    first = controller.plan_fixed(optimal_shape(RANKS, 6, 64), RANKS, target, draft)
    for _ in range(5):
        controller.plan_fixed(optimal_shape(RANKS, 6, 64), RANKS, target, draft)
        controller.learn(6, first.ms)
    here = controller.plan_fixed(optimal_shape(RANKS, 6, 64), RANKS, target, draft)
    controller.begin_text()
    next_text = controller.plan_fixed(optimal_shape(RANKS, 6, 64), RANKS, target, draft)
    assert first.tokens < next_text.tokens < here.tokens


@pytest.mark.parametrize("method", ["ersd", "match"])
@pytest.mark.parametrize("strategy", ["simple", "sequence", "batch", "tree", "adaptive"])
def test_auto_gives_the_plain_text(method, strategy):
    """With "auto" the tokens are those of plain decoding, and the stats count the chosen nodes."""
    rng = np.random.default_rng(3)
    table = oracles.random_table(rng, 64, 70)
    draft = table + oracles.random_table(rng, 64, 70, spread=0.5)
    decoder = Decoder(TableModel(table), TableModel(draft))
    decoder.engine.measure()
    for seed in range(6):
        options = GenerationOptions(
            temperature=1.0,
            top_k=0,
            top_p=1.0,
            min_p=0.0,
            seed=seed,
            method=method,
            strategy=strategy,
        )
        decoder.start([5, 6], options)
        tokens = []
        while len(tokens) < 150:
            tokens += decoder.step(150 - len(tokens))
        assert tokens == oracles.decode(table, [5, 6], 150, seed, temperature=1.0)
        stats = decoder.stats.to_dict()
        assert sum(stats["nodes_histogram"]) == stats["target_calls"]
        assert sum(k * n for k, n in enumerate(stats["nodes_histogram"])) == stats["drafted"]
        assert stats["expected_tokens"] >= stats["target_calls"]
        assert stats["expected_ms"] > 0
