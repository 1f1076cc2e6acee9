"""Places of a context: what they share, lend and keep, and what they refuse."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest
from ersd._core import Context, DraftTree, Model

import tiny
from places import Alone, Driver, Oracle, step


@pytest.fixture(scope="module")
def tiny_model(tiny_target: Path) -> Model:
    """The random model of 2 layers."""
    return Model(str(tiny_target))


@pytest.fixture(scope="module")
def alone(tiny_model: Model) -> Oracle:
    """The tiny model's logits of a text that has the cache for itself."""
    return Alone(tiny_model)


def test_a_shared_beginning_is_stored_once(tiny_model: Model, alone: Oracle) -> None:
    """A beginning that three places share takes its cells once, before and after compaction."""
    model = Context(tiny_model, n_ctx=256, n_ctx_total=256, n_sequences=4, max_nodes=1)
    rng = np.random.default_rng(0)
    texts = [rng.integers(3, 500, size=200).tolist() for _ in range(3)]
    step(model, 0, texts[0])
    for place in (1, 2):
        assert model.share(0, place, 190)
        texts[place] = texts[0][:190] + texts[place][:10]
        np.testing.assert_array_equal(step(model, place, texts[place]), alone(texts[place]))
    assert model.n_free == 256 - 200 - 20
    was_full = False  # llama.cpp's cache holds 512 cells, less than three texts of their own
    for _ in range(20):  # what a fourth place reads and forgets fills the cache again and again
        step(model, 3, rng.integers(3, 500, size=30).tolist())
        was_full = was_full or model.n_buried == 0
        model.rollback(0, 3)
    assert was_full
    for place, text in enumerate(texts):
        np.testing.assert_array_equal(step(model, place, [*text, 7]), alone([*text, 7]))
    with pytest.raises(ValueError, match="the place that takes over must be empty, got 201"):
        model.share(0, 1, 3)


def test_many_branches(tiny_model: Model, alone: Oracle) -> None:
    """Places lend each other the branches that trees need; more than there are is an error."""
    model = Context(tiny_model, n_ctx=300, n_ctx_total=600, n_sequences=2)
    assert model.max_branches == 256 - 5
    tree = DraftTree(5)
    for token in range(200):
        tree.add(0, 10 + token)
    for place in (0, 1, 0):
        history = [*model.cached(place), 3, 4]
        model.decode([(place, history, tree, list(range(201)))])
        for node in (1, 200):
            expected = alone([*history, 5, tree.tokens[node]])
            np.testing.assert_array_equal(model.logits(node, place), expected)
        model.commit([(place, tree, 200)])
    cached = [model.cached(0), model.cached(1)]
    nodes = list(range(129))
    with pytest.raises(ValueError, match="need more than 251 branches"):
        model.decode([(p, cached[p], tree, nodes) for p in (0, 1)])
    assert [model.cached(0), model.cached(1)] == cached
    for place in (0, 1):
        text = [*cached[place], 9]
        np.testing.assert_array_equal(step(model, place, text), alone(text))


def test_a_star_of_256_leaves(tiny_model: Model, alone: Oracle) -> None:
    """A place alone has all of llama.cpp's sequences for the leaves of its trees."""
    model, text = Context(tiny_model, n_ctx=300), [3, 4]
    assert model.max_branches == 255
    for node in (200, 1, 256):
        tree = DraftTree(5)
        for leaf in range(256):
            tree.add(0, 10 + leaf)
        model.decode([(0, text, tree, list(range(257)))])
        for leaf in (1, 130, 256):
            expected = alone([*text, 5, tree.tokens[leaf]])
            np.testing.assert_array_equal(model.logits(leaf), expected)
        model.commit([(0, tree, node)])
        text += [5, tree.tokens[node]]
        assert model.cached() == text
    tree.add(0, 300)
    with pytest.raises(ValueError, match="the number of nodes must be between 0 and 257, got 258"):
        model.decode([(0, text, tree, list(range(258)))])
    np.testing.assert_array_equal(step(model, 0, [*text, 9]), alone([*text, 9]))


def test_what_a_call_refuses(tiny_model: Model) -> None:
    """A call's parts belong to different places and go on where these are."""
    model, tree = Context(tiny_model, n_ctx=300, n_sequences=2), DraftTree(5)
    tree.add(0, 6)
    parts = [(0, [3], tree, [0]), (0, [3], tree, [0])]
    with pytest.raises(ValueError, match="the parts of sequence 0 must be one, got 2"):
        model.decode(parts)
    with pytest.raises(ValueError, match="sequence must be between 0 and 1, got 2"):
        model.decode([(2, [3], tree, [0])])
    model.decode([(0, [3, 4], tree, [0, 1]), (1, [3], tree, [0, 1])])
    with pytest.raises(ValueError, match="must be at least its 2 cached tokens, got 1"):
        model.decode([(0, [3], tree, [0])])
    with pytest.raises(ValueError, match="sequence 1 must end its tree before its history grows"):
        model.decode([(1, [3, 5], tree, [0])])
    model.commit([(0, tree, 0)])
    with pytest.raises(ValueError, match="trees that were decoded together must end together"):
        model.decode([(0, [3, 4, 5], tree, [1])])
    with pytest.raises(RuntimeError, match=r"llama\.cpp has no logits for node 0 of sequence 0"):
        model.logits(0, 0)
    model.commit([(1, tree, 1)])
    assert (model.cached(0), model.cached(1)) == ([3, 4, 5], [3, 5, 6])


