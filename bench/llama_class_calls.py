"""What other libraries do with a class like llama_cpp.Llama: each function makes some calls.

A function gets the path of a model and returns plain data, so that the answers of two classes can
be compared. `llama_class.py` runs them.
"""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

import llama_cpp
from pydantic import BaseModel

Case = Callable[[str], Any]
PROMPT = "The capital of France is"
SIZES: dict[str, Any] = {"n_ctx": 512, "verbose": False, "n_threads": 1}
GRAMMAR = 'root ::= "yes" | "no"'


class City(BaseModel):
    """A city and its country."""

    name: str
    country: str


def _llama(path: str) -> Any:
    return llama_cpp.Llama(path, n_threads_batch=1, **SIZES)


def langchain_llm(path: str) -> Any:
    """LlamaCpp: invoke, stream, batch, a stop string, a grammar, and the number of tokens."""
    from langchain_community.llms import LlamaCpp

    options = {"temperature": 0.0, "max_tokens": 16, **SIZES}
    llm = LlamaCpp(model_path=path, **options)
    held = LlamaCpp(model_path=path, grammar=GRAMMAR, **options)
    return [
        llm.invoke(PROMPT),
        "".join(llm.stream(PROMPT)),
        llm.batch([PROMPT, "Once upon a time"], config={"max_concurrency": 1}),
        llm.invoke(PROMPT, stop=["."]),
        held.invoke("Is water wet? "),
        llm.get_num_tokens("Hello world"),
    ]


def langchain_chat(path: str) -> Any:
    """ChatLlamaCpp: invoke, stream, a chosen tool, and structured output."""
    from langchain_community.chat_models import ChatLlamaCpp
    from langchain_core.messages import HumanMessage, SystemMessage

    llm = ChatLlamaCpp(model_path=path, temperature=0.0, max_tokens=48, **SIZES)
    messages = [SystemMessage("You are terse."), HumanMessage("Name a colour.")]
    tool = {"type": "function", "function": {"name": "colour", "parameters": COLOUR}}
    choice = {"type": "function", "function": {"name": "colour"}}
    calling = llm.bind_tools([tool], tool_choice=choice)
    return [
        llm.invoke(messages).content,
        "".join(str(chunk.content) for chunk in llm.stream(messages)),
        [call["name"] for call in calling.invoke(messages).tool_calls],
    ]


COLOUR = {
    "type": "object",
    "properties": {"name": {"type": "string", "enum": ["red", "green", "blue"]}},
    "required": ["name"],
}


def langchain_embeddings(path: str) -> Any:
    """LlamaCppEmbeddings: documents and a query, pooled over their tokens."""
    from langchain_community.embeddings import LlamaCppEmbeddings

    class Pooled(llama_cpp.Llama):  # type: ignore[misc, name-defined]
        """The class with pooling, which LlamaCppEmbeddings has no argument for."""

        def __init__(self, *args: Any, **options: Any) -> None:
            super().__init__(*args, pooling_type=1, **options)

    original, llama_cpp.Llama = llama_cpp.Llama, Pooled
    try:
        embeddings = LlamaCppEmbeddings(model_path=path, **SIZES)
    finally:
        llama_cpp.Llama = original
    found = [*embeddings.embed_documents(["Hello world", "A cat"]), embeddings.embed_query("Hi")]
    return [[round(x, 3) for x in row] for row in found]


def llama_index(path: str) -> Any:
    """LlamaCPP: complete, stream_complete, chat and stream_chat."""
    from llama_index.core.llms import ChatMessage
    from llama_index.llms import llama_cpp as integration

    integration.base.Llama = llama_cpp.Llama  # which the module has imported by name
    llm = integration.LlamaCPP(
        model_path=path, temperature=0.0, max_new_tokens=16, context_window=512,
        model_kwargs={"n_threads": 1}, verbose=False,
    )  # fmt: skip
    talk = [ChatMessage(role="user", content="Name a colour.")]
    return [
        llm.complete(PROMPT).text,
        [part.text for part in llm.stream_complete(PROMPT)][-1],
        llm.chat(talk).message.content,
        [part.message.content for part in llm.stream_chat(talk)][-1],
        llm.metadata.context_window,
    ]


def outlines(path: str) -> Any:
    """from_llamacpp: text, a stream, a choice, a regular expression and JSON of a model."""
    import outlines as library
    from outlines.types import Regex

    model = library.from_llamacpp(_llama(path))
    plain = {"max_tokens": 24, "temperature": 0.0}
    return [
        model("Name a colour.", **plain),
        "".join(model.stream("Name a colour.", **plain)),
        model("Is water wet?", library.types.Choice(["yes", "no"]), **plain),
        model("A year: ", Regex("[12][0-9]{3}"), **plain),
        json.loads(model("Paris and its country.", City, max_tokens=100, temperature=0.0)),
    ]


def instructor(path: str) -> Any:
    """patch(create=create_chat_completion_openai_v1): a model by JSON schema, and by a tool."""
    import instructor as library

    llama = _llama(path)
    found = []
    for mode in (library.Mode.JSON_SCHEMA, library.Mode.TOOLS):
        create = library.patch(create=llama.create_chat_completion_openai_v1, mode=mode)
        city = create(
            messages=[{"role": "user", "content": "Paris is a city in France."}],
            response_model=City, temperature=0.0, max_tokens=100,
        )  # fmt: skip
        found.append(city.model_dump())
    return found


CASES: dict[str, tuple[str, Case]] = {
    "langchain LlamaCpp": ("langchain-community", langchain_llm),
    "langchain ChatLlamaCpp": ("langchain-community", langchain_chat),
    "langchain LlamaCppEmbeddings": ("langchain-community", langchain_embeddings),
    "llama-index LlamaCPP": ("llama-index-llms-llama-cpp", llama_index),
    "outlines from_llamacpp": ("outlines", outlines),
    "instructor patch": ("instructor", instructor),
}
