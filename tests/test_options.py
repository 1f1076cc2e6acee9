"""Options of a generation: no draft changes what they give, plain sampling equals a reference over llama.cpp, and bad ones are refused."""

from __future__ import annotations

import json
import math
import random
from pathlib import Path

import llama_cpp
import numpy as np
import pytest
from scipy import stats

import oracles
import samplers
from ersd import Generator, Options
from ersd.options import DEFAULTS

FULL = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
STRATEGIES = ["simple", "sequence", "batch", "tree", "adaptive"]
GBNF = r"""
root ::= item+
item ::= "the" | "and " | "an"? [a-m]+ ","
"""


def no_e(ids, scores):
    """A processor that looks back: the last token's neighbours are less probable."""
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
    """A random choice of options together."""
    rng = random.Random(seed)
    names = [name for name in EACH if name not in ("greedy", "response_format", "grammar_cut")]
    chosen: Options = {"temperature": rng.choice([0.0, 0.5, 0.9, 1.4])}
    for name in rng.sample(names, rng.randint(2, 7)):
        chosen |= {key: value for key, value in EACH[name].items() if FULL.get(key) != value}
    return chosen


CASES = {**EACH, **{f"random{seed}": combination(seed) for seed in range(20)}}


@pytest.mark.parametrize("name", CASES)
def test_no_draft_changes_tokens_or_logprobs(generator: Generator, name: str) -> None:
    """Every strategy gives what method "ar" gives: tokens, text, reason and log-probabilities."""
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


@pytest.mark.parametrize("name", EACH)
def test_every_option_changes_the_text(generator: Generator, name: str) -> None:
    """An option that did nothing would be equal everywhere; ignore_eos needs a model that ends."""
    if name == "ignore_eos":
        pytest.skip("the model does not end")
    options, given = EACH[name], {"max_tokens": 80, "seed": 1}
    base = FULL if name in FULL else {key: value for key, value in options.items() if key in FULL}
    if options.get("temperature") == 1.0 and name not in FULL:  # cooler, so that something repeats
        options, base = options | {"temperature": 0.3}, base | {"temperature": 0.3}
    without = generator.generate("the of and the of and", **given, **base)
    assert generator.generate("the of and the of and", **given, **options).tokens != without.tokens


@pytest.mark.no_sanitizer
@pytest.mark.parametrize("method", ["gsd", "gsd_iid"])
@pytest.mark.parametrize(
    "name", ["repeat_penalty", "grammar", "typical_p", "xtc", "logits_processor", "dry"]
)
def test_rejection_sampling_is_exact_with_options(
    generator: Generator, method: str, name: str
) -> None:
    """The first and the second token of many answers are each distributed as method "ar" gives them."""
    options, n, answers = EACH[name] | {"temperature": 0.4}, 600, []
    for m in ("ar", method):
        answers.append(
            [
                generator.generate(
                    "the of the", max_tokens=2, seed=s, method=m, draft_nodes=4, **options
                ).tokens
                for s in range(n)
            ]
        )
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
    """Plain sampling by llama.cpp's logits and samplers, and NumPy's clocks."""
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
    """llama-cpp-python's own."""
    return llama_cpp.Llama(
        str(tiny_target),
        n_ctx=512,
        n_threads=1,
        n_threads_batch=1,
        logits_all=True,
        flash_attn=True,
        verbose=False,
    )


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
    """Method "ar" gives the tokens of a reference that shares no code with it."""
    # 16-bit keys and values of one kind, as llama-cpp-python has them.
    ours = Generator(tiny_target, n_ctx=512, n_threads=1, type_k="f16")
    vocabulary, prompt = samplers.Vocabulary(tiny_target), ours.tokenize("the of and the")
    for seed in range(2):
        tokens = ours.generate(prompt, max_tokens=40, seed=seed, method="ar", **CASES[name]).tokens
        assert tokens == reference(llama, vocabulary, prompt, 40, seed, **CASES[name])


def test_logprobs_are_llama_cpp_pythons(tiny_target: Path, llama: llama_cpp.Llama) -> None:
    """Log-softmax of the raw logits, whatever the sampling is, of the token and of the most probable ones."""
    generator = Generator(tiny_target, n_ctx=512, n_threads=1, type_k="f16")
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
    """None gives none, 0 only the token's own."""
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
    """One log-probability for each token, in steps and in all, wherever a stop string falls inside an accepted block."""
    whole = generator.generate("the", max_tokens=100, seed=9, logprobs=1, **FULL)
    rng = random.Random(1)
    for _ in range(25):
        begin = rng.randrange(len(whole.text) - 4)
        stop = whole.text[begin : begin + rng.randint(1, 4)]
        if "\ufffd" in stop:
            continue
        stream = generator.stream("the", max_tokens=100, seed=9, stop=stop, logprobs=1, **FULL)
        for step in stream:
            assert [each.token for each in step.logprobs] == step.tokens
        assert stream.logprobs == whole.logprobs[: len(stream.tokens)]


