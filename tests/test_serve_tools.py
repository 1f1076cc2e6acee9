"""Tools are offered to the model, and its calls are found in its text."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("openai")
pytest.importorskip("starlette")
import httpx
import openai

from ersd import Generator
from ersd.serve.openai.conversation import Conversation
from ersd.serve.openai.messages import ChatMessage, Function
from openai_protocol import MESSAGES, ask, joined_text, stream
from serving import load_tiny

pytestmark = pytest.mark.no_sanitizer

PATH = "/v1/chat/completions"


@pytest.fixture(scope="module")
def generator(folder: Path) -> Generator:
    """The models of the server, with room for prompts that offer tools."""
    return load_tiny(folder, n_ctx=2048, n_ctx_total=4096)


def tool(name: str, **properties: Any) -> dict[str, Any]:
    """Returns a tool whose arguments must have these properties."""
    schema = {"type": "object", "properties": properties, "required": list(properties)}
    return {"type": "function", "function": {"name": name, "parameters": schema}}


CITY = {"enum": ["Paris", "Rome"]}
TOOLS = [tool("get_weather", city=CITY), tool("get", n={"enum": [1, 2]}), tool("stop")]
ASKED: dict[str, Any] = {"messages": MESSAGES, "tools": TOOLS, "max_tokens": 200, "seed": 1}
RANDOM: dict[str, Any] = {"temperature": 100, "top_k": 0, "top_p": 1, "min_p": 0}
GRAMMAR = r"""root ::= "Hi\n" call call
call ::= "<tool_call>{\"name\": \"get_weather\", \"arguments\": " city "}</tool_call>"
city ::= "{\"city\": \"" name "\"}"
name ::= "Paris" | "Rome"
"""


def calls_of(chunks: list[Any]) -> list[dict[str, Any]]:
    """Returns the calls of a message, joined from its chunks as clients do."""
    calls: list[dict[str, Any]] = []
    for chunk in chunks:
        for delta in chunk["choices"][0]["delta"].get("tool_calls", ()):
            if "id" in delta:
                assert delta["index"] == len(calls)
                assert delta["type"] == "function"
                calls.append({"id": delta["id"], **delta["function"]})
            else:
                calls[delta["index"]]["arguments"] += delta["function"]["arguments"]
    return calls


def check_stream(client: httpx.Client, answer: Any, **asked: Any) -> None:
    """Checks that a stream gives the message of a whole answer, but for the identifiers."""
    chunks = stream(client, PATH, **asked)
    message, reason = answer["choices"][0]["message"], answer["choices"][0]["finish_reason"]
    assert joined_text(chunks) == (message["content"] or "")
    whole = [call["function"] for call in message.get("tool_calls", ())]
    assert [{k: v for k, v in call.items() if k != "id"} for call in calls_of(chunks)] == whole
    assert chunks[-1]["choices"][0]["finish_reason"] == reason


@pytest.mark.parametrize("choice", [{}, {"tool_choice": "auto"}], ids=str)
def test_the_model_calls_tools_by_itself(client: httpx.Client, choice: dict[str, Any]) -> None:
    """A grammar stands for a model that writes two calls; parallel_tool_calls allows one only."""
    asked = ASKED | {"grammar": GRAMMAR} | choice
    answer = ask(client, PATH, **asked)
    [found] = answer["choices"]
    assert found["message"]["content"] == "Hi\n"
    calls = [call["function"] for call in found["message"]["tool_calls"]]
    assert [call["name"] for call in calls] == ["get_weather"] * 2
    assert all(json.loads(call["arguments"])["city"] in CITY["enum"] for call in calls)
    assert found["finish_reason"] == "tool_calls"
    check_stream(client, answer, **asked)
    only_one = asked | {"parallel_tool_calls": False}
    answer = ask(client, PATH, **only_one)
    assert [call["function"] for call in answer["choices"][0]["message"]["tool_calls"]] == calls[:1]
    check_stream(client, answer, **only_one)


def test_no_tool_may_be_called(client: httpx.Client, generator: Generator) -> None:
    """With "none" the tools are not offered, and a call stays text."""
    answer = ask(client, PATH, **ASKED, grammar=GRAMMAR, tool_choice="none")
    message = answer["choices"][0]["message"]
    assert "tool_calls" not in message
    assert message["content"].startswith('Hi\n<tool_call>{"name": "get_weather"')
    assert answer["choices"][0]["finish_reason"] == "stop"
    assert answer["usage"]["prompt_tokens"] == len(generator.apply_chat_template(MESSAGES))


@pytest.mark.parametrize("seed", range(4))
def test_some_tool_must_be_called(client: httpx.Client, seed: int) -> None:
    """With "required" every answer is a call of a tool, with arguments as its schema says."""
    asked = ASKED | {"tool_choice": "required", "seed": seed}
    answer = ask(client, PATH, **asked)
    [found] = answer["choices"]
    assert found["message"]["content"] is None
    [call] = found["message"]["tool_calls"]
    arguments = json.loads(call["function"]["arguments"])
    allowed: dict[str, list[Any]] = {
        "get_weather": [{"city": city} for city in CITY["enum"]],
        "get": [{"n": 1}, {"n": 2}],
        "stop": [{}],
    }
    assert arguments in allowed[call["function"]["name"]]
    assert found["finish_reason"] == "tool_calls"
    check_stream(client, answer, **asked)


def test_several_tools_must_be_called(client: httpx.Client) -> None:
    """With parallel_tool_calls there may be more than one call."""
    asked = ASKED | RANDOM | {"tool_choice": "required", "parallel_tool_calls": True}
    answers = [ask(client, PATH, **asked | {"seed": seed}) for seed in range(8)]
    finished = [a for a in answers if a["choices"][0]["finish_reason"] == "tool_calls"]
    numbers = {len(answer["choices"][0]["message"]["tool_calls"]) for answer in finished}
    assert min(numbers) >= 1
    assert max(numbers) > 1


def test_a_named_tool_must_be_called(client: httpx.Client, generator: Generator) -> None:
    """The text of the answer is its arguments, which a stream gives as they come."""
    choice = {"type": "function", "function": {"name": "get_weather"}}
    asked = ASKED | {"tool_choice": choice, "response_format": {"type": "text"}}
    answer = ask(client, PATH, **asked)
    [call] = answer["choices"][0]["message"]["tool_calls"]
    assert call["function"]["name"] == "get_weather"
    assert json.loads(call["function"]["arguments"])["city"] in CITY["enum"]
    check_stream(client, answer, **asked)
    cut = ask(client, PATH, **asked | {"max_tokens": 2})["choices"][0]
    assert cut["finish_reason"] == "length"
    assert call["function"]["arguments"].startswith(
        cut["message"]["tool_calls"][0]["function"]["arguments"]
    )


@pytest.mark.parametrize("choice", [{"name": "get_weather"}, "auto"], ids=str)
def test_the_older_names(client: httpx.Client, choice: Any) -> None:
    """Functions are called by a function_call, also in a stream."""
    functions = [each["function"] for each in TOOLS]
    asked = {"messages": MESSAGES, "functions": functions, "function_call": choice, "seed": 1}
    if choice == "auto":
        asked["grammar"] = GRAMMAR
    answer = ask(client, PATH, **asked)
    [found] = answer["choices"]
    call = found["message"]["function_call"]
    assert call["name"] == "get_weather"
    assert json.loads(call["arguments"])["city"] in CITY["enum"]
    assert "tool_calls" not in found["message"]
    assert found["finish_reason"] == "function_call"
    deltas = [chunk["choices"][0]["delta"] for chunk in stream(client, PATH, **asked)]
    parts = [delta["function_call"] for delta in deltas if "function_call" in delta]
    assert parts[0]["name"] == "get_weather"
    assert "".join(part["arguments"] for part in parts) == call["arguments"]


def test_schemas_with_definitions(client: httpx.Client) -> None:
    """Each tool's references lead to its own definitions, also where two have the same name."""
    tools = []
    for name, values in (("a", ["x"]), ("b", ["y"])):
        each = tool(name, of={"$ref": "#/$defs/Kind"}, list={"type": "array", "maxItems": 1})
        parameters = each["function"]["parameters"]
        parameters["properties"]["list"]["items"] = {"$ref": "#/$defs/Kind"}
        parameters["$defs"] = {"Kind": {"enum": values}}
        tools.append(each)
    kinds = set()
    for seed in range(8):
        asked = ASKED | RANDOM | {"tools": tools, "tool_choice": "required", "seed": seed}
        [call] = ask(client, PATH, **asked)["choices"][0]["message"]["tool_calls"]
        arguments = json.loads(call["function"]["arguments"])
        assert arguments["of"] == {"a": "x", "b": "y"}[call["function"]["name"]]
        assert arguments["list"] in ([], [arguments["of"]])
        kinds.add(arguments["of"])
    assert kinds == {"x", "y"}


