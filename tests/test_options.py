"""Options of a generation: what they give is llama.cpp's, and the same with every draft."""

from __future__ import annotations

import math
import random
from pathlib import Path

import llama_cpp
import numpy as np
import pytest
from scipy import stats

import llama_answers
import oracles
import samplers
from ersd import Generator, Options
from ersd.engine.options import DEFAULTS

FULL = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
STRATEGIES = ["simple", "sequence", "batch", "tree", "adaptive"]
GBNF = r"""
root ::= item+
item ::= "the" | "and " | "an"? [a-m]+ ","
"""


def no_e(ids, scores):
    """A processor that looks back: it makes neighbours of the last token less probable."""
    out = scores.copy()
    out[max(0, ids[-1] - 20) : ids[-1] + 20] -= 3
    return out


EACH = {
    "temperature": {"temperature": 1.7, "top_k": 0, "top_p": 1.0},
    "greedy": {"temperature": 0.0, "repeat_penalty": 1.2},
    "top_k": {**FULL, "top_k": 5},
    "top_p": {**FULL, "top_p": 0.8},
    "min_p": {**FULL, "min_p": 0.1},
    "typical_p": {**FULL, "typical_p": 0.7},
    "xtc": {**FULL, "xtc_probability": 0.5, "xtc_threshold": 0.05},
    "repeat_penalty": {**FULL, "repeat_penalty": 1.5},
    "frequency_penalty": {**FULL, "frequency_penalty": 0.6},
    "presence_penalty": {**FULL, "presence_penalty": 1.0, "penalty_last_n": 10},
    "penalty_last_n": {**FULL, "repeat_penalty": 1.3, "penalty_last_n": -1},
    "dry": {**FULL, "dry_multiplier": 2.0, "dry_allowed_length": 1, "dry_sequence_breakers": ()},
    "logit_bias": {**FULL, "logit_bias": {300: 4.0, 301: -math.inf}},
    "ignore_eos": {**FULL, "ignore_eos": True},
    "grammar": {**FULL, "grammar": GBNF},
    "grammar_cut": {"grammar": GBNF},
    "response_format": {**FULL, "response_format": {"type": "json_object"}},
    "logits_processor": {**FULL, "logits_processor": no_e},
}


def combination(seed: int) -> Options:
    """Returns a random choice of several options."""
    rng = random.Random(seed)
    names = [name for name in EACH if name not in ("greedy", "response_format", "grammar_cut")]
    chosen: Options = {"temperature": rng.choice([0.0, 0.5, 0.9, 1.4])}
    for name in rng.sample(names, rng.randint(2, 7)):
        chosen |= {key: value for key, value in EACH[name].items() if FULL.get(key) != value}
    return chosen


CASES = {**EACH, **{f"random{seed}": combination(seed) for seed in range(20)}}


@pytest.mark.parametrize("name", CASES)
def test_no_draft_changes_tokens_or_logprobs(generator: Generator, name: str) -> None:
    """Tokens, text, reason and log-probabilities are those of method "ar"."""
    options = CASES[name]
    for seed, prompt in enumerate(["the of and the of and", "日本語 " * 20]):
        plain = generator.generate(
            prompt, max_tokens=50, seed=seed, method="ar", logprobs=3, **options
        )
        assert plain.logprobs is not None
        assert [each.token for each in plain.logprobs] == plain.tokens
        for strategy in STRATEGIES:
            ours = generator.generate(
                prompt,
                max_tokens=50,
                seed=seed,
                strategy=strategy,
                draft_nodes=12,
                logprobs=3,
                **options,
            )
            assert (ours.tokens, ours.text, ours.finish_reason) == (
                plain.tokens,
                plain.text,
                plain.finish_reason,
            ), strategy
            assert ours.logprobs == plain.logprobs
        match = generator.generate(prompt, max_tokens=50, seed=seed, method="match", **options)
        assert match.tokens == plain.tokens


