"""Code written for `llama_cpp.Llama` runs on a `Generator`: the same calls, the same parameters, the same dictionaries."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ersd._loader import llama_cpp_module
from ersd.api.chat import Message, apply_chat_template
from ersd.api.responses import Chat, Choice, Response, Text, ToolCall, chunks, usage
from ersd.options import LogitsProcessor
from ersd.stream import Step

if TYPE_CHECKING:
    from llama_cpp.llama_grammar import LlamaGrammar
    from openai.types.chat import ChatCompletion, ChatCompletionChunk

    from ersd.generator import Generator

# Parameters that `stream` takes too, or that _options knows what to do with.
_OPTIONS = frozenset(
    [
        "max_tokens",
        "temperature",
        "top_k",
        "top_p",
        "min_p",
        "typical_p",
        "repeat_penalty",
        "frequency_penalty",
        "presence_penalty",
        "tfs_z",
        "mirostat_mode",
        "logit_bias",
        "grammar",
        "response_format",
        "logits_processor",
        "logprobs",
        "seed",
        "stop",
    ]
)

StoppingCriteria = Callable[[npt.NDArray[np.intc], npt.NDArray[np.single]], bool]

__all__ = ["create_chat_completion", "create_chat_completion_openai_v1", "create_completion"]


def create_completion(
    self: Generator,
    prompt: str | Sequence[int],
    suffix: str | None = None,
    max_tokens: int | None = 16,
    temperature: float = 0.8,
    top_p: float = 0.95,
    min_p: float = 0.05,
    typical_p: float = 1.0,
    logprobs: int | None = None,
    echo: bool = False,
    stop: str | Sequence[str] | None = (),
    frequency_penalty: float = 0.0,
    presence_penalty: float = 0.0,
    repeat_penalty: float = 1.0,
    top_k: int = 40,
    stream: bool = False,
    seed: int | None = None,
    tfs_z: float = 1.0,
    mirostat_mode: int = 0,
    mirostat_tau: float = 5.0,
    mirostat_eta: float = 0.1,
    model: str | None = None,
    stopping_criteria: StoppingCriteria | Sequence[StoppingCriteria] | None = None,
    logits_processor: LogitsProcessor | Sequence[LogitsProcessor] | None = None,
    grammar: str | LlamaGrammar | None = None,
    logit_bias: Mapping[Any, float] | None = None,
    **options: Any,
) -> Response | Iterator[Response]:
    """`Llama.create_completion`: parameters, defaults and dictionaries are llama-cpp-python's, further options those of `stream`.

    Beside its keys, each choice has "from_draft", the number of its tokens that the draft proposed. A chunk of a stream is what one target
    call gave, so that its logprobs may be of several tokens.

    Args:
        prompt: text or token ids.
        suffix: what follows the answer, for models with tokens for filling in a middle.
        max_tokens: None, 0 or less for as many as the context takes.
        logprobs: alternatives per token; None for no logprobs.
        echo: the prompt's text first. Its tokens have no logprobs, so the two together are refused.
        stop: strings that end the answer, before them.
        stream: an iterator over chunks instead of a dictionary.
        seed: any number from 0 on is a seed; None or -1 draws a fresh one.
        tfs_z: refused: llama.cpp has no tail-free sampling any more.
        mirostat_mode: refused unless 0, which leaves mirostat_tau and mirostat_eta without use.
        model: a name for the model in the answer; None for the target's path.
        stopping_criteria: callables ``(input_ids, logits) -> bool``, i32[n] and f32[n_vocab]: where one of them is true, the answer ends
            before the next token. Like logits_processor they see verified positions alone, once each and in order.
        temperature, top_p, min_p, typical_p, frequency_penalty, presence_penalty, repeat_penalty, top_k, logits_processor, grammar,
            logit_bias: as in `stream`.
        options: of `stream`, like method and draft_nodes.

    Raises:
        ValueError, TypeError: as `stream`; a parameter that cannot be honoured.
    """
    _refuse(
        echo and logprobs is not None,
        "echo and logprobs exclude each other: the tokens of a prompt have no log-probabilities here",
    )
    logits_processor = _stopping(self, stopping_criteria, logits_processor)
    given = _options(
        **options, **{name: value for name, value in locals().items() if name in _OPTIONS}
    )
    text = prompt if isinstance(prompt, str) else self.detokenize(prompt)
    tokens = self.tokenize(prompt) if isinstance(prompt, str) else list(prompt)
    if suffix is not None:
        tokens = _around_middle(self, text, suffix)
    return _answer(self, tokens, given, Text(self, model, text, echo), stream)


def create_chat_completion(
    self: Generator,
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
    **options: Any,
) -> Response | Iterator[Response]:
    """`Llama.create_chat_completion`: parameters, defaults and dictionaries are llama-cpp-python's, further options those of `stream`.

    Args:
        messages: the conversation; see `chat`.
        functions, function_call: the older names of tools and tool_choice.
        tools: functions that the template offers to the model.
        tool_choice: ``{"type": "function", "function": {"name": ...}}`` for a call of that tool, held to its parameters by a grammar;
            "none" offers no tool; "auto" leaves it to the model, whose call comes as text in its own words. "required" is refused.
        response_format: see `stream`.
        logprobs: whether each token has its log-probability,
        top_logprobs: and those of how many alternatives.
        temperature, top_p, top_k, min_p, typical_p, stream, stop, seed, max_tokens, presence_penalty, frequency_penalty, repeat_penalty,
            tfs_z, mirostat_mode, mirostat_tau, mirostat_eta, model, logits_processor, grammar, logit_bias: as in `create_completion`.
        options: of `stream`, like method and draft_nodes.

    Raises:
        ValueError, TypeError: as `chat`; a parameter that cannot be honoured.
    """
    tools, tool_choice = _tools(functions, function_call, tools, tool_choice)
    tool = _chosen_tool(tools, tool_choice)
    if tool is not None:
        _refuse(
            grammar is not None or response_format is not None,
            "a chosen tool excludes grammar and response_format: it has its own",
        )
        grammar = _grammar_of(tool)
    given = _options(
        **options,
        **{name: value for name, value in locals().items() if name in _OPTIONS - {"logprobs"}},
        logprobs=(top_logprobs or 0) if logprobs else None,
    )
    prompt = apply_chat_template(self, messages, tools=tools, tool_choice=tool_choice)
    choice = Chat(self, model) if tool is None else ToolCall(self, model, tool["name"])
    return _answer(self, prompt, given, choice, stream)


def create_chat_completion_openai_v1(
    self: Generator, *args: Any, **kwargs: Any
) -> ChatCompletion | Iterator[ChatCompletionChunk]:
    """`create_chat_completion`, with the objects of the package openai for answers. Raises ImportError where that is not installed."""
    from openai.types.chat import ChatCompletion, ChatCompletionChunk

    answer = create_chat_completion(self, *args, **kwargs)
    return (
        ChatCompletion(**answer)
        if isinstance(answer, dict)
        else (ChatCompletionChunk(**chunk) for chunk in answer)
    )


def _answer(
    self: Generator, prompt: list[int], options: dict[str, Any], choice: Choice, stream: bool
) -> Response | Iterator[Response]:
    if stream:
        return chunks(choice, self.stream(prompt, **options))
    result = self.generate(prompt, **options)
    step = Step(result.text, result.tokens, result.stats.accepted, result.logprobs)
    return {
        **choice.head(),
        "choices": [choice.whole(step, result.finish_reason)],
        "usage": usage(len(prompt), len(result.tokens)),
    }


def _around_middle(self: Generator, before: str, after: str) -> list[int]:
    """A prompt whose answer belongs between two texts, in the order of llama.cpp's server."""
    prefix, suffix, middle = self.target.fim
    _refuse(
        min(prefix, suffix, middle) < 0,
        f"suffix needs a model with tokens for filling in a middle: '{self.target.path}' has none",
    )
    texts = [
        self.tokenize(text, add_special=False, parse_special=False) for text in (before, after)
    ]
    return [*self.tokenize(""), prefix, *texts[0], suffix, *texts[1], middle]


