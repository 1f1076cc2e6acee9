"""/v1/chat/completions gives the engine's texts in OpenAI's forms."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("openai")
pytest.importorskip("starlette")
import httpx
import jsonschema

from ersd import Generator
from ersd.serve import Settings
from openai_protocol import MESSAGES, ask, events_of, joined_text, stream
from serving import load_tiny, running

pytestmark = pytest.mark.no_sanitizer

PATH = "/v1/chat/completions"
SHORT: dict[str, Any] = {"messages": MESSAGES, "max_tokens": 16, "draft_nodes": 8}


@pytest.fixture(scope="module")
def generator(folder: Path) -> Generator:
    """The models of the server, which promise the same text under any load."""
    return load_tiny(folder)


def text_of(generator: Generator, **options: Any) -> str:
    """Returns the engine's answer to MESSAGES."""
    return generator.chat(MESSAGES, **({"max_tokens": 16, "draft_nodes": 8} | options)).text


def test_a_whole_answer(client: httpx.Client, generator: Generator) -> None:
    """Text, usage, seed, timings and drafts are those of the engine."""
    # With these options the draft does not learn, so it drafts the same again.
    drafting = {"max_tokens": 16, "draft_nodes": 4, "strategy": "sequence", "adapt_draft": False}
    generator.reset()
    expected = generator.chat(MESSAGES, seed=7, **drafting)
    generator.reset()
    answer = ask(client, PATH, messages=MESSAGES, seed=7, **drafting)
    [choice] = answer["choices"]
    assert choice["message"] == {"role": "assistant", "content": expected.text, "refusal": None}
    assert (choice["index"], choice["finish_reason"]) == (0, expected.finish_reason)
    n_prompt = len(generator.apply_chat_template(MESSAGES))
    assert answer["usage"]["prompt_tokens"] == n_prompt
    assert answer["usage"]["completion_tokens"] == len(expected.tokens)
    assert answer["usage"]["total_tokens"] == n_prompt + len(expected.tokens)
    assert answer["usage"]["prompt_tokens_details"] == {"cached_tokens": 0}
    assert answer["seed"] == 7
    assert answer["model"] == "served.gguf"
    assert answer["timings"]["prompt_n"] == n_prompt
    assert answer["timings"]["predicted_n"] == len(expected.tokens)
    assert answer["timings"]["draft_n"] == expected.stats.drafted > 0
    assert answer["timings"]["draft_n_accepted"] == expected.stats.accepted > 0
    drafts = sum(n for k, n in enumerate(expected.stats.nodes_histogram) if k > 0)
    assert answer["speculative"] == {
        "num_drafts": drafts,
        "num_draft_tokens": expected.stats.drafted,
        "num_accepted_tokens": expected.stats.accepted,
        "acceptance_length": pytest.approx(1 + expected.stats.accepted / drafts),
        "tokens_per_call": pytest.approx(expected.stats.tokens_per_call),
    }
    again = ask(client, PATH, **SHORT, seed=7)
    assert again["usage"]["prompt_tokens_details"]["cached_tokens"] == n_prompt - 1
    assert again["timings"]["cache_n"] == n_prompt - 1
    assert again["system_fingerprint"] == answer["system_fingerprint"]


def test_a_drawn_seed_is_told(client: httpx.Client) -> None:
    """Without a seed, or with -1, each answer has another seed, which gives it again."""
    answers = [ask(client, PATH, **SHORT, **seed) for seed in ({}, {"seed": -1}, {"seed": None})]
    assert len({answer["seed"] for answer in answers}) == 3
    for answer in answers:
        again = ask(client, PATH, **SHORT, seed=answer["seed"])
        assert again["choices"] == answer["choices"]
    chunks = stream(client, PATH, **SHORT)
    assert joined_text(chunks) == joined_text(
        stream(client, PATH, **SHORT, seed=chunks[-1]["seed"])
    )


