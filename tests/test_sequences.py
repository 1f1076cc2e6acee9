"""Many sequences on one engine of table models: each text is that of plain decoding, alone."""

import random

import numpy as np
import pytest
from ersd._core import (
    Clock,
    CostCurve,
    Engine,
    GenerationOptions,
    MarginModel,
    Race,
    SamplingOptions,
    Sequence,
    TableModel,
)

import oracles

N_ROWS, N_VOCAB, PLACES = 64, 70, 6
TABLE = oracles.random_table(np.random.default_rng(0), N_ROWS, N_VOCAB)
DRAFT = TABLE + oracles.random_table(np.random.default_rng(1), N_ROWS, N_VOCAB, spread=0.8)
METHODS = [
    {"method": "ar"},
    {"method": "match"},
    *({"strategy": s} for s in ("simple", "sequence", "batch", "tree", "adaptive")),
    {"strategy": "adaptive", "draft_nodes": "auto"},
    {"strategy": "tree", "draft_nodes": "auto"},
]


def models(places=PLACES, **options):
    """Returns a target and a draft with places."""
    return (TableModel(table, n_sequences=places, **options) for table in (TABLE, DRAFT))


def random_request(draw):
    """Returns a prompt, the number of tokens, and options without truncation."""
    prompt = [draw.randrange(N_VOCAB) for _ in range(draw.choice([1, 2, 9, 40]))]
    sampling = {"temperature": draw.choice([0.0, 0.7, 1.0]), "seed": draw.randrange(2**40)}
    more = {"draft_nodes": draw.choice([1, 4, 20]), **draw.choice(METHODS)}
    return prompt, draw.choice([1, 7, 60]), sampling, more


class Running:
    """A sequence under way, and the text that it must have."""

    def __init__(self, draw, target, draft):
        """Draws a request and finds its text by the oracle."""
        self.prompt, self.n, sampling, more = random_request(draw)
        options = GenerationOptions(top_k=0, top_p=1.0, min_p=0.0, **sampling, **more)
        self.sequence = Sequence(self.prompt, options, target, draft)
        seed, temperature = sampling["seed"], sampling["temperature"]
        self.expected = oracles.decode(TABLE, self.prompt, self.n, seed, temperature=temperature)
        self.tokens = []


@pytest.mark.parametrize("seed", range(6))
@pytest.mark.parametrize("measured", [False, True])
def test_texts_are_those_of_plain_decoding(seed, measured):
    """Sequences join, leave, stop short, change places and sit out steps; every text is its own."""
    draw = random.Random(seed)
    target, draft = models()
    engine = Engine(target, draft)
    if measured:
        engine.measure()
    running, n_finished = {}, 0
    while n_finished < 60:
        for place in set(range(PLACES)) - set(running):
            if draw.random() < 0.5:
                running[place] = Running(draw, target, draft)
                running[place].sequence.set_place(place)
                engine.begin(running[place].sequence)
        step = [r for r in running.values() if draw.random() < 0.8]
        for r in step:
            r.sequence.set_limit(min(r.n - len(r.tokens), draw.choice([1, 3, 100])))
        engine.step([r.sequence for r in step])
        for r in step:
            r.sequence.raise_failure()
            r.tokens += r.sequence.emitted
            assert r.tokens == r.expected[: len(r.tokens)]
        for place, r in list(running.items()):
            if len(r.tokens) == r.n or draw.random() < 0.01:
                n_finished += len(r.tokens) == r.n
                del running[place]
            elif draw.random() < 0.03 and len(running) < PLACES:  # leaves, and comes back elsewhere
                del running[place]
                other = draw.choice([p for p in range(PLACES) if p not in running])
                r.sequence.set_place(other)
                engine.begin(r.sequence)
                running[other] = r


def test_one_call_serves_all():
    """A step is one target call, and one draft call for each level of all trees together."""
    target, draft = models()
    engine = Engine(target, draft)
    sequences = []
    for place in range(PLACES):
        options = GenerationOptions(strategy="sequence", draft_nodes=5, seed=place, temperature=1.0)
        sequences.append(Sequence([place + 1], options, target, draft))
        sequences[-1].set_place(place)
        sequences[-1].set_limit(100)
        engine.begin(sequences[-1])
    for _ in range(20):
        calls = target.n_calls, draft.n_calls
        engine.step(sequences)
        assert (target.n_calls - calls[0], draft.n_calls - calls[1]) == (1, 5)
        assert all(s.emitted for s in sequences)


