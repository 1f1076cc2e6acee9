"""The decoding step over table models: texts of plain decoding, and nothing decoded twice."""

from functools import cache

import numpy as np
import pytest
from ersd._core import (
    GenerationOptions,
    RankHistogram,
    TableModel,
    batch_shape,
    optimal_shape,
    sequence_shape,
)

import oracles
from decoding import Decoder

GREEDY, COOL, PLAIN = {"temperature": 0.0}, {"temperature": 0.7}, {"temperature": 1.0}
CUT = {"temperature": 0.8, "top_k": 20, "top_p": 0.95, "min_p": 0.02}
STRATEGIES = ["simple", "sequence", "batch", "tree", "adaptive"]
STATIC = STRATEGIES[:-1]  # strategies whose tree does not depend on the race
DRAFTS = ["same", "noisy", "unrelated", "smaller", "larger"]
N_ROWS, N_VOCAB, SEED = 64, 70, 2**63 + 5
PROMPT = [3, 1, 4, 1, 5]
TABLE = oracles.random_table(np.random.default_rng(0), N_ROWS, N_VOCAB)


@cache
def draft_table(kind):
    """Returns the table of a draft; those named smaller and larger have fewer and more tokens."""
    rng = np.random.default_rng(1)
    noisy = TABLE + oracles.random_table(rng, N_ROWS, N_VOCAB, spread=0.8)
    more = oracles.random_table(rng, N_ROWS, N_VOCAB)
    return {
        "same": TABLE,
        "noisy": noisy,
        "unrelated": more,
        "smaller": noisy[:, :50].copy(),
        "larger": np.hstack([noisy, more]),
    }[kind]


@cache
def truth(sampling, n, prompt=tuple(PROMPT), seed=SEED):
    """Returns the tokens of plain decoding by the oracle; sampling has the items of a dict."""
    return oracles.decode(TABLE, list(prompt), n, seed, **dict(sampling))


def options(sampling, **more):
    """Returns generation options without the default truncation."""
    return GenerationOptions(
        **{"top_k": 0, "top_p": 1.0, "min_p": 0.0, "seed": SEED, **sampling, **more}
    )


def generate(decoder, n, given, prompt=PROMPT, limit=1000):
    """Returns n tokens, and the lengths of the steps that gave them."""
    decoder.start(prompt, given)
    tokens, lengths = [], []
    while len(tokens) < n:
        step = decoder.step(min(limit, n - len(tokens)))
        assert 1 <= len(step) <= min(limit, n - len(tokens))
        tokens += step
        lengths.append(len(step))
    return tokens, lengths


@pytest.mark.parametrize("kind", DRAFTS)
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("sampling", [GREEDY, COOL, PLAIN, CUT])
def test_text_is_that_of_plain_decoding(kind, strategy, sampling):
    """The text is that of plain decoding for every draft, strategy and temperature."""
    decoder = Decoder(TableModel(TABLE), TableModel(draft_table(kind)))
    for k in (1, 2, 5, 16, 40):
        given = options(sampling, strategy=strategy, draft_nodes=k)
        assert generate(decoder, 200, given)[0] == truth(tuple(sampling.items()), 200)


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("k", [100, 255, 256])
def test_large_trees(strategy, k):
    """The largest trees, with more nodes than there are tokens, change no text."""
    decoder = Decoder(TableModel(TABLE), TableModel(draft_table("noisy")))
    given = options(PLAIN, strategy=strategy, draft_nodes=k, draft_depth=256)
    assert generate(decoder, 80, given)[0] == truth(tuple(PLAIN.items()), 80)


def expected_shape(strategy, k, depth, histogram):
    """Returns the shape of the tree that a step drafts if the draft has every rank."""
    if strategy == "tree":
        return optimal_shape(histogram.probabilities()[:64], k, depth)
    if strategy == "batch":
        return batch_shape(min(k, N_VOCAB) if depth else 0)
    return sequence_shape(k if strategy == "sequence" else 1, depth)