def test_grammar_shapes_the_answer(generator: Generator) -> None:
    """The answer matches, and ends where it is complete."""
    import re

    for seed in range(5):
        result = generator.generate(
            "the", max_tokens=200, seed=seed, grammar='root ::= " "? [a-c]{3,9} "."', **FULL
        )
        assert re.fullmatch(r" ?[a-c]{3,9}\.", result.text)
        assert result.finish_reason == "stop"


def test_what_a_grammar_does_not_hold_is_said(
    tiny_target: Path, recwarn: pytest.WarningsRecorder
) -> None:
    """Keywords anywhere in the schema, where the caller stands; a property of that name, or a value, is no keyword."""
    generator = Generator(tiny_target, n_ctx=256, n_threads=1)
    named = {
        "type": "object",
        "properties": {"minimum": {"enum": ["not"]}},
        "required": ["minimum"],
    }
    answer = generator.generate(
        "the",
        max_tokens=60,
        seed=1,
        response_format={"type": "json_object", "schema": named},
        **FULL,
    )
    assert json.loads(answer.text) == {"minimum": "not"}
    assert not recwarn.list
    bounded = {
        "type": "array",
        "items": {"anyOf": [{"type": "integer", "maximum": 9}, {"type": "null"}]},
        "uniqueItems": True,
    }
    for schema in (bounded, json.dumps(bounded)):
        with pytest.warns(
            UserWarning, match="not held to maximum, uniqueItems of its schema"
        ) as warned:
            generator.generate(
                "the", max_tokens=5, response_format={"type": "json_object", "schema": schema}
            )
        assert warned[0].filename == __file__


def test_json_strings_hold_no_control_characters(generator: Generator) -> None:
    """A model that would write them is kept to JSON, with a schema and without."""
    control = dict.fromkeys(range(3, 35), 6.0)  # the bytes 0 to 31
    for given in (
        {"type": "json_object"},
        {
            "type": "json_object",
            "schema": {"type": "array", "items": {"type": "string"}, "minItems": 2},
        },
    ):
        for seed in range(4):
            result = generator.generate(
                "the", max_tokens=150, seed=seed, response_format=given, logit_bias=control, **FULL
            )
            assert not any(
                ord(character) < 32 for character in result.text.strip() if character not in "\n\t"
            )


def test_processors_see_each_position_once_and_in_order(generator: Generator) -> None:
    """What decides is called as in plain decoding, whatever is drafted; several are chained."""
    seen = {}
    for method in ("ar", "ersd"):
        calls = seen.setdefault(method, [])

        def record(ids, scores, calls=calls):
            calls.append((ids.tolist(), scores.tobytes()))
            return scores

        chain = [record, lambda ids, scores: scores * 2]
        tokens = generator.generate(
            "the of", max_tokens=30, seed=4, method=method, logits_processor=chain, **FULL
        ).tokens
        assert (
            tokens
            == generator.generate(
                "the of", max_tokens=30, seed=4, **{**FULL, "temperature": 0.5}
            ).tokens
        )
    assert seen["ar"] == seen["ersd"][: len(seen["ar"])]


def test_a_processor_fails_where_plain_decoding_meets_it(generator: Generator) -> None:
    """A failure behind the end of an answer is none, wherever the draft had looked already; before it, it comes with the next step."""
    given = {"max_tokens": 60, "seed": 9, **FULL}
    plain = generator.generate("the", method="ar", **given)
    stop = next(
        plain.text[i : i + 3]
        for i in range(20, len(plain.text))
        if plain.text.find(plain.text[i : i + 3]) == i
    )
    expected = generator.generate("the", method="ar", stop=stop, **given)
    reached = len(generator.tokenize("the")) + len(
        expected.tokens
    )  # tokens before the first position that plain decoding does not meet

    def fail(ids, scores, last: int):
        if len(ids) >= last:
            raise LookupError("too far")
        return scores

    for strategy in STRATEGIES:
        way = {"strategy": strategy, "draft_nodes": 20, "stop": stop, **given}
        ours = generator.generate(
            "the", logits_processor=lambda ids, scores: fail(ids, scores, reached), **way
        )
        assert (ours.tokens, ours.text) == (expected.tokens, expected.text)
        with generator.stream(
            "the", logits_processor=lambda ids, scores: fail(ids, scores, reached - 3), **way
        ) as stream:
            with pytest.raises(LookupError, match="too far"):
                list(stream)
            assert stream.tokens == expected.tokens[:-3]


