"""Tools of a chat: which ones the model may or must call, as a grammar, and how a call is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from ersd.api.call_forms import Function, arguments_source, form_in_template
from ersd.api.call_reader import CallReader
from ersd.api.chat import chat_template_of
from ersd.api.message_parts import NamedCallReader, PlainReader, Reader
from ersd.engine import Engine
from ersd.grammars import Source

__all__ = ["Tool", "ToolChoice", "ToolUse", "tool_use", "tools_and_choice"]

Tool = Mapping[str, Any]
ToolChoice = str | Mapping[str, Any]

_CHOICES = ("none", "auto", "required")
_GRAMMARS = ("grammar", "regex", "lark")  # options that say what all of an answer is


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


def tool_use(
    functions: Sequence[Function], choice: ToolChoice | None, parallel: bool | None
) -> ToolUse:
    """Returns what a choice of tools means.

    Args:
        functions: the tools, each with its "name" and the JSON schema of its arguments as
            "parameters".
        choice: "none", "auto", "required", or a mapping that names the tool that must be called;
            None for "auto".
        parallel: whether there may be several calls; None where the model decides by itself.

    Raises:
        ValueError: the choice is none of these, or there is no such tool.
    """
    _check_functions(functions)
    names = [function["name"] for function in functions]
    if choice is not None and not isinstance(choice, str):
        name = _name_of(choice)
        if name not in names:
            raise ValueError(f"tool_choice must name one of the tools {names}, got {name!r}")
        return ToolUse([functions[names.index(name)]], "named", False)
    choice = choice or "auto"
    if choice not in _CHOICES:
        raise ValueError(
            "tool_choice must be 'none', 'auto', 'required' or a function by its name, "
            f"got {choice!r}"
        )
    if choice == "required" and not names:
        raise ValueError("tool_choice needs tools to be 'required'")
    return ToolUse([] if choice == "none" else functions, choice, parallel)


def _check_functions(functions: Any) -> None:
    """Raises TypeError unless each function is a mapping with a name."""
    is_list = isinstance(functions, Sequence) and not isinstance(functions, str | bytes)
    if not is_list or not all(isinstance(each, Mapping) and "name" in each for each in functions):
        raise TypeError(f"functions must be mappings with a 'name', got {functions!r}")


def _name_of(choice: Any) -> Any:
    """Returns the name of a chosen tool. Raises TypeError if there is none."""
    chosen = choice.get("function") if isinstance(choice, Mapping) else None
    if not isinstance(chosen, Mapping) or "name" not in chosen:
        raise TypeError(
            "tool_choice must be 'none', 'auto', 'required' or a mapping whose 'function' has a "
            f"'name', got {choice!r}"
        )
    return chosen["name"]


@dataclass(frozen=True)
class ToolUse:
    """Which tools an answer may or must call.

    Attributes:
        functions: the tools that may be called.
        choice: "none", "auto", "required", or "named" for the only one of the functions.
        parallel: whether there may be several calls; None where the model decides by itself.
    """

    functions: Sequence[Function]
    choice: str
    parallel: bool | None

    @property
    def must_call(self) -> bool:
        """Whether the answer is a call."""
        return self.choice in ("required", "named")

    def answer_options(self, engine: Engine, given: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the options of an answer, with a grammar of calls in the template's form.

        Where a tool must be called there is no text, so a response_format has no effect. Where one
        may be called, a grammar or response_format that is given holds for the whole answer.

        Args:
            engine: has the chat template and the vocabulary.
            given: options of `Engine.stream`.

        Raises:
            ValueError: a grammar is given though a tool must be called, or an answer cannot be held
                to a schema.
        """
        wanted = [name for name in _GRAMMARS if given.get(name) is not None]
        if self.must_call and wanted:
            raise ValueError(
                f"{wanted[0]} must not be given where a tool must be called: a call has its own "
                "grammar"
            )
        is_free = not wanted and given.get("response_format") is None
        if self.must_call or (self.functions and is_free):
            return {**given, "grammar": self._source(engine), "response_format": None}
        return dict(given)

    def _source(self, engine: Engine) -> Source:
        if self.choice == "named":
            return arguments_source(self.functions[0])
        form = form_in_template(chat_template_of(engine, True))
        tokens = [(mark, _control_token(engine, mark)) for mark in form.marks]
        form = replace(form, control=tuple((mark, t) for mark, t in tokens if t is not None))
        if self.choice == "required":
            return form.calls(self.functions, several=bool(self.parallel))
        return form.text_or_calls(self.functions, several=self.parallel is not False)

    def reader(self) -> Reader:
        """Returns what reads the message from the text of an answer."""
        if self.choice == "named":
            return NamedCallReader(self.functions[0]["name"])
        if not self.functions:
            return PlainReader()
        names = [function["name"] for function in self.functions]
        return CallReader(names, at_most_one=self.parallel is False)


def _control_token(engine: Engine, mark: str) -> int | None:
    """Returns the control token that a mark is; None if it is text."""
    tokens = engine.tokenize(mark, add_special=False)
    return tokens[0] if len(tokens) == 1 and not engine.target.piece(tokens[0]) else None
