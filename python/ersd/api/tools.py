"""Tools of a chat completion: which are offered to the model, and which one it must call."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any

from ersd.grammars import Source, lark_source, schema_source
from ersd.grammars.source import BLANKS, embedded

__all__ = [
    "Tool",
    "ToolChoice",
    "calls_source",
    "chosen_function",
    "function_source",
    "text_with_calls_source",
    "tools_and_choice",
]

_NAME, _ARGUMENTS = r'"\"name\""', r'"\"arguments\""'  # terminals of Lark grammars

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
        _check_functions(functions)
        tools = [{"type": "function", "function": function} for function in functions]
    if function_call is not None:
        tool_choice = function_call
        if not isinstance(function_call, str):
            if not isinstance(function_call, Mapping) or "name" not in function_call:
                raise TypeError(
                    "function_call must be 'none', 'auto' or a mapping with a 'name', "
                    f"got {function_call!r}"
                )
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
    chosen = tool_choice.get("function") if isinstance(tool_choice, Mapping) else None
    if not isinstance(chosen, Mapping) or "name" not in chosen:
        raise TypeError(
            "tool_choice must be 'none', 'auto' or a mapping whose 'function' has a 'name', "
            f"got {tool_choice!r}"
        )
    name = chosen["name"]
    functions: list[Mapping[str, Any]] = [tool["function"] for tool in tools or ()]
    _check_functions(functions)
    for function in functions:
        if function["name"] == name:
            return function
    raise ValueError(
        "tool_choice must name one of the tools "
        f"{[function['name'] for function in functions]}, got {name!r}"
    )


def _check_functions(functions: Any) -> None:
    """Raises TypeError unless each function is a mapping with a name."""
    is_list = isinstance(functions, Sequence) and not isinstance(functions, str | bytes)
    if not is_list or not all(isinstance(each, Mapping) and "name" in each for each in functions):
        raise TypeError(f"functions must be mappings with a 'name', got {functions!r}")


def function_source(
    function: Mapping[str, Any], grammar: object = None, response_format: object = None
) -> Source:
    """Returns the grammar of the arguments of a function that the model must call.

    Args:
        function: the function, with the JSON schema of its arguments as "parameters".
        grammar: must be None, as the function has its own grammar.
        response_format: must be None, as the function has its own grammar.

    Raises:
        ValueError: one of the others is given, or an answer cannot be held to the schema.
    """
    if grammar is not None or response_format is not None:
        raise ValueError(
            "a chosen tool excludes grammar and response_format: it has its own grammar"
        )
    return schema_source(_parameters(function), _owner(function))


def calls_source(functions: Sequence[Mapping[str, Any]], *, several: bool) -> Source:
    """Returns the grammar of a call of one of these functions.

    A call is the JSON object ``{"name": ..., "arguments": ...}``.

    Args:
        functions: each with its "name" and the JSON schema of its arguments as "parameters".
        several: whether the text is a list of one call or more.

    Raises:
        ValueError: an answer cannot be held to a schema.
    """
    start = '"[" ws call (ws "," ws call)* ws "]"' if several else "call"
    return _with_calls(f"start: {start}\n", functions)


def text_with_calls_source(functions: Sequence[Mapping[str, Any]], *, several: bool) -> Source:
    """Returns the grammar of any text in which calls stand as Hermes and Qwen write them.

    What begins with ``<tool_call>`` is a call, and ends with ``</tool_call>``.

    Args:
        functions: see `calls_source`.
        several: whether text and further calls may follow a call.

    Raises:
        ValueError: an answer cannot be held to a schema.
    """
    start = "tagged* rest" if several else "tagged | rest"
    head = (
        f"start: {start}\n"
        "rest: /(.|\\n)*/\n"
        'tagged: tag ws call ws "</tool_call>"\n'
        'tag[lazy]: /(.|\\n)*/ "<tool_call>"\n'
    )
    return _with_calls(head, functions)


def _with_calls(head: str, functions: Sequence[Mapping[str, Any]]) -> Source:
    """Returns a grammar whose first rules use the rules call and ws."""
    parts = [schema_source(_parameters(each), _owner(each)) for each in functions]
    rules = [f"call: {' | '.join(f'call_{i}' for i in range(len(parts)))}", f"ws: /{BLANKS}/?"]
    for i, function in enumerate(functions):
        name = _literal(json.dumps(function["name"], ensure_ascii=False))
        before = f'"{{" ws {_NAME} ws ":" ws {name} ws "," ws'
        arguments = f'{_ARGUMENTS} ws ":" ws %json {embedded(_parameters(function))}'
        rules.append(f'call_{i}: {before} {arguments} ws "}}"')
    source = lark_source(head + "\n".join(rules), "tools must have schemas that fit together")
    return source._replace(parts=tuple(parts))


def _parameters(function: Mapping[str, Any]) -> Any:
    given = function.get("parameters")
    return {"type": "object", "properties": {}} if given is None else given


def _owner(function: Mapping[str, Any]) -> str:
    return f"the tool {function['name']!r}"


def _literal(text: str) -> str:
    """Returns a terminal of a Lark grammar."""
    return json.dumps(text, ensure_ascii=False)
