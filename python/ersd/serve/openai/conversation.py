"""What a conversation asks of the model: a prompt, a grammar, and how its answer is read."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ersd import Generator
from ersd.api.chat import chat_template_of, render_chat, tokenize_chat
from ersd.api.tools import calls_source, function_source, text_with_calls_source
from ersd.grammars import Source
from ersd.serve.errors import ApiError
from ersd.serve.openai.call_reader import CallReader
from ersd.serve.openai.messages import ChatMessage, Function, NamedTool, ResponseFormat, ToolChoice
from ersd.serve.openai.parts import NamedCallReader, PlainReader, Reader

__all__ = ["Conversation"]

# How tools are offered, in Hermes' words, to a model whose chat template knows none.
_OFFER = """\
You may call one or more functions to assist with the user query.

You are provided with function signatures within <tools></tools> XML tags:
<tools>
{tools}
</tools>

For each function call, return a JSON object with function name and arguments within \
<tool_call></tool_call> XML tags:
<tool_call>
{{"name": <function-name>, "arguments": <args-json-object>}}
</tool_call>"""

_TAKEN = {"self", "messages", "tools", "tool_choice", "add_generation_prompt"}
_Form = dict[str, Any]  # a message or a tool as chat templates expect it


@dataclass(frozen=True)
class Conversation:
    """Messages, and what the model may or must answer.

    Attributes:
        messages: the messages in order.
        functions: the tools.
        choice: whether the model may call tools, or which one it must call.
        parallel: whether it may call several; None where it decides by itself.
        response_format: whether the text is JSON.
        grammar: GBNF that the text matches; None for any text.
        template_kwargs: more variables for the chat template.
        continues: whether the answer goes on with the last message.
        begins_answer: whether the prompt ends with what stands before an answer.
    """

    messages: Sequence[ChatMessage]
    functions: Sequence[Function] = ()
    choice: ToolChoice = "auto"
    parallel: bool | None = None
    response_format: ResponseFormat | None = None
    grammar: str | None = None
    template_kwargs: dict[str, Any] = field(default_factory=dict)
    continues: bool = False
    begins_answer: bool = True

    def prompt(self, generator: Generator) -> list[int]:
        """Returns the token ids of the prompt. The errors are those of `prompt_text`."""
        return tokenize_chat(generator, self.prompt_text(generator))

    def prompt_text(self, generator: Generator) -> str:
        """Returns the text of the prompt.

        Raises:
            ApiError: template_kwargs has a name that the template has for something else.
            ValueError: as `Generator.apply_chat_template`.
        """
        if taken := _TAKEN & self.template_kwargs.keys():
            raise ApiError(
                400,
                f"chat_template_kwargs must not have the key {min(taken)!r}",
                param="chat_template_kwargs",
            )
        messages = [message.template_form() for message in self.messages]
        begun = messages.pop()["content"] if self.continues else ""
        tools = [{"type": "function", "function": each.template_form()} for each in self._offered]
        if "tools" not in chat_template_of(generator, bool(tools)):
            messages, tools = _with_tools_as_text(messages, tools), []
        prompt = render_chat(
            generator,
            messages,
            tools=tools or None,
            add_generation_prompt=self.continues or self.begins_answer,
            tool_choice=self.choice if isinstance(self.choice, str) else self.choice.model_dump(),
            **_dates() | self.template_kwargs,
        )
        return f"{prompt}{begun}"

    def answer_options(self, given: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the options that say what the answer must match.

        Args:
            given: the other options of the request, perhaps with regex or lark.

        Raises:
            ApiError: the choice is none of the tools, or excludes the grammar.
            ValueError: an answer cannot be held to a schema.
        """
        called = [function.schema_form() for function in self._that_must_be_called()]
        if called:
            return {"grammar": self._source_of_calls(called)}
        form = self.response_format.engine_form() if self.response_format else None
        is_free = self.grammar is None and form is None and not {"regex", "lark"} & given.keys()
        if is_free and self._offered:
            offered = [function.schema_form() for function in self._offered]
            several = self.parallel is not False
            return {"grammar": text_with_calls_source(offered, several=several)}
        return {"grammar": self.grammar, "response_format": form}

    def _source_of_calls(self, called: Sequence[_Form]) -> Source:
        if self.grammar is not None:
            raise ApiError(400, "a tool that must be called excludes grammar", param="grammar")
        if isinstance(self.choice, NamedTool):
            return function_source(called[0])
        return calls_source(called, several=bool(self.parallel))

    def reader(self) -> Reader:
        """Returns what reads the answer."""
        if isinstance(self.choice, NamedTool):
            return NamedCallReader(self.choice.function.name)
        if not self._offered:
            return PlainReader()
        names = [function.name for function in self.functions]
        return CallReader(names, at_most_one=self.parallel is False)

    @property
    def _offered(self) -> Sequence[Function]:
        return () if self.choice == "none" else self.functions

    def _that_must_be_called(self) -> Sequence[Function]:
        """Returns the tools of which one must be called; empty if none must be."""
        if self.choice in ("none", "auto"):
            return ()
        names = [function.name for function in self.functions]
        if isinstance(self.choice, NamedTool):
            name = self.choice.function.name
            if name in names:
                return [self.functions[names.index(name)]]
            message = f"tool_choice must name one of the tools {names}, got {name!r}"
            raise ApiError(400, message, param="tool_choice")
        if not names:
            raise ApiError(400, "tool_choice 'required' needs tools", param="tool_choice")
        return self.functions


def _dates() -> _Form:
    """Returns today's date under the names, and in the forms, that some templates expect."""
    now = datetime.now()
    return {"date_string": now.strftime("%d %b %Y"), "datetime": now.strftime("%b %d %Y")}


def _with_tools_as_text(messages: list[_Form], tools: list[_Form]) -> list[_Form]:
    """Returns messages that offer tools, and show calls and what they gave, in their texts."""
    shown = [_with_calls_as_text(message) for message in messages]
    if not tools:
        return shown
    offer = _OFFER.format(tools="\n".join(json.dumps(tool, ensure_ascii=False) for tool in tools))
    if shown and shown[0]["role"] == "system":
        first = {**shown[0], "content": f"{shown[0]['content']}\n\n{offer}"}
        return [first, *shown[1:]]
    return [{"role": "system", "content": offer}, *shown]


def _with_calls_as_text(message: _Form) -> _Form:
    content = message["content"]
    if message["role"] in ("tool", "function"):
        return {"role": "user", "content": f"<tool_response>\n{content}\n</tool_response>"}
    if "tool_calls" not in message:
        return message
    calls = [json.dumps(call["function"], ensure_ascii=False) for call in message["tool_calls"]]
    text = "\n".join(f"<tool_call>\n{call}\n</tool_call>" for call in calls)
    return {"role": message["role"], "content": f"{content}\n{text}" if content else text}
