"""Many sequences in one cache: each has the logits, to the bit, that it would have alone."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ersd._core import Context, DraftTree, Model, TableModel

import tiny_window
from places import Alone, Driver, Oracle, step


@pytest.fixture(scope="module")
def tiny_model(tiny_target: Path) -> Model:
    """The random model of 2 layers."""
    return Model(str(tiny_target))


@pytest.fixture(scope="module")
def alone(tiny_model: Model) -> Oracle:
    """The tiny model's logits of a text that has the cache for itself."""
    return Alone(tiny_model)


@pytest.mark.parametrize("seed", range(8))
def test_table_model(seed: int) -> None:
    """Every row of a table model is the one of the sequence's own tokens."""
    rng = np.random.default_rng(seed)
    table = rng.normal(size=(1000, 60)).astype(np.float32)
    n_places = 1 + seed % 5
    model = TableModel(table, 500, n_sequences=n_places, n_ctx_total=400)
    driver = Driver(model, model.row, 400, seed)
    driver.checked = 1
    driver.run(60)
    assert driver.n_rows > 100


def drive(model: Context, oracle: Oracle, seed: int, *, n: int, **changes: float) -> None:
    """Does n random things to a context and expects cells to be buried and freed meanwhile."""
    driver, n_buried, n_compacted = Driver(model, oracle, model.n_free, seed), 0, 0
    for name, value in changes.items():
        setattr(driver, name, value)
    for _ in range(n):
        driver.run(1)
        n_compacted += model.n_buried < n_buried and len(set().union(*driver.cells)) > 0
        n_buried = model.n_buried
    assert driver.n_rows > n
    assert n_compacted > n // 50 or model.n_sequences == 1


@pytest.mark.parametrize("n_places", [1, 2, 3, 4, 5, 8])
def test_random_operations(tiny_model: Model, alone: Oracle, n_places: int) -> None:
    """Places that begin at different times, share and return have the bits of each alone."""
    options = {"n_ctx": 260, "n_ctx_total": 200 + 60 * n_places, "n_sequences": n_places}
    drive(Context(tiny_model, max_nodes=96, **options), alone, n_places, n=150)


def test_long_histories(tiny_model: Model, alone: Oracle) -> None:
    """The same holds for histories that several calls read, beside the trees of others."""
    model = Context(tiny_model, n_batch=64, n_ctx=900, n_ctx_total=2400, n_sequences=4)
    drive(model, alone, 0, n=40, most_history=400, most_nodes=30, checked=0.2)


def test_sliding_window(folder: Path) -> None:
    """The same holds for a model whose sliding window is shorter than the texts.

    Trees are decoded in one call, as a target's are. In several calls llama.cpp may reuse cells
    that have left the window; such a text can only be dropped as a whole.
    """
    model = Model(str(tiny_window.write_gemma(folder / "window.gguf")))
    context = Context(model, n_ctx=300, n_ctx_total=500, n_sequences=4)
    drive(context, Alone(model), 0, n=120, most_history=60, two_calls=0)


def test_default_target(target: Path) -> None:
    """The same holds for the default target."""
    model = Model(str(target))
    context = Context(model, n_ctx=100, n_ctx_total=130, n_sequences=3, max_nodes=64, n_threads=2)
    drive(context, Alone(model), 0, n=30, most_history=10, most_nodes=8, checked=0.3)


def test_few_buried_cells_are_freed_after_many_calls(tiny_model: Model, alone: Oracle) -> None:
    """In a large cache, too: attention looks at buried cells for every row of every call."""
    model = Context(tiny_model, n_ctx=500, n_ctx_total=1000, n_sequences=2)
    text = np.random.default_rng(0).integers(3, 500, size=200).tolist()
    step(model, 1, text)
    step(model, 0, text[:50])
    model.rollback(0, 1)
    n = 50
    while model.n_buried == 200:
        n += 1
        np.testing.assert_array_equal(step(model, 0, text[:n]), alone(text[:n]))
    assert model.n_buried == 0
    assert 10 < n - 50 < 50


def test_a_draft_without_order(tiny_model: Model, alone: Oracle) -> None:
    """A context that does not order its cells has no order to lose: nothing is buried."""
    model = Context(tiny_model, n_ctx=300, n_ctx_total=500, n_sequences=4, ordered_cells=False)
    driver = Driver(model, lambda tokens: alone(tokens), 500, 0)
    driver.checked = 0
    driver.run(100)
    assert model.n_buried == 0
    text = driver.tokens(50)
    for place in range(4):
        driver.cut(place, 0)
    model.decode([(2, text[:-1], DraftTree(text[-1]), [0])])
    np.testing.assert_allclose(model.logits(0, 2), alone(text), atol=1e-3)