def test_openai_python(client: httpx.Client) -> None:
    """The package openai reads calls, whole, streamed and parsed."""
    api = openai.OpenAI(base_url=f"{client.base_url}/v1", api_key="none")
    asked: Any = {**ASKED, "model": "m", "tool_choice": "required"}
    message = api.chat.completions.create(**asked).choices[0].message
    assert message.tool_calls
    with api.chat.completions.stream(**asked) as events:
        events.until_done()
        streamed = events.get_final_completion().choices[0].message
    assert streamed.tool_calls
    assert [call.function.arguments for call in streamed.tool_calls] == [
        call.function.arguments for call in message.tool_calls if call.type == "function"
    ]


TALK = [
    {"role": "user", "content": "Weather?"},
    {
        "role": "assistant",
        "content": None,
        "tool_calls": [
            {
                "id": "c1",
                "type": "function",
                "function": {"name": "get_weather", "arguments": '{"city": "Rome"}'},
            }
        ],
    },
    {"role": "tool", "tool_call_id": "c1", "content": "sunny"},
]
TEMPLATE = (
    "{% for m in messages %}[{{ m.role }}|{{ m.content }}|"
    "{{ (m.tool_calls | tojson) if m.tool_calls else m.tool_call_id }}]{% endfor %}"
    "{{ (tools | map(attribute='function.name') | join(' ')) if tools else 'none' }} {{ extra }}"
)


