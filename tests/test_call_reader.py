"""Calls of tools are found in the text of a model."""

from __future__ import annotations

import itertools
import json
import random
from typing import Any

import pytest

pytest.importorskip("starlette")
from ersd.api.call_reader import CallReader
from ersd.api.message_parts import Message

pytestmark = pytest.mark.no_sanitizer

NAMES = ("get", "get_weather")
JSON = '{"name": "get_weather", "arguments": {"city": "Paris"}}'
WEATHER = ("get_weather", {"city": "Paris"})

CALLS: dict[str, tuple[str, str, list[tuple[str, Any]]]] = {
    "Hermes": (f"<tool_call>\n{JSON}\n</tool_call>", "", [WEATHER]),
    "Qwen, after text": (
        f"Let me see.\n<tool_call>\n{JSON}\n</tool_call>\n<tool_call>\n"
        '{"name": "get", "arguments": {}}\n</tool_call>',
        "Let me see.\n",
        [WEATHER, ("get", {})],
    ),
    "text between calls": (
        f"<tool_call>{JSON}</tool_call> Also: <tool_call>{JSON}</tool_call>",
        "Also: ",
        [WEATHER, WEATHER],
    ),
    "Llama 3": ('{"name": "get", "parameters": {"n": 1}}', "", [("get", {"n": 1})]),
    "Llama 3, two": (
        '{"name": "get", "parameters": {}}; {"name": "get", "parameters": {"n": 2}}',
        "",
        [("get", {}), ("get", {"n": 2})],
    ),
    "Llama 3 with a type": (
        '{"type": "function", "name": "get", "parameters": {}}',
        "",
        [("get", {})],
    ),
    "Mistral": (f"[TOOL_CALLS] [{JSON}, {JSON}]", "", [WEATHER, WEATHER]),
    "Mistral, its tag hidden": (f"[{JSON}]", "", [WEATHER]),
    "newer Mistral": ('[TOOL_CALLS]get_weather[ARGS]{"city": "Paris"}', "", [WEATHER]),
    "newer Mistral, its tags hidden": ('get_weather{"city": "Paris"}', "", [WEATHER]),
    "OpenAI's own form": (
        '{"type": "function", "function": {"name": "get", "arguments": "{\\"n\\": 1}"}}',
        "",
        [("get", {"n": 1})],
    ),
    "tags and brackets in arguments": (
        '<tool_call>{"name": "get", "arguments": {"s": "</tool_call>]};"}}</tool_call>',
        "",
        [("get", {"s": "</tool_call>]};"})],
    ),
    "no arguments": ('<tool_call>{"name": "get"}</tool_call>', "", [("get", {})]),
    "unknown tool": (f"{JSON.replace('weather', 'mail')}", JSON.replace("weather", "mail"), []),
    "other JSON": ('{"answer": [1, 2]}', '{"answer": [1, 2]}', []),
    "a list": ("[1, 2]\n", "[1, 2]\n", []),
    "a tag in text": ("Write <tool_call> to [TOOL_CALLS] it", ..., []),  # type: ignore[dict-item]
    "a call that is cut": (f"<tool_call>{JSON[:30]}", ..., []),  # type: ignore[dict-item]
    "JSON that is broken": ('<tool_call>{"name": "get",}', ..., []),  # type: ignore[dict-item]
    "a tool's name in text": ("get_weather is a tool", ..., []),  # type: ignore[dict-item]
    "space and text": ("\n\n Hello < [", ..., []),  # type: ignore[dict-item]
    "JSON later in the text": (f"Like this: {JSON}", ..., []),  # type: ignore[dict-item]
}


def read(pieces: list[str], *, at_most_one: bool = False) -> Message:
    """Returns the message that is read from a text in pieces."""
    reader, message = CallReader(NAMES, at_most_one=at_most_one), Message()
    for piece in pieces:
        for part in reader.read(piece):
            message.add(part)
    for part in reader.end():
        message.add(part)
    return message


def called(message: Message) -> list[tuple[str, Any]]:
    """Returns the names and the arguments of a message's calls."""
    return [(call.name, json.loads(call.arguments)) for call in message.calls]


@pytest.mark.parametrize("form", CALLS)
def test_calls_are_found_in_text(form: str) -> None:
    """In each model's form, however the text is cut; what is no call of a tool stays text."""
    text, rest, calls = CALLS[form]
    rest = text if rest is ... else rest
    rng = random.Random(form)
    for n_cuts in (0, 1, 2, 5, len(text)):
        for _ in range(20):
            cuts = sorted(rng.choices(range(len(text)), k=n_cuts))
            message = read([text[a:b] for a, b in itertools.pairwise([0, *cuts, len(text)])])
            assert (message.text, called(message)) == (rest, calls)
            assert [call.index for call in message.calls] == list(range(len(calls)))
            assert len({call.id for call in message.calls}) == len(calls)


def test_text_is_held_back_only_where_a_call_may_begin() -> None:
    """Text, also JSON of another shape, comes at once. A call comes as soon as it is complete."""
    reader = CallReader(NAMES, at_most_one=False)

    def said(text: str) -> list[str]:
        return [getattr(part, "text", "call") for part in reader.read(text)]

    assert said("Hello <") == ["Hello "]
    assert said("b> and <tool") == ["<b> and "]
    assert said("_call>") == []
    assert said(JSON[:-1]) == []
    assert said("}") == ["call"]
    assert said("\n</tool_call>\n") == []
    assert said("Bye") == ["Bye"]
    reader = CallReader(NAMES, at_most_one=False)
    assert said('{"na') == []
    assert said('med": 1') == ['{"named": 1']


def test_at_most_one_call() -> None:
    """The first call ends the message."""
    message = read(
        ["So: <tool_call>", JSON, f"</tool_call><tool_call>{JSON}", "x"], at_most_one=True
    )
    assert (message.text, called(message)) == ("So: ", [WEATHER])