def _stopping(
    self: Generator,
    criteria: StoppingCriteria | Sequence[StoppingCriteria] | None,
    processors: LogitsProcessor | Sequence[LogitsProcessor] | None,
) -> LogitsProcessor | Sequence[LogitsProcessor] | None:
    """Logits processors of which the first leaves nothing but the end token where the criteria say so."""
    if criteria is None:
        return processors
    each: Sequence[StoppingCriteria] = [criteria] if callable(criteria) else criteria
    end = self.target.eos
    _refuse(
        end < 0, f"stopping_criteria need a model with an end token: '{self.target.path}' has none"
    )

    def stop(
        input_ids: npt.NDArray[np.intc], scores: npt.NDArray[np.single]
    ) -> npt.NDArray[np.single]:
        answers = [
            criterion(input_ids, scores) for criterion in each
        ]  # all of them are asked, as llama-cpp-python does
        if any(answers):
            scores = np.full_like(scores, -np.inf)
            scores[end] = 0
        return scores

    return [
        stop,
        *([] if processors is None else [processors] if callable(processors) else processors),
    ]


def _refuse(wrong: bool, reason: str) -> None:
    if wrong:
        raise ValueError(reason)


def _options(
    *,
    max_tokens: int | None,
    seed: int | None,
    stop: str | Sequence[str] | None,
    top_k: int,
    top_p: float,
    tfs_z: float,
    **given: Any,
) -> dict[str, Any]:
    """Options of `stream` for what llama-cpp-python calls by the same names."""
    _refuse(
        tfs_z != 1.0,
        f"tfs_z must be 1.0: llama.cpp has no tail-free sampling any more, got {tfs_z}",
    )
    only_best = top_p <= 0  # llama.cpp keeps one token then
    return given | {
        "max_tokens": None if max_tokens is None or max_tokens <= 0 else max_tokens,
        "seed": None if seed == -1 else seed,
        "stop": () if stop is None else stop,
        "top_k": 1 if only_best else max(top_k, 0),
        "top_p": 1.0 if only_best else min(top_p, 1.0),
    }


