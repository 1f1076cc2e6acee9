"""/v1/chat/completions: the request and the endpoint."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import Field, model_validator
from pydantic_core import PydanticCustomError

from ersd import Generator
from ersd.serve.body import Body
from ersd.serve.openai.chat_answer import ChatAnswer
from ersd.serve.openai.conversation import Conversation
from ersd.serve.openai.endpoint import Endpoint
from ersd.serve.openai.generations import Generations, Plan
from ersd.serve.openai.messages import (
    ChatMessage,
    Function,
    FunctionReference,
    NamedTool,
    Parts,
    ResponseFormat,
    ToolChoice,
    Tools,
)
from ersd.serve.openai.sampling import MAX_CHOICES, Generation, TopLogprobs
from ersd.serve.server import Server

__all__ = ["ChatEndpoint", "ChatRequest"]


class Prediction(Body):
    """A text that the answer may resemble."""

    type: Literal["content"]
    content: str | Parts


class ChatRequest(Generation):
    """A request for the next message of a conversation."""

    messages: list[ChatMessage] = Field(min_length=1, max_length=4096)
    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    max_completion_tokens: int | None = Field(None, description="The largest number of tokens.")
    max_tokens: int | None = Field(None, description="The older name of max_completion_tokens.")
    logprobs: bool | None = None
    top_logprobs: TopLogprobs | None = None
    response_format: ResponseFormat | None = None
    tools: Tools | None = None
    tool_choice: ToolChoice | None = None
    parallel_tool_calls: bool | None = None
    functions: Annotated[list[Function], Field(max_length=128)] | None = None
    function_call: Literal["none", "auto"] | FunctionReference | None = None
    prediction: Prediction | None = Field(None, description="Accepted; it is not used yet.")
    chat_template_kwargs: dict[str, Any] | None = Field(
        None, description="More variables for the chat template."
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
            self.response_format,
            self.grammar,
            self.chat_template_kwargs or {},
        )

    @property
    def has_older_names(self) -> bool:
        """Whether tools are given, and called, under their older names."""
        return not self.tools and bool(self.functions)

    def n_top_logprobs(self) -> int | None:
        """Returns the number of alternatives of each token; None for no log-probabilities."""
        return (self.top_logprobs or 0) if self.logprobs else None

    def n_tokens(self) -> int | None:
        """Returns the largest number of tokens; None for as many as the context has room for."""
        given = self.max_completion_tokens
        return self.max_tokens if given is None else given


class ChatEndpoint(Endpoint[ChatRequest]):
    """Answers conversations."""

    form = ChatRequest

    def n_choices(self, asked: ChatRequest) -> int:
        """See `Endpoint`."""
        return asked.n or 1

    def plan(self, generator: Generator, asked: ChatRequest) -> Plan:
        """See `Endpoint`."""
        conversation = asked.conversation()
        options = asked.options() | {
            "max_tokens": asked.n_tokens(),
            "logprobs": asked.n_top_logprobs(),
            "grammar": conversation.gbnf() or None,
        }
        prompt = conversation.prompt(generator)
        return Plan([prompt], asked.n or 1, asked.first_seed(), options)

    def answer(self, server: Server, asked: ChatRequest, generations: Generations) -> ChatAnswer:
        """See `Endpoint`."""
        conversation = asked.conversation()
        readers = [conversation.reader() for _ in generations.streams]
        return ChatAnswer(server, generations, asked, readers, older_calls=asked.has_older_names)
