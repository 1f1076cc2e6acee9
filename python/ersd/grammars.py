"""The grammar of an answer: given as GBNF, or made from a JSON schema."""

from __future__ import annotations

import json
import warnings
from collections.abc import Iterator, Mapping
from typing import TYPE_CHECKING, Any

from ersd._loader import llama_cpp_module

if TYPE_CHECKING:
    from llama_cpp.llama_grammar import LlamaGrammar

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
        ValueError: both are given, the grammar is empty, or response_format has an unknown type or
            a schema for which there is no grammar.
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
    return text


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
    grammars = llama_cpp_module("llama_grammar")
    if schema is None:
        return str(grammars.JSON_GBNF)
    schema = json.loads(schema) if isinstance(schema, str) else schema
    if ignored := sorted(_NOT_ENFORCED & set(_keywords(schema))):
        warnings.warn(
            f"the answer is not held to {', '.join(ignored)} of its schema: "
            "llama-cpp-python's grammars do not have it",
            stacklevel=_CALLER,
        )
    try:
        grammar = str(grammars.json_schema_to_gbnf(json.dumps(schema)))
    except Exception as error:
        raise ValueError(
            "response_format has a schema that llama-cpp-python cannot turn into a grammar: "
            f"{error}"
        ) from error
    # JSON's strings hold no control characters, but this rule for them allows some. llama.cpp's own
    # JSON grammar excludes them in these words.
    return grammar.replace(r'char ::= [^"\\] |', r'char ::= [^"\\\x7F\x00-\x1F] |')


def _keywords(schema: Any) -> Iterator[str]:
    """Yields the keywords of a JSON schema and of the schemas in it, but no names of properties."""
    for key, value in schema.items() if isinstance(schema, Mapping) else ():
        yield key
        if key in ("const", "enum", "default", "examples"):
            continue  # these hold values, not schemas
        if key in ("properties", "$defs", "definitions"):
            within = list(value.values())
        else:
            within = value if isinstance(value, list) else [value]
        for each in within:
            yield from _keywords(each)