def two_trees(model: Context) -> DraftTree:
    """Decodes a tree in each of two places, and commits a branch of it in the first one."""
    tree, nodes = DraftTree(5), [0, 1, 2, 3]
    for parent, token in ((0, 6), (0, 7), (2, 8)):
        tree.add(parent, token)
    model.decode([(0, [3], tree, nodes), (1, [4], tree, nodes)])
    model.commit([(0, tree, 3)])
    return tree


def test_a_draft_goes_on_before_others(tiny_model: Model) -> None:
    """Without order a place may go on while the tree of another is uncommitted."""
    alone = Alone(tiny_model, exact=False)
    model = Context(tiny_model, n_ctx=300, n_sequences=2, ordered_cells=False, exact=False)
    tree = two_trees(model)
    for text in ([3, 5, 7, 8, 9], [3, 5, 7, 8, 9, 10]):
        np.testing.assert_allclose(step(model, 0, text), alone(text), atol=1e-3)
    model.commit([(1, tree, 2)])
    for place, text in ((0, [*model.cached(0), 11]), (1, [4, 5, 7, 12])):
        np.testing.assert_allclose(step(model, place, text), alone(text), atol=1e-3)


def test_trees_end_together(tiny_model: Model, alone: Oracle) -> None:
    """With order a place waits for the other trees of its call, which may also be dropped."""
    model = Context(tiny_model, n_ctx=300, n_sequences=2)
    two_trees(model)
    with pytest.raises(ValueError, match="trees that were decoded together must end together"):
        step(model, 0, [3, 5, 7, 8, 9])
    model.rollback(3, 0)
    model.rollback(1, 1)
    for place, text in ((0, [3, 5, 7, 11]), (1, [4, 12])):
        np.testing.assert_array_equal(step(model, place, text), alone(text))


def test_interrupted_and_full(tiny_model: Model, alone: Oracle) -> None:
    """A call that fails leaves committed tokens as they were, in all of its places."""
    polls = -1  # after how many the next call is interrupted; negative: never

    def interrupted() -> bool:
        nonlocal polls
        polls -= 1
        return polls == 0

    model = Context(
        tiny_model, n_ctx=300, n_ctx_total=400, n_sequences=3, max_nodes=36, interrupted=interrupted
    )
    driver = Driver(model, alone, 400, 0)
    for _ in range(60):
        driver.run(1)
        driver.make_room()
        polls = int(driver.rng.integers(1, 6))
        with pytest.raises(KeyboardInterrupt):
            driver.steps(9)
        polls = -1
        for place in range(3):
            assert model.cached(place) == driver.texts[place]
            model.rollback(len(driver.texts[place]), place)
    with pytest.raises(RuntimeError, match=r"the cache must have room for 5\d\d more tokens"):
        model.decode([(0, driver.texts[0] + [5] * 500, DraftTree(5), [0])])


def test_states(tiny_model: Model, alone: Oracle) -> None:
    """A place's state is loaded into another place, among others, and by another context."""
    context = Context(tiny_model, n_ctx=300, n_ctx_total=600, n_sequences=3)
    driver = Driver(context, alone, 600, 0)
    text = driver.tokens(100)
    step(context, 0, driver.tokens(60))
    step(context, 1, text)
    tokens, data = context.save_state(1)
    assert tokens == text
    context.rollback(20, 0)
    for model, place in ((context, 2), (context, 0), (Context(tiny_model, n_ctx=300), 0)):
        model.load_state(tokens, data, place)
        assert model.cached(place) == text
        for new in (5, 6):
            expected = alone([*text, new])
            np.testing.assert_array_equal(step(model, place, [*text, new]), expected)
            model.rollback(len(text), place)
    assert context.n_free == 600 - 3 * 100
    with pytest.raises(ValueError, match="the state is not one of this model"):
        context.load_state(tokens, data[:50], 1)
    assert context.cached(1) == []
    np.testing.assert_array_equal(step(context, 0, [*text, 9]), alone([*text, 9]))


def test_a_recurrent_model(folder: Path) -> None:
    """A recurrent model has places too. They keep all that was committed, or nothing."""
    model = Model(str(tiny.write_mamba(folder / "mamba-places.gguf")))
    alone = Alone(model)
    context = Context(model, n_ctx=300, n_ctx_total=600, n_sequences=3)
    assert context.max_branches == 0
    rng = np.random.default_rng(0)
    texts = [rng.integers(3, 500, size=n).tolist() for n in (20, 50, 80)]
    trees = [DraftTree(text[-1]) for text in texts]
    for _ in range(4):
        context.decode([(p, text[:-1], trees[p], [0]) for p, text in enumerate(texts)])
        for place, text in enumerate(texts):
            np.testing.assert_allclose(context.logits(0, place), alone(text), atol=1e-4)
        context.commit([(place, tree, 0) for place, tree in enumerate(trees)])
        texts = [[*text, 7] for text in texts]
        trees = [DraftTree(7)] * 3
    context.rollback(10, 1)
    assert [len(context.cached(place)) for place in range(3)] == [23, 0, 83]
    assert not context.share(0, 1, 10)
    assert np.abs(step(context, 1, texts[1]) - alone(texts[1])).max() < 1e-4
    assert np.abs(step(context, 2, texts[2]) - alone(texts[2])).max() < 1e-4
