"""Requests of /v1/responses, as conversations."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import groupby
from typing import Annotated, Any, Literal

from pydantic import Field

from ersd.serve.body import Body
from ersd.serve.errors import ApiError
from ersd.serve.openai.conversation import Conversation
from ersd.serve.openai.messages import (
    CalledFunction,
    ChatMessage,
    Function,
    FunctionReference,
    MessageCall,
    NamedTool,
    Parts,
    ResponseFormat,
    ToolChoice,
)
from ersd.serve.openai.sampling import Generation, TopLogprobs, at_most

__all__ = ["ResponsesRequest"]

_LOGPROBS = "message.output_text.logprobs"


class MessageItem(Body):
    """A message."""

    type: Literal["message"] = "message"
    role: Literal["user", "assistant", "system", "developer"]
    content: str | Parts

    def message(self) -> ChatMessage:
        """Returns the message of a chat."""
        return ChatMessage(role=self.role, content=self.content)


class CallItem(Body):
    """A call of a function by the model."""

    type: Literal["function_call"]
    call_id: str
    name: str
    arguments: str

    def message_call(self) -> MessageCall:
        """Returns the call as one of a message."""
        function = CalledFunction(name=self.name, arguments=self.arguments)
        return MessageCall(id=self.call_id, function=function)


class CallOutputItem(Body):
    """What a called function returned."""

    type: Literal["function_call_output"]
    call_id: str
    output: str | Parts

    def message(self) -> ChatMessage:
        """Returns the message of a chat."""
        output = {"role": "tool", "content": self.output, "tool_call_id": self.call_id}
        return ChatMessage.model_validate(output)


class ReasoningItem(Body):
    """Reasoning of another model. It is ignored."""

    type: Literal["reasoning"]


InputItem = MessageItem | CallItem | CallOutputItem | ReasoningItem


class ResponsesTool(Function):
    """A function that the model may call."""

    type: Literal["function"]


class ResponsesNamedTool(FunctionReference):
    """A function that the model must call."""

    type: Literal["function"]


class TextFormat(ResponseFormat):
    """Whether the text is JSON."""

    name: str | None = None
    description: str | None = None
    strict: bool | None = None


class TextOptions(Body):
    """The form of the text."""

    format: TextFormat | None = None


class ResponsesRequest(Generation):
    """A request for a response."""

    input: str | Annotated[list[InputItem], Field(min_length=1, max_length=4096)]
    instructions: str | None = Field(None, description="A message of the system that comes first.")
    max_output_tokens: int | None = Field(None, description="The largest number of tokens.")
    tools: Annotated[list[ResponsesTool], Field(max_length=128)] | None = None
    tool_choice: Literal["none", "auto", "required"] | ResponsesNamedTool | None = None
    parallel_tool_calls: bool | None = None
    text: TextOptions | None = None
    include: Annotated[list[str], Field(max_length=64)] | None = None
    top_logprobs: TopLogprobs | None = None
    metadata: Annotated[dict[str, str], at_most(16)] | None = None
    previous_response_id: str | None = Field(None, description="Must be null: nothing is stored.")
    conversation: Any = Field(None, description="Must be null: nothing is stored.")
    background: bool | None = Field(None, description="Must not be true: nothing is stored.")

    def check(self) -> None:
        """Raises ApiError if the request needs responses that are stored."""
        asked = {
            "previous_response_id": self.previous_response_id,
            "conversation": self.conversation,
            "background": self.background or None,
        }
        for name, value in asked.items():
            if value is not None:
                raise ApiError(
                    400,
                    f"this server stores no responses, so it has no {name}: "
                    "send the whole conversation as input",
                    param=name,
                )

    def asks_of_model(self) -> Conversation:
        """Returns what is asked of the model."""
        choice: ToolChoice = "auto"
        if isinstance(self.tool_choice, ResponsesNamedTool):
            choice = NamedTool(
                type="function", function=FunctionReference(name=self.tool_choice.name)
            )
        elif self.tool_choice is not None:
            choice = self.tool_choice
        return Conversation(
            self._messages(),
            self.tools or (),
            choice,
            self.parallel_tool_calls,
            self.text.format if self.text else None,
            self.grammar,
        )

    def n_top_logprobs(self) -> int | None:
        """Returns the number of alternatives of each token; None for no log-probabilities."""
        if self.top_logprobs is None and _LOGPROBS not in (self.include or ()):
            return None
        return self.top_logprobs or 0

    def _messages(self) -> list[ChatMessage]:
        messages = []
        if self.instructions:
            messages.append(ChatMessage(role="system", content=self.instructions))
        if isinstance(self.input, str):
            return [*messages, ChatMessage(role="user", content=self.input)]
        return messages + _messages_of(self.input)


def _messages_of(items: Sequence[InputItem]) -> list[ChatMessage]:
    """Returns items as messages. Calls that follow each other are of one message."""
    messages: list[ChatMessage] = []
    for are_calls, group in groupby(items, lambda item: isinstance(item, CallItem)):
        if are_calls:
            calls = [item.message_call() for item in group if isinstance(item, CallItem)]
            messages.append(ChatMessage(role="assistant", tool_calls=calls))
        else:
            messages += [
                item.message() for item in group if isinstance(item, MessageItem | CallOutputItem)
            ]
    return messages
