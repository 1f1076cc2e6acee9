"""Tools of a chat completion: which are offered to the model, and which one it must call."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ersd.grammars import schema_grammar

__all__ = [
    "Tool",
    "ToolChoice",
    "calls_grammar",
    "chosen_function",
    "function_grammar",
    "tools_and_choice",
]

Tool = Mapping[str, Any]
ToolChoice = str | Mapping[str, Any]


def tools_and_choice(
    functions: Sequence[Mapping[str, Any]] | None,
    function_call: ToolChoice | None,
    tools: Sequence[Tool] | None,
    tool_choice: ToolChoice | None,
) -> tuple[Sequence[Tool] | None, ToolChoice | None]:
    """Returns tools and tool_choice. They come from the older functions and function_call if given.

    The choice "none" leaves no tools.
    """
    if functions is not None:
        tools = [{"type": "function", "function": function} for function in functions]
    if function_call is not None:
        tool_choice = function_call
        if not isinstance(function_call, str):
            tool_choice = {"type": "function", "function": {"name": function_call["name"]}}
    return (None if tool_choice == "none" else tools), tool_choice


def chosen_function(
    tools: Sequence[Tool] | None, tool_choice: ToolChoice | None
) -> Mapping[str, Any] | None:
    """Returns the function that the model must call; None if the model may choose.

    Raises:
        ValueError: the choice is not "none", "auto" or one of the tools.
    """
    if tool_choice is None or isinstance(tool_choice, str):
        if tool_choice not in (None, "none", "auto"):
            raise ValueError(
                f"tool_choice must be 'none', 'auto' or a function by its name, got {tool_choice!r}"
            )
        return None
    name = tool_choice["function"]["name"]
    functions: list[Mapping[str, Any]] = [tool["function"] for tool in tools or ()]
    for function in functions:
        if function["name"] == name:
            return function
    raise ValueError(
        "tool_choice must name one of the tools "
        f"{[function['name'] for function in functions]}, got {name!r}"
    )


def function_grammar(function: Mapping[str, Any], grammar: object, response_format: object) -> str:
    """Returns the GBNF grammar of the arguments of a function that the model must call.

    Args:
        function: the function, with the JSON schema of its arguments as "parameters".
        grammar: must be None, as the function has its own grammar.
        response_format: must be None, as the function has its own grammar.

    Raises:
        ValueError: one of the others is given, or llama-cpp-python cannot convert the schema.
    """
    if grammar is not None or response_format is not None:
        raise ValueError(
            "a chosen tool excludes grammar and response_format: it has its own grammar"
        )
    return schema_grammar(function.get("parameters"), f"the tool {function['name']!r}")


def calls_grammar(functions: Sequence[Mapping[str, Any]], *, several: bool) -> str:
    """Returns the GBNF grammar of a call of one of these functions.

    A call is the JSON object ``{"name": ..., "arguments": ...}``.

    Args:
        functions: each with its "name" and the JSON schema of its arguments as "parameters".
        several: whether the text is a list of one call or more.

    Raises:
        ValueError: llama-cpp-python cannot convert a schema.
    """
    definitions: list[Any] = []
    calls: list[Any] = [
        {
            "type": "object",
            "properties": {
                "name": {"const": function["name"]},
                "arguments": _with_moved_references(function["parameters"], definitions),
            },
            "required": ["name", "arguments"],
        }
        for function in functions
    ]
    schema: dict[str, Any] = {"anyOf": calls}
    if several:
        schema = {"type": "array", "items": schema, "minItems": 1}
    named = {_definition(i): each for i, each in enumerate(definitions)}
    return schema_grammar({**schema, "$defs": named}, "a tool")


def _definition(i: int) -> str:
    return f"definition-{i}"


def _with_moved_references(schema: Any, definitions: list[Any]) -> Any:
    """Returns a schema that may stand within another one.

    What it refers to by ``$ref`` is added to the definitions of the other one.
    """
    moved: dict[str, str] = {}  # references in the schema, and in the other one

    def move(node: Any) -> Any:
        if isinstance(node, list):
            return [move(each) for each in node]
        if not isinstance(node, Mapping):
            return node
        reference = node.get("$ref")
        if not isinstance(reference, str) or not reference.startswith("#/"):
            return {key: move(value) for key, value in node.items()}
        if reference not in moved:
            i = len(definitions)
            definitions.append(None)
            moved[reference] = f"#/$defs/{_definition(i)}"
            definitions[i] = move(_referenced(schema, reference))
        return {"$ref": moved[reference]}

    return move(schema)


def _referenced(schema: Any, reference: str) -> Any:
    """Returns the part of a schema to which a reference like ``#/$defs/name`` points."""
    for key in reference.split("/")[1:]:
        if not isinstance(schema, Mapping) or key not in schema:
            raise ValueError(f"a tool has a schema with the reference {reference!r} to nothing")
        schema = schema[key]
    return schema
