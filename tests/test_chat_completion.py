"""Chat completions, JSON and tools have the text and the dictionaries of llama-cpp-python."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

import tiny
from ersd import Generator
from llama_answers import GREEDY, TALK, drafting, llama, same, shape, shapes

pytestmark = pytest.mark.no_sanitizer

USER_DETAIL = {
    "type": "object",
    "title": "UserDetail",
    "properties": {
        "name": {"title": "Name", "type": "string"},
        "age": {"title": "Age", "type": "integer"},
    },
    "required": ["name", "age"],
}
EXTRACT: dict[str, Any] = {
    "messages": [
        {
            "role": "system",
            "content": "The assistant calls functions with appropriate input when necessary",
        },
        {"role": "user", "content": "Extract Jason is 25 years old"},
    ],
    "tools": [{"type": "function", "function": {"name": "UserDetail", "parameters": USER_DETAIL}}],
    "tool_choice": {"type": "function", "function": {"name": "UserDetail"}},
}


@pytest.fixture(scope="module")
def ours(target: Path) -> Generator:
    """The default target, which drafts with its twin."""
    return drafting(target)


@pytest.fixture(scope="module")
def theirs(target: Path) -> Any:
    """llama-cpp-python with the same target."""
    return llama(target)


CHATS: dict[str, dict[str, Any]] = {
    "readme": {"messages": TALK, "max_tokens": 24},
    "to the end": {
        "messages": [
            {"role": "user", "content": "What is the capital of France? Answer with one word."}
        ]
    },
    "stop": {"messages": TALK, "stop": ["."], "max_tokens": 60, "model": "m"},
    "functions offered": {
        "messages": TALK,
        "functions": [{"name": "f", "parameters": {}}],
        "function_call": "auto",
        "max_tokens": 9,
    },
}


@pytest.mark.parametrize("as_parts", [False, True], ids=["text", "parts"])
def test_a_prediction_drafts(ours: Generator, as_parts: bool) -> None:
    """OpenAI's parameter changes no text. An answer that is expected is drafted."""
    asked: dict[str, Any] = {"max_tokens": 24, "draft_sources": ["prediction"], **GREEDY}
    plain_answer = ours.create_chat_completion(TALK, **asked)["choices"][0]
    text = plain_answer["message"]["content"]
    parts = [{"type": "text", "text": text[:9]}, {"type": "text", "text": text[9:]}]
    prediction = {"type": "content", "content": parts if as_parts else text}
    answer = ours.create_chat_completion(TALK, prediction=prediction, **asked)["choices"][0]
    assert answer | {"from_draft": 0} == plain_answer
    assert answer["from_draft"] > 12
    for wrong in ({"type": "content"}, {"type": "text", "content": "a"}, 3):
        with pytest.raises(TypeError, match="prediction must be a text"):
            ours.create_chat_completion(TALK, prediction=wrong, **asked)


@pytest.mark.parametrize("call", CHATS)
def test_chat_completions_are_llamas(ours: Generator, theirs: Any, call: str) -> None:
    """Message, finish reason, usage and keys are equal, also streamed."""
    options = GREEDY | CHATS[call]
    answer = ours.create_chat_completion(**options)
    same(answer, theirs.create_chat_completion(**options))
    chunks = list(ours.create_chat_completion(stream=True, **options))
    assert shapes(chunks) == shapes(list(theirs.create_chat_completion(stream=True, **options)))
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert text == answer["choices"][0]["message"]["content"]
    assert chunks[-1]["choices"][0]["finish_reason"] == answer["choices"][0]["finish_reason"]


def test_the_loop_of_a_chat_program(ours: Generator) -> None:
    """The deltas of a stream, read as many programs do, join to the answer."""
    said, roles = "", []
    for chunk in ours.create_chat_completion(messages=TALK, stream=True, max_tokens=12, seed=4):
        delta = chunk["choices"][0]["delta"]
        if "role" in delta:
            roles.append(delta["role"])
        elif "content" in delta:
            said += delta["content"]
    assert roles == ["assistant"]
    assert (
        said
        == ours.create_chat_completion(TALK, max_tokens=12, seed=4)["choices"][0]["message"][
            "content"
        ]
    )


