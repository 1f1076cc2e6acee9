"""/v1/responses gives the texts of chats in the forms of OpenAI's responses."""

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
from ersd.serve import Settings
from openai_protocol import EVENT, ask, events_of
from serving import load_tiny, running

pytestmark = pytest.mark.no_sanitizer

PATH = "/v1/responses"
SHORT: dict[str, Any] = {"input": "the and of", "max_output_tokens": 16, "draft_nodes": 8}
TALK = [{"role": "user", "content": "the and of"}]


@pytest.fixture(scope="module")
def generator(folder: Path) -> Generator:
    """The models of the server, with room for prompts that offer tools."""
    return load_tiny(folder, n_ctx=2048, n_ctx_total=4096)


def text_of(generator: Generator, messages: Any = TALK, **options: Any) -> str:
    """Returns the engine's answer to messages."""
    return generator.chat(messages, **({"max_tokens": 16, "draft_nodes": 8} | options)).text


def events(client: httpx.Client, **request: Any) -> list[Any]:
    """Returns the events of a response, which OpenAI's types allow, numbered from 0."""
    found = events_of(client, PATH, **request)
    for name, data in found:
        EVENT[PATH].validate_python(data)
        assert data["type"] == name
    assert [data["sequence_number"] for _, data in found] == list(range(len(found)))
    return [data for _, data in found]


def plain(response: Any) -> Any:
    """Returns a response without what differs between equal requests."""
    output = [
        {key: value for key, value in item.items() if key not in ("id", "call_id")}
        for item in response["output"]
    ]
    usage = {key: response["usage"][key] for key in ("input_tokens", "output_tokens")}
    return {"output": output, "usage": usage, "status": response["status"]}


def test_a_whole_response(client: httpx.Client, generator: Generator) -> None:
    """It has the text of a chat, repeats what was asked for, and is not stored."""
    asked = {"temperature": 0.7, "metadata": {"a": "b"}, "store": True, "user": "me"}
    response = ask(client, PATH, **SHORT, seed=7, **asked)
    [message] = response["output"]
    assert message["content"][0]["text"] == text_of(generator, seed=7, temperature=0.7)
    assert (response["status"], message["status"]) == ("incomplete", "incomplete")
    assert response["incomplete_details"] == {"reason": "max_output_tokens"}
    assert (response["temperature"], response["top_p"]) == (0.7, 0.95)
    assert response["max_output_tokens"] == 16
    assert response["metadata"] == {"a": "b"}
    assert response["store"] is False
    assert response["seed"] == 7
    usage = response["usage"]
    assert usage["input_tokens"] == len(generator.apply_chat_template(TALK))
    assert usage["output_tokens"] == response["timings"]["predicted_n"] == 16
    assert usage["total_tokens"] == usage["input_tokens"] + 16
    again = ask(client, PATH, **SHORT, seed=7, **asked)
    cached = again["usage"]["input_tokens_details"]["cached_tokens"]
    assert cached == usage["input_tokens"] - 1


def test_a_response_that_ends(client: httpx.Client, generator: Generator) -> None:
    """A stop string completes it. Without any text there is an empty message."""
    text = text_of(generator, seed=7)
    response = ask(client, PATH, **SHORT, seed=7, stop=text[4:6])
    assert response["status"] == response["output"][0]["status"] == "completed"
    assert response["incomplete_details"] is None
    assert response["completed_at"] >= response["created_at"]
    assert response["output"][0]["content"][0]["text"] == text[:4]
    empty = ask(client, PATH, **SHORT, seed=7, stop=text[0])
    assert empty["output"][0]["content"][0]["text"] == ""


