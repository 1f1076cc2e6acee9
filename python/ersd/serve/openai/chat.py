"""/v1/chat/completions: the request and the endpoint."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from ersd import Generator
from ersd.serve.errors import ApiError
from ersd.serve.openai.chat_answer import ChatAnswer
from ersd.serve.openai.choices import ChoicesRequest
from ersd.serve.openai.conversation import Conversation
from ersd.serve.openai.endpoint import Endpoint
from ersd.serve.openai.generations import Generations, Plan
from ersd.serve.openai.messages import (
    ChatMessage,
    Function,
    FunctionReference,
    NamedTool,
    ToolChoice,
    Tools,
)
from ersd.serve.openai.sampling import TopLogprobs
from ersd.serve.server import Server

__all__ = ["ChatEndpoint", "ChatRequest"]


class ChatRequest(ChoicesRequest):
    """A request for the next message of a conversation."""

    messages: list[ChatMessage] = Field(min_length=1, max_length=4096)
    max_completion_tokens: int | None = Field(None, description="The largest number of tokens.")
    max_tokens: int | None = Field(None, description="The older name of max_completion_tokens.")
    logprobs: bool | None = None
    top_logprobs: TopLogprobs | None = None
    tools: Tools | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    functions: Annotated[list[Function], Field(max_length=128)] | None = None
    function_call: Literal["none", "auto"] | FunctionReference | None = None
    chat_template_kwargs: dict[str, Any] | None = Field(
        None, description="More variables for the chat template."
    )

    add_generation_prompt: bool | None = Field(
        None, description="Whether the prompt ends with the beginning of a new message."
    )
    continue_final_message: bool | None = Field(
        None,
        description="Whether the answer goes on with the last message. Without this and "
        "add_generation_prompt, it does if that is the assistant's.",
    )

    @model_validator(mode="after")
    def _check(self) -> ChatRequest:
        if self.top_logprobs is not None and not self.logprobs:
            raise PydanticCustomError("no_logprobs", "top_logprobs needs logprobs to be true")
        return self

    def conversation(self) -> Conversation:
        """Returns what is asked of the model."""
        choice: ToolChoice = self.tool_choice or "auto"
        if isinstance(self.function_call, FunctionReference):
            choice = NamedTool(type="function", function=self.function_call)
        elif self.function_call is not None:
            choice = self.function_call
        functions = [tool.function for tool in self.tools or ()]
        return Conversation(
            self.messages,
            functions or self.functions or (),
            choice,
            # The older functions are called one at a time.
            False if self.has_older_names else self.parallel_tool_calls,
            self.wanted_format(),
            self.grammar,
            self.chat_template_kwargs or {},
            continues=self._continues(),
            begins_answer=self.add_generation_prompt is not False,
        )

    def _continues(self) -> bool:
        last = self.messages[-1]
        calls = last.tool_calls or last.function_call
        can = last.role == "assistant" and bool(last.content) and not calls
        if self.continue_final_message is None:
            return can and self.add_generation_prompt is None
        if self.continue_final_message and (not can or self.add_generation_prompt):
            raise ApiError(
                400,
                "continue_final_message needs a last message of the assistant with a text, without "
                "calls, and no add_generation_prompt",
                param="continue_final_message",
            )
        return self.continue_final_message

    @property
    def has_older_names(self) -> bool:
        """Whether tools are given, and called, under their older names."""
        return not self.tools and bool(self.functions)

    def n_top_logprobs(self) -> int | None:
        """Returns the number of alternatives of each token; None for no log-probabilities."""
        return (self.top_logprobs or self.n_probs or 0) if self.logprobs else self.n_probs

    def length(self) -> dict[str, int]:
        """Returns the option max_tokens if the request has it, under any of its names."""
        names = (self.max_completion_tokens, self.max_tokens, self.n_predict)
        given = [n for n in names if n is not None]
        return {"max_tokens": given[0]} if given else {}


class ChatEndpoint(Endpoint[ChatRequest]):
    """Answers conversations."""

    form = ChatRequest

    def n_choices(self, asked: ChatRequest) -> int:
        """See `Endpoint`."""
        return asked.n or 1

    def plan(self, generator: Generator, asked: ChatRequest) -> Plan:
        """See `Endpoint`."""
        conversation = asked.conversation()
        options = asked.options() | {"logprobs": asked.n_top_logprobs(), **asked.length()}
        options = conversation.answer_options(generator, options)
        prompt = conversation.prompt(generator)
        return Plan([prompt], asked.n or 1, asked.seed, options)

    def answer(self, server: Server, asked: ChatRequest, generations: Generations) -> ChatAnswer:
        """See `Endpoint`."""
        conversation = asked.conversation()
        readers = [conversation.reader() for _ in generations.streams]
        return ChatAnswer(server, generations, asked, readers, older_calls=asked.has_older_names)
