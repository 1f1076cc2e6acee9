"""Cost curves: what they say between measured widths, how they learn, and how they are measured."""

from pathlib import Path

import numpy as np
import pytest
from ersd._core import CostCurve, TableModel

from ersd import Generator


def curve(one, per_token):
    """Returns costs of `one` ms for a token and `per_token` ms for each further token."""
    cost = CostCurve()
    cost.set([[one + per_token * (n - 1) for n in CostCurve.widths]] * 2)
    return cost


def test_between_and_above_the_widths():
    """Costs are linear between the widths, and proportional above the last one."""
    assert CostCurve()(5) == 0
    cost = curve(10.0, 2.0)
    for n in (1, 2, 5, 7, 20, 40, 48):
        assert cost(n) == pytest.approx(10 + 2 * (n - 1))
    assert cost(96) == pytest.approx(2 * cost(48))


def test_learning():
    """Costs follow a machine that became half as fast, but not a single stalled call."""
    cost = curve(10.0, 2.0)
    cost.learn(4, 1e6)
    assert cost(4) < 1.12 * 16
    cost = curve(10.0, 2.0)
    for _ in range(60):
        cost.learn(1, 20.0)
    assert cost(1) == pytest.approx(20, rel=0.02)
    assert 1.1 * 24 < cost(8) < 2 * 24  # other widths follow more slowly
    for _ in range(60):
        cost.learn(8, 48.0)
    assert cost(8) == pytest.approx(48, rel=0.05)
    unmeasured = CostCurve()
    unmeasured.learn(1, 5.0)
    assert unmeasured(1) == 0


def test_measuring():
    """Measured costs grow with the width, also in a short context, and the cache is left empty."""
    for n_ctx in (4096, 20, 1):
        model = TableModel(np.zeros((1, 60), np.float32), n_ctx)
        cost = CostCurve()
        cost.measure(model, 50.0)
        costs = [cost(n) for n in CostCurve.widths]
        assert costs[0] > 0
        assert costs == sorted(costs)
        assert model.n_cached == 0


def test_measuring_in_a_context_that_a_long_cache_would_fill(tiny_target: Path):
    """The cached tokens leave room for the calls; where they cannot, both lengths cost the same."""
    for n_ctx in (1024, 24):
        pair = Generator(
            tiny_target, tiny_target, n_ctx=n_ctx, n_threads=1, type_k="f32", profile=False
        )
        pair.generate("a", max_tokens=2, draft_nodes="auto")
        empty, long = pair.profile().target_ms
        width = CostCurve.widths.index(16)
        assert (long[width] > empty[width]) == (n_ctx == 1024)


def test_the_length_of_the_cache():
    """Costs are linear in the tokens that the cache holds, below and beyond the measured length."""
    cost = CostCurve()
    cost.set([[10.0 + n for n in CostCurve.widths], [20.0 + 2 * n for n in CostCurve.widths]])
    long = CostCurve.lengths[1]
    for n in (1, 7, 20):
        for n_cached in (0, long // 4, long, 3 * long):
            cost.set_n_cached(n_cached)
            assert cost(n) == pytest.approx(10 + n + n_cached / long * (10 + n))


def test_what_one_more_token_costs():
    """It is the mean slope of the curve up to 16 tokens, at the length of the cache in use."""
    cost = CostCurve()
    cost.set([[5.0 + 2 * n for n in CostCurve.widths], [9.0 + 4 * n for n in CostCurve.widths]])
    assert cost.ms_per_node == pytest.approx(2)
    cost.set_n_cached(512)
    assert cost.ms_per_node == pytest.approx(3)


@pytest.mark.parametrize("factor", [100.0, 0.01])
def test_costs_that_calls_disagree_with_are_distrusted(factor):
    """Some calls of far more or less time than expected are enough, also very wide ones."""
    for width in (1, 16, 60):
        cost = curve(10.0 * factor, 2.0 * factor)
        for _ in range(7):
            cost.learn(width, 10.0 + 2 * (width - 1))
        assert not cost.distrusted
        cost.learn(width, 10.0 + 2 * (width - 1))
        assert cost.distrusted
        for _ in range(100):  # the curve follows at this width; others may still be wrong
            cost.learn(width, cost(width))
        assert cost.distrusted
        cost.set(cost.points)
        assert not cost.distrusted


def test_single_stalls_cause_no_distrust():
    """Every third call stalls, and the curve is still trusted."""
    cost = curve(10.0, 2.0)
    for i in range(300):
        cost.learn(1, 50.0 if i % 3 == 0 else cost(1))
        assert not cost.distrusted
