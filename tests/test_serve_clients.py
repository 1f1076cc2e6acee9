"""Programs that speak OpenAI's protocol use a real server as if it were OpenAI's."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

pytest.importorskip("openai")
pytest.importorskip("starlette")
import openai
from pydantic import BaseModel

from ersd import Generator
from ersd.serve import Settings
from openai_protocol import MESSAGES
from serving import Running, load_tiny, running, until

pytestmark = pytest.mark.no_sanitizer

KEY = "secret"
OPTIONS: dict[str, Any] = {"seed": 5, "max_tokens": 24, "temperature": 1.0}
ASKED: dict[str, Any] = {"model": "tiny", "messages": MESSAGES, **OPTIONS}


class Weather(BaseModel):
    """The weather of a city."""

    city: Literal["Paris", "Rome"]
    is_sunny: bool


TOOL: dict[str, Any] = {
    "type": "function",
    "function": {
        "name": "get_weather",
        "strict": True,
        "parameters": {
            "type": "object",
            "properties": {"city": {"enum": ["Paris", "Rome"]}},
            "required": ["city"],
            "additionalProperties": False,
        },
    },
}


@pytest.fixture(scope="module")
def generator(folder: Path) -> Generator:
    """The models of the server."""
    return load_tiny(folder, n_parallel=4, n_ctx=1024)


@pytest.fixture(scope="module")
def text(generator: Generator) -> str:
    """The answer to ASKED, from the Generator itself."""
    found = generator.chat(MESSAGES, **OPTIONS).text
    assert len(found) > 10
    return found


@pytest.fixture(scope="module")
def server(generator: Generator) -> Iterator[Running]:
    """A server that wants a key."""
    settings = Settings(port=0, alias="tiny", api_keys=(KEY,))
    with running(lambda: generator, settings) as server:
        yield server


@pytest.fixture(scope="module")
def address(server: Running) -> dict[str, str]:
    """How clients reach the server."""
    return {"base_url": f"{server.url}/v1", "api_key": KEY}


@pytest.fixture(scope="module")
def client(address: dict[str, str]) -> Iterator[openai.OpenAI]:
    """A client of the package openai."""
    with openai.OpenAI(**address, max_retries=0) as client:
        yield client


def test_openai(client: openai.OpenAI, text: str) -> None:
    """Whole and streamed answers, models, and the errors of the package."""
    assert client.models.list().data[0].id == client.models.retrieve("tiny").id == "tiny"
    with pytest.raises(openai.NotFoundError, match="this server has the model 'tiny', got 'other'"):
        client.models.retrieve("other")
    answer = client.chat.completions.create(**ASKED)
    assert answer.choices[0].message.content == text
    usage = answer.usage
    assert usage is not None
    assert usage.completion_tokens == 24
    chunks = list(
        client.chat.completions.create(**ASKED, stream=True, stream_options={"include_usage": True})
    )
    assert "".join(c.choices[0].delta.content or "" for c in chunks if c.choices) == text
    assert chunks[-1].usage is not None
    assert chunks[-1].usage.total_tokens == usage.total_tokens
    response = client.responses.create(
        model="tiny",
        input="the and of",
        max_output_tokens=24,
        temperature=1.0,
        extra_body={"seed": 5},
    )
    assert response.output_text == text
    with pytest.raises(openai.BadRequestError, match="temperature must be 0, or between") as found:
        client.chat.completions.create(**ASKED | {"temperature": -1})
    assert found.value.param == "temperature"
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="wrong").models.list()


def test_openai_without_blocking(address: dict[str, str], text: str) -> None:
    """Many answers at once, and a streamed one."""

    async def main() -> None:
        async with openai.AsyncOpenAI(**address) as client:
            create = client.chat.completions.create
            answers = await asyncio.gather(*(create(**ASKED) for _ in range(6)))
            assert {answer.choices[0].message.content for answer in answers} == {text}
            chunks = [chunk async for chunk in await create(**ASKED, stream=True)]
            assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == text

    asyncio.run(main())


def test_a_stream_that_is_closed(client: openai.OpenAI, server: Running) -> None:
    """Its generation ends, and its place is free."""
    endless = ASKED | {"max_tokens": 900, "extra_body": {"ignore_eos": True}}
    with client.chat.completions.create(**endless, stream=True) as chunks:
        next(iter(chunks))
    until(lambda: not server.server.jobs.places.taken)


def test_openai_tools(client: openai.OpenAI) -> None:
    """The model calls a tool; a conversation that holds the call and its result goes on."""
    asked = ASKED | {"tools": [TOOL], "tool_choice": "required", "max_tokens": 200}
    message = client.chat.completions.create(**asked).choices[0].message
    assert message.tool_calls
    [call] = message.tool_calls
    assert json.loads(call.function.arguments)["city"] in ("Paris", "Rome")
    with client.chat.completions.stream(**asked) as events:
        [streamed] = events.get_final_completion().choices[0].message.tool_calls or ()
    assert streamed.function.arguments == call.function.arguments
    assert streamed.function.parsed_arguments == json.loads(call.function.arguments)
    result = {"role": "tool", "tool_call_id": call.id, "content": "sunny"}
    talk = [*MESSAGES, message.to_dict(), result]
    answer = client.chat.completions.create(**ASKED | {"messages": talk, "tools": [TOOL]})
    assert answer.choices[0].message.content


def test_openai_parses(client: openai.OpenAI) -> None:
    """Structured answers become objects, whole and streamed, as completions and as responses."""
    asked = ASKED | {"response_format": Weather, "max_tokens": 200}
    parsed = client.chat.completions.parse(**asked).choices[0].message.parsed
    assert isinstance(parsed, Weather)
    with client.chat.completions.stream(**asked) as events:
        assert events.get_final_completion().choices[0].message.parsed == parsed
    response = client.responses.parse(model="tiny", input="the", text_format=Weather)
    assert isinstance(response.output_parsed, Weather)


def test_openai_prediction(client: openai.OpenAI, text: str) -> None:
    """A prediction changes no text, and the usage says how much of it was drafted."""
    prediction: Any = {"type": "content", "content": text}
    drafting = {"draft_nodes": 8, "draft_sources": ["prediction"]}
    answer = client.chat.completions.create(**ASKED, prediction=prediction, extra_body=drafting)
    assert answer.choices[0].message.content == text
    assert answer.usage is not None
    assert answer.usage.completion_tokens_details is not None
    assert answer.usage.completion_tokens_details.accepted_prediction_tokens


@pytest.fixture
def chat_openai(address: dict[str, str], monkeypatch: pytest.MonkeyPatch) -> Any:
    """LangChain's class of chat models."""
    found = pytest.importorskip("langchain_openai", reason="langchain-openai is not installed")
    monkeypatch.setenv("LANGSMITH_TRACING", "false")

    def make(**options: Any) -> Any:
        return found.ChatOpenAI(model="tiny", **address, max_retries=0, **OPTIONS | options)

    return make