@pytest.mark.parametrize("kind", ["same", "noisy", "unrelated", "larger"])
@pytest.mark.parametrize("strategy", STATIC)
@pytest.mark.parametrize("k", [1, 4, 19, 100])
def test_nothing_is_decoded_twice(kind, strategy, k):
    """Each call decodes new nodes and what is not cached; committed tokens stay cached."""
    rng = np.random.default_rng(k)
    target, draft = TableModel(TABLE), TableModel(draft_table(kind))
    decoder, tokens = Decoder(target, draft), list(PROMPT)
    decoder.start(PROMPT, options(PLAIN, strategy=strategy, draft_nodes=k, draft_depth=6))
    decoder.read()
    assert (
        target.n_decoded == draft.n_decoded == target.n_cached == draft.n_cached == len(PROMPT) - 1
    )
    for _ in range(25):
        limit = int(rng.choice([1, 2, 3, 50]))
        before = (
            target.n_decoded,
            draft.n_decoded,
            draft.n_calls,
            decoder.stats.to_dict()["drafted"],
        )
        shape = expected_shape(strategy, k, min(6, limit - 1), decoder.histogram)
        not_cached = len(tokens) - 1 - draft.n_cached
        expanded = set(shape.parent) - {-1}

        tokens += decoder.step(limit)
        assert decoder.stats.to_dict()["drafted"] - before[3] == len(shape) - 1
        assert target.n_decoded - before[0] == len(shape)
        assert target.n_cached == len(tokens) - 1
        assert draft.n_decoded - before[1] == (not_cached + len(expanded) if expanded else 0)
        assert draft.n_calls - before[2] == len({shape.depth[node] for node in expanded})
        if expanded:  # at most the last accepted token is left for the next call
            assert len(tokens) - 2 <= draft.n_cached <= len(tokens) - 1


@pytest.mark.parametrize("sampling", [GREEDY, PLAIN, CUT])
@pytest.mark.parametrize("k", [1, 7, 64])
def test_same_draft_is_always_right(sampling, k):
    """A chain that the target itself drafts is accepted whole, and the histogram learns it."""
    decoder = Decoder(TableModel(TABLE), TableModel(TABLE))
    _, lengths = generate(
        decoder, 4 * (k + 1), options(sampling, strategy="sequence", draft_nodes=k)
    )
    assert lengths == [k + 1] * 4
    stats = decoder.stats.to_dict()
    assert stats["acceptance_rate"] == 1
    assert stats["acceptance_histogram"] == [0] * k + [4]
    assert stats["rank_histogram"] == [4 * k] + [0] * 64
    learnt = RankHistogram()
    for _ in range(4 * k):
        learnt.learn(0)
    np.testing.assert_array_equal(decoder.histogram.probabilities(), learnt.probabilities())


@pytest.mark.parametrize("kind", DRAFTS)
@pytest.mark.parametrize("strategy", STATIC)
def test_stats(kind, strategy):
    """Counts agree with each other and with the steps."""
    draft, k, n = TableModel(draft_table(kind)), 12, 60
    decoder = Decoder(TableModel(TABLE), draft)
    decoder.start(PROMPT, options(COOL, strategy=strategy, draft_nodes=k))
    accepted = [len(decoder.step(100)) - 1 for _ in range(n)]
    stats, total = decoder.stats.to_dict(), sum(accepted)
    assert (stats["generated"], stats["target_calls"], stats["accepted"]) == (n + total, n, total)
    assert stats["drafted"] == n * (1 if strategy == "simple" else k)
    assert stats["draft_calls"] == draft.n_calls - 1  # the call for the prompt does not count
    assert stats["acceptance_histogram"] == np.bincount(accepted).tolist()
    assert stats["tokens_per_call"] == pytest.approx((n + total) / n)
    assert stats["acceptance_rate"] == pytest.approx(total / stats["drafted"])
    assert len(stats["rank_histogram"]) == 65


