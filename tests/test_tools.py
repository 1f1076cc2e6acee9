"""Grammars of the calls of tools: which texts they allow, byte by byte."""

from __future__ import annotations

from typing import Any

import pytest

from ersd import Generator
from ersd.api.tools import calls_source, function_source, text_with_calls_source
from ersd.grammars import Compiler, Source
from masks import Allowed

CITY: Any = {
    "name": "weather",
    "parameters": {
        "type": "object",
        "properties": {"city": {"$ref": "#/$defs/city"}},
        "required": ["city"],
        "$defs": {"city": {"enum": ["Rom", "a\nb"]}},
    },
}
TREE: Any = {
    "name": 'é"',
    "parameters": {
        "type": "object",
        "properties": {"of": {"anyOf": [{"$ref": "#"}, {"type": "null"}]}},
        "required": ["of"],
    },
}
TOOLS = [CITY, TREE]
ROME = '{"name": "weather", "arguments": {"city": "Rom"}}'
DEEP = '{"name":"é\\"","arguments":{"of":{"of":null}}}'


def accepts(generator: Generator, source: Source, text: str) -> bool:
    """Returns whether a grammar allows each byte of a text and its end."""
    answer = Allowed(generator, source)
    return answer.reads(text) and answer.may_end()


@pytest.mark.parametrize("several", [False, True])
def test_calls(generator: Generator, several: bool) -> None:
    """A call has the name of a tool and arguments of its schema, whose references are its own."""
    source = calls_source(TOOLS, several=several)
    ends = "[]" if several else ("", "")
    for call, allowed in {
        ROME: True,
        DEEP: True,
        ROME.replace("Rom", "Paris"): False,
        ROME.replace("Rom", "a\nb"): False,
        ROME.replace("Rom", "a\\nb"): True,
        ROME.replace("weather", "wind"): False,
        DEEP.replace("null", '{"city":"Rom"}'): False,
        "Hi": False,
    }.items():
        assert accepts(generator, source, ends[0] + call + ends[1]) is allowed
    assert accepts(generator, source, f"[{ROME}, {DEEP}]") is several
    assert not accepts(generator, source, "[]")


@pytest.mark.parametrize("several", [False, True])
def test_calls_in_a_text(generator: Generator, several: bool) -> None:
    """Text is free, but what begins as a call is one."""
    source = text_with_calls_source(TOOLS, several=several)
    call = f"<tool_call>\n{ROME}\n</tool_call>"
    for text, allowed in {
        "": True,
        "Hi <b>there</b>\n": True,
        "Hi <tool": True,
        f"Hi {call}": True,
        f"{call}\n{call}": several,
        f"{call} and": several,
        "<tool_call>{}": False,
        f"<tool_call>{ROME}": False,
        call.replace("Rom", "Paris"): False,
    }.items():
        assert accepts(generator, source, text) is allowed


def test_a_named_function(generator: Generator) -> None:
    """The text is the arguments, and a function without parameters has none."""
    assert accepts(generator, function_source(CITY), '{"city": "Rom"}')
    assert accepts(generator, function_source({"name": "f"}), "{}")
    assert not accepts(generator, function_source({"name": "f"}), '{"a": 1}')


def test_a_tool_that_cannot_be_held_to_is_named(generator: Generator) -> None:
    """The error has the names of the tool and of the keyword."""
    wrong = {"name": "wrong", "parameters": {"type": "object", "not": {}}}
    for source in (calls_source, text_with_calls_source):
        with pytest.raises(ValueError, match=r"the tool 'wrong' must have .*not"):
            Compiler(generator.target).compile(source([*TOOLS, wrong], several=True))
