"""What asks for a grammar: the options grammar, regex, lark and response_format."""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from typing import TYPE_CHECKING, Any

from ersd.grammars.gbnf_lark import gbnf_to_lark
from ersd.grammars.source import Source, closed, lark_source, regex_source, schema_source

if TYPE_CHECKING:
    from llama_cpp.llama_grammar import LlamaGrammar
    from pydantic import TypeAdapter

__all__ = ["answer_source", "parser_of", "response_format_source"]

_GBNF = "grammar must be GBNF text with a rule 'root'"


def answer_source(
    grammar: str | LlamaGrammar | Source | None,
    regex: str | None,
    lark: str | None,
    response_format: Mapping[str, Any] | type | None,
) -> Source | None:
    """Returns the grammar that an answer must match; None if it may be anything.

    Args:
        grammar: GBNF, a ``llama_cpp.LlamaGrammar``, or a grammar in llguidance's form.
        regex: see `ersd.Options`, also for the others.
        lark: a grammar in llguidance's variant of Lark.
        response_format: JSON of some kind.

    Raises:
        TypeError: one of them has a wrong type.
        ValueError: two are given, or one is wrong as far as is seen before it is compiled.
    """
    wanted = {
        "grammar": None if grammar is None else _grammar_source(grammar),
        "regex": None if regex is None else regex_source(regex),
        "lark": None if lark is None else lark_source(lark),
        "response_format": response_format_source(response_format),
    }
    found = [(name, source) for name, source in wanted.items() if source is not None]
    if len(found) > 1:
        (one, _), (other, _) = found[:2]
        raise ValueError(f"{one} and {other} exclude each other: give one of them")
    return found[0][1] if found else None


def response_format_source(response_format: Mapping[str, Any] | type | None) -> Source | None:
    """Returns the grammar of a response_format; None if it allows any text."""
    if response_format is None:
        return None
    if not isinstance(response_format, Mapping):
        schema = closed(_adapter(response_format).json_schema())
        return schema_source(schema, "response_format")
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
        schema = {"type": "object"} if schema is None else schema
    else:
        schema = response_format.get("json_schema", {}).get("schema")
        if schema is None:
            raise ValueError(
                "response_format 'json_schema' must have its schema under ['json_schema']['schema']"
            )
    return schema_source(_loaded(schema), "response_format")


def parser_of(response_format: object) -> Callable[[str], Any] | None:
    """Returns what makes an object of an answer's JSON; None if response_format is no type."""
    if response_format is None or isinstance(response_format, Mapping):
        return None
    return _adapter(response_format).validate_json


def _grammar_source(grammar: str | LlamaGrammar | Source) -> Source:
    if isinstance(grammar, Source):
        return grammar
    text = getattr(grammar, "_grammar", grammar)
    if not isinstance(text, str):
        raise TypeError(f"grammar must be GBNF text or a llama_cpp.LlamaGrammar, got {grammar!r}")
    if not text.strip():
        raise ValueError(f"{_GBNF}, got an empty one")
    try:
        lark = gbnf_to_lark(text)
    except ValueError as error:
        raise ValueError(f"{_GBNF}: {error}") from error
    return lark_source(lark, _GBNF)


def _loaded(schema: Any) -> Any:
    """Returns a schema that may be given as JSON text."""
    if not isinstance(schema, str):
        return schema
    try:
        return json.loads(schema)
    except ValueError as error:
        raise ValueError(f"response_format must have a schema that is JSON: {error}") from error


def _adapter(kind: Any) -> TypeAdapter[Any]:
    try:
        from pydantic import TypeAdapter
        from pydantic.errors import PydanticSchemaGenerationError
    except ImportError as error:
        raise ImportError(
            "a class as response_format needs pydantic: run `pip install pydantic`"
        ) from error
    try:
        return TypeAdapter(kind)
    except PydanticSchemaGenerationError as error:
        raise TypeError(
            f"response_format must be a mapping or a type that pydantic knows, got {kind!r}"
        ) from error