def _tools(
    functions: Sequence[Mapping[str, Any]] | None,
    function_call: str | Mapping[str, Any] | None,
    tools: Sequence[Mapping[str, Any]] | None,
    tool_choice: str | Mapping[str, Any] | None,
) -> tuple[Sequence[Mapping[str, Any]] | None, str | Mapping[str, Any] | None]:
    """Tools and choice, the older names brought to the newer ones."""
    if functions is not None:
        tools = [{"type": "function", "function": function} for function in functions]
    if function_call is not None:
        tool_choice = (
            function_call
            if isinstance(function_call, str)
            else {"type": "function", "function": {"name": function_call["name"]}}
        )
    return (None if tool_choice == "none" else tools), tool_choice


def _chosen_tool(
    tools: Sequence[Mapping[str, Any]] | None, tool_choice: str | Mapping[str, Any] | None
) -> Mapping[str, Any] | None:
    """The function that must be called."""
    if tool_choice is None or isinstance(tool_choice, str):
        _refuse(
            tool_choice not in (None, "none", "auto"),
            f"tool_choice must be 'none', 'auto' or a function by its name, got {tool_choice!r}",
        )
        return None
    name = tool_choice["function"]["name"]
    functions: list[Mapping[str, Any]] = [tool["function"] for tool in tools or ()]
    for function in functions:
        if function["name"] == name:
            return function
    raise ValueError(
        f"tool_choice must name one of the tools {[function['name'] for function in functions]}, got {name!r}"
    )


def _grammar_of(function: Mapping[str, Any]) -> str:
    try:
        return str(
            llama_cpp_module("llama_grammar").json_schema_to_gbnf(
                json.dumps(function["parameters"])
            )
        )
    except Exception as error:
        raise ValueError(
            f"the parameters of the tool {function['name']!r} are no JSON schema that has a grammar: {error}"
        ) from error
