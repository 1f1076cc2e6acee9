"""Requests of OpenAI's protocol that are refused, with the parameter at fault."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("openai")
pytest.importorskip("starlette")
import httpx

from openai_protocol import MESSAGES, error_of
from serving import load_tiny, running

pytestmark = pytest.mark.no_sanitizer

CHAT = "/v1/chat/completions"
COMPLETIONS = "/v1/completions"
Case = tuple[dict[str, Any], str | None, str]  # parameters, the one at fault, part of the message

# Its braces are looked at; a search that tries each way to split the spaces would take hours.
PATTERN = {"type": "string", "pattern": "^{" + " " * 50_000 + "$"}
SPACES = {"type": "json_object", "schema": PATTERN}


@pytest.fixture(scope="module")
def client(folder: Path) -> Iterator[httpx.Client]:
    """A client of a server."""
    generator = load_tiny(folder)
    with running(lambda: generator) as server, httpx.Client(base_url=server.url) as client:
        yield client


def check(client: httpx.Client, path: str, request: dict[str, Any], case: Case) -> None:
    """Checks that a request is refused, and that the message and the parameter are right."""
    wrong, param, message = case
    error = error_of(client, path, request | wrong)
    assert error["param"] == param
    assert message in error["message"]


def shown(case: Case) -> str:
    """Returns the name of a case."""
    return str(case[0])[:60]


IMAGE = {"type": "image_url", "image_url": {"url": "data:image/png;base64,"}}
CHATS: list[Case] = [
    ({"messages": None}, "messages", "should be a valid list, got None"),
    ({"messages": []}, "messages", "at least 1 item"),
    ({"messages": [{"content": "a"}]}, "messages[0].role", "is missing"),
    (
        {"messages": [{"role": "user", "content": [IMAGE]}]},
        "messages[0].content[0]",
        "this server has text only, got {'image_url'",
    ),
    (
        {"messages": [{"role": "user", "content": [{"type": "input_audio"}]}]},
        "messages[0].content[0]",
        "this server has text only",
    ),
    ({"temperature": "hot"}, "temperature", "valid number, got 'hot'"),
    ({"temperature": True}, "temperature", "valid number"),
    ({"temperature": -1}, "temperature", "must be 0, or between 1e-6 and 1e6, got -1"),
    ({"top_k": 1.5}, "top_k", "valid integer"),
    ({"top_k": 1 << 40}, "top_k", "got 1099511627776"),
    ({"n": 0}, "n", "greater than or equal to 1, got 0"),
    ({"n": 129}, "n", "less than or equal to 128, got 129"),
    ({"max_tokens": "9"}, "max_tokens", "valid integer, got '9'"),
    ({"logprobs": 1}, "logprobs", "valid boolean"),
    ({"logprobs": True, "top_logprobs": 21}, "top_logprobs", "less than or equal to 20"),
    ({"top_logprobs": 2}, None, "top_logprobs needs logprobs"),
    ({"seed": -2}, "seed", "between 0 and 2**64 - 1, or -1 for a fresh one, got -2"),
    ({"stop": [""]}, "stop", "non-empty strings"),
    ({"stop": ["a"] * 65}, "stop", "at most 64 items"),
    ({"logit_bias": {"x": 1}}, "logit_bias", "keys should be token ids"),
    ({"logit_bias": {"5": "x"}}, "logit_bias.5", "valid number"),
    ({"logit_bias": {"99999": 1}}, "logit_bias", "between 0 and 514, got 99999"),
    ({"logit_bias": {str(i): 1 for i in range(5000)}}, "logit_bias", "at most 4096 entries"),
    (
        {"messages": [{"role": "user", "content": [1] * 100_000}]},
        "messages[0].content[0]",
        "got 1",
    ),
    ({"stream": "yes"}, "stream", "valid boolean"),
    ({"stream_options": {"include_usage": 1}}, "stream_options.include_usage", "boolean"),
    ({"draft_nodes": 0}, "draft_nodes", "between 1 and 256, or 'auto', got 0"),
    ({"draft_nodes": "all"}, "draft_nodes", "got 'all'"),
    ({"draft_sources": ["ngram"]}, "draft_sources[0]", "'grammar' or 'model', got 'ngram'"),
    ({"references": ["a"] * 65}, "references", "at most 64 items"),
    ({"references": ["the and of " * 20_000]}, "references", "at most 32768 tokens, got "),
    (
        {"prediction": {"type": "content", "content": "the and of " * 1000}},
        "prediction",
        "at most 512 tokens, got ",
    ),
    ({"method": "magic"}, "method", "one of 'ersd'"),
    ({"grammar": "rot"}, "grammar", "must be GBNF text"),
    (
        {"grammar": "root ::= " + "(" * 9999 + "[a]" + ")" * 9999},
        "grammar",
        "at most 4000 rules",
    ),
    ({"regex": "(a"}, "regex", "must be a regular expression"),
    ({"lark": "start: b"}, "lark", "must be a Lark grammar"),
    ({"regex": "a", "grammar": "root ::= [a]"}, None, "grammar and regex exclude each other"),
    ({"grammar": "root ::= " + "[" * 200_000}, "grammar", "must have more text"),
    ({"response_format": SPACES}, "response_format", "pattern"),
    ({"response_format": {"type": "xml"}}, "response_format.type", "got 'xml'"),
    ({"response_format": {"type": "json_schema"}}, "response_format", "have a schema"),
    (
        {"response_format": {"type": "json_object", "schema": {"uniqueItems": True}}},
        "response_format",
        'Unimplemented keys: ["uniqueItems"]',
    ),
    ({"prediction": {"type": "content"}}, "prediction.content", "is missing"),
    ({"chat_template_kwargs": {"tools": 1}}, "chat_template_kwargs", "the key 'tools'"),
]


@pytest.mark.parametrize("case", CHATS, ids=shown)
@pytest.mark.parametrize("streamed", [False, True])
def test_chats(client: httpx.Client, case: Case, streamed: bool) -> None:
    """A wrong parameter is named, and a stream does not begin."""
    check(client, CHAT, {"messages": MESSAGES, "max_tokens": 4, "stream": streamed}, case)


def tool(name: str, **properties: Any) -> dict[str, Any]:
    """Returns a tool with these properties."""
    schema = {"type": "object", "properties": properties}
    return {"type": "function", "function": {"name": name, "parameters": schema}}


TOOLS = [tool("get_weather"), tool("get"), tool("stop")]
TOOL_CASES: list[Case] = [
    ({"tools": [{"type": "web_search"}]}, "tools[0].type", "should be 'function'"),
    ({"tools": [{"type": "function"}]}, "tools[0].function", "is missing"),
    ({"tools": [tool("")]}, "tools[0].function.name", "at least 1 character"),
    ({"tools": TOOLS * 50}, "tools", "at most 128 items"),
    ({"tool_choice": "always"}, "tool_choice", "'none', 'auto' or 'required'"),
    (
        {"tool_choice": {"type": "function", "function": {"name": "x"}}},
        "tool_choice",
        "must name one of the tools ['get_weather', 'get', 'stop'], got 'x'",
    ),
    ({"tool_choice": "required", "tools": None}, "tool_choice", "needs tools"),
    (
        {"tool_choice": "required", "grammar": "root ::= [a]"},
        "grammar",
        "a call has its own grammar",
    ),
    (
        {"tool_choice": "required", "tools": [tool("f", a={"$ref": "#/nothing"})]},
        None,
        "the tool 'f' must have a JSON schema that an answer can be held to: $ref: Pointer",
    ),
    (
        {"tool_choice": "required", "tools": [tool("f", a={"type": "x"})]},
        None,
        "the tool 'f' must have a JSON schema that an answer can be held to: Invalid type: x",
    ),
]


@pytest.mark.parametrize("case", TOOL_CASES, ids=shown)
def test_tools(client: httpx.Client, case: Case) -> None:
    """A tool or a choice that is wrong is named."""
    check(client, CHAT, {"messages": MESSAGES, "tools": TOOLS, "max_tokens": 4}, case)


TEXTS: list[Case] = [
    ({"prompt": []}, "prompt", "at least 1 item"),
    ({"prompt": [[]]}, "prompt[0]", "at least 1 item"),
    ({"prompt": [1.5]}, "prompt[0]", "valid integer"),
    ({"prompt": [1, "the"]}, "prompt[1]", "got 'the'"),
    ({"prompt": 5}, "prompt", "got 5"),
    ({"prompt": [99999]}, None, "prompt tokens must be between 0 and 514, got 99999"),
    ({"prompt": [-1]}, "prompt[0]", "greater than or equal to 0"),
    ({"prompt": ["a"] * 1025}, "prompt", "at most 1024 items"),
    ({"prompt": ["a"] * 69}, None, "at most 68 choices, got 69"),
    ({"n": 3, "best_of": 5}, "best_of", "best_of must be n, 3, got 5"),
    ({"echo": True, "logprobs": 0}, None, "echo and logprobs exclude each other"),
    ({"logprobs": 21}, "logprobs", "less than or equal to 20"),
    ({"logprobs": True}, "logprobs", "valid integer"),
    ({"suffix": "of"}, "suffix", "suffix needs a model with tokens for filling in a middle"),
    ({"suffix": 5}, "suffix", "valid string"),
    ({"grammar": "root ::= [a]", "response_format": {"type": "json_object"}}, None, "exclude"),
]


@pytest.mark.parametrize("case", TEXTS, ids=shown)
def test_text_completions(client: httpx.Client, case: Case) -> None:
    """A wrong parameter is named."""
    check(client, COMPLETIONS, {"prompt": "the", "max_tokens": 4}, case)


RESPONSES: list[Case] = [
    ({"previous_response_id": "resp_1"}, "previous_response_id", "stores no responses"),
    ({"conversation": "conv_1"}, "conversation", "stores no responses"),
    ({"background": True}, "background", "stores no responses"),
    ({"input": None}, "input", "got None"),
    ({"input": []}, "input", "at least 1 item"),
    ({"input": [{"role": "tool", "content": "a"}]}, "input[0].role", "got 'tool'"),
    ({"input": [{"type": "item_reference", "id": "a"}]}, "input[0].type", "'function_call'"),
    (
        {"input": [{"role": "user", "content": [{"type": "input_image", "image_url": "a"}]}]},
        "input[0].content[0]",
        "this server has text only",
    ),
    ({"tools": [{"type": "web_search"}]}, "tools[0].type", "should be 'function'"),
    ({"max_output_tokens": "many"}, "max_output_tokens", "valid integer"),
    ({"text": {"format": {"type": "json_schema", "name": "a"}}}, "text.format", "a schema"),
    ({"metadata": {"a": 1}}, "metadata.a", "valid string"),
    ({"top_logprobs": 21}, "top_logprobs", "less than or equal to 20"),
]


@pytest.mark.parametrize("case", RESPONSES, ids=shown)
def test_responses(client: httpx.Client, case: Case) -> None:
    """A wrong parameter is named."""
    check(client, "/v1/responses", {"input": "the", "max_output_tokens": 4}, case)


def test_a_prompt_longer_than_the_context(client: httpx.Client) -> None:
    """It is refused with OpenAI's code for that, and with llama-server's type and numbers."""
    long = [{"role": "user", "content": "the " * 1000}]
    response = client.post(CHAT, json={"messages": long})
    assert response.status_code == 400
    error = response.json()["error"]
    assert error["code"] == "context_length_exceeded"
    assert error["type"] == "exceed_context_size_error"
    assert error["n_ctx"] == 512
    assert f"the prompt has {error['n_prompt_tokens']} tokens" in error["message"]
    assert "the context of 512 (n_ctx) has room for 511" in error["message"]


@pytest.mark.parametrize(
    "body", [b"", b"{", b"[]", b"null", b'{"prompt": NaN}', b"\xff", b"[" * 9999]
)
def test_bodies_that_are_no_requests(client: httpx.Client, body: bytes) -> None:
    """They are refused, whatever they are."""
    response = client.post(COMPLETIONS, content=body)
    assert response.status_code == 400
    assert response.json()["error"]["message"].startswith("the body ")
