"""What clients and operators of llama-server know: its names of parameters, and its defaults."""

from __future__ import annotations

import asyncio
import json
from datetime import date
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("openai")
pytest.importorskip("starlette")
import httpx
from openai import OpenAI

from ersd import Generator
from ersd.serve import Settings
from ersd.serve.server import Server
from openai_protocol import MESSAGES, ask, error_of, stream
from serving import load_tiny, running

pytestmark = pytest.mark.no_sanitizer

CHAT, COMPLETIONS = "/v1/chat/completions", "/v1/completions"
TEMPLATE = "/apply-template"
BEGUN = [*MESSAGES, {"role": "assistant", "content": "of the"}]


@pytest.fixture(scope="module")
def generator(folder: Path) -> Generator:
    """The models of the server, which promise the same text under any load."""
    return load_tiny(folder, n_parallel=2)


@pytest.mark.parametrize("path", ["/chat/completions", "/completions", "/responses"])
def test_addresses_without_v1(client: httpx.Client, path: str) -> None:
    """They are those with it."""
    asked = {"messages": MESSAGES, "prompt": "the", "input": "the", "seed": 1}
    asked |= {"max_tokens": 4, "max_output_tokens": 4}
    with_v1, without = (client.post(each, json=asked) for each in (f"/v1{path}", path))
    assert without.status_code == 200
    assert without.json()["usage"]["total_tokens"] == with_v1.json()["usage"]["total_tokens"]


def test_counts_of_input_tokens(client: httpx.Client) -> None:
    """They are those of the answer's usage, and openai's client reads them."""
    used = ask(client, CHAT, messages=MESSAGES, max_tokens=1)["usage"]["prompt_tokens"]
    for prefix in ("/v1", ""):
        counted = client.post(
            f"{prefix}/chat/completions/input_tokens", json={"messages": MESSAGES}
        )
        assert counted.json() == {"object": "response.input_tokens", "input_tokens": used}
    own = OpenAI(base_url=f"{client.base_url}/v1", api_key="none")
    assert own.responses.input_tokens.count(model="m", input="the and of").input_tokens == used


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
def test_second_names(client: httpx.Client, path: str) -> None:
    """n_predict, repeat_last_n and json_schema do what OpenAI's and our own names do."""
    asked: dict[str, Any] = {"messages": MESSAGES, "prompt": "the", "seed": 1}
    penalised = asked | {"ignore_eos": True, "repeat_penalty": 1.9}
    schema = {"const": "of"}
    pairs = [
        (asked | {"n_predict": 7}, asked | {"max_tokens": 7}),
        (
            penalised | {"repeat_last_n": 1, "n_predict": 40},
            penalised | {"penalty_last_n": 1, "max_tokens": 40},
        ),
        (
            asked | {"json_schema": schema, "n_predict": 40},
            asked
            | {"response_format": {"type": "json_object", "schema": schema}, "max_tokens": 40},
        ),
    ]
    for theirs, ours in pairs:
        expected = ask(client, path, **ours)["choices"]
        assert ask(client, path, **theirs)["choices"] == expected
    assert '"of"' in json.dumps(expected).replace("\\", "")
    assert ask(client, path, **penalised, n_predict=40) != ask(client, path, **penalised)


def test_n_probs(client: httpx.Client) -> None:
    """It asks for log-probabilities with so many alternatives."""
    asked = {"seed": 1, "max_tokens": 3}
    [choice] = ask(client, CHAT, messages=MESSAGES, **asked, n_probs=4)["choices"]
    assert [len(token["top_logprobs"]) for token in choice["logprobs"]["content"]] == [4, 4, 4]
    [choice] = ask(client, COMPLETIONS, prompt="the", **asked, n_probs=4)["choices"]
    assert [len(top) >= 4 for top in choice["logprobs"]["top_logprobs"]] == [True] * 3


@pytest.mark.parametrize("path", [CHAT, COMPLETIONS])
def test_timings_of_each_chunk(client: httpx.Client, path: str) -> None:
    """They count the tokens so far of all choices."""
    asked: dict[str, Any] = {"messages": MESSAGES, "prompt": "the", "n": 2, "ignore_eos": True}
    chunks = stream(client, path, **asked, max_tokens=12, timings_per_token=True, seed=2)
    with_text = [chunk for chunk in chunks if chunk["choices"][0].get("delta", chunk) is not None]
    counts = [chunk["timings"]["predicted_n"] for chunk in with_text if "timings" in chunk]
    assert len(counts) > 4
    assert counts == sorted(counts)
    assert counts[-1] == 24
    assert "timings" not in stream(client, path, **asked, max_tokens=12)[2]