def test_n_choices(client: httpx.Client, generator: Generator) -> None:
    """Choice i has the seed of the request plus i, also streamed, and the prompt counts once."""
    expected = [text_of(generator, seed=5 + i) for i in range(3)]
    answer = ask(client, PATH, **SHORT, seed=5, n=3)
    assert [choice["message"]["content"] for choice in answer["choices"]] == expected
    assert [choice["index"] for choice in answer["choices"]] == [0, 1, 2]
    assert answer["usage"]["prompt_tokens"] == len(generator.apply_chat_template(MESSAGES))
    usage = {"include_usage": True}
    chunks = stream(client, PATH, **SHORT, seed=5, n=3, stream_options=usage)
    assert [joined_text(chunks, i) for i in range(3)] == expected
    firsts = [chunk["choices"][0] for chunk in chunks[:3]]
    assert [first["delta"]["role"] for first in firsts] == ["assistant"] * 3
    indices = [chunk["choices"][0]["index"] for chunk in chunks[3:-1]]
    assert indices != sorted(indices), "the choices are not streamed side by side"
    reasons = [chunk["choices"][0]["finish_reason"] for chunk in chunks[:-1]]
    assert sorted(filter(None, reasons)) == sorted(
        choice["finish_reason"] for choice in answer["choices"]
    )
    assert [chunk["usage"] for chunk in chunks[:-1]] == [None] * (len(chunks) - 1)
    assert chunks[-1]["choices"] == []
    assert chunks[-1]["usage"]["completion_tokens"] == answer["usage"]["completion_tokens"]


def test_the_chunks_of_a_stream(client: httpx.Client, generator: Generator) -> None:
    """The text comes in steps, then the reason, the seed, the timings and the drafts; no usage."""
    chunks = stream(client, PATH, **SHORT, seed=8)
    assert joined_text(chunks) == text_of(generator, seed=8)
    assert len(chunks) > 4
    assert {chunk["id"] for chunk in chunks} == {chunks[0]["id"]}
    assert not any("usage" in chunk for chunk in chunks)
    assert [chunk for chunk in chunks if "timings" in chunk] == [chunks[-1]]
    whole = ask(client, PATH, **SHORT, seed=8)
    assert chunks[-1].keys() >= {"seed", "timings", "speculative"}
    assert chunks[-1]["timings"].keys() == whole["timings"].keys()
    assert chunks[-1]["choices"][0] == {
        "index": 0,
        "delta": {},
        "logprobs": None,
        "finish_reason": whole["choices"][0]["finish_reason"],
    }


@pytest.mark.parametrize("n_top", [0, 2])
def test_logprobs(client: httpx.Client, generator: Generator, n_top: int) -> None:
    """Every token has its log-probability and n_top alternatives, also when they are streamed."""
    expected = generator.chat(MESSAGES, max_tokens=16, draft_nodes=8, seed=3, logprobs=n_top)
    asked = SHORT | {"seed": 3, "logprobs": True, "top_logprobs": n_top}
    content = ask(client, PATH, **asked)["choices"][0]["logprobs"]["content"]
    assert expected.logprobs is not None
    assert [each["logprob"] for each in content] == [each.logprob for each in expected.logprobs]
    tops = [[top["logprob"] for top in each["top_logprobs"]] for each in content]
    assert tops == [[logprob for _, logprob in each.top] for each in expected.logprobs]
    assert b"".join(bytes(each["bytes"]) for each in content) == b"".join(
        generator.target.piece(token) for token in expected.tokens
    )
    choices = [chunk["choices"][0] for chunk in stream(client, PATH, **asked)]
    streamed = [choice["logprobs"]["content"] for choice in choices if choice["logprobs"]]
    assert [each for part in streamed for each in part] == content


@pytest.mark.parametrize(
    ("request_options", "engine_options"),
    [
        ({"temperature": 0}, {"temperature": 0.0}),
        ({"temperature": 1.5, "top_k": 3, "top_p": 0.9, "min_p": 0.0}, ...),
        ({"logit_bias": {"300": 100, "5": -100}}, {"logit_bias": {300: 100.0, 5: -100.0}}),
        ({"stop": "e"}, ...),
        ({"stop": ["e", "o"]}, ...),
        ({"frequency_penalty": 1.5, "presence_penalty": 0.5, "repeat_penalty": 1.1}, ...),
        ({"dry_multiplier": 0.8, "dry_sequence_breakers": ["a"], "xtc_probability": 0.5}, ...),
        ({"method": "gsd", "strategy": "tree", "draft_nodes": 4, "draft_depth": 3}, ...),
        ({"max_completion_tokens": 5, "max_tokens": 9}, {"max_tokens": 5}),
        ({"response_format": {"type": "text"}, "adapt_draft": False}, {"adapt_draft": False}),
    ],
    ids=str,
)
def test_options_reach_the_engine(
    client: httpx.Client, generator: Generator, request_options: Any, engine_options: Any
) -> None:
    """The text is that of the engine with the same options and seed."""
    if engine_options is ...:
        engine_options = request_options
    expected = generator.chat(
        MESSAGES, **({"max_tokens": 16, "draft_nodes": 8, "seed": 2} | engine_options)
    )
    choice = ask(client, PATH, **(SHORT | {"seed": 2} | request_options))["choices"][0]
    assert choice["message"]["content"] == expected.text
    assert choice["finish_reason"] == expected.finish_reason


