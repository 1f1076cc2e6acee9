"""Conversations: the target's chat template turns messages into a prompt for the engine."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ersd import arguments
from ersd._loader import llama_cpp_module
from ersd.engine import Engine
from ersd.engine.stream import Stream
from ersd.results import Result

if TYPE_CHECKING:
    from llama_cpp.llama_chat_format import Jinja2ChatFormatter

__all__ = [
    "Message",
    "apply_chat_template",
    "chat",
    "chat_template_of",
    "check_tools",
    "render_chat",
    "stream_chat",
    "tokenize_chat",
    "with_joined_parts",
]

Message = Mapping[str, Any]


def chat(
    self: Engine,
    messages: Sequence[Message],
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
    chat_template_kwargs: Mapping[str, Any] | None = None,
    max_tokens: int | None = None,
    **options: Any,
) -> Result:
    """Answers a conversation.

    >>> gen.chat([{"role": "user", "content": "Hi!"}]).text

    Args:
        messages: the messages in order. Each is a mapping with a "role" ("system", "user",
            "assistant", ...) and a "content", which is a text or a list of parts of type "text".
            Other keys are passed on to the template.
        tools: functions that the template offers to the model, in OpenAI's form. The model calls
            one by text, in its own form.
        chat_template_kwargs: more variables for the template.
        max_tokens: the largest number of tokens to generate; None or -1 to continue until the model
            ends its turn or the context is full.
        options: see `stream`.

    Raises:
        ValueError: as `stream`; or the model has no chat template, or the template refuses the
            messages.
    """
    prompt = apply_chat_template(self, messages, tools=tools, **(chat_template_kwargs or {}))
    return self.generate(prompt, max_tokens=max_tokens, **options)


def stream_chat(
    self: Engine,
    messages: Sequence[Message],
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
    chat_template_kwargs: Mapping[str, Any] | None = None,
    max_tokens: int | None = None,
    **options: Any,
) -> Stream:
    """Answers a conversation step by step. The arguments and the errors are those of `chat`."""
    prompt = apply_chat_template(self, messages, tools=tools, **(chat_template_kwargs or {}))
    return self.stream(prompt, max_tokens=max_tokens, **options)


def apply_chat_template(
    self: Engine,
    messages: Sequence[Message],
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
    **variables: Any,
) -> list[int]:
    """Returns the token ids of a conversation's prompt, which the answer follows.

    The template is the ``chat_template`` of the Generator, else the Jinja template in the target's
    file. If tools are given and the file has a separate template for tools, that one is used.

    Args:
        messages: see `chat`.
        tools: see `chat`.
        variables: more variables for the template. If add_generation_prompt is among them and
            false, no answer is begun after the messages.

    Raises:
        ValueError: the model has no chat template, or the template refuses the messages.
    """
    prompt = render_chat(self, messages, tools=tools, **variables)
    return tokenize_chat(self, arguments.text("messages", prompt))


def render_chat(
    engine: Engine,
    messages: Sequence[Message],
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
    add_generation_prompt: bool = True,
    **variables: Any,
) -> str:
    """Returns the text of a conversation's prompt. See `apply_chat_template`."""
    template = chat_template_of(engine, bool(tools))
    plain: Any = [with_joined_parts(message) for message in arguments.messages(messages)]
    check_tools(tools)
    offered: Any = tools
    try:
        bos, eos = (_text(engine, token) for token in (engine.target.bos, engine.target.eos))
        formatter = _formatter(template, bos, eos, add_generation_prompt)
        return str(formatter(messages=plain, tools=offered, **variables).prompt)
    except Exception as error:  # a template is a program, which may raise any error
        raise ValueError(
            f"the chat template of '{engine.target.path}' refuses these messages: {error}"
        ) from error


def tokenize_chat(engine: Engine, prompt: str) -> list[int]:
    """Returns the token ids of the text of a conversation's prompt."""
    tokens = engine.tokenize(prompt, add_special=False)
    # As in llama.cpp: if the model expects a beginning of sequence and the template has none, it is
    # added here.
    begin = engine.tokenize("")[:1]
    return tokens if tokens[:1] == begin else begin + tokens


@lru_cache(maxsize=8)
def _formatter(
    template: str, bos: str, eos: str, add_generation_prompt: bool
) -> Jinja2ChatFormatter:
    formatter: Jinja2ChatFormatter = llama_cpp_module("llama_chat_format").Jinja2ChatFormatter(
        template, eos, bos, add_generation_prompt
    )
    return formatter


def chat_template_of(engine: Engine, with_tools: bool) -> str:
    """Returns the Jinja template of conversations.

    Args:
        engine: has the target, and perhaps a template that replaces the target's own.
        with_tools: whether tools are offered, for which a model may have a separate template.

    Raises:
        ValueError: the model has no chat template.
    """
    if engine.chat_template:
        return engine.chat_template
    metadata = engine.target.metadata
    template = metadata("tokenizer.chat_template.tool_use") if with_tools else ""
    template = template or metadata("tokenizer.chat_template")
    if not template:
        raise ValueError(
            f"'{engine.target.path}' has no chat template: give Generator a chat_template, "
            "or generate() a prompt in the model's own form"
        )
    return template


def _text(engine: Engine, token: int) -> str:
    """Returns the text of a special token; empty if the model has none (-1)."""
    return engine.detokenize([token], special=True) if token >= 0 else ""


def with_joined_parts(message: Message) -> dict[str, Any]:
    """Returns the message with its text parts joined, because most templates expect one text."""
    content = message.get("content")
    if content is None or isinstance(content, str):
        return dict(message)
    parts = content if isinstance(content, list | tuple) else [None]
    if not all(map(_is_text, parts)):
        raise ValueError(f"expected 'content' to be text or parts of type 'text', got {content!r}")
    return {**message, "content": "\n".join(part["text"] for part in content)}


def _is_text(part: object) -> bool:
    is_kind = isinstance(part, Mapping) and part.get("type") == "text"
    return is_kind and isinstance(part.get("text"), str)  # type: ignore[attr-defined]


def check_tools(tools: Any) -> None:
    """Raises TypeError unless tools are None or a list of mappings."""
    is_list = isinstance(tools, Sequence) and not isinstance(tools, str | bytes)
    if tools is not None and not (is_list and all(isinstance(each, Mapping) for each in tools)):
        raise TypeError(f"tools must be a list of mappings, got {tools!r}")
