"""Which chat format a Llama has: a template of its file, or a format of llama-cpp-python."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from ersd._loader import llama_cpp_module

__all__ = ["default_format", "handler_of", "template_of"]

_OWN = "tokenizer.chat_template"
_DEFAULT = "chat_template.default"
_WITHOUT_TEMPLATE = "llama-2"  # llama-cpp-python's format of models without a template


def default_format(metadata: Mapping[str, str]) -> str:
    """Returns the format that llama-cpp-python chooses for a model with this metadata."""
    if _OWN not in metadata:
        return _WITHOUT_TEMPLATE
    formats = llama_cpp_module("llama_chat_format")
    guessed: str | None = formats.guess_chat_format_from_gguf_metadata(dict(metadata))
    return guessed or _DEFAULT


def template_of(metadata: Mapping[str, str], chat_format: str | None) -> str | None:
    """Returns the Jinja template of a format; None for a format of llama-cpp-python.

    Args:
        metadata: the metadata of the model.
        chat_format: the format that was asked for; None for the model's own template.
    """
    if chat_format in (None, _DEFAULT):
        return metadata.get(_OWN)
    return metadata.get(f"tokenizer.{chat_format}")


def handler_of(chat_format: str | None) -> Callable[..., Any]:
    """Returns llama-cpp-python's handler of a format, a function that answers a conversation.

    Raises:
        llama_cpp.llama_chat_format.LlamaChatCompletionHandlerNotFoundException: there is none.
    """
    formats = llama_cpp_module("llama_chat_format")
    found: Callable[..., Any] = formats.get_chat_completion_handler(
        chat_format or _WITHOUT_TEMPLATE
    )
    return found