@pytest.mark.parametrize(
    "schema",
    [
        None,
        {
            "type": "object",
            "properties": {"team_name": {"type": "string"}},
            "required": ["team_name"],
        },
    ],
)
def test_json_mode(ours: Generator, theirs: Any, schema: dict[str, Any] | None) -> None:
    """In the README's examples the answer parses and has the keys of the schema."""
    messages = [
        {"role": "system", "content": "You are a helpful assistant that outputs in JSON."},
        {"role": "user", "content": "Who won the world series in 2020"},
    ]
    form: dict[str, Any] = {"type": "json_object"} | ({"schema": schema} if schema else {})
    n_complete = 0
    for seed in range(3):
        answer = ours.create_chat_completion(
            messages, response_format=form, temperature=0.7, seed=seed, max_tokens=300
        )
        if answer["choices"][0]["finish_reason"] == "stop":
            assert set((schema or {}).get("required", [])) <= set(
                json.loads(answer["choices"][0]["message"]["content"])
            )
            n_complete += 1
    assert n_complete > 0
    options = GREEDY | {"messages": messages, "response_format": form, "max_tokens": 40}
    assert shape(ours.create_chat_completion(**options)) == shape(
        theirs.create_chat_completion(**options)
    )


@pytest.mark.parametrize("older", [False, True])
def test_a_chosen_tool_is_called(ours: Generator, theirs: Any, older: bool) -> None:
    """In the README's example the arguments parse and the dictionaries are Llama's.

    The older names of the parameters and streams give the same.
    """
    options: dict[str, Any] = dict(EXTRACT)
    if older:
        function = options.pop("tools")[0]["function"]
        options |= {"functions": [function], "function_call": {"name": "UserDetail"}}
        del options["tool_choice"]
    answer, expected = (
        each.create_chat_completion(**GREEDY, max_tokens=100, **options) for each in (ours, theirs)
    )
    assert shape(answer) == shape(expected)
    message = answer["choices"][0]["message"]
    assert set(json.loads(message["tool_calls"][0]["function"]["arguments"])) == {"name", "age"}
    assert message["function_call"] == message["tool_calls"][0]["function"]
    assert answer["choices"][0]["finish_reason"] == "tool_calls"
    chunks = list(ours.create_chat_completion(stream=True, **GREEDY, max_tokens=100, **options))
    assert shapes(chunks) == shapes(
        list(theirs.create_chat_completion(stream=True, **GREEDY, max_tokens=100, **options))
    )
    calls = [chunk["choices"][0]["delta"]["tool_calls"] for chunk in chunks]
    assert (
        "".join(call[0]["function"]["arguments"] for call in calls if call)
        == message["function_call"]["arguments"]
    )


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"tool_choice": "any"},
            "tool_choice must be 'none', 'auto', 'required' or a function by its name, got 'any'",
        ),
        ({"tool_choice": "required", "tools": []}, "tool_choice needs tools to be 'required'"),
        (
            {"tool_choice": {"type": "function", "function": {"name": "x"}}},
            r"tool_choice must name one of the tools \['UserDetail'\], got 'x'",
        ),
        ({"grammar": "root ::= [a]"}, "grammar must not be given where a tool must be called"),
        (
            {"tools": [{"type": "function", "function": {"name": "UserDetail", "parameters": 3}}]},
            "the tool 'UserDetail' must have a JSON schema .* expected an object, got int",
        ),
        ({"messages": [{"content": "x"}]}, "expected mappings with a 'role'"),
    ],
    ids=str,
)
def test_tools_that_cannot_be_called(
    ours: Generator, options: dict[str, Any], message: str
) -> None:
    """Each wrong choice or tool is refused with its reason."""
    with pytest.raises(ValueError, match=message):
        ours.create_chat_completion(**EXTRACT | options)


def test_tool_choice_none_offers_no_tool(folder: Path) -> None:
    """The template sees the tools only if one may be called."""
    template = "{{ tools | tojson if tools else 'no' }} {{ tool_choice }}:"
    generator = Generator(
        tiny.write_llama(folder / "tooled.gguf", chat_template=template), n_ctx=512, n_threads=1
    )
    options = {"messages": TALK, "tools": EXTRACT["tools"], "max_tokens": 1}
    none, auto = (
        generator.create_chat_completion(**options, tool_choice=choice)["usage"]["prompt_tokens"]
        for choice in ("none", "auto")
    )
    assert none == len(generator.tokenize("no none:")) < auto


def test_openai_objects(ours: Generator) -> None:
    """create_chat_completion_openai_v1 returns objects of the package openai."""
    pytest.importorskip("openai")
    answer = ours.create_chat_completion_openai_v1(messages=TALK, max_tokens=8, **GREEDY)
    assert (
        answer.choices[0].message.content
        == ours.create_chat_completion(TALK, max_tokens=8, **GREEDY)["choices"][0]["message"][
            "content"
        ]
    )
    chunks = list(
        ours.create_chat_completion_openai_v1(messages=TALK, max_tokens=8, stream=True, **GREEDY)
    )
    assert (
        "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        == answer.choices[0].message.content
    )