def prompt_of(generator: Generator, *functions: Function, **options: Any) -> str:
    """Returns the prompt of TALK as text."""
    messages = [ChatMessage.model_validate(message) for message in TALK]
    tokens = Conversation(messages, functions, **options).prompt(generator)
    # This vocabulary shows a space after <s>.
    return generator.detokenize(tokens, special=True).replace("<s> ", "<s>")


WEATHER_TOOL = Function(name="get_weather", parameters={"type": "object"})


def test_a_template_that_knows_tools(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """It gets the tools, and the arguments of calls as objects."""
    monkeypatch.setattr(generator, "chat_template", TEMPLATE)
    call = '{"id": "c1", "type": "function", "function": '
    call += '{"name": "get_weather", "arguments": {"city": "Rome"}}}'
    talk = f"[user|Weather?|][assistant||[{call}]][tool|sunny|c1]"
    more = {"template_kwargs": {"extra": "more"}}
    assert prompt_of(generator, WEATHER_TOOL, **more).strip().endswith(f"{talk}get_weather more")
    assert prompt_of(generator, WEATHER_TOOL, choice="none").endswith(f"{talk}none ")


def test_a_template_that_knows_no_tools(generator: Generator) -> None:
    """Tools, calls and what they gave are written into the messages."""
    call = '<tool_call>\n{"name": "get_weather", "arguments": {"city": "Rome"}}\n</tool_call>'
    talk = (
        f"<s>user: Weather?</s><s>assistant: {call}</s>"
        "<s>user: <tool_response>\nsunny\n</tool_response></s><s>assistant: "
    )
    prompt = prompt_of(generator, WEATHER_TOOL)
    assert prompt.endswith(talk)
    offer = prompt.removesuffix(talk)
    assert offer.startswith("<s>system: You may call one or more functions")
    offered = json.loads(offer.split("<tools>\n")[1].split("\n</tools>")[0])
    assert offered["function"]["name"] == "get_weather"
    assert prompt_of(generator) == talk
