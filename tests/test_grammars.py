"""Grammars and JSON schemas: every finished answer matches, and all else is refused by name."""

from __future__ import annotations

import dataclasses
import json
import math
import re
from collections.abc import Iterator
from typing import Any, Literal

import jsonschema
import pydantic
import pytest

from ersd import Generator
from ersd.grammars import lark_source

FULL: Any = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
STRATEGIES = ["simple", "sequence", "batch", "tree", "adaptive"]
# The tokens of bytes that end strings, arrays and objects. A random model ends them too seldom.
CLOSING = {3 + ord(character): 4.0 for character in '"]}'}


class Node(pydantic.BaseModel):
    """A tree."""

    name: Literal["a", "b"]
    children: list[Node]


@dataclasses.dataclass
class Point:
    """A dataclass with a field of each simple kind."""

    x: int
    label: Literal["left", "right"]
    tags: list[bool]


def answers(generator: Generator, schema: Any, n: int = 6, **more: Any) -> Iterator[Any]:
    """Yields the objects of the finished ones of n answers, of which there must be some."""
    n_finished = 0
    for seed in range(n):
        form = {"type": "json_object", "schema": schema}
        options = FULL | {"logit_bias": CLOSING, "max_tokens": 300} | more
        result = generator.generate("the", seed=seed, response_format=form, **options)
        if result.finish_reason == "stop":
            n_finished += 1
            value = json.loads(result.text)
            jsonschema.validate(value, schema, format_checker=jsonschema.FormatChecker())
            yield value
    assert n_finished > 0


