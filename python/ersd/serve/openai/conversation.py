"""What a conversation asks of the model: a prompt, a grammar, and how its answer is read."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from ersd import Generator
from ersd.api.chat import chat_template_of, render_chat, tokenize_chat
from ersd.api.message_parts import Reader
from ersd.api.tool_offers import with_tools_as_text
from ersd.api.tools import ToolUse, tool_use
from ersd.serve.errors import ApiError
from ersd.serve.openai.messages import ChatMessage, Function, ResponseFormat, ToolChoice

__all__ = ["Conversation"]

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
            messages, tools = with_tools_as_text(messages, tools), []
        prompt = render_chat(
            generator,
            messages,
            tools=tools or None,
            add_generation_prompt=self.continues or self.begins_answer,
            tool_choice=self.choice if isinstance(self.choice, str) else self.choice.model_dump(),
            **_dates() | self.template_kwargs,
        )
        return f"{prompt}{begun}"

    def answer_options(self, generator: Generator, given: Mapping[str, Any]) -> dict[str, Any]:
        """Returns the options of the answer, with what it must match.

        Args:
            generator: has the chat template.
            given: the other options of the request.

        Raises:
            ValueError: as `tool_use` and `ToolUse.answer_options`.
        """
        form = self.response_format.engine_form() if self.response_format else None
        wanted = {"grammar": self.grammar, "response_format": form}
        return self._tool_use.answer_options(generator, {**given, **wanted})

    def reader(self) -> Reader:
        """Returns what reads the answer."""
        return self._tool_use.reader()

    @property
    def _tool_use(self) -> ToolUse:
        choice = self.choice if isinstance(self.choice, str) else self.choice.model_dump()
        return tool_use([each.schema_form() for each in self.functions], choice, self.parallel)

    @property
    def _offered(self) -> Sequence[Function]:
        return () if self.choice == "none" else self.functions


def _dates() -> _Form:
    """Returns today's date under the names, and in the forms, that some templates expect."""
    now = datetime.now()
    return {"date_string": now.strftime("%d %b %Y"), "datetime": now.strftime("%b %d %Y")}