def test_a_failing_processor_leaves_the_generator_usable(generator: Generator) -> None:
    """Its own error comes out."""

    def fail(ids, scores):
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        generator.generate("the", logits_processor=fail)
    with pytest.raises(TypeError, match="must return an array of 515"):
        generator.generate("the", logits_processor=lambda ids, scores: scores[:3])
    assert len(generator.generate("the", max_tokens=3).tokens) == 3


def test_nothing_left_is_an_error(generator: Generator) -> None:
    """A grammar of tokens that the bias takes away."""
    with pytest.raises(RuntimeError, match="leave no token"):
        generator.generate(
            "the", grammar='root ::= "é"', logit_bias=dict.fromkeys(range(3, 515), -math.inf)
        )
    assert len(generator.generate("the", max_tokens=3).tokens) == 3


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"typical_p": 0.0}, ValueError, "typical_p must be above 0"),
        ({"xtc_probability": 1.5}, ValueError, "xtc_probability must be between 0 and 1"),
        ({"xtc_threshold": -0.1}, ValueError, "xtc_threshold must be between 0 and 1"),
        ({"repeat_penalty": 0.0}, ValueError, "repeat_penalty must be a finite number above 0"),
        ({"presence_penalty": math.nan}, ValueError, "presence_penalty must be a finite number"),
        ({"penalty_last_n": -2}, ValueError, "penalty_last_n must be between -1"),
        ({"dry_base": -1.0}, ValueError, "dry_base"),
        ({"dry_sequence_breakers": [""]}, ValueError, "dry_sequence_breakers must be non-empty"),
        (
            {"logit_bias": {9999: 1.0}},
            ValueError,
            "logit_bias must be of tokens between 0 and 514, got 9999",
        ),
        ({"logit_bias": {3: math.inf}}, ValueError, "logit_bias must be finite"),
        ({"grammar": "root ::= ["}, ValueError, "grammar must be GBNF text"),
        ({"grammar": 'other ::= "a"'}, ValueError, "grammar must be GBNF text"),
        ({"grammar": ""}, ValueError, "got an empty one"),
        ({"grammar": 3}, TypeError, "grammar must be GBNF text"),
        (
            {"grammar": 'root ::= "a"', "response_format": {"type": "json_object"}},
            ValueError,
            "exclude each other",
        ),
        ({"response_format": {"type": "xml"}}, ValueError, "response_format must have the type"),
        (
            {"response_format": {"type": "json_object", "schema": {"type": "nonsense"}}},
            ValueError,
            "response_format has a schema",
        ),
        ({"mirostat_mode": 2}, ValueError, "mirostat_mode must be 0: "),
        ({"logprobs": -1}, ValueError, "logprobs must be None or at least 0"),
        ({"logprobs": True}, TypeError, "logprobs must be an int or None"),
        ({"logits_processor": [3]}, TypeError, "logits_processor must be callables"),
        (
            {"temprature": 1.0},
            TypeError,
            "there is no option 'temprature', did you mean 'temperature'",
        ),
        ({"top_k": "many"}, TypeError, "top_k must be an int"),
        ({"temperature": "hot"}, TypeError, "temperature must be a number, got 'hot'"),
    ],
    ids=str,
)
def test_bad_options(generator: Generator, options: dict, error: type, message: str) -> None:
    """Who, what was expected, what came; and the Generator stays usable."""
    with pytest.raises(error, match=message):
        generator.generate("the", **options)
    assert len(generator.generate("the", max_tokens=2).tokens) == 2


def test_a_finished_generation_lets_go_of_its_processor(generator: Generator) -> None:
    """Nothing that a caller handed over outlives the stream."""
    import gc
    import weakref

    class Processor:
        def __call__(self, ids, scores):
            return scores

    processor = Processor()
    gone = weakref.ref(processor)
    generator.generate("the", max_tokens=3, logits_processor=processor)
    del processor
    gc.collect()
    assert gone() is None


def test_defaults_are_documented_and_shown() -> None:
    """Every option is in the signature, with its default, and in the docstring."""
    import inspect

    shown = inspect.signature(Generator.generate).parameters
    assert {name: shown[name].default for name in DEFAULTS} == DEFAULTS
    assert set(DEFAULTS) == set(Options.__annotations__)
    assert all(f"        {name}: " in Options.__doc__ for name in DEFAULTS)
