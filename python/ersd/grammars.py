"""The grammar of an answer: given as GBNF, or made from a JSON schema."""

from __future__ import annotations

import json
import re
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ersd._loader import llama_cpp_module

if TYPE_CHECKING:
    from llama_cpp.llama_grammar import LlamaGrammar

__all__ = ["grammar_text", "schema_grammar"]

# llama-cpp-python writes repetitions out, and llama.cpp reads nested groups by recursion: longer or
# deeper ones would exhaust the memory or the stack.
_MAX_REPETITIONS = 2000
_MAX_DEPTH = 2048
_QUANTIFIER = re.compile(r"\{[\s\d,]*\}")  # of a regular expression
# llama.cpp follows each way through a grammar by itself. In a run of n items that may be left out
# there are n ways, and the time of a token grows like n cubed: 400 items take a tenth of a second,
# 2500 a minute.
_MAX_OPTIONAL = 400
# Literals, classes, comments, names, and what counts of GBNF. It takes linear time for any text.
_PIECE = re.compile(
    r'"(?:\\.|[^"\\])*"?|\[(?:\\.|[^\]\\])*\]?|#[^\n]*|[\w-]+|::=|[()*?]|\{[\s\d,]*\}', re.DOTALL
)
_COUNTS = ("minItems", "maxItems", "minLength", "maxLength")

# How many functions stand between the user's call of `generate` and the warning below.
_CALLER = 6

# Keywords of JSON Schema that llama_cpp.llama_grammar ignores.
_NOT_ENFORCED = frozenset(
    [
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
        "uniqueItems",
        "contains",
        "minContains",
        "maxContains",
        "minProperties",
        "maxProperties",
        "patternProperties",
        "propertyNames",
        "dependentRequired",
        "dependentSchemas",
        "dependencies",
        "not",
        "if",
        "then",
        "else",
        "unevaluatedItems",
        "unevaluatedProperties",
    ]
)


def grammar_text(
    grammar: str | LlamaGrammar | None, response_format: Mapping[str, Any] | None
) -> str:
    """Returns the GBNF that an answer must match; empty if it may be anything.

    Args:
        grammar: GBNF, or a ``llama_cpp.LlamaGrammar``.
        response_format: see `ersd.Options`.

    Raises:
        TypeError: the grammar is neither of the two.
        ValueError: both are given, the grammar is empty or nested too deeply, or response_format
            has an unknown type or a schema for which there is no grammar.
    """
    formatted = None if response_format is None else _format_grammar(response_format)
    if grammar is None:
        return formatted or ""
    if formatted is not None:
        raise ValueError("grammar and response_format exclude each other: give one of them")
    text = getattr(grammar, "_grammar", grammar)
    if not isinstance(text, str):
        raise TypeError(f"grammar must be GBNF text or a llama_cpp.LlamaGrammar, got {grammar!r}")
    if not text.strip():
        raise ValueError("grammar must be GBNF text with a rule 'root', got an empty one")
    if text.count("(") > _MAX_DEPTH and (depth := _depth(text)) > _MAX_DEPTH:
        raise ValueError(f"grammar must have at most {_MAX_DEPTH} nested groups, got {depth}")
    if (n := _most_optional(text)) > _MAX_OPTIONAL:
        raise ValueError(
            f"grammar must have rules with at most {_MAX_OPTIONAL} items that may be left out, "
            f"got one with {n}"
        )
    return text


def schema_grammar(schema: Any, owner: str) -> str:
    """Returns the GBNF of the JSON texts that a JSON schema allows.

    Args:
        schema: the schema.
        owner: what has the schema, for the message of an error.

    Raises:
        ValueError: llama-cpp-python cannot turn the schema into a grammar.
    """
    try:
        _check_repetitions(schema)
        grammar = str(llama_cpp_module("llama_grammar").json_schema_to_gbnf(json.dumps(schema)))
    except Exception as error:  # the converter raises any error
        raise ValueError(
            f"{owner} has a schema that llama-cpp-python cannot turn into a grammar: {error}"
        ) from error
    # JSON's strings hold no control characters, but this rule for them allows some. llama.cpp's own
    # JSON grammar excludes them in these words.
    return grammar.replace(r'char ::= [^"\\] |', r'char ::= [^"\\\x7F\x00-\x1F] |')


