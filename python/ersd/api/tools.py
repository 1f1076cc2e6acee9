"""Tools of a chat completion: which are offered to the model, and which one it must call."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ersd._loader import llama_cpp_module

__all__ = ["Tool", "ToolChoice", "chosen_function", "function_grammar", "tools_and_choice"]

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
    to_grammar = llama_cpp_module("llama_grammar").json_schema_to_gbnf
    try:
        return str(to_grammar(json.dumps(function["parameters"])))
    except Exception as error:
        raise ValueError(
            f"the parameters of the tool {function['name']!r} are no JSON schema "
            f"that has a grammar: {error}"
        ) from error