def test_the_events_of_a_stream(client: httpx.Client) -> None:
    """They build the whole response, in OpenAI's order."""
    whole = ask(client, PATH, **SHORT, seed=8)
    found = events(client, **SHORT, seed=8)
    kinds = [event["type"] for event in found]
    n_deltas = kinds.count("response.output_text.delta")
    assert n_deltas > 2
    assert kinds == [
        "response.created",
        "response.in_progress",
        "response.output_item.added",
        "response.content_part.added",
        *["response.output_text.delta"] * n_deltas,
        "response.output_text.done",
        "response.content_part.done",
        "response.output_item.done",
        "response.incomplete",
    ]
    assert found[0]["response"]["status"] == "in_progress"
    assert found[0]["response"]["output"] == found[2]["item"]["content"] == []
    text = "".join(event.get("delta", "") for event in found)
    assert text == found[-4]["text"] == whole["output"][0]["content"][0]["text"]
    assert found[-2]["item"] == found[-1]["response"]["output"][0]
    assert {event["item_id"] for event in found if "item_id" in event} == {found[2]["item"]["id"]}
    assert plain(found[-1]["response"]) == plain(whole)
    assert found[-1]["response"].keys() >= {"seed", "timings", "speculative"}


def test_logprobs(client: httpx.Client, generator: Generator) -> None:
    """`include` asks for log-probabilities, which a stream gives with the text."""
    expected = generator.chat(TALK, max_tokens=16, draft_nodes=8, seed=3, logprobs=2).logprobs
    assert expected is not None
    asked = SHORT | {"seed": 3, "top_logprobs": 2, "include": ["message.output_text.logprobs"]}
    part = ask(client, PATH, **asked)["output"][0]["content"][0]
    assert [each["logprob"] for each in part["logprobs"]] == [each.logprob for each in expected]
    assert [len(each["top_logprobs"]) for each in part["logprobs"]] == [2] * len(expected)
    found = events(client, **asked)
    assert found[-1]["response"]["output"][0]["content"][0] == part
    streamed = [each for event in found if "delta" in event for each in event["logprobs"]]
    assert streamed == part["logprobs"][: len(streamed)]
    assert len(streamed) > 2
    assert ask(client, PATH, **SHORT, seed=3)["output"][0]["content"][0]["logprobs"] == []


INPUTS: dict[str, tuple[Any, list[dict[str, str]]]] = {
    "messages": (
        [
            {"role": "developer", "content": "a"},
            {"type": "message", "role": "user", "content": [{"type": "input_text", "text": "b"}]},
            {
                "type": "message",
                "role": "assistant",
                "content": [{"type": "output_text", "text": "c", "annotations": []}],
            },
            {"type": "reasoning", "summary": [], "id": "r"},
            {"role": "user", "content": "d"},
        ],
        [
            {"role": "system", "content": "a"},
            {"role": "user", "content": "b"},
            {"role": "assistant", "content": "c"},
            {"role": "user", "content": "d"},
        ],
    ),
    "calls": (
        [
            {"role": "user", "content": "b"},
            {"type": "function_call", "call_id": "1", "name": "f", "arguments": '{"x": 1}'},
            {"type": "function_call", "call_id": "2", "name": "g", "arguments": "{}"},
            {"type": "function_call_output", "call_id": "1", "output": "one"},
            {
                "type": "function_call_output",
                "call_id": "2",
                "output": [{"type": "input_text", "text": "two"}],
            },
        ],
        [
            {"role": "user", "content": "b"},
            {
                "role": "assistant",
                "content": '<tool_call>\n{"name": "f", "arguments": {"x": 1}}\n</tool_call>\n'
                '<tool_call>\n{"name": "g", "arguments": {}}\n</tool_call>',
            },
            {"role": "user", "content": "<tool_response>\none\n</tool_response>"},
            {"role": "user", "content": "<tool_response>\ntwo\n</tool_response>"},
        ],
    ),
}


@pytest.mark.parametrize("form", INPUTS)
def test_input_as_items(client: httpx.Client, generator: Generator, form: str) -> None:
    """Items are the messages of a chat, after the instructions as a message of the system."""
    items, messages = INPUTS[form]
    response = ask(client, PATH, **SHORT | {"input": items, "seed": 3})
    assert response["output"][0]["content"][0]["text"] == text_of(generator, messages, seed=3)
    told = ask(client, PATH, **SHORT | {"input": items, "seed": 3, "instructions": "Be brief."})
    messages = [{"role": "system", "content": "Be brief."}, *messages]
    assert told["output"][0]["content"][0]["text"] == text_of(generator, messages, seed=3)
    assert told["instructions"] == "Be brief."