def closed(**properties: Any) -> dict[str, Any]:
    """Returns the schema of an object with exactly these properties."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


ODD = ["🙂", "日本", "a\nb", "\t", "\\", '"', "", "/", " "]
# What llama-cpp-python's converter and llama.cpp's grammars did not hold to or refused.
HELD = {
    "emoji": {"enum": ["🙂", "👩‍👩‍👧", "é"]},
    "names": closed(**{name: {"type": "null"} for name in ODD}),
    "values": {"enum": ODD},
    "empty name": closed(**{"": {"type": "integer", "minimum": 1, "maximum": 20}}),
    "quotes": {"type": "string", "pattern": "^.{2}$"},
    "format": {"type": "string", "format": "date"},
    "not listed": {"type": "object", "required": ["x"], "maxProperties": 1},
    "recursive": {
        "type": "object",
        "properties": {"next": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
        "required": ["next"],
    },
    "boolean": closed(a=True, b={"type": "array", "items": False}),
    "classes": {"type": "string", "pattern": r"^\d{2}\w\s[^x]$"},
    "long": {"type": "string", "maxLength": 100_000},
    "bounds": {"type": "number", "exclusiveMinimum": -2.5, "maximum": 3},
    "multiple": {"type": "integer", "multipleOf": 7, "minimum": 0, "maximum": 99},
    "lists": {"type": "array", "prefixItems": [{"const": 1}, {"const": None}], "minItems": 2},
    "map": {
        "type": "object",
        "patternProperties": {"^[ab]$": {"type": "boolean"}},
        "additionalProperties": False,
    },
    "tagged": {
        "oneOf": [
            closed(kind={"const": "a"}, n={"enum": [1]}),
            closed(kind={"const": "b"}, s={"enum": ["x"]}),
        ]
    },
    "all": {"allOf": [closed(a={"type": "integer"}), {"properties": {"a": {"maximum": 5}}}]},
}


@pytest.mark.no_sanitizer
@pytest.mark.parametrize("schema", HELD.values(), ids=HELD.keys())
def test_answers_match_the_schema(generator: Generator, schema: Any) -> None:
    """A validator of JSON schemas agrees with every finished answer."""
    for _ in answers(generator, schema):
        pass


REFUSED = {
    "uniqueItems": {"type": "array", "uniqueItems": True},
    "format": {"type": "string", "format": "colour"},
    "not": {"not": {"type": "string"}},
    "if": {"if": {}, "then": {}},
    "contains": closed(a={"contains": {"type": "null"}}),
    "oneOf": {"oneOf": [{"minimum": 1}, {"maximum": 3}]},
    "pattern": {"type": "string", "pattern": r"(?=a)b"},
    "$ref": {"$ref": "http://example.org/schema"},
    "minProperties": {"type": "object", "minProperties": 2},
    "additionalItems": {"items": [{"type": "null"}], "additionalItems": False},
    "divisibleBy": {"divisibleBy": 3},
    "const": {"const": ["\x01"]},
    "maxLength": {"type": "string", "maxLength": 10**12},
    "required": closed(a=False),
    "JSON compliant": {"const": math.nan},
    "expected an object": [],
}


@pytest.mark.parametrize("keyword", REFUSED)
def test_what_cannot_be_held_is_refused_by_name(
    generator: Generator, keyword: str, capfd: pytest.CaptureFixture[str]
) -> None:
    """The error comes before the first token, and nothing is written to stderr."""
    form = {"type": "json_object", "schema": REFUSED[keyword]}
    with pytest.raises(ValueError, match=f"^response_format must .*{re.escape(keyword)}"):
        generator.stream("the", response_format=form)
    assert capfd.readouterr() == ("", "")


WRONG: dict[str, dict[str, Any]] = {
    "GBNF": {"grammar": "root ::= ("},
    "GBNF without an end": {"grammar": "root ::= root"},
    "regex": {"regex": "("},
    "Lark": {"lark": "start: ("},
    "a rule that is missing": {"lark": "start: other"},
    "a reference": {"response_format": {"type": "json_object", "schema": {"$ref": "#/$defs/x"}}},
}


@pytest.mark.parametrize("options", WRONG.values(), ids=WRONG.keys())
def test_no_parser_writes_to_stderr(
    generator: Generator, options: dict[str, Any], capfd: pytest.CaptureFixture[str]
) -> None:
    """A wrong grammar is one sentence of an exception, and nothing else."""
    with pytest.raises(ValueError, match=r"^[^\n]* must [^\n]*$"):
        generator.stream("the", **options)
    generator.generate("the", regex="[a-c]{3}", max_tokens=9)
    assert capfd.readouterr() == ("", "")


def test_a_schema_cannot_be_made_lenient(generator: Generator) -> None:
    """A keyword of llguidance for that has no effect."""
    schema = {"x-guidance": {"lenient": True}, "type": "array", "uniqueItems": True}
    with pytest.raises(ValueError, match="uniqueItems"):
        generator.stream("the", response_format={"type": "json_object", "schema": schema})


@pytest.mark.no_sanitizer
def test_json_strings_hold_no_control_characters(generator: Generator) -> None:
    """A model that prefers control characters still writes JSON."""
    bias = CLOSING | dict.fromkeys(range(3, 35), 6.0)  # the bytes 0 to 31
    schema = {"type": "array", "items": {"type": "string"}, "minItems": 2, "maxItems": 4}
    for value in answers(generator, schema, logit_bias=bias):
        assert not re.search(r"[\x00-\x07\x0e-\x1f]", "".join(value))


@pytest.mark.parametrize("deep", ["grammar", "lark", "$ref", "nested", "regex"])
def test_deep_grammars_do_no_harm(generator: Generator, deep: str) -> None:
    """Rules are followed by recursion: too many are refused, and as many as allowed work."""
    n = 20_000
    rules = "start: r0\n" + "".join(f"r{i}: r{i + 1}\n" for i in range(n)) + f'r{n}: "a"'
    names = {f"d{i}": {"$ref": f"#/$defs/d{i + 1}"} for i in range(n)}
    schema: Any = {}
    for _ in range(500):
        schema = {"items": schema}
    options: dict[str, dict[str, Any]] = {
        "grammar": {"grammar": "root ::= " + "(" * n + "[a]" + ")" * n},
        "lark": {"lark": rules},
        "$ref": {"response_format": {"type": "json_object", "schema": names}},
        "nested": {"response_format": {"type": "json_object", "schema": schema}},
        "regex": {"regex": "(" * n + ")" * n},
    }
    with pytest.raises(ValueError, match=" must "):
        generator.stream("the", **options[deep])
    rules = "start: r0\n" + "".join(f"r{i}: r{i + 1}\n" for i in range(900)) + 'r900: "a"'
    assert generator.generate("the", lark=rules).text == "a"


def test_grammar_shapes_the_answer(generator: Generator) -> None:
    """The answer matches the grammar and ends when the match is complete, in every notation."""
    forms: list[dict[str, Any]] = [
        {"grammar": 'root ::= " "? [a-c]{3,9} "."'},
        {"regex": r" ?[a-c]{3,9}\."},
        {"lark": 'start: " "? /[a-c]{3,9}/ "."'},
        {"grammar": lark_source('start: " "? /[a-c]{3,9}/ "."')},
    ]
    for seed in range(5):
        texts = set()
        for form in forms:
            result = generator.generate("the", max_tokens=200, seed=seed, **form, **FULL)
            assert re.fullmatch(r" ?[a-c]{3,9}\.", result.text)
            assert result.finish_reason == "stop"
            texts.add(result.text)
        assert len(texts) == 1  # the notation makes no difference


CASES: dict[str, Any] = {
    "schema": {"response_format": {"type": "json_object", "schema": HELD["tagged"]}},
    "object": {"response_format": {"type": "json_object"}, "logprobs": 2},
    "typical": {"regex": r"([a-f]{2,4} ){3,}", "typical_p": 0.6},
    "xtc": {"regex": r"([a-f]{2,4} ){3,}", "xtc_probability": 0.5, "xtc_threshold": 0.05},
    "penalties": {"lark": 'start: (/[a-z]+/ ",")+', "repeat_penalty": 1.3, "top_p": 0.9},
}


@pytest.mark.parametrize("name", CASES)
def test_drafts_do_not_change_the_text(generator: Generator, name: str) -> None:
    """The text is that of plain decoding for every strategy and both methods of races."""
    assert generator.exact
    for seed in range(2):
        options = FULL | {"max_tokens": 60, "seed": seed} | CASES[name]
        plain = generator.generate("the", method="ar", **options)
        accepted = 0
        for method in ("ersd", "match"):
            for strategy in STRATEGIES:
                drafted = generator.generate("the", method=method, strategy=strategy, **options)
                assert drafted.tokens == plain.tokens
                assert drafted.logprobs == plain.logprobs
                accepted += drafted.stats.accepted
        assert accepted > 0


@pytest.mark.parametrize("method", ["gsd", "gsd_iid", "block"])
def test_rejection_sampling_keeps_to_a_grammar(generator: Generator, method: str) -> None:
    """Its texts depend on the draft, but they match."""
    for seed in range(4):
        text = generator.generate(
            "the", method=method, seed=seed, regex="[a-f]{9}", max_tokens=20, **FULL
        ).text
        assert re.fullmatch("[a-f]{9}", text)


def test_classes(generator: Generator) -> None:
    """A pydantic model and a dataclass are a response_format, and the result has the object."""
    options = FULL | {"max_tokens": 300, "logit_bias": CLOSING}
    finished = [0, 0]
    for seed in range(8):
        for i, kind in enumerate((Node, Point)):
            result = generator.generate("the", response_format=kind, seed=seed, **options)
            if result.finish_reason == "stop":
                finished[i] += 1
                assert isinstance(result.parsed, kind)
            else:
                with pytest.raises(ValueError, match="not complete: raise max_tokens"):
                    print(result.parsed)
    assert min(finished) > 0
    [result] = generator.generate_batch(["the"], response_format=list[bool], max_tokens=2, seed=1)
    with pytest.raises(ValueError, match="ended by its length, after 2 tokens"):
        print(result.parsed)
    with pytest.raises(ValueError, match="parsed needs a class as response_format"):
        print(generator.generate("the", max_tokens=1).parsed)
    with pytest.raises(TypeError, match="response_format must be a mapping or a type"):
        generator.generate("the", response_format=object())


def test_nothing_left_is_an_error(generator: Generator) -> None:
    """The bias excludes every token that the grammar allows."""
    with pytest.raises(RuntimeError, match="leave no token"):
        generator.generate(
            "the", grammar='root ::= "é"', logit_bias=dict.fromkeys(range(3, 515), -math.inf)
        )
    assert len(generator.generate("the", max_tokens=3).tokens) == 3
