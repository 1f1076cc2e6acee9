"""/v1/completions gives the engine's texts in OpenAI's forms."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("openai")
pytest.importorskip("starlette")
import httpx

import tiny
from ersd import Generator
from openai_protocol import ask, joined_text, stream
from serving import load_tiny, running

pytestmark = pytest.mark.no_sanitizer

PATH = "/v1/completions"
SHORT: dict[str, Any] = {"max_tokens": 12, "draft_nodes": 8}


@pytest.fixture(scope="module")
def generator(folder: Path) -> Generator:
    """The models of the server, which promise the same text under any load."""
    return load_tiny(folder)


def texts(answer: Any) -> list[str]:
    """Returns the texts of an answer in order."""
    return [choice["text"] for choice in answer["choices"]]


PROMPTS: dict[str, tuple[Any, list[Any]]] = {
    "a text": ("the", ["the"]),
    "no text": ("", [""]),
    "tokens": ([1, 300, 301], [[1, 300, 301]]),
    "texts": (["the", "and of"], ["the", "and of"]),
    "lists of tokens": ([[1, 300], [301]], [[1, 300], [301]]),
    "both": (["the", [1, 300]], ["the", [1, 300]]),
}


@pytest.mark.parametrize("form", PROMPTS)
def test_forms_of_prompts(client: httpx.Client, generator: Generator, form: str) -> None:
    """Choice j of prompt i comes at i * n + j, and its seed is as far from the request's."""
    prompt, plain = PROMPTS[form]
    expected = [
        generator.generate(each, seed=4 + 2 * i + j, **SHORT)
        for i, each in enumerate(plain)
        for j in range(2)
    ]
    answer = ask(client, PATH, prompt=prompt, n=2, best_of=2, seed=4, **SHORT)
    assert texts(answer) == [result.text for result in expected]
    assert [choice["finish_reason"] for choice in answer["choices"]] == [
        result.finish_reason for result in expected
    ]
    n_prompt = sum(
        len(generator.tokenize(each)) if isinstance(each, str) else len(each) for each in plain
    )
    assert answer["usage"]["prompt_tokens"] == n_prompt
    assert answer["usage"]["completion_tokens"] == sum(len(each.tokens) for each in expected)
    chunks = stream(client, PATH, prompt=prompt, n=2, seed=4, **SHORT)
    assert [joined_text(chunks, i) for i in range(len(expected))] == texts(answer)


def test_the_default_length(client: httpx.Client) -> None:
    """It is OpenAI's 16; null and -1 continue until the text ends."""
    asked = {"prompt": "the", "seed": 1, "ignore_eos": True}
    assert ask(client, PATH, **asked)["usage"]["completion_tokens"] == 16
    for no_limit in (None, -1):
        answer = ask(client, PATH, **asked, max_tokens=no_limit)
        assert answer["usage"]["total_tokens"] == 512
        assert answer["choices"][0]["finish_reason"] == "length"


@pytest.mark.parametrize("prompt", ["the and", [1, 300, 301]], ids=str)
def test_echo(client: httpx.Client, generator: Generator, prompt: Any) -> None:
    """The text of the prompt precedes the answer, also streamed."""
    text = prompt if isinstance(prompt, str) else generator.detokenize(prompt)
    expected = text + generator.generate(prompt, seed=2, **SHORT).text
    asked = SHORT | {"prompt": prompt, "seed": 2, "echo": True}
    assert texts(ask(client, PATH, **asked)) == [expected]
    chunks = stream(client, PATH, **asked)
    assert chunks[0]["choices"][0]["text"] == text
    assert joined_text(chunks) == expected


@pytest.mark.parametrize("prompt", ["the and", [1, 300, 301]], ids=str)
def test_logprobs(client: httpx.Client, generator: Generator, prompt: Any) -> None:
    """They are those of `Generator.create_completion`, also joined from a stream."""
    asked = SHORT | {"prompt": prompt, "seed": 2, "logprobs": 2}
    ours = generator.create_completion(**asked, typical_p=1.0)
    expected = ours["choices"][0]["logprobs"]  # type: ignore[index]
    assert ask(client, PATH, **asked)["choices"][0]["logprobs"] == expected
    parts = [chunk["choices"][0]["logprobs"] for chunk in stream(client, PATH, **asked)]
    joined = {key: [each for part in parts if part for each in part[key]] for key in expected}
    assert joined == expected


def test_chunks_tell_of_drafts_and_usage(client: httpx.Client, generator: Generator) -> None:
    """All tokens are in the chunks; the last chunk has no choice but the usage and the timings."""
    asked = SHORT | {"prompt": "the", "seed": 6}
    usage = {"include_usage": True}
    *chunks, last = stream(client, PATH, **asked, draft_trees=True, stream_options=usage)
    tokens = [token for chunk in chunks for token in chunk["choices"][0]["draft"]["tokens"]]
    expected = generator.generate("the", seed=6, **SHORT).tokens
    assert [token["id"] for token in tokens] == expected
    assert last["choices"] == []
    assert last["usage"]["completion_tokens"] == len(expected)
    assert last["seed"] == 6
    assert last["timings"]["draft_n_accepted"] == sum(
        token["source"] is not None for token in tokens
    )


def test_a_prediction_drafts(client: httpx.Client, generator: Generator) -> None:
    """It is OpenAI's parameter of chat completions, and serves here, too."""
    drafting = {"max_tokens": 40, "draft_nodes": 8, "draft_sources": ["prediction"], "seed": 6}
    text = generator.generate("the", **drafting).text
    prediction = {"type": "content", "content": text}
    answer = ask(client, PATH, prompt="the", prediction=prediction, **drafting)
    assert texts(answer) == [text]
    assert answer["usage"]["completion_tokens_details"]["accepted_prediction_tokens"] > 0


def test_suffix(folder: Path) -> None:
    """A model with tokens for filling in a middle sees the suffix; others refuse it."""
    path = tiny.write_llama(folder / "served-fim.gguf", fim=(3, 4, 5))
    filling = Generator(path, n_ctx=256, n_threads=1)
    tokens = [1, 3, *filling.tokenize("the", add_special=False)]
    tokens += [4, *filling.tokenize("of", add_special=False), 5]
    asked = {"prompt": "the", "suffix": "of", "max_tokens": 8, "seed": 1}
    with running(lambda: filling) as server, httpx.Client(base_url=server.url) as client:
        answer = ask(client, PATH, **asked)
        assert texts(answer) == [filling.generate(tokens, max_tokens=8, seed=1).text]
        assert answer["usage"]["prompt_tokens"] == len(tokens)