def test_the_rate_of_an_answer(client: httpx.Client) -> None:
    """The first token does not count, since it comes with the prompt."""
    for n, n_later in ((1, 0), (2, 0), (1, 11)):
        answer = ask(
            client, COMPLETIONS, prompt="the", n=n, max_tokens=1 + n_later, ignore_eos=True
        )
        timings = answer["timings"]
        assert timings["predicted_n"] == n * (1 + n_later)
        per_ms = timings["predicted_per_second"] / 1000
        assert per_ms * timings["predicted_ms"] == pytest.approx(n_later)
        assert timings["predicted_per_token_ms"] * n_later == (
            pytest.approx(timings["predicted_ms"] if n_later else 0)
        )


def prompt_of(client: httpx.Client, **request: Any) -> str:
    """Returns the text of a conversation's prompt."""
    answer = client.post(TEMPLATE, json=request)
    assert answer.status_code == 200, answer.text
    return str(answer.json()["prompt"])


def test_an_answer_that_is_begun(client: httpx.Client, generator: Generator) -> None:
    """A last message of the assistant is continued, unless the request says otherwise."""
    begun = "<s>user: the and of</s><s>assistant: of the"
    assert prompt_of(client, messages=BEGUN) == begun
    assert prompt_of(client, messages=BEGUN, continue_final_message=True) == begun
    whole = f"{begun}</s>"
    assert prompt_of(client, messages=BEGUN, add_generation_prompt=False) == whole
    for otherwise in ({"add_generation_prompt": True}, {"continue_final_message": False}):
        assert prompt_of(client, messages=BEGUN, **otherwise) == f"{whole}<s>assistant: "
    assert prompt_of(client, messages=MESSAGES, add_generation_prompt=False) == (
        "<s>user: the and of</s>"
    )
    tokens = generator.tokenize(begun, add_special=False)
    expected = generator.generate(tokens, seed=3, max_tokens=9).text
    [choice] = ask(client, CHAT, messages=BEGUN, seed=3, max_tokens=9)["choices"]
    assert choice["message"]["content"] == expected


@pytest.mark.parametrize(
    ("messages", "more"),
    [
        (BEGUN, {"add_generation_prompt": True}),
        (MESSAGES, {}),
        ([*MESSAGES, {"role": "assistant", "tool_calls": [{"function": {"name": "f"}}]}], {}),
        ([*MESSAGES, {"role": "assistant", "content": None}], {}),
    ],
    ids=["both", "the user's", "a call", "no text"],
)
def test_what_cannot_be_continued(
    client: httpx.Client, messages: list[Any], more: dict[str, Any]
) -> None:
    """continue_final_message is refused where there is nothing to continue."""
    request = {"messages": messages, "continue_final_message": True, **more}
    assert error_of(client, CHAT, request)["param"] == "continue_final_message"


def test_defaults_of_the_operator(generator: Generator) -> None:
    """They hold where a request does not say otherwise, and /props shows them."""
    options: Any = {"temperature": 0.0, "seed": 5, "max_tokens": 7, "ignore_eos": True}
    settings = Settings(port=0, options=options)
    server = running(lambda: generator, settings)
    with server as at, httpx.Client(base_url=at.url) as client:
        answer = ask(client, COMPLETIONS, prompt="the")
        assert answer["choices"][0]["text"] == generator.generate("the", **options).text
        assert (answer["seed"], answer["usage"]["completion_tokens"]) == (5, 7)
        told = ask(client, COMPLETIONS, prompt="the", seed=6, max_tokens=3)
        assert (told["seed"], told["usage"]["completion_tokens"]) == (6, 3)
        drawn = ask(client, CHAT, messages=MESSAGES, seed=-1)
        assert drawn["seed"] != 5
        assert drawn["usage"]["completion_tokens"] == 7
        assert ask(client, "/v1/responses", input="the")["usage"]["output_tokens"] == 7
        params = client.get("/props").json()["default_generation_settings"]["params"]
        assert options.items() <= params.items()
        assert params["top_k"] == 40


def test_wrong_defaults_of_the_operator(generator: Generator) -> None:
    """They end the server at once."""
    server = Server(lambda: generator, Settings(options={"temperature": -1.0}))
    asyncio.run(server.load())
    assert "temperature must be" in str(server.failure)


def test_the_date_in_templates(folder: Path) -> None:
    """A template finds today's date as date_string and as datetime; a request may set another."""
    template = "{{ date_string }}, {{ datetime }}: {{ messages[0].content }}"
    begin = date.today()
    dated = load_tiny(folder, chat_template=template)
    with running(lambda: dated) as server, httpx.Client(base_url=server.url) as client:
        found = prompt_of(client, messages=MESSAGES)
        end = date.today()
        days = (f"{day:%d %b %Y}, {day:%b %d %Y}: the and of" for day in (begin, end))
        assert found in days
        given = {"date_string": "long ago"}
        assert "long ago, " in prompt_of(client, messages=MESSAGES, chat_template_kwargs=given)