COLOUR = {
    "type": "object",
    "properties": {"colour": {"enum": ["red", "blue"]}},
    "required": ["colour"],
    "additionalProperties": False,
}


@pytest.mark.parametrize(
    "form",
    [
        {"type": "json_schema", "json_schema": {"name": "c", "schema": COLOUR, "strict": True}},
        {"type": "json_schema", "schema": COLOUR},
        {"type": "json_object", "schema": COLOUR},
    ],
    ids=["OpenAI's", "llama-server's", "llama.cpp's"],
)
def test_json_of_a_schema(client: httpx.Client, form: dict[str, Any]) -> None:
    """The answer is what the schema allows, wherever the request has it."""
    answer = ask(client, PATH, messages=MESSAGES, max_tokens=100, response_format=form, seed=1)
    jsonschema.validate(json.loads(answer["choices"][0]["message"]["content"]), COLOUR)
    assert answer["choices"][0]["finish_reason"] == "stop"


def test_any_json_object(client: httpx.Client) -> None:
    """json_object without a schema begins an object, in a stream, too."""
    asked = SHORT | {"response_format": {"type": "json_object"}, "seed": 1}
    assert joined_text(stream(client, PATH, **asked)).startswith("{")


def test_parameters_that_change_nothing(client: httpx.Client, generator: Generator) -> None:
    """What OpenAI has and we do not need is ignored, like unknown parameters and nulls."""
    answer = ask(
        client,
        PATH,
        **SHORT,
        seed=9,
        model="gpt-4o",
        user="me",
        metadata={"a": "b"},
        store=True,
        service_tier="auto",
        reasoning_effort="low",
        no_such_parameter=[1],
        temperature=None,
        stop=None,
        tools=[],
    )
    assert answer["choices"][0]["message"]["content"] == text_of(generator, seed=9)
    assert answer["usage"]["completion_tokens_details"]["accepted_prediction_tokens"] == 0


@pytest.mark.parametrize(
    ("messages", "plain"),
    [
        ([{"role": "user", "content": [{"type": "text", "text": "the and of"}]}], MESSAGES),
        ([{"role": "user", "content": "the and of", "name": "me"}], MESSAGES),
        (
            [{"role": "developer", "content": "a"}, {"role": "assistant", "content": None}],
            [{"role": "system", "content": "a"}, {"role": "assistant", "content": ""}],
        ),
    ],
    ids=["parts", "name", "developer"],
)
def test_forms_of_messages(
    client: httpx.Client, generator: Generator, messages: Any, plain: Any
) -> None:
    """Templates get texts, and no role or content that they do not know."""
    answer = ask(client, PATH, **SHORT | {"messages": messages, "seed": 3})
    expected = generator.chat(plain, max_tokens=16, draft_nodes=8, seed=3).text
    assert answer["choices"][0]["message"]["content"] == expected


@pytest.fixture(scope="module")
def endless(folder: Path) -> Generator:
    """Models whose texts go on until they are cut."""
    return load_tiny(folder, context_shift=True)


def test_an_error_in_the_middle_of_a_stream(endless: Generator) -> None:
    """A stream that cannot go on ends with one event that has the error, and [DONE]."""
    settings = Settings(port=0, timeout_s=1)
    asked = {"messages": MESSAGES, "ignore_eos": True, "n": 3}
    with running(lambda: endless, settings) as server, httpx.Client() as client:
        events = events_of(client, server.url + PATH, **asked)
    *chunks, (name, error), done = events
    assert done == ("", "[DONE]")
    assert name == ""
    assert error.keys() == {"error"}
    assert error["error"]["code"] == "timeout"
    assert not any("error" in chunk for _, chunk in chunks)