@pytest.mark.parametrize("kind", DRAFTS)
@pytest.mark.parametrize("strategy", STATIC)
@pytest.mark.parametrize("sampling", [COOL, CUT])
def test_steps_go_as_far_as_the_races_say(kind, strategy, sampling):
    """Orders by the oracle predict each step, its ranks and what the histogram learns."""
    table, tokens, learnt, ranks = draft_table(kind), list(PROMPT), RankHistogram(), [0] * 65
    future = truth(tuple(sampling.items()), 400)
    decoder = Decoder(TableModel(TABLE), TableModel(table))
    decoder.start(PROMPT, options(sampling, strategy=strategy, draft_nodes=40, adapt_draft=False))
    while len(tokens) < 350:
        shape, node, start, seen = expected_shape(strategy, 40, 64, learnt), 0, len(tokens), []
        children = {(shape.parent[i], shape.rank[i]): i for i in range(len(shape))}
        while node is not None:
            token = future[len(tokens) - len(PROMPT)]
            if node in shape.parent:  # the draft was run here
                row = oracles.table_row(table, oracles.table_hash(tokens))[:N_VOCAB]
                order = oracles.arrivals(
                    row, oracles.cached_clocks(SEED, len(tokens), len(row)), 64, **sampling
                )[0].tolist()
                seen.append(order.index(token) if token in order else 64)
            node = children.get((node, seen[-1])) if node in shape.parent else None
            tokens.append(token)
        assert decoder.step(400) == tokens[start:]
        for rank in seen:
            ranks[rank] += 1
            learnt.learn(rank)
    assert decoder.stats.to_dict()["rank_histogram"] == ranks
    np.testing.assert_allclose(
        decoder.histogram.probabilities(), learnt.probabilities(), rtol=1e-12
    )


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("limit", [1, 2, 3, 9])
def test_limit(strategy, limit):
    """No step exceeds the limit, the text stays the same, and a limit of 1 drafts nothing."""
    draft = TableModel(TABLE)
    decoder = Decoder(TableModel(TABLE), draft)
    tokens, lengths = generate(
        decoder, 60, options(PLAIN, strategy=strategy, draft_nodes=30), limit=limit
    )
    assert tokens == truth(tuple(PLAIN.items()), 60)
    assert max(lengths) == (
        limit if strategy in ("sequence", "tree", "adaptive") else min(limit, 2)
    )
    if limit == 1:
        assert draft.n_calls == 1
        assert decoder.stats.to_dict()["drafted"] == decoder.stats.to_dict()["draft_calls"] == 0


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("depth", [1, 2, 5])
def test_draft_depth(strategy, depth):
    """No drafted token is further than draft_depth from the last committed one."""
    draft = TableModel(TABLE)
    decoder = Decoder(TableModel(TABLE), draft)
    _, lengths = generate(
        decoder, 60, options(PLAIN, strategy=strategy, draft_nodes=64, draft_depth=depth)
    )
    assert max(lengths) == (depth if strategy in ("sequence", "tree", "adaptive") else 1) + 1
    assert draft.n_calls - 1 <= len(lengths) * depth


@pytest.mark.parametrize("with_draft", [False, True])
def test_plain_method(with_draft):
    """Method "ar", or no draft: each call gives one token, and the draft is not run."""
    target, draft = TableModel(TABLE), TableModel(TABLE)
    decoder = Decoder(target, draft if with_draft else None)
    tokens, lengths = generate(decoder, 50, options(PLAIN, method="ar" if with_draft else "ersd"))
    assert tokens == truth(tuple(PLAIN.items()), 50)
    assert lengths == [1] * 50
    assert (draft.n_calls, draft.n_cached) == (0, 0)
    assert target.n_decoded == len(PROMPT) - 1 + 50
    stats = decoder.stats.to_dict()
    assert (stats["drafted"], stats["draft_calls"], stats["acceptance_histogram"]) == (0, 0, [50])
    assert sum(stats["rank_histogram"]) == 0


def test_generations_do_not_touch_one_another():
    """Generations with other prompts, seeds and methods, even broken off ones, leave no trace."""
    rng = np.random.default_rng(5)
    decoder, seen = Decoder(TableModel(TABLE), TableModel(draft_table("noisy"))), set()
    for i in range(40):
        prompt, seed = (
            rng.integers(N_VOCAB, size=rng.choice([1, 2, 30])).tolist(),
            [0, 1, 2**64 - 1][rng.integers(3)],
        )
        method, strategy = ("ar" if i % 5 == 0 else "ersd"), STRATEGIES[i % 4]
        given = options(COOL, seed=seed, method=method, strategy=strategy, draft_nodes=9)
        tokens = generate(decoder, 25, given, prompt)[0]
        assert tokens == truth(tuple(COOL.items()), 25, tuple(prompt), seed)
        assert decoder.stats.to_dict()["generated"] == 25
        seen.add(tuple(tokens))
    assert len(seen) > 30


@pytest.mark.parametrize("broken", ["target", "draft"])
def test_a_failing_model_leaves_the_decoder_usable(broken):
    """A target row without probability ends a generation; such a draft row only drafts nothing."""
    rows = {"target": TABLE.copy(), "draft": TABLE.copy()}
    rows[broken][::7] = np.nan
    decoder = Decoder(TableModel(rows["target"]), TableModel(rows["draft"]))
    given, n_failed, n_right = options(PLAIN, strategy="tree", draft_nodes=6), 0, 0
    for first in range(60):
        try:
            tokens = generate(decoder, 4, given, [first, 2])[0]
        except RuntimeError:
            n_failed += 1
        else:
            assert tokens == truth(tuple(PLAIN.items()), 4, (first, 2))
            n_right += 1
    assert n_right > 5
    assert (n_failed > 5) if broken == "target" else (n_failed == 0)
