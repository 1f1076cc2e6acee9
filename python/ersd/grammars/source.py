"""Grammars for llguidance, all written in Lark, made of JSON schemas and regular expressions."""

from __future__ import annotations

import json
import re
from collections.abc import Callable, Iterator, Mapping
from typing import Any, NamedTuple

from llguidance import LLMatcher

from ersd.grammars.dates import PATTERNS

__all__ = ["BLANKS", "Source", "closed", "embedded", "lark_source", "regex_source", "schema_source"]

# JSON has several spellings of a text. With one for each character, the names in a schema are told
# from all others. At most two line breaks and an indentation may stand between two values: a model
# could go on with blanks for ever.
BLANKS = r"( |\n{1,2}[ \t]{0,20})"
_JSON = {"json_allowed_escapes": 'bfnrt\\"', "whitespace_pattern": BLANKS}
_HELD = {"lenient": False, "coerce_one_of": False}
# Otherwise, where one text must follow, only the first token by which a tokenizer writes it might
# come. Here every token may come that leads to a text of the grammar.
_ALL_TOKENS = '\n%llguidance {"no_forcing": true}\n'

# llguidance follows rules and references by recursion. The stack of its thread has room for these.
MAX_RULES = 4000
_RULE = re.compile(r"^[^:/\"\n]*:", re.MULTILINE)

# These keywords had a meaning in drafts of JSON Schema that llguidance does not know.
_OLD_KEYWORDS = frozenset(["additionalItems", "disallow", "divisibleBy", "extends"])
# These formats are hints for people and programs; every text has them.
_HINTS = frozenset(["binary", "password", "path"])
_COUNTS = frozenset(["minLength", "maxLength", "minItems", "maxItems", "maxProperties"])
_MAX_COUNT = 2**31 - 1
# The other control characters can only be written by their numbers.
_WITH_ESCAPE = frozenset("\b\t\n\f\r")


class Source(NamedTuple):
    """A grammar before it is compiled.

    Attributes:
        text: the grammar in llguidance's variant of Lark.
        claim: what stands before the reason in the error of a grammar that cannot be compiled.
        parts: grammars that are parts of this one, whose errors say more.
    """

    text: str
    claim: str
    parts: tuple[Source, ...] = ()


def schema_source(schema: Any, owner: str) -> Source:
    """Returns the grammar of the JSON texts that a JSON schema allows.

    Args:
        schema: the schema; a mapping, True or False.
        owner: what has the schema, for the message of an error.

    Raises:
        ValueError: the schema is no JSON, or has a keyword that an answer cannot be held to.
    """
    claim = f"{owner} must have a JSON schema that an answer can be held to"
    try:
        if not isinstance(schema, Mapping | bool):
            raise ValueError(f"expected an object, got {type(schema).__name__}")
        for keyword, reason in _faults(schema):
            raise ValueError(f"{keyword} {reason}")
        text = embedded(schema)
        if (n := text.count('"$ref"')) > MAX_RULES:
            raise ValueError(f"$ref may stand in a schema at most {MAX_RULES} times, got {n}")
    except (RecursionError, TypeError, ValueError) as error:
        raise ValueError(f"{claim}: {error}") from error
    return Source(f"start: %json {text}{_ALL_TOKENS}", claim)


def embedded(schema: Any) -> str:
    """Returns a schema that `schema_source` accepts as it stands after %json in a Lark grammar."""
    if isinstance(schema, bool):
        schema = {} if schema else {"not": {}}
    plain = _with_dates(_without_hints(_narrowed(schema)))
    return json.dumps({**plain, "x-guidance": _JSON | _HELD}, allow_nan=False)


def regex_source(regex: str) -> Source:
    """Returns the grammar of the texts that a regular expression matches as a whole."""
    if not isinstance(regex, str):
        raise TypeError(f"regex must be a str, got {regex!r}")
    made = json.loads(LLMatcher.grammar_from_regex(regex))
    lark = made["grammars"][0]["lark_grammar"]
    claim = "regex must be a regular expression without look-around and references"
    return Source(lark + _ALL_TOKENS, claim)


def lark_source(
    lark: str, claim: str = "lark must be a Lark grammar with a rule 'start'"
) -> Source:
    """Returns the grammar that is written in llguidance's variant of Lark.

    Args:
        lark: the grammar.
        claim: see `Source`.

    Raises:
        ValueError: it has too many rules.
    """
    if not isinstance(lark, str):
        raise TypeError(f"lark must be a str, got {lark!r}")
    n = len(_RULE.findall(lark)) + lark.count('"$ref"')
    if n > MAX_RULES:
        raise ValueError(f"{claim} and at most {MAX_RULES} rules, got {n}")
    return Source(lark + _ALL_TOKENS, claim)


