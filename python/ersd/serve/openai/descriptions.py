"""The forms of answers, for the OpenAPI description."""

from __future__ import annotations

from typing import Any, Literal

from pydantic import BaseModel

__all__ = ["ChatCompletion", "Completion", "Response"]


class TokenLogprob(BaseModel):
    """A token with its log-probability."""

    token: str
    logprob: float
    bytes: list[int]


class MessageTokenLogprob(TokenLogprob):
    """A token of a message, and the most probable ones at its place."""

    top_logprobs: list[TokenLogprob]


class MessageLogprobs(BaseModel):
    """The log-probabilities of a message."""

    content: list[MessageTokenLogprob]
    refusal: None


class TextLogprobs(BaseModel):
    """The log-probabilities of a text: four lists with one entry per token."""

    tokens: list[str]
    text_offset: list[int]
    token_logprobs: list[float]
    top_logprobs: list[dict[str, float]]


class FunctionCall(BaseModel):
    """The call of a function. The arguments are a text that should be JSON."""

    name: str
    arguments: str


class ToolCall(BaseModel):
    """The call of a tool."""

    id: str
    type: Literal["function"]
    function: FunctionCall


class AnswerMessage(BaseModel):
    """The message that answers a conversation."""

    role: Literal["assistant"]
    content: str | None
    refusal: None
    tool_calls: list[ToolCall] | None = None
    function_call: FunctionCall | None = None


class ChatChoice(BaseModel):
    """One of n messages."""

    index: int
    message: AnswerMessage
    logprobs: MessageLogprobs | None
    finish_reason: Literal["stop", "length", "tool_calls", "function_call"]


class TextChoice(BaseModel):
    """One of n texts."""

    index: int
    text: str
    logprobs: TextLogprobs | None
    finish_reason: Literal["stop", "length"]


class PromptTokens(BaseModel):
    """Where the tokens of a prompt came from."""

    cached_tokens: int


class CompletionTokens(BaseModel):
    """What became of the tokens of a prediction."""

    accepted_prediction_tokens: int
    rejected_prediction_tokens: int


class Usage(BaseModel):
    """The tokens of an answer."""

    prompt_tokens: int
    completion_tokens: int
    total_tokens: int
    prompt_tokens_details: PromptTokens
    completion_tokens_details: CompletionTokens


class Timings(BaseModel):
    """Counts and times in milliseconds under llama-server's names."""

    cache_n: int
    prompt_n: int
    prompt_ms: float
    prompt_per_token_ms: float
    prompt_per_second: float
    predicted_n: int
    predicted_ms: float
    predicted_per_token_ms: float
    predicted_per_second: float
    draft_n: int
    draft_n_accepted: int


class Speculative(BaseModel):
    """Counts of drafts under vLLM's names. A draft is what one call of the target checked."""

    num_drafts: int
    num_draft_tokens: int
    num_accepted_tokens: int
    acceptance_length: float
    tokens_per_call: float


class Record(BaseModel):
    """What every answer says of its seed, its times and its drafts."""

    seed: int
    timings: Timings
    speculative: Speculative


class Head(Record):
    """What completions have in common."""

    id: str
    created: int
    model: str
    system_fingerprint: str
    usage: Usage


class ChatCompletion(Head):
    """The answer to a conversation."""

    object: Literal["chat.completion"]
    choices: list[ChatChoice]


class Completion(Head):
    """The continuations of texts."""

    object: Literal["text_completion"]
    choices: list[TextChoice]


class CachedTokens(BaseModel):
    """How many tokens of the input were not read again."""

    cached_tokens: int
    cache_write_tokens: int


class ReasoningTokens(BaseModel):
    """How many tokens of the output are reasoning."""

    reasoning_tokens: int


class ResponseUsage(BaseModel):
    """The tokens of a response."""

    input_tokens: int
    input_tokens_details: CachedTokens
    output_tokens: int
    output_tokens_details: ReasoningTokens
    total_tokens: int


class OutputText(BaseModel):
    """The text of a message."""

    type: Literal["output_text"]
    text: str
    annotations: list[Any]
    logprobs: list[MessageTokenLogprob]


class OutputMessage(BaseModel):
    """A message of a response."""

    id: str
    type: Literal["message"]
    role: Literal["assistant"]
    status: Literal["completed", "incomplete"]
    content: list[OutputText]


class OutputCall(BaseModel):
    """The call of a function in a response."""

    id: str
    type: Literal["function_call"]
    status: Literal["completed", "incomplete"]
    call_id: str
    name: str
    arguments: str


class Response(Record):
    """A response."""

    id: str
    object: Literal["response"]
    created_at: int
    completed_at: int | None
    status: Literal["completed", "incomplete"]
    error: None
    incomplete_details: dict[str, str] | None
    instructions: str | None
    max_output_tokens: int | None
    metadata: dict[str, str]
    model: str
    output: list[OutputMessage | OutputCall]
    parallel_tool_calls: bool
    previous_response_id: None
    store: Literal[False]
    temperature: float
    text: dict[str, Any]
    tool_choice: str | dict[str, Any]
    tools: list[dict[str, Any]]
    top_logprobs: int
    top_p: float
    truncation: Literal["disabled"]
    usage: ResponseUsage
