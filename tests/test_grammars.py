"""Grammars and JSON schemas: the answer matches, and what cannot be enforced is said."""

from __future__ import annotations

import json
import math
import re
from pathlib import Path

import pytest

from ersd import Generator

FULL = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}


def test_grammar_shapes_the_answer(generator: Generator) -> None:
    """The answer matches the grammar and ends when the match is complete."""
    for seed in range(5):
        result = generator.generate(
            "the", max_tokens=200, seed=seed, grammar='root ::= " "? [a-c]{3,9} "."', **FULL
        )
        assert re.fullmatch(r" ?[a-c]{3,9}\.", result.text)
        assert result.finish_reason == "stop"


def test_what_a_grammar_does_not_hold_is_said(
    tiny_target: Path, recwarn: pytest.WarningsRecorder
) -> None:
    """The warning names keywords of the schema, but no property or value of the same name.

    It points to the line of the caller.
    """
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


@pytest.mark.no_sanitizer
def test_json_strings_hold_no_control_characters(generator: Generator) -> None:
    """A model that prefers control characters still writes JSON."""
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
            assert len(result.text.strip()) > 2
            assert not any(
                ord(character) < 32 for character in result.text.strip() if character not in "\n\t"
            )


def test_nothing_left_is_an_error(generator: Generator) -> None:
    """The bias excludes every token that the grammar allows."""
    with pytest.raises(RuntimeError, match="leave no token"):
        generator.generate(
            "the", grammar='root ::= "é"', logit_bias=dict.fromkeys(range(3, 515), -math.inf)
        )
    assert len(generator.generate("the", max_tokens=3).tokens) == 3
