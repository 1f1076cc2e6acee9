"""Conversations: messages through the target's own chat template to a prompt, and the answer to them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import TYPE_CHECKING, Any

from ersd._loader import llama_cpp_module

if TYPE_CHECKING:
    from llama_cpp.llama_chat_format import Jinja2ChatFormatter

    from ersd.generator import Generator
    from ersd.stream import Result, Stream

__all__ = ["Message", "apply_chat_template", "chat", "stream_chat"]

Message = Mapping[str, Any]


def chat(
    self: Generator,
    messages: Sequence[Message],
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
    chat_template_kwargs: Mapping[str, Any] | None = None,
    max_tokens: int | None = None,
    **options: Any,
) -> Result:
    """Answer a conversation.

    >>> gen.chat([{"role": "user", "content": "Hi!"}]).text

    Args:
        messages: what was said, in order: mappings with a "role" ("system", "user", "assistant", ...) and a "content", a text or a list of
            parts of type "text"; more keys go to the template.
        tools: functions that the template offers to the model, as OpenAI writes them. A call of one comes as text, in the model's words.
        chat_template_kwargs: further variables of the template.
        max_tokens: tokens to generate at most; None or -1 until the model ends its turn or the context is full.
        options: those of `stream`.

    Raises:
        ValueError: the model has no chat template, or its template refuses the messages; and as `stream`.
    """
    prompt = apply_chat_template(self, messages, tools=tools, **(chat_template_kwargs or {}))
    return self.generate(prompt, max_tokens=max_tokens, **options)


def stream_chat(
    self: Generator,
    messages: Sequence[Message],
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
    chat_template_kwargs: Mapping[str, Any] | None = None,
    max_tokens: int | None = None,
    **options: Any,
) -> Stream:
    """Answer a conversation step by step: `chat`, as `stream` is to `generate`."""
    prompt = apply_chat_template(self, messages, tools=tools, **(chat_template_kwargs or {}))
    return self.stream(prompt, max_tokens=max_tokens, **options)


def apply_chat_template(
    self: Generator,
    messages: Sequence[Message],
    *,
    tools: Sequence[Mapping[str, Any]] | None = None,
    **variables: Any,
) -> list[int]:
    """The prompt of a conversation as token ids, ready for the answer.

    It is written by the Jinja template in the target's file, by that for tools where there is one and tools are given, or by the
    ``chat_template`` of the `Generator`. Raises ValueError as `chat` does.
    """
    template = self._chat_template or _template_of(self, bool(tools))
    plain: Any = [_plain(message) for message in messages]
    try:
        formatter = _formatter(template, _text(self, self.target.bos), _text(self, self.target.eos))
        prompt = formatter(messages=plain, tools=tools, **variables).prompt  # type: ignore[arg-type]
    except Exception as error:  # a template is a program: anything may come out of it
        raise ValueError(
            f"the chat template of '{self.target.path}' refuses these messages: {error}"
        ) from error
    tokens = self.tokenize(prompt, add_special=False)
    # As in llama.cpp, a beginning of sequence that the model wants and the template leaves out is added.
    begin = self.tokenize("")[:1]
    return tokens if tokens[:1] == begin else begin + tokens


@lru_cache(maxsize=8)
def _formatter(template: str, bos: str, eos: str) -> Jinja2ChatFormatter:
    formatter: Jinja2ChatFormatter = llama_cpp_module("llama_chat_format").Jinja2ChatFormatter(
        template=template, eos_token=eos, bos_token=bos
    )
    return formatter


def _template_of(self: Generator, with_tools: bool) -> str:
    template = self.target.metadata("tokenizer.chat_template.tool_use") if with_tools else ""
    template = template or self.target.metadata("tokenizer.chat_template")
    if not template:
        raise ValueError(
            f"'{self.target.path}' has no chat template: give Generator a chat_template, or generate() a prompt in the model's own form"
        )
    return template


def _text(self: Generator, token: int) -> str:
    return self.detokenize([token], special=True) if token >= 0 else ""


def _plain(message: Message) -> dict[str, Any]:
    """The message with its parts joined, as most templates want it."""
    if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
        raise ValueError(f"expected mappings with a 'role', got {message!r}")
    content = message.get("content")
    if content is None or isinstance(content, str):
        return dict(message)
    if not all(isinstance(part, Mapping) and part.get("type") == "text" for part in content):
        raise ValueError(f"expected 'content' to be text or parts of type 'text', got {content!r}")
    return {**message, "content": "\n".join(part["text"] for part in content)}