def test_a_long_prompt_is_read_in_pieces():
    """Others generate in every step meanwhile, and the prompt moves on in nearly all steps."""
    target, _ = models()
    engine = Engine(target, None)
    prompts = [[1], [2, *range(60)] * 10]
    short, long = (Sequence(p, GenerationOptions(method="ar"), target, None) for p in prompts)
    short.set_place(0)
    engine.begin(short)
    for _ in range(5):
        engine.step([short])
    long.set_place(1)
    engine.begin(long)
    n_steps = n_without = 0
    while not long.emitted:
        before = target.n_decoded
        engine.step([short, long])
        assert len(short.emitted) == 1
        n_steps += 1
        n_without += target.n_decoded == before + 1
    assert n_steps > 3
    assert n_without <= n_steps / 10 + 1


def test_pieces_of_prompts_are_bounded_by_the_costs_of_calls():
    """A step beside a prompt takes three ordinary ones at most, by costs, or reads one token.

    The second prompt begins deep, because its first 3,000 tokens are cached. Times are those of a
    table here and tell nothing, so what bounds the pieces are the costs.
    """
    target, _ = models()
    engine, curve = Engine(target, None), CostCurve()

    def cost(rows, attended):
        return 10.0 + 1.5 * (rows - 1) + 0.002 * attended

    curve.set([[cost(n, n * length) for n in CostCurve.widths] for length in (0, 1024)])
    engine.measure()
    profile = engine.profile()
    profile.target = curve
    prompt = [i * 7 % N_VOCAB for i in range(3000)]
    short, long, deep = (
        Sequence(p, GenerationOptions(method="ar"), target, None)
        for p in ([1], prompt, [*prompt, *range(60)])
    )
    short.set_place(0)
    engine.begin(short)
    for _ in range(5):
        engine.step([short])
    for reader in (long, deep):
        reader.set_place(1)
        engine.begin(reader)
        n_steps = 0
        while not reader.emitted:
            n_short, n_cached, before = len(short.tokens), len(target.cached(1)), target.n_decoded
            engine.restore(profile)  # times of a table would change the costs
            engine.step([short, reader])
            n_read = target.n_decoded - before - 1
            ordinary, step = cost(1, n_short), cost(1 + n_read, n_short + n_read * n_cached)
            assert n_read <= 1 or step <= 3 * ordinary
            n_steps += 1
        assert n_steps <= len(reader.tokens)


def test_an_error_of_one_sequence_is_its_own():
    """A logits processor that fails ends its sequence, and no other notices."""

    def fails(tokens, scores):
        if len(tokens) > 12:
            raise ZeroDivisionError
        return scores

    target, draft = models()
    engine, sequences = Engine(target, draft), []
    for place in range(3):
        processor = {"logits_processor": fails} if place == 1 else {}
        options = GenerationOptions(
            temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, seed=place, draft_nodes=4, **processor
        )
        sequences.append(Sequence([5], options, target, draft))
        sequences[-1].set_place(place)
        sequences[-1].set_limit(9)
        engine.begin(sequences[-1])
    texts = [[], [], []]
    for _ in range(40):
        engine.step(sequences)
        for text, s in zip(texts, sequences, strict=True):
            text += s.emitted
    with pytest.raises(ZeroDivisionError):
        sequences[1].raise_failure()
    assert len(texts[1]) == 12
    for place, text in enumerate(texts):
        assert text == oracles.decode(TABLE, [5], len(text), place, temperature=1.0)
    assert min(len(texts[0]), len(texts[2])) > 40


def steps_of_four(n):
    """The cost of n tokens where a kernel takes four rows at a time."""
    return 5.0 + 3.0 * -(-n // 4)


@pytest.mark.parametrize("seed", range(8))
def test_as_many_nodes_as_are_worth_their_time(seed):
    """With one level, the number of nodes is the best one by brute force."""
    target, draft = models(1)
    engine = Engine(target, draft)
    engine.measure()
    profile, costs = engine.profile(), (CostCurve(), CostCurve())
    costs[0].set([[steps_of_four(n) for n in CostCurve.widths]] * 2)
    costs[1].set([[0.01 for _ in CostCurve.widths]] * 2)
    profile.target, profile.draft = costs
    engine.restore(profile)
    options = GenerationOptions(
        temperature=1.0, top_k=0, top_p=1.0, min_p=0.0, seed=seed, draft_depth=1, adapt_draft=False
    )
    sequence = Sequence([seed], options, target, draft)
    sequence.set_place(0)
    sequence.set_limit(100)
    engine.begin(sequence)
    engine.step([sequence])
    hits = MarginModel().predict(
        Race(), draft.row([seed]), SamplingOptions(temperature=1.0), Clock(seed, 1)
    )
    stats = sequence.stats.to_dict()
    speed = max(stats["expected_tokens"] / stats["expected_ms"], 1 / steps_of_four(1))
    worth = [sum(hits[:n]) - speed * steps_of_four(n + 1) for n in range(len(hits) + 1)]
    assert stats["drafted"] == int(np.argmax(worth))