def _format_grammar(response_format: Mapping[str, Any]) -> str | None:
    """Returns the grammar of a response_format; None if it allows any text."""
    kind = response_format.get("type")
    if kind not in ("text", "json_object", "json_schema"):
        raise ValueError(
            "response_format must have the type 'text', 'json_object' or 'json_schema', "
            f"got {kind!r}"
        )
    if kind == "text":
        return None
    if kind == "json_object":
        schema = response_format.get("schema")
    else:
        schema = response_format.get("json_schema", {}).get("schema")
        if schema is None:
            raise ValueError(
                "response_format 'json_schema' must have its schema under ['json_schema']['schema']"
            )
    if schema is None:
        return str(llama_cpp_module("llama_grammar").JSON_GBNF)
    schema = json.loads(schema) if isinstance(schema, str) else schema
    if ignored := sorted(_NOT_ENFORCED & {key for key, _ in _keywords(schema)}):
        warnings.warn(
            f"the answer is not held to {', '.join(ignored)} of its schema: "
            "llama-cpp-python's grammars do not have it",
            stacklevel=_CALLER,
        )
    return schema_grammar(schema, "response_format")


def _check_repetitions(schema: Any) -> None:
    """Raises ValueError if a schema repeats something too often."""
    for key, value in _keywords(schema):
        counts = [value] if key in _COUNTS else []
        if key == "pattern":
            counts = [n for found in _QUANTIFIER.findall(str(value)) for n in _numbers(found)]
        for count in counts:
            if isinstance(count, int) and count > _MAX_REPETITIONS:
                raise ValueError(f"{key} must be at most {_MAX_REPETITIONS}, got {count}")


def _depth(grammar: str) -> int:
    """Returns how deep the groups of a grammar are nested; those in literals count, too."""
    depth = deepest = 0
    for bracket in re.findall(r"[()]", grammar):
        depth += 1 if bracket == "(" else -1
        deepest = max(deepest, depth)
    return deepest


def _most_optional(grammar: str) -> int:
    """Returns the most items that may be left out in one rule of a grammar, written out."""
    most, counts, last = 0, [0], 0  # counts: of the groups that are open; last: of the one before
    for piece in _PIECE.findall(grammar):
        n_before, last = last, 0
        if piece == "::=":
            counts = [0]
        elif piece == "(":
            counts.append(0)
        elif piece == ")" and len(counts) > 1:
            last = counts.pop()
            counts[-1] += last
        elif piece in "*?":
            counts[-1] += 1
        elif piece[0] == "{":
            least, *_ = numbers = _numbers(piece) or [0]
            counts[-1] += n_before * max(0, max(numbers) - 1) + (least == 0 or piece[1:2] == ",")
        most = max(most, *counts)
    return most


def _numbers(quantifier: str) -> list[int]:
    """Returns the numbers of a quantifier like {2,5}."""
    return [int(digits) for digits in re.findall(r"\d+", quantifier)]


def _keywords(schema: Any) -> Iterator[tuple[str, Any]]:
    """Yields the keywords of a JSON schema and of the schemas in it with their values.

    Names of properties are no keywords.
    """
    for key, value in schema.items() if isinstance(schema, Mapping) else ():
        yield key, value
        if key in ("const", "enum", "default", "examples"):
            continue  # these hold values, not schemas
        if key in ("properties", "$defs", "definitions"):
            within = list(value.values())
        else:
            within = value if isinstance(value, list) else [value]
        for each in within:
            yield from _keywords(each)