def _faults(schema: Any) -> Iterator[tuple[str, str]]:
    """Yields the keywords of a schema that llguidance ignores or does not hold to, and why."""
    for owner, key, value in _keywords(schema):
        if key in _OLD_KEYWORDS and not (key == "additionalItems" and _is_idle(owner)):
            yield key, "is not supported"
        elif key == "minProperties" and isinstance(value, int):
            named = owner.get("required")
            if value > max(1, len(named) if isinstance(named, list) else 0):
                yield key, "must not exceed the number of required properties, or 1"
        elif key in _COUNTS and isinstance(value, int) and value > _MAX_COUNT:
            yield key, f"must be at most {_MAX_COUNT}, got {value}"
        elif key in ("const", "enum") and (unwritable := _unwritable(value)):
            yield key, f"must not have the control character {unwritable!r}"


def _narrowed(schema: Any) -> Any:
    """Returns a schema whose objects have no properties but those that it lists.

    Texts are shorter then, and match the given schema, too. It stays as it is where schemas are
    combined, since then one may list what another one allows.
    """
    owners = (owner for owner, _, _ in _keywords(schema))
    return closed(schema) if all(map(_stands_alone, owners)) else schema


def _stands_alone(schema: Mapping[str, Any]) -> bool:
    combined = schema.keys() & {"$ref", "allOf", "anyOf", "oneOf"}
    return not combined or not (
        "oneOf" in combined
        or len(combined) > 1
        or len(schema.get("allOf", ())) > 1
        or schema.keys() & {"properties", "required", "additionalProperties", "patternProperties"}
    )


def closed(schema: Any) -> Any:
    """Returns a schema whose objects have no properties but those that it lists.

    Objects stay open if the schema says what else they may have, or names more as required.
    """

    def close(own: dict[str, Any]) -> dict[str, Any]:
        names, required = own.get("properties"), own.get("required", [])
        if isinstance(names, Mapping) and isinstance(required, list):
            says_more = own.keys() & {"additionalProperties", "minProperties", "patternProperties"}
            if not says_more and all(name in names for name in required):
                return {**own, "additionalProperties": False}
        return own

    return _mapped(schema, close)


def _is_idle(schema: Mapping[str, Any]) -> bool:
    """Whether additionalItems says nothing, because items are not given one by one."""
    return not isinstance(schema.get("items"), list)


def _unwritable(value: Any) -> str:
    """Returns a character of a value that JSON can only write by its number; empty if none."""
    if isinstance(value, str):
        return next((c for c in value if _is_unwritable(c)), "")
    if isinstance(value, Mapping):
        value = [*value.keys(), *value.values()]
    return next(filter(None, map(_unwritable, value)), "") if isinstance(value, list) else ""


def _is_unwritable(character: str) -> bool:
    return (character < " " and character not in _WITH_ESCAPE) or character == "\x7f"


def _without_hints(schema: Any) -> Any:
    """Returns a schema without keywords that allow everything, which llguidance does not know."""

    def is_hint(key: str, value: Any) -> bool:
        if key == "format":
            return isinstance(value, str) and value in _HINTS
        return key == "uniqueItems" and value is False

    return _mapped(
        schema, lambda own: {key: each for key, each in own.items() if not is_hint(key, each)}
    )


def _with_dates(schema: Any) -> Any:
    """Returns a schema with patterns for the formats of dates and times."""

    def write(own: dict[str, Any]) -> dict[str, Any]:
        name = own.get("format")
        if not isinstance(name, str) or name not in PATTERNS:
            return own
        rest = {key: value for key, value in own.items() if key != "format"}
        if "pattern" not in own:
            return {**rest, "pattern": PATTERNS[name]}
        return {**rest, "allOf": [*own.get("allOf", ()), {"pattern": PATTERNS[name]}]}

    return _mapped(schema, write)


def _mapped(schema: Any, change: Callable[[dict[str, Any]], dict[str, Any]]) -> Any:
    """Returns a schema after a change of all schemas in it, from the inside out."""
    if isinstance(schema, list):
        return [_mapped(each, change) for each in schema]
    if not isinstance(schema, Mapping):
        return schema
    own: dict[str, Any] = {}
    for key, value in schema.items():
        if key in _OF_VALUES:
            own[key] = value
        elif key in _OF_NAMES and isinstance(value, Mapping):
            own[key] = {name: _mapped(each, change) for name, each in value.items()}
        else:
            own[key] = _mapped(value, change)
    return change(own)


_OF_VALUES = frozenset(["const", "enum", "default", "examples"])  # they hold values, not schemas
_OF_NAMES = frozenset(["properties", "patternProperties", "$defs", "definitions"])


def _keywords(schema: Any) -> Iterator[tuple[Mapping[str, Any], str, Any]]:
    """Yields the keywords of a schema and of those in it, with the schema and the value of each.

    Names of properties are no keywords.
    """
    if isinstance(schema, list):
        for each in schema:
            yield from _keywords(each)
    for key, value in schema.items() if isinstance(schema, Mapping) else ():
        yield schema, key, value
        if key in _OF_VALUES:
            continue
        named = key in _OF_NAMES and isinstance(value, Mapping)
        yield from _keywords(list(value.values()) if named else value)