@pytest.mark.parametrize("name", [name for name in EACH if name != "ignore_eos"])
def test_every_option_changes_the_text(generator: Generator, name: str) -> None:
    """No option is without effect. The model never ends, so ignore_eos is left out."""
    options, given = EACH[name], {"max_tokens": 200, "seed": 1}
    base = FULL if name in FULL else {key: value for key, value in options.items() if key in FULL}
    if options.get("temperature") == 1.0 and name not in FULL:  # cooler, so that something repeats
        options, base = options | {"temperature": 0.3}, base | {"temperature": 0.3}
    without = generator.generate("the of and the of and", **given, **base)
    assert generator.generate("the of and the of and", **given, **options).tokens != without.tokens


@pytest.mark.no_sanitizer
@pytest.mark.parametrize("method", ["gsd", "gsd_iid", "block"])
@pytest.mark.parametrize(
    "name", ["repeat_penalty", "grammar", "typical_p", "xtc", "logits_processor", "dry"]
)
def test_rejection_sampling_is_exact_with_options(
    generator: Generator, method: str, name: str
) -> None:
    """The first and the second token of many answers are distributed as with method "ar".

    After this prompt the model likes to repeat, and every option changes many answers.
    """
    prompt, cool, n = [1, *[442, 451] * 3, 442], {"temperature": 0.4}, 600
    without, *answers = [
        [
            generator.generate(
                prompt, max_tokens=2, seed=s, method=m, draft_nodes=4, **options | cool
            ).tokens
            for s in range(n)
        ]
        for m, options in (("ar", FULL), ("ar", EACH[name]), (method, EACH[name]))
    ]
    assert sum(a != b for a, b in zip(without, answers[0], strict=True)) > n // 5
    for place in (0, 1):
        counts = [[tuple(answer[place : place + 1]) for answer in each] for each in answers]
        common = [
            token
            for token in set(counts[0] + counts[1])
            if (counts[0] + counts[1]).count(token) >= 30
        ]
        table = np.array(
            [
                [c.count(token) for token in common] + [sum(x not in common for x in c)]
                for c in counts
            ]
        )
        table = table[:, table.sum(0) > 0]
        assert table.shape[1] > 1
        assert stats.chi2_contingency(table).pvalue > 1e-4


def reference(
    llama: llama_cpp.Llama,
    vocabulary: samplers.Vocabulary,
    prompt: list[int],
    n: int,
    seed: int,
    **given,
) -> list[int]:
    """Samples plainly with llama.cpp's logits and samplers and NumPy's clocks; returns tokens."""
    o = {**DEFAULTS, **given}
    llama.reset()
    llama.eval(prompt)
    answer: list[int] = []
    while len(answer) < n:
        history = prompt + answer
        row = np.array(llama.scores[llama.n_tokens - 1], dtype=np.float32)
        for token, bias in (o["logit_bias"] or {}).items():
            row[token] += np.float32(bias)
        window = llama.n_ctx() if o["penalty_last_n"] < 0 else o["penalty_last_n"]
        values = o["repeat_penalty"], o["frequency_penalty"], o["presence_penalty"]
        row = samplers.apply(samplers.penalties(len(row), window, *values), row, history)
        dry = (
            o["dry_multiplier"],
            o["dry_base"],
            o["dry_allowed_length"],
            llama.n_ctx(),
            list(o["dry_sequence_breakers"]),
        )
        row = samplers.apply(samplers.dry(vocabulary, *dry), row, history)
        if o["grammar"]:
            row = samplers.apply(samplers.grammar(vocabulary, o["grammar"]), row, answer)
        if o["temperature"] == 0:
            token = int(np.argmax(row))
        else:
            words = oracles.philox((0, len(history), 4, 0), (seed, 0))
            acts = (
                (((int(words[0]) << 32 | int(words[1])) >> 11) + 0.5) * 2.0**-53
                <= o["xtc_probability"]
                > 0
            )
            row = samplers.truncate(
                row,
                o["top_k"],
                o["typical_p"],
                o["top_p"],
                o["min_p"],
                o["xtc_threshold"] if acts else None,
            )
            token = oracles.winner(
                row, oracles.clocks(seed, len(history), len(row)), o["temperature"]
            )
        if llama_cpp.llama_vocab_is_eog(vocabulary.vocab, token):
            break
        answer.append(token)
        llama.eval([token])
    return answer


