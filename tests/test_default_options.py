"""Options on the default pair: drafts change no token, and answers by a schema are JSON."""

from __future__ import annotations

import json
import random
from pathlib import Path

import jsonschema
import pytest

import llama_answers
import samplers
from ersd import Generator, models
from test_options import EACH as TINY
from test_options import FULL, STRATEGIES, combination, reference

pytestmark = pytest.mark.no_sanitizer
PROMPT = (
    "<|im_start|>user\n"
    "Describe a person as JSON, with name, age, tags and home.<|im_end|>\n"
    "<|im_start|>assistant\n"
)
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string", "minLength": 1, "maxLength": 20},
        "age": {"type": "integer"},
        "role": {"enum": ["admin", "user", "guest"]},
        "tags": {"type": "array", "items": {"type": "string", "maxLength": 10}, "maxItems": 3},
        "home": {
            "type": "object",
            "properties": {
                "city": {"type": "string", "maxLength": 15},
                "zip": {"type": "string", "pattern": "^[0-9]{5}$"},
                "at": {
                    "anyOf": [
                        {"type": "null"},
                        {
                            "type": "array",
                            "items": {"type": "integer"},
                            "minItems": 2,
                            "maxItems": 2,
                        },
                    ]
                },
            },
            "required": ["city", "zip", "at"],
            "additionalProperties": False,
        },
    },
    "required": ["name", "age", "role", "tags", "home"],
    "additionalProperties": False,
}
CASES = {
    **{name: options for name, options in TINY.items() if name not in ("grammar", "grammar_cut")},
    "grammar": {**FULL, "grammar": r'root ::= ([A-Z] [a-z]+ " is " [a-z ]{3,20} ".\n")+'},
    "schema": {"response_format": {"type": "json_object", "schema": SCHEMA}},
    **{f"random{seed}": combination(seed) for seed in range(20)},
}
for _options in CASES.values():
    if "grammar" in _options and _options is not CASES["grammar"]:
        _options["grammar"] = CASES["grammar"]["grammar"]
# Four of the random combinations are tried always, the others in the long grid.
MORE = {f"random{seed}" for seed in range(4, 20)}
NAMES = [pytest.param(name, marks=pytest.mark.grid if name in MORE else ()) for name in CASES]


@pytest.fixture(scope="module")
def pair(target: Path) -> Generator:
    """A Generator of the default target and its twin."""
    return Generator(target, models.twin(), n_ctx=512)


@pytest.mark.parametrize("n_strategies", [1, pytest.param(5, marks=pytest.mark.grid)])
@pytest.mark.parametrize("name", NAMES)
def test_no_draft_changes_tokens_or_logprobs(pair: Generator, name: str, n_strategies: int) -> None:
    """Each option alone, and random combinations, give what method "ar" gives."""
    seed = sum(map(ord, name))
    plain = pair.generate(PROMPT, max_tokens=16, seed=seed, method="ar", logprobs=2, **CASES[name])
    for strategy in random.Random(name).sample(STRATEGIES, n_strategies):
        ours = pair.generate(
            PROMPT,
            max_tokens=16,
            seed=seed,
            strategy=strategy,
            draft_nodes=8,
            logprobs=2,
            **CASES[name],
        )
        assert ours.tokens == plain.tokens, strategy
        assert ours.logprobs == plain.logprobs


def test_plain_sampling_is_the_reference(target: Path) -> None:
    """Many options at once give the tokens of llama-cpp-python with llama.cpp's samplers."""
    ours = Generator(target, n_ctx=512, n_threads=1, type_k="f16", flash_attn=True)
    vocabulary = samplers.Vocabulary(target)
    llama = llama_answers.llama(target)
    options = {
        "temperature": 0.9,
        "top_k": 60,
        "typical_p": 0.95,
        "top_p": 0.9,
        "min_p": 0.02,
        "xtc_probability": 0.5,
        "xtc_threshold": 0.1,
        "repeat_penalty": 1.2,
        "presence_penalty": 0.2,
        "dry_multiplier": 0.8,
        "logit_bias": {28: -2.0},
    }
    prompt = ours.tokenize(PROMPT)
    for more in ({}, {"grammar": CASES["grammar"]["grammar"]}):
        tokens = ours.generate(prompt, max_tokens=25, seed=5, method="ar", **options, **more).tokens
        assert tokens
        assert tokens == reference(llama, vocabulary, prompt, len(tokens), 5, **options, **more)


@pytest.mark.parametrize("seed", [0, *(pytest.param(s, marks=pytest.mark.grid) for s in (1, 2))])
def test_json_by_a_schema(pair: Generator, seed: int) -> None:
    """The answer completes, and what it says is valid by the schema."""
    result = pair.generate(
        PROMPT,
        max_tokens=300,
        seed=seed,
        draft_nodes=8,
        response_format=CASES["schema"]["response_format"],
        **FULL,
    )
    assert result.finish_reason == "stop"
    jsonschema.validate(json.loads(result.text), SCHEMA)
