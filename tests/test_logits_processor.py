"""Logits processors and grammars along the paths of a tree: the text is that of an oracle."""

from functools import cache

import numpy as np
import pytest
from ersd._core import GenerationOptions, TableModel

import oracles
from decoding import Decoder, HistoryGrammar
from test_decoder import DRAFTS, N_VOCAB, PROMPT, SEED, STRATEGIES, TABLE, draft_table

PLAIN = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
CUT = {"temperature": 0.8, "top_k": 20, "top_p": 0.9, "min_p": 0.02}
GREEDY = {**PLAIN, "temperature": 0.0}


def processed(history, row):
    """Lowers the logits of the last eight tokens and raises that of a token by the history."""
    out = np.array(row, dtype=np.float32)
    for distance, token in enumerate(reversed(list(history)[-8:])):
        if token < len(out):
            out[token] -= np.float32(3 - distance / 4)
    out[sum(history) % 50] += np.float32(2)
    return out


def allowed(history, tokens):
    """Returns which tokens may come: the last two tokens allow a third of all tokens."""
    return [
        bool((int(token) * 7 + int(history[-1]) + 2 * int(history[-2])) % 3 == 0)
        for token in tokens
    ]


def narrow(history, tokens):
    """Returns which tokens may come: a third of those in one word of a mask."""
    return [
        is_allowed and int(token) // 32 == int(history[-1]) % 3
        for token, is_allowed in zip(tokens, allowed(history, tokens), strict=True)
    ]


@cache
def truth(sampling, with_processor, grammar, n):
    """Returns the tokens of plain decoding by the oracle, with processed rows."""
    tokens = list(PROMPT)
    for position in range(len(PROMPT), len(PROMPT) + n):
        row = oracles.table_row(TABLE, oracles.table_hash(tokens))
        row = processed(tokens, row) if with_processor else row
        row = (
            np.where(grammar(tokens, range(N_VOCAB)), row, -np.inf).astype(np.float32)
            if grammar
            else row
        )
        tokens.append(
            oracles.winner(row, oracles.cached_clocks(SEED, position, N_VOCAB), **dict(sampling))
        )
    return tokens[len(PROMPT) :]


@pytest.mark.parametrize("kind", DRAFTS)
@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize("sampling", [PLAIN, CUT, GREEDY], ids=["plain", "cut", "greedy"])
@pytest.mark.parametrize(
    "what",
    [(True, None), (False, allowed), (False, narrow), (True, narrow)],
    ids=["processor", "grammar", "narrow grammar", "both"],
)
def test_text_is_that_of_plain_decoding(kind, strategy, sampling, what):
    """The text is that of plain decoding for every draft and strategy."""
    decoder = Decoder(TableModel(TABLE), TableModel(draft_table(kind)))
    processor = {"logits_processor": processed} if what[0] else {}
    for method, k in (("ersd", 5), ("ersd", 24), ("match", 8)):
        grammar = {"grammar": HistoryGrammar(PROMPT, N_VOCAB, what[1])} if what[1] else {}
        given = GenerationOptions(
            **sampling,
            seed=SEED,
            strategy=strategy,
            method=method,
            draft_nodes=k,
            logprobs=2,
            **processor,
            **grammar,
        )
        decoder.start(PROMPT, given)
        tokens, logprobs = [], []
        while len(tokens) < 60:
            tokens += decoder.step(60 - len(tokens))
            logprobs += decoder.logprobs
        assert tokens == truth(tuple(sampling.items()), *what, 60)
        assert [each.token for each in logprobs] == tokens


@pytest.mark.parametrize("strategy", ["ar", *STRATEGIES])
def test_a_position_without_tokens_fails_late(strategy):
    """The error comes when the position is reached, as with plain decoding."""
    decoder, tokens, end = Decoder(TableModel(TABLE), TableModel(TABLE)), [], len(PROMPT) + 23
    method = {"method": "ar"} if strategy == "ar" else {"strategy": strategy}
    grammar = HistoryGrammar(
        PROMPT, N_VOCAB, lambda history, tokens: [len(history) < end] * len(tokens)
    )
    given = GenerationOptions(**PLAIN, seed=SEED, draft_nodes=16, grammar=grammar, **method)
    decoder.start(PROMPT, given)
    while len(tokens) < 23:
        tokens += decoder.step(100)
    with pytest.raises(RuntimeError, match="leave no token"):
        decoder.step(100)
    assert tokens == truth(tuple(PLAIN.items()), False, None, 23)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_a_processed_draft_is_right(strategy):
    """The draft's rows are processed as the target's: a draft that is the target is right."""
    decoder = Decoder(TableModel(TABLE), TableModel(TABLE))
    given = GenerationOptions(
        **PLAIN,
        seed=SEED,
        strategy=strategy,
        draft_nodes=16,
        logits_processor=processed,
        grammar=HistoryGrammar(PROMPT, N_VOCAB, allowed),
        adapt_draft=False,
    )
    decoder.start(PROMPT, given)
    tokens = []
    while len(tokens) < 100:
        tokens += decoder.step(100 - len(tokens))
    ranks = decoder.stats.to_dict()["rank_histogram"]
    assert ranks[0] == sum(ranks)


@pytest.mark.parametrize(
    ("method", "strategy"), [("gsd", "batch"), ("gsd_iid", "batch"), ("block", "sequence")]
)
def test_rejection_sampling_keeps_the_distribution(method, strategy):
    """Under a grammar, the tokens of rejection sampling have the target's probabilities."""
    row = oracles.table_row(TABLE, oracles.table_hash(PROMPT)).astype(np.float64)
    kept = np.where(allowed(PROMPT, range(N_VOCAB)), np.exp(row), 0)
    decoder = Decoder(TableModel(TABLE), TableModel(draft_table("noisy")))
    counts = np.zeros(N_VOCAB, int)
    for seed in range(4000):
        grammar = HistoryGrammar(PROMPT, N_VOCAB, allowed)
        given = {"method": method, "strategy": strategy, "draft_nodes": 4, "grammar": grammar}
        decoder.start(PROMPT, GenerationOptions(**PLAIN, seed=seed, adapt_draft=False, **given))
        counts[decoder.step(9)[0]] += 1
    assert oracles.goodness(counts, kept / kept.sum()) > 1e-4


def test_logprobs_are_of_the_raw_row():
    """Log-probabilities are those before processors and truncation."""
    decoder, tokens = Decoder(TableModel(TABLE), TableModel(TABLE)), list(PROMPT)
    decoder.start(
        PROMPT,
        GenerationOptions(
            **CUT, seed=3, strategy="tree", draft_nodes=8, logprobs=4, logits_processor=processed
        ),
    )
    while len(tokens) < 60:
        for token, logprob in zip(decoder.step(9), decoder.logprobs, strict=True):
            row = oracles.table_row(TABLE, oracles.table_hash(tokens)).astype(np.float64)
            expected = row - np.log(np.exp(row - row.max()).sum()) - row.max()
            best = np.argsort(-row, kind="stable")[:4]
            assert (logprob.token, [t for t, _ in logprob.top]) == (token, best.tolist())
            np.testing.assert_allclose(
                [logprob.logprob, *(p for _, p in logprob.top)], expected[[token, *best]], atol=1e-6
            )
            tokens.append(token)