CITY = {
    "type": "object",
    "properties": {"city": {"enum": ["Paris", "Rome"]}},
    "required": ["city"],
    "additionalProperties": False,
}
TOOLS = [
    {"type": "function", "name": "get_weather", "parameters": CITY, "strict": True},
    {"type": "function", "name": "stop", "description": "Stops.", "parameters": None},
]
GRAMMAR = r"""root ::= "Hi" call call "Bye"
call ::= "<tool_call>{\"name\": \"stop\", \"arguments\": {}}</tool_call>"
"""


@pytest.mark.parametrize(
    "choice", [{"type": "function", "name": "get_weather"}, "required", "auto"], ids=str
)
def test_function_calls(client: httpx.Client, choice: Any) -> None:
    """Calls are items of the output between the messages, and the events build them."""
    asked = SHORT | {"tools": TOOLS, "tool_choice": choice, "seed": 1, "max_output_tokens": 200}
    if choice == "auto":
        asked["grammar"] = GRAMMAR
    response = ask(client, PATH, **asked)
    assert response["tool_choice"] == choice
    assert [tool["name"] for tool in response["tools"]] == ["get_weather", "stop"]
    kinds = [item["type"] for item in response["output"]]
    if choice == "auto":
        assert kinds == ["message", "function_call", "function_call", "message"]
        assert response["output"][0]["content"][0]["text"] == "Hi"
        assert response["output"][3]["content"][0]["text"] == "Bye"
    else:
        assert kinds == ["function_call"]
    calls = [item for item in response["output"] if item["type"] == "function_call"]
    for call in calls:
        arguments = json.loads(call["arguments"])
        assert arguments == {} if call["name"] == "stop" else arguments["city"] in ("Paris", "Rome")
    found = events(client, **asked)
    assert plain(found[-1]["response"]) == plain(response)
    for i, item in enumerate(found[-1]["response"]["output"]):
        own = [event for event in found if event.get("output_index") == i]
        assert own[0]["type"] == "response.output_item.added"
        assert own[-1] == own[-1] | {"type": "response.output_item.done", "item": item}
        said = "".join(event["delta"] for event in own if "delta" in event)
        assert said == (item["arguments"] if "arguments" in item else item["content"][0]["text"])


@pytest.mark.parametrize(
    "form",
    [{"type": "json_schema", "name": "c", "schema": CITY, "strict": True}, {"type": "text"}, None],
    ids=str,
)
def test_the_form_of_the_text(client: httpx.Client, form: Any) -> None:
    """A schema holds the text to it; the response repeats the form."""
    asked = SHORT | {"text": {"format": form}, "max_output_tokens": 100, "seed": 1}
    response = ask(client, PATH, **asked)
    assert response["text"]["format"]["type"] == (form or {"type": "text"})["type"]
    if form and "schema" in form:
        assert response["text"]["format"]["schema"] == CITY
        assert json.loads(response["output"][0]["content"][0]["text"])["city"] in ("Paris", "Rome")


@pytest.fixture(scope="module")
def endless(folder: Path) -> Generator:
    """Models whose texts go on until they are cut."""
    return load_tiny(folder, context_shift=True)


def test_an_error_in_the_middle_of_a_stream(endless: Generator) -> None:
    """The last event has the error, and the next number."""
    settings = Settings(port=0, timeout_s=1)
    asked = {"input": "the", "ignore_eos": True}
    with running(lambda: endless, settings) as server, httpx.Client() as client:
        client.base_url = httpx.URL(server.url)
        found = events(client, **asked)
    assert found[-1]["type"] == "error"
    assert found[-1]["code"] == "timeout"
    assert found[-1]["message"] == "the request took longer than 1 seconds"


def test_openai_python(client: httpx.Client, generator: Generator) -> None:
    """The package openai reads responses, whole and streamed."""
    api = openai.OpenAI(base_url=f"{client.base_url}/v1", api_key="none")
    asked: Any = {"model": "m", "input": "the and of", "max_output_tokens": 16}
    more = {"extra_body": {"seed": 4, "draft_nodes": 8}}
    expected = text_of(generator, seed=4)
    assert api.responses.create(**asked, **more).output_text == expected
    with api.responses.stream(**asked, **more) as stream:
        text = "".join(
            event.delta for event in stream if event.type == "response.output_text.delta"
        )
    assert text == expected
