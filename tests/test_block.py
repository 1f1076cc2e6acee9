"""Block verification: whole texts and accepted lengths against enumeration of all texts."""

import itertools

import numpy as np
import pytest
from ersd._core import Engine, GenerationOptions, Sequence, TableModel

import oracles
from decoding import Decoder
from ersd import Generator, theory

pytestmark = pytest.mark.no_sanitizer

PLAIN = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
PROMPT = [1, 2]


def tables(seed, n_vocab, spread=1.0, noise=0.8):
    """Returns the logits of a target and of a similar draft; f32[13, n_vocab] each."""
    rng = np.random.default_rng(seed)
    target = oracles.random_table(rng, 13, n_vocab, spread=spread)
    return target, target + oracles.random_table(rng, 13, n_vocab, spread=noise)


def row(table, text):
    """Returns the logits after the prompt and a text; f32[n_vocab]."""
    return oracles.table_row(table, oracles.table_hash([*PROMPT, *text]))


def decode(decoder, n, seed, sampling=PLAIN, **options):
    """Returns a text of n tokens, or of fewer if it fails, and the tokens of its first call."""
    decoder.start(PROMPT, GenerationOptions(method="block", seed=seed, **sampling, **options))
    tokens, first = [], None
    while len(tokens) < n:
        try:
            step = decoder.step(n - len(tokens))
        except RuntimeError:
            break
        tokens += step
        first = first or len(step)
    return tuple(tokens), first or 0


def products(n_vocab, n, probabilities):
    """Returns the probability of each text of n tokens; f64[n_vocab, ...].

    probabilities(text) are those of the tokens after a text.
    """
    expected = np.ones((n_vocab,) * n)
    for text in itertools.product(range(n_vocab), repeat=n):
        for i, token in enumerate(text):
            expected[text] *= probabilities(text[:i])[token]
    return expected


@pytest.mark.parametrize(("strategy", "k"), [("simple", 1), ("sequence", 2), ("sequence", 9)])
@pytest.mark.parametrize("seed", range(2))
def test_texts_follow_the_target(strategy, k, seed):
    """Over many seeds, texts of five tokens have the probabilities that the target gives them.

    A text takes several calls, so it also shows that calls do not share random numbers.
    """
    target, draft = tables(seed, 3)
    decoder, counts = Decoder(TableModel(target), TableModel(draft)), np.zeros((3,) * 5)
    for i in range(12_000):
        counts[decode(decoder, 5, i, strategy=strategy, draft_nodes=k)[0]] += 1
    expected = products(3, 5, lambda text: oracles.softmax(row(target, text)))
    assert oracles.goodness(counts.ravel(), expected.ravel()) > 1e-4


@pytest.mark.parametrize(
    "cut", [{"temperature": 0.6}, {"top_k": 3}, {"min_p": 0.2, "top_p": 0.9, "temperature": 1.3}]
)
def test_texts_under_sampling_options(cut):
    """Truncation acts on both models; tokens that the target does not keep never come."""
    target, draft = tables(7, 5)
    decoder, counts = Decoder(TableModel(target), TableModel(draft)), np.zeros((5,) * 3)
    for i in range(8000):
        counts[decode(decoder, 3, i, PLAIN | cut, draft_nodes=4)[0]] += 1
    expected = products(5, 3, lambda text: oracles.softmax(row(target, text), **cut))
    assert oracles.goodness(counts.ravel(), expected.ravel()) > 1e-4


def test_texts_under_xtc():
    """Whether XTC acts is drawn for a position, once for all calls that come to it."""
    target, draft = tables(3, 4)
    decoder, counts = Decoder(TableModel(target), TableModel(draft)), np.zeros((4,) * 3)
    for i in range(12_000):
        xtc = {"xtc_probability": 0.5, "xtc_threshold": 0.2}
        counts[decode(decoder, 3, i, PLAIN | xtc, draft_nodes=3)[0]] += 1

    def probabilities(text):
        p = oracles.softmax(row(target, text))
        likely = np.flatnonzero(p >= 0.2)
        without = p.copy()
        without[likely[p[likely] > p[likely].min()]] = 0
        return (p + without / without.sum()) / 2

    assert oracles.goodness(counts.ravel(), products(4, 3, probabilities).ravel()) > 1e-4


def lengths(target, draft, k):
    """Returns P(tokens of a call = 1, ..., k + 1) by the draft's chains; f64[k + 1].

    The share of a chain that is accepted follows from the definition of the weights.
    """
    at_least = np.zeros(k + 2)
    at_least[0] = 1

    def walk(text, drawn, weight):
        p, q = (oracles.softmax(row(table, text)) for table in (target, draft))
        for token in range(len(p)):
            longer = min(1, weight * p[token] / q[token])
            at_least[len(text) + 1] += drawn * q[token] * longer
            if len(text) + 1 < k:
                walk((*text, token), drawn * q[token], longer)

    walk((), 1.0, 1.0)
    return -np.diff(at_least)


@pytest.mark.parametrize("seed", range(3))
def test_tokens_per_call_are_those_of_theory(seed):
    """The engine's first calls have the lengths of the enumeration, whose mean is theory's."""
    k, n = 4, 8000
    target, draft = tables(seed, 4, spread=1.5, noise=1.0)
    expected = lengths(target, draft, k)
    decoder = Decoder(TableModel(target), TableModel(draft))
    ours = np.array([decode(decoder, k + 1, i, draft_nodes=k)[1] for i in range(n)])
    assert oracles.goodness(np.bincount(ours, minlength=k + 2)[1:], expected) > 1e-4
    mean, weights = 0.0, products(4, k, lambda text: oracles.softmax(row(target, text)))
    for text in itertools.product(range(4), repeat=k):
        ratios = [
            theory.token_ratio(
                *(oracles.softmax(row(table, text[:i])) for table in (target, draft)), token
            )
            for i, token in enumerate(text)
        ]
        mean += weights[text] * (1 + theory.block_acceptance(ratios).sum())
    assert mean == pytest.approx(expected @ np.arange(1, k + 2))
    assert abs(ours.mean() - mean) < 4 * ours.std() / np.sqrt(n)


