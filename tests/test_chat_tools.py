"""create_chat_completion calls tools, in the form that the model's chat template shows."""

from __future__ import annotations

import json
import math
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from ersd import Generator
from masks import BYTE
from test_tools import FORMS

pytestmark = pytest.mark.no_sanitizer

MESSAGES = [{"role": "user", "content": "Weather?"}]
ALLOWED: dict[str, list[Any]] = {
    "weather": [{"city": "Rom"}, {"city": "Oslo"}],
    "count": [{"n": 1}, {"n": 2}],
}


def tool(name: str, key: str) -> dict[str, Any]:
    """Returns a tool whose only argument is one of those that are allowed."""
    schema = {
        "type": "object",
        "properties": {key: {"enum": [each[key] for each in ALLOWED[name]]}},
        "required": [key],
    }
    return {"type": "function", "function": {"name": name, "parameters": schema}}


TOOLS = [tool("weather", "city"), tool("count", "n")]
RANDOM: dict[str, Any] = {"temperature": 50.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
ASKED: dict[str, Any] = {"messages": MESSAGES, "tools": TOOLS, "max_tokens": 300, **RANDOM}


@pytest.fixture(scope="module", params=FORMS)
def generator(request: pytest.FixtureRequest, folder: Path) -> Generator:
    """A random model whose chat template shows a form of calls."""
    template = FORMS[request.param][0].replace("{{ tools }}", "{{ tools | tojson }}")
    path = tiny.write_llama(folder / f"{request.param}.gguf", chat_template=template)
    return Generator(path, n_ctx=1024, n_threads=1)


def opening(text: str, n_prompt: int) -> Callable[[Any, Any], Any]:
    """Returns a logits processor after which an answer begins with a text, byte by byte."""

    def process(ids: Any, scores: Any) -> Any:
        place = len(ids) - n_prompt
        if place < len(text):
            scores[BYTE + ord(text[place])] += np.float32(1e6)
        return scores

    return process


def called(answer: Any) -> list[tuple[str, Any]]:
    """Returns the names and the arguments of the calls of a whole answer, which are allowed."""
    [choice] = answer["choices"]
    calls = choice["message"]["tool_calls"]
    assert choice["finish_reason"] == "tool_calls"
    assert len({call["id"] for call in calls}) == len(calls)
    found = [(c["function"]["name"], json.loads(c["function"]["arguments"])) for c in calls]
    assert all(arguments in ALLOWED[name] for name, arguments in found)
    return found


def streamed(generator: Generator, **asked: Any) -> tuple[str, list[tuple[str, Any]], str]:
    """Returns the text, the calls and the finish reason of a stream."""
    text, calls, reason = "", [], None
    for chunk in generator.create_chat_completion(stream=True, **asked):
        [choice] = chunk["choices"]
        text += choice["delta"].get("content") or ""
        for call in choice["delta"].get("tool_calls", ()):
            assert call["index"] == len(calls)
            calls.append((call["function"]["name"], json.loads(call["function"]["arguments"])))
        reason = choice["finish_reason"]
    return text, calls, reason


def test_a_tool_must_be_called(generator: Generator) -> None:
    """With "required" every answer is one call, or several if they may be parallel."""
    names, numbers = set(), set()
    for seed in range(6):
        asked = ASKED | {"tool_choice": "required", "seed": seed}
        answer = generator.create_chat_completion(**asked)
        found = called(answer)
        [(name, _)] = found
        names.add(name)
        message = answer["choices"][0]["message"]
        assert message["content"] is None
        assert message["function_call"] == message["tool_calls"][0]["function"]
        assert streamed(generator, **asked) == ("", found, "tool_calls")
        several = generator.create_chat_completion(**asked, parallel_tool_calls=True)
        if several["choices"][0]["finish_reason"] != "length":
            numbers.add(len(called(several)))
    assert names == set(ALLOWED)
    assert max(numbers) > 1


def test_a_tool_may_be_called(generator: Generator) -> None:
    """With "auto" what the model begins as a call becomes one that is allowed."""
    for form, (_, call, _) in FORMS.items():
        if form in generator.target.path:
            begin = call[: call.index("weather")]
    n_prompt = len(generator.apply_chat_template(MESSAGES, tools=TOOLS))
    for seed in range(4):
        asked = ASKED | {"seed": seed, "logits_processor": opening(begin, n_prompt)}
        asked |= {"parallel_tool_calls": False}
        found = called(generator.create_chat_completion(**asked))
        assert streamed(generator, **asked) == ("", found, "tool_calls")


def test_text_stays_text(generator: Generator) -> None:
    """With "auto" a model that calls nothing says what it says without tools' grammar."""
    # A random model writes bytes that are no text, which the grammar of tools does not allow.
    ascii_only = {"logit_bias": dict.fromkeys(range(BYTE + 128, BYTE + 256), -math.inf)}
    options: dict[str, Any] = RANDOM | {"seed": 3, "max_tokens": 20, "temperature": 1.0}
    options |= ascii_only
    asked = ASKED | options
    answer = generator.create_chat_completion(**asked)
    [choice] = answer["choices"]
    prompt = generator.apply_chat_template(MESSAGES, tools=TOOLS)
    plain = generator.generate(prompt, **options)
    assert "tool_calls" not in choice["message"]
    assert choice["message"]["content"] == plain.text
    assert choice["finish_reason"] == "length"
    assert streamed(generator, **asked) == (plain.text, [], "length")


@pytest.mark.parametrize("choice", ["required", {"function": {"name": "count"}}], ids=str)
@pytest.mark.parametrize("name", ["grammar", "regex", "lark"])
def test_a_call_has_its_own_grammar(generator: Generator, choice: Any, name: str) -> None:
    """Another one is refused."""
    with pytest.raises(ValueError, match=f"{name} must not be given where a tool must be called"):
        generator.create_chat_completion(**ASKED, tool_choice=choice, **{name: "root ::= [a]"})


def test_tools_are_offered_where_one_must_be_chosen(folder: Path) -> None:
    """The messages name them if the template does not."""
    template = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}"
    path = tiny.write_llama(folder / "untooled.gguf", chat_template=template)
    generator = Generator(path, n_ctx=2048, n_threads=1)
    plain, offered = (
        generator.create_chat_completion(**ASKED | {"tool_choice": choice, "seed": 1})
        for choice in ("none", "required")
    )
    assert called(offered)
    n_plain, n_offered = (each["usage"]["prompt_tokens"] for each in (plain, offered))
    assert n_plain == len(generator.apply_chat_template(MESSAGES))
    assert n_offered > n_plain + len(generator.tokenize(json.dumps(TOOLS))) - 20