@pytest.fixture(scope="module")
def llama(tiny_target: Path) -> llama_cpp.Llama:
    """A model as llama-cpp-python loads it."""
    return llama_answers.llama(tiny_target)


@pytest.mark.parametrize(
    "name",
    [
        name
        for name in CASES
        if "logits_processor" not in CASES[name] and "response_format" not in CASES[name]
    ],
)
def test_plain_sampling_is_the_reference(
    tiny_target: Path, llama: llama_cpp.Llama, name: str
) -> None:
    """Method "ar" gives the tokens of a reference that shares no code with the core."""
    # llama-cpp-python keeps keys and values as f16.
    ours = Generator(tiny_target, n_ctx=512, n_threads=1, type_k="f16", flash_attn=True)
    vocabulary, prompt = samplers.Vocabulary(tiny_target), ours.tokenize("the of and the")
    for seed in range(2):
        tokens = ours.generate(prompt, max_tokens=40, seed=seed, method="ar", **CASES[name]).tokens
        assert tokens == reference(llama, vocabulary, prompt, 40, seed, **CASES[name])


def test_logprobs_are_llama_cpp_pythons(tiny_target: Path, llama: llama_cpp.Llama) -> None:
    """Log-probabilities are the log-softmax of the raw logits, with any sampling options."""
    generator = Generator(tiny_target, n_ctx=512, n_threads=1, type_k="f16", flash_attn=True)
    prompt = generator.tokenize("the of and")
    result = generator.generate(
        prompt, max_tokens=30, seed=3, logprobs=5, repeat_penalty=1.5, temperature=1.3
    )
    llama.reset()
    llama.eval(prompt + result.tokens)
    rows = llama_cpp.Llama.logits_to_logprobs(
        np.array(llama.scores[len(prompt) - 1 : llama.n_tokens - 1])
    )
    assert result.logprobs is not None
    for each, token, row in zip(result.logprobs, result.tokens, rows, strict=True):
        best = np.argsort(-row, kind="stable")[:5]
        assert (each.token, [t for t, _ in each.top]) == (token, best.tolist())
        np.testing.assert_allclose(
            [each.logprob, *(p for _, p in each.top)], [row[token], *row[best]], atol=2e-6
        )


def test_logprobs_as_many_as_asked_for(generator: Generator) -> None:
    """logprobs=None gives none, and 0 gives only that of the token itself."""
    assert generator.generate("the", max_tokens=5, seed=1).logprobs is None
    for n in (0, 1, 10, 10_000):
        result = generator.generate("the", max_tokens=5, seed=1, logprobs=n)
        assert [len(each.top) for each in result.logprobs] == [min(n, generator.target.n_vocab)] * 5
        assert all(
            sum(np.exp(p) for _, p in each.top) == pytest.approx(1, abs=1e-4)
            for each in result.logprobs
            if n == 10_000
        )


def test_stop_strings_cut_logprobs_as_tokens(generator: Generator) -> None:
    """Each token has one log-probability, wherever a stop string cuts an accepted block."""
    whole = generator.generate("the", max_tokens=100, seed=9, logprobs=1, **FULL)
    rng, n_rounds = random.Random(1), 0
    for _ in range(25):
        begin = rng.randrange(len(whole.text) - 4)
        stop = whole.text[begin : begin + rng.randint(1, 4)]
        if "\ufffd" in stop:
            continue
        stream = generator.stream("the", max_tokens=100, seed=9, stop=stop, logprobs=1, **FULL)
        for step in stream:
            assert [each.token for each in step.logprobs] == step.tokens
        assert stream.logprobs == whole.logprobs[: len(stream.tokens)]
        n_rounds += 1
    assert n_rounds > 15
