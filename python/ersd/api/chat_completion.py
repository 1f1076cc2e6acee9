"""`Llama.create_chat_completion` of llama-cpp-python, on the engine."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

from ersd.api.call_responses import Calls, NamedCall
from ersd.api.chat import Message, apply_chat_template, chat_template_of
from ersd.api.parameters import Parameters, engine_options
from ersd.api.responses import Chat, Response, answer
from ersd.api.tool_offers import with_tools_as_text
from ersd.api.tools import Tool, ToolChoice, ToolUse, tool_use, tools_and_choice
from ersd.engine import Engine
from ersd.engine.options import LogitsProcessor

if TYPE_CHECKING:
    from llama_cpp.llama_grammar import LlamaGrammar
    from openai.types.chat import ChatCompletion, ChatCompletionChunk

__all__ = ["as_openai_objects", "create_chat_completion", "create_chat_completion_openai_v1"]


def create_chat_completion(
    self: Engine,
    messages: Sequence[Message],
    functions: Sequence[Mapping[str, Any]] | None = None,
    function_call: str | Mapping[str, Any] | None = None,
    tools: Sequence[Mapping[str, Any]] | None = None,
    tool_choice: str | Mapping[str, Any] | None = None,
    temperature: float = 0.2,
    top_p: float = 0.95,
    top_k: int = 40,
    min_p: float = 0.05,
    typical_p: float = 1.0,
    stream: bool = False,
    stop: str | Sequence[str] | None = (),
    seed: int | None = None,
    response_format: Mapping[str, Any] | None = None,
    max_tokens: int | None = None,
    presence_penalty: float = 0.0,
    frequency_penalty: float = 0.0,
    repeat_penalty: float = 1.0,
    tfs_z: float = 1.0,
    mirostat_mode: int = 0,
    mirostat_tau: float = 5.0,
    mirostat_eta: float = 0.1,
    model: str | None = None,
    logits_processor: LogitsProcessor | Sequence[LogitsProcessor] | None = None,
    grammar: str | LlamaGrammar | None = None,
    logit_bias: Mapping[Any, float] | None = None,
    logprobs: bool | None = None,
    top_logprobs: int | None = None,
    *,
    parallel_tool_calls: bool | None = None,
    **options: Any,
) -> Response | Iterator[Response]:
    """Answers a conversation, like `Llama.create_chat_completion`, with its dictionaries.

    Args:
        messages: see `Generator.chat`, also for tools.
        functions, function_call: the older names of tools and tool_choice.
        tool_choice: "auto", "required", "none", or a mapping that names the tool to be called.
        parallel_tool_calls: whether there may be several calls; by default only with "auto".
        logprobs: whether tokens have logprobs, each with top_logprobs alternatives.
        options: options of `Generator.stream`, among them `prediction` in OpenAI's form. For the
            others see `create_completion`.

    Raises:
        ValueError, TypeError: as `Generator.chat`; or a parameter cannot be honoured.
    """
    tools, tool_choice = tools_and_choice(functions, function_call, tools, tool_choice)
    use = tool_use([each["function"] for each in tools or ()], tool_choice, parallel_tool_calls)
    given: Parameters = {"max_tokens": max_tokens, "seed": seed, "stop": stop}
    given |= {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}
    given |= {"typical_p": typical_p, "tfs_z": tfs_z, "mirostat_mode": mirostat_mode}
    given |= {"repeat_penalty": repeat_penalty, "frequency_penalty": frequency_penalty}
    given |= {"presence_penalty": presence_penalty, "logit_bias": logit_bias, "grammar": grammar}
    given |= {"response_format": response_format, "logits_processor": logits_processor}
    given["logprobs"] = (top_logprobs or 0) if logprobs else None
    options = use.answer_options(self, engine_options(given, options))
    prompt = _prompt(self, messages, tools, tool_choice, use)
    return answer(self, prompt, options, _choice(self, model, use), stream)


def _prompt(
    engine: Engine,
    messages: Sequence[Message],
    tools: Sequence[Tool] | None,
    tool_choice: ToolChoice | None,
    use: ToolUse,
) -> list[int]:
    """Returns the prompt of a conversation.

    A template that knows no tools does not offer them, as in llama-cpp-python. But where the model
    must choose one, it is told in the text of the messages which ones there are.
    """
    if use.choice == "required" and "tools" not in chat_template_of(engine, True):
        messages, tools = with_tools_as_text(messages, tools or ()), None
    return apply_chat_template(engine, messages, tools=tools, tool_choice=tool_choice)


def _choice(engine: Engine, model: str | None, use: ToolUse) -> Chat:
    """Returns what writes the answer."""
    if use.choice == "named":
        return NamedCall(engine, model, use.functions[0]["name"])
    return Calls(engine, model, use.reader()) if use.functions else Chat(engine, model)


def create_chat_completion_openai_v1(
    self: Engine, *args: Any, **kwargs: Any
) -> ChatCompletion | Iterator[ChatCompletionChunk]:
    """Answers like `create_chat_completion`, with objects of the package openai.

    Raises:
        ImportError: openai is not installed.
    """
    return as_openai_objects(create_chat_completion(self, *args, **kwargs))


def as_openai_objects(
    response: Response | Iterator[Response],
) -> ChatCompletion | Iterator[ChatCompletionChunk]:
    """Returns a chat completion or its chunks as objects of the package openai.

    Raises:
        ImportError: openai is not installed.
    """
    from openai.types.chat import ChatCompletion, ChatCompletionChunk

    if isinstance(response, dict):
        return ChatCompletion(**response)
    return (ChatCompletionChunk(**chunk) for chunk in response)
