"""Grammars of the calls of tools: which texts they allow, byte by byte."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from ersd import Generator
from ersd.api.call_forms import CallForm, arguments_source, form_in_template
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
LLAMA_ROME, LLAMA_DEEP = (each.replace("arguments", "parameters") for each in (ROME, DEEP))
CONTROL = 1  # a control token of the tiny model, <s>

# What chat templates say of calls, and a call and two calls as their models write them.
HERMES, MISTRAL = "{{ tools }} <tool_call>", "{{ tools }} [TOOL_CALLS]"
FORMS = {
    "Hermes": (HERMES, f"<tool_call>\n{ROME}\n</tool_call>", "\n"),
    "Llama 3": (
        '{{ tools }} in the format {"name": function name, "parameters": dictionary of argument',
        LLAMA_ROME,
        "; ",
    ),
    "Mistral": (MISTRAL, f"[TOOL_CALLS] [{ROME}]", ", "),
    "newer Mistral": (f"{MISTRAL} [ARGS]", '[TOOL_CALLS]weather[ARGS]{"city": "Rom"}', ""),
}


def accepts(generator: Generator, source: Source, text: str) -> bool:
    """Returns whether a grammar allows each byte of a text and its end."""
    answer = Allowed(generator, source)
    return answer.reads(text) and answer.may_end()


@pytest.fixture(params=FORMS)
def form(request: pytest.FixtureRequest) -> tuple[CallForm, str, str]:
    """A form of calls, a call in it, and the same call twice."""
    template, call, between = FORMS[request.param]
    twice = f"{call}{between}{call}"
    if request.param == "Mistral":  # the calls are a list
        twice = call.replace(ROME, f"{ROME}{between}{ROME}")
    return form_in_template(template), call, twice


@pytest.mark.parametrize("several", [False, True])
def test_calls(generator: Generator, form: tuple[CallForm, str, str], several: bool) -> None:
    """Where a tool must be called, the answer is a call, or several."""
    made, call, twice = form
    source = made.calls(TOOLS, several=several)
    for text, allowed in {
        call: True,
        call.replace("Rom", "Paris"): False,
        call.replace("Rom", "a\nb"): False,
        call.replace("Rom", "a\\nb"): True,
        call.replace("weather", "wind"): False,
        call[:-1]: False,
        f"So: {call}": False,
        twice: several,
        "": False,
        "Hi": False,
    }.items():
        assert accepts(generator, source, text) is allowed, text


@pytest.mark.parametrize("several", [False, True])
def test_calls_in_a_text(
    generator: Generator, form: tuple[CallForm, str, str], several: bool
) -> None:
    """Where one may be called, text is free, but what begins as a call is one."""
    made, call, twice = form
    source = made.text_or_calls(TOOLS, several=several)
    for text, allowed in {
        "": True,
        "Hi <b>there</b>\n": True,
        '{"answer": [1]}': True,
        "{": True,
        call: True,
        twice: several,
        call.replace("Rom", "Paris"): False,
        call.replace("weather", "wind"): False,
        call[:-2]: False,
    }.items():
        assert accepts(generator, source, text) is allowed, text


def test_calls_after_text(generator: Generator) -> None:
    """Where a mark stands before calls, text may stand before the mark, and after a call."""
    for several in (False, True):
        source = form_in_template(HERMES).text_or_calls(TOOLS, several=several)
        call = FORMS["Hermes"][1]
        assert accepts(generator, source, f"Hi {call}")
        assert accepts(generator, source, f"Hi {call} and {call} too") is several
        assert accepts(generator, source, f"{call} and <tool") is several
        assert not accepts(generator, source, f"{call} <tool_call>")


def test_references_are_of_their_own_tool(generator: Generator) -> None:
    """A recursive tool, and one with definitions, stay apart."""
    for source in (HERMES, FORMS["Llama 3"][0]):
        made = form_in_template(source)
        deep = {"arguments": DEEP, "parameters": LLAMA_DEEP}[made.arguments]
        if made.closing:
            deep = f"{made.opening}{deep}{made.closing}"
        grammar = made.calls(TOOLS, several=False)
        assert accepts(generator, grammar, deep)
        assert not accepts(generator, grammar, deep.replace("null", '{"city":"Rom"}'))


def test_marks_that_are_control_tokens(generator: Generator) -> None:
    """A mark that is no text is one token, without which there is no call."""
    made = replace(form_in_template(MISTRAL), control=(("[TOOL_CALLS]", CONTROL),))
    for source, needs_call in (
        (made.calls(TOOLS, several=True), True),
        (made.text_or_calls(TOOLS, several=True), False),
    ):
        answer = Allowed(generator, source)
        assert answer.after()[CONTROL]
        answer.append([CONTROL])
        assert not answer.may_end()
        assert answer.reads(f"[{ROME}, {ROME}]")
        assert answer.may_end()
        assert accepts(generator, source, "Hi") is not needs_call
        assert accepts(generator, source, f"[{ROME}]") is not needs_call  # that is text
    python = replace(form_in_template(FORMS["Llama 3"][0]), control=(("<|python_tag|>", CONTROL),))
    for source in (made(TOOLS, several=False) for made in (python.calls, python.text_or_calls)):
        assert accepts(generator, source, LLAMA_ROME)
        answer = Allowed(generator, source)
        answer.append([CONTROL])
        assert answer.reads(LLAMA_ROME)
        assert answer.may_end()


def test_unknown_templates_have_the_form_of_hermes() -> None:
    """Tools are offered in its words to a model whose template knows none."""
    for template in ("", "{{ messages }} [TOOL_CALLS]", "{{ tools }}"):
        assert form_in_template(template) == form_in_template(HERMES)


def test_arguments(generator: Generator) -> None:
    """Where the tool is chosen the text is its arguments; a tool without parameters has none."""
    assert accepts(generator, arguments_source(CITY), '{"city": "Rom"}')
    assert accepts(generator, arguments_source({"name": "f"}), "{}")
    assert not accepts(generator, arguments_source({"name": "f"}), '{"a": 1}')
    assert accepts(generator, arguments_source({**CITY, "strict": False}), '{"a": 1}')


def test_a_tool_that_cannot_be_held_to_is_named(generator: Generator) -> None:
    """The error has the names of the tool and of the keyword."""
    wrong = {"name": "wrong", "parameters": {"type": "object", "not": {}}}
    made = form_in_template(HERMES)
    for source in (made.calls, made.text_or_calls):
        with pytest.raises(ValueError, match=r"the tool 'wrong' must have .*not"):
            Compiler(generator.target).compile(source([*TOOLS, wrong], several=True))
