"""Some two hundred JSON schemas of the shapes that people write."""

from __future__ import annotations

from collections.abc import Iterator
from itertools import product
from typing import Any

Schema = Any

TEXTS = ["a", "🙂", "日本", "é", "a\nb", "\t", "\\", '"', "", "/", "\u2028", "a b", "ß", "{}"]
PATTERNS = [
    "^[0-9]{5}$",
    r"^\d{3}-\d{4}$",
    "^[A-Z]{2}[0-9]+$",
    "a",
    r"^\w{1,8}$",
    "^(red|green|blue)$",
    r"^[^\s]{2,4}$",
    r"^.{2}$",
    r"^#[0-9a-f]{6}$",
    r"^\S+@\S+\.\w{2,3}$",
    "^$",
    r'^"?x"?$',
    r"^(\+\d{1,3})? ?\d{2,4}$",
    r"^[à-ü]{1,3}$",
]
FORMATS = ["date", "time", "date-time", "email", "ipv4", "ipv6", "uuid", "hostname", "duration"]
NUMBERS: list[Schema] = [
    {"minimum": 0},
    {"minimum": 1, "maximum": 6},
    {"exclusiveMinimum": 0, "exclusiveMaximum": 10},
    {"minimum": -1000, "maximum": -10},
    {"minimum": -5, "maximum": 123},
    {"multipleOf": 5, "minimum": 0, "maximum": 100},
    {"maximum": 99},
]
SCALARS: list[Schema] = [
    {"type": "string", "maxLength": 10},
    {"type": "integer", "minimum": 0, "maximum": 150},
    {"type": "number", "minimum": 0, "maximum": 1},
    {"type": "boolean"},
    {"type": "null"},
    {"enum": ["a", 1, None, True, 2.5]},
    {"const": {"a": [1, "b"]}},
    {"type": ["string", "null"], "maxLength": 5},
]


def record(properties: dict[str, Schema], **more: Any) -> Schema:
    """Returns the schema of an object with all of these properties."""
    given = {"type": "object", "properties": properties, "required": list(properties)}
    return given | {"additionalProperties": False} | more


def texts() -> Iterator[Schema]:
    """Yields schemas of texts and names."""
    for text in TEXTS:
        yield {"enum": [text, text + "x"]}
        yield record({text: {"type": "boolean"}})
        yield {"const": [text]}
    for pattern in PATTERNS:
        yield {"type": "string", "pattern": pattern}
        yield record({"code": {"type": "string", "pattern": pattern}, "n": {"const": 1}})
    for name in FORMATS:
        yield {"type": "string", "format": name}
    for least, most in ((0, 0), (1, 1), (2, 5), (0, 300), (7, 50_000)):
        yield {"type": "string", "minLength": least, "maxLength": most}


def numbers() -> Iterator[Schema]:
    """Yields schemas of numbers."""
    for kind, bounds in product(("integer", "number"), NUMBERS):
        yield {"type": kind, **bounds}
        yield record({"value": {"type": kind, **bounds}})


def lists() -> Iterator[Schema]:
    """Yields schemas of arrays."""
    for items, (least, most) in product(SCALARS, ((0, 2), (1, 3), (3, 3))):
        yield {"type": "array", "items": items, "minItems": least, "maxItems": most}
    inner: Schema = {"type": "boolean"}
    for _ in range(4):
        inner = {"type": "array", "items": inner, "minItems": 1, "maxItems": 2}
        yield inner
    yield {"type": "array", "prefixItems": [{"const": 1}, {"const": "a"}], "items": False}
    yield {"type": "array", "prefixItems": [{"const": 1}], "items": {"const": 2}, "maxItems": 4}


def objects() -> Iterator[Schema]:
    """Yields schemas of objects."""
    for one, other in product(SCALARS, SCALARS[:4]):
        yield record({"one": one, "other": other})
    for n in range(4):
        names = {f"field_{i}": SCALARS[i] for i in range(4)}
        optional = {"type": "object", "properties": names, "required": list(names)[:n]}
        yield optional
        yield optional | {"additionalProperties": {"type": "null"}}
        yield {"type": "object", "additionalProperties": SCALARS[n], "maxProperties": n}
    yield {"type": "object", "required": ["x", "y"], "additionalProperties": {"const": 1}}
    yield {"type": "object", "patternProperties": {"^[a-c]$": {"const": 1}}, "maxProperties": 2} | {
        "additionalProperties": False
    }


def combined() -> Iterator[Schema]:
    """Yields schemas with references and alternatives."""
    for one, other in product(SCALARS, SCALARS[:3]):
        yield {"anyOf": [one, record({"other": other})]}
    for tag in ("type", "kind"):
        yield {"oneOf": [record({tag: {"const": name}, name: {"const": 1}}) for name in "abc"]}
    null = {"type": "null"}
    yield record({"next": {"anyOf": [{"$ref": "#"}, null]}})
    yield {
        "$ref": "#/$defs/node",
        "$defs": {
            "node": record(
                {
                    "name": {"enum": ["x", "y"]},
                    "children": {"type": "array", "items": {"$ref": "#/$defs/node"}, "maxItems": 2},
                }
            )
        },
    }
    yield {
        "definitions": {"id": {"type": "integer", "minimum": 1, "maximum": 9}},
        "allOf": [record({"a": {"$ref": "#/definitions/id"}})],
    }
    base = {"type": "object", "properties": {"a": {"type": "integer"}}, "required": ["a"]}
    yield {"allOf": [base, {"properties": {"a": {"minimum": 3, "maximum": 5}}}]}
    yield record({"any": True, "of": {"type": "array", "items": True, "maxItems": 1}})
    yield {"type": "object"}
    yield True


def unsupported() -> Iterator[tuple[str, Schema]]:
    """Yields schemas that are refused, each with the keyword."""
    yield "uniqueItems", {"type": "array", "uniqueItems": True}
    yield "contains", record({"a": {"contains": {"const": 1}}})
    for keyword in ("not", "if", "propertyNames", "dependentSchemas", "unevaluatedProperties"):
        yield keyword, {"type": "object", keyword: {}}
    yield "dependentRequired", {"type": "object", "dependentRequired": {"a": ["b"]}}
    yield "format", {"type": "string", "format": "iri"}


def supported() -> list[Schema]:
    """Returns all schemas that an answer can be held to."""
    return [*texts(), *numbers(), *lists(), *objects(), *combined()]
