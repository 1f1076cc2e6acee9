"""Cost curves: what they say between measured widths, how they learn, and how they are measured."""

import numpy as np
import pytest
from ersd._core import CostCurve, TableModel


def curve(one, per_token):
    """Returns costs of `one` ms for a token and `per_token` ms for each further token."""
    cost = CostCurve()
    cost.set([one + per_token * (n - 1) for n in CostCurve.widths])
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