def test_extreme_pairs():
    """Equal models accept whole chains, models without a common token none.

    A draft may have fewer tokens than the target, and rows may be so sharp that floats round.
    """
    target, _ = tables(1, 300, spread=3)
    same = Decoder(TableModel(target), TableModel(target))
    for seed in range(50):
        assert decode(same, 10, seed, draft_nodes=9)[1] == 10
    left, right = np.full((2, 1, 40), -np.inf, np.float32)
    left[:, :20], right[:, 20:] = 0, 0
    apart = Decoder(TableModel(left), TableModel(right))
    for seed in range(50):
        text, first = decode(apart, 6, seed, draft_nodes=5)
        assert first == 1
        assert max(text) < 20
    p = oracles.softmax(row(target, ()))
    sharp = np.zeros((1, 300), np.float32)
    sharp[0, 7] = 90
    for table in (target[:, :200] + 1, sharp):
        decoder = Decoder(TableModel(target), TableModel(table))
        tokens = [decode(decoder, 3, seed, draft_nodes=2)[0][0] for seed in range(8000)]
        assert oracles.goodness(np.bincount(tokens, minlength=300), p) > 1e-4


def test_an_error_ends_the_texts_that_come_to_it():
    """Where a logits processor fails, texts end with the probabilities that lead there.

    The draft meets the error on paths that are not taken, too.
    """
    target, draft = tables(5, 3)

    def process(tokens, logits):
        if list(tokens[-2:]) == [2, 2]:
            raise RuntimeError("two of them")
        return logits

    counts, expected = {}, {}
    decoder = Decoder(TableModel(target), TableModel(draft))
    for i in range(8000):
        text, _ = decode(decoder, 4, i, draft_nodes=3, logits_processor=process)
        counts[text] = counts.get(text, 0) + 1
    weights = products(3, 4, lambda text: oracles.softmax(row(target, text)))
    for text in itertools.product(range(3), repeat=4):
        whole = [*PROMPT, *text]
        ends = [i for i in range(1, 5) if whole[i : i + 2] == [2, 2]]
        reached = text[: ends[0]] if ends else text
        expected[reached] = expected.get(reached, 0.0) + weights[text]
    assert oracles.goodness([counts.get(t, 0) for t in expected], list(expected.values())) > 1e-4
    assert set(counts) <= set(expected)


def test_greedy_texts_are_plain():
    """At temperature 0 the text is that of every other method."""
    target, draft = tables(2, 60, spread=2)
    decoder, greedy = Decoder(TableModel(target), TableModel(draft)), PLAIN | {"temperature": 0.0}
    text, _ = decode(decoder, 80, 5, greedy)
    assert list(text) == oracles.decode(target, PROMPT, 80, 5, temperature=0.0)
    assert decoder.stats.to_dict()["tokens_per_call"] > 1


@pytest.mark.parametrize("k", [5, "auto"])
def test_texts_do_not_depend_on_the_batch(k):
    """Sequences that share steps have the texts that each has alone."""
    target, draft = tables(4, 60, spread=2)
    decoder = Decoder(TableModel(target), TableModel(draft))
    alone = [decode(decoder, 60, seed, draft_nodes=k)[0] for seed in range(6)]
    models = [TableModel(table, n_sequences=6) for table in (target, draft)]
    engine, together = Engine(*models), []
    for place in range(6):
        options = GenerationOptions(method="block", seed=place, draft_nodes=k, **PLAIN)
        together.append(Sequence(PROMPT, options, *models))
        together[-1].set_place(place)
        engine.begin(together[-1])
    left = list(together)
    while left:
        for sequence in left:
            sequence.set_limit(60 - (len(sequence.tokens) - len(PROMPT)))
        engine.step(left[: 1 + len(left[0].tokens) % len(left)])
        left = [sequence for sequence in left if len(sequence.tokens) < 60 + len(PROMPT)]
    assert [tuple(sequence.tokens[len(PROMPT) :]) for sequence in together] == alone


def test_only_chains_are_verified():
    """A chain is the default; trees are refused."""
    for strategy in ("batch", "tree", "adaptive"):
        with pytest.raises(
            ValueError, match="method 'block' verifies a chain, so strategy must be 'sequence' or"
        ):
            GenerationOptions(method="block", strategy=strategy)


def test_a_generator_with_block_verification(generator: Generator) -> None:
    """Streams, batches, stop strings and log-probabilities are those of one text."""
    options = {"method": "block", "draft_nodes": 4, "max_tokens": 40, "temperature": 0.8}
    whole = [generator.generate("the rain", seed=seed, **options) for seed in range(5)]
    assert whole[0].stats.strategy == "sequence"
    assert sum(result.stats.accepted for result in whole) > 0
    with generator.stream("the rain", seed=1, logprobs=2, **options) as stream:
        steps = list(stream)
    assert [token for step in steps for token in step.tokens] == whole[1].tokens
    assert len(stream.logprobs) == len(whole[1].tokens)
    together = generator.generate_batch(["the rain"] * 5, seed=list(range(5)), **options)
    assert [result.tokens for result in together] == [result.tokens for result in whole]
    text = whole[2].text
    stopped = generator.generate("the rain", seed=2, stop=text[20:24], **options)
    assert stopped.text == text[: text.index(text[20:24])]
    assert stopped.finish_reason == "stop"