def test_langchain(chat_openai: Any, text: str) -> None:
    """Whole, streamed and many answers, and the tokens of each."""
    model = chat_openai(stream_usage=True)
    answer = model.invoke("the and of")
    assert answer.content == text
    assert answer.usage_metadata["output_tokens"] == 24
    chunks = list(model.stream("the and of"))
    assert "".join(chunk.content for chunk in chunks) == text
    whole = sum(chunks[1:], chunks[0])
    assert whole.usage_metadata["output_tokens"] == 24
    assert [each.content for each in model.batch(["the and of"] * 3)] == [text] * 3
    assert asyncio.run(model.ainvoke("the and of")).content == text
    logprobs = model.bind(logprobs=True).invoke("the and of").response_metadata["logprobs"]
    assert len(logprobs["content"]) == 24
    with pytest.raises(openai.BadRequestError, match="temperature"):
        chat_openai(temperature=-1).invoke("the")


def test_langchain_tools(chat_openai: Any) -> None:
    """Tools are called, and structured answers become objects by each of its methods."""
    model = chat_openai(max_tokens=200)
    with_tools = model.bind_tools([TOOL], tool_choice="required")
    answer = with_tools.invoke("the and of")
    [call] = answer.tool_calls
    assert (call["name"], call["args"]["city"] in ("Paris", "Rome")) == ("get_weather", True)
    talk = [
        ("user", "the and of"),
        answer,
        {"role": "tool", "tool_call_id": call["id"], "content": "hot"},
    ]
    assert model.invoke(talk).content
    for method in ("json_schema", "function_calling"):
        structured = model.with_structured_output(Weather, method=method)
        assert isinstance(structured.invoke("the"), Weather)


def test_langchain_responses(chat_openai: Any, text: str) -> None:
    """It also knows the endpoint for responses, which has no seed of its own."""
    model = chat_openai(use_responses_api=True, seed=None, extra_body={"seed": 5})
    assert model.invoke("the and of").text == text
    assert "".join(chunk.text for chunk in model.stream("the and of")) == text


@pytest.fixture
def llm(address: dict[str, str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Any:
    """Runs the command line tool llm, and returns what it prints."""
    command = pytest.importorskip("llm.cli", reason="llm is not installed").cli
    from click.testing import CliRunner

    monkeypatch.setenv("LLM_USER_PATH", str(tmp_path))
    common = {"model_name": "tiny", "api_base": address["base_url"], "api_key_name": "ersd"}
    common |= {"supports_schema": True, "supports_tools": True}
    models = [
        {"model_id": "ours", **common},
        {"model_id": "ours-text", "completion": True, **common},
    ]
    (tmp_path / "extra-openai-models.yaml").write_text(json.dumps(models))  # YAML contains JSON
    (tmp_path / "keys.json").write_text(json.dumps({"ersd": KEY}))

    def run(*words: str, **options: Any) -> str:
        options = OPTIONS | options
        words += tuple(word for k, v in options.items() for word in ("-o", k, str(v)))
        result = CliRunner().invoke(command, words, catch_exceptions=False)
        assert result.exit_code == 0, result.output
        return str(result.stdout)

    return run


def test_llm(llm: Any, text: str, generator: Generator) -> None:
    """Chat, streamed and whole, a schema, and text that is continued."""
    assert llm("-m", "ours", "the and of").removesuffix("\n") == text
    assert llm("-m", "ours", "--no-stream", "the and of").removesuffix("\n") == text
    schema = json.dumps(Weather.model_json_schema())
    Weather.model_validate_json(llm("-m", "ours", "the", "--schema", schema, max_tokens=200))
    continued = generator.generate("the and of", **OPTIONS).text
    assert llm("-m", "ours-text", "the and of").removesuffix("\n") == continued
