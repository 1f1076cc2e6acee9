"""Drafts in chat completions: what chunks and usage tell of them, and texts to draft from."""

from __future__ import annotations

from pathlib import Path

import pytest

pytest.importorskip("openai")
pytest.importorskip("starlette")
import httpx

from ersd import Generator
from openai_protocol import MESSAGES, ask, stream
from serving import load_tiny
from test_serve_chat import PATH, SHORT, text_of

pytestmark = pytest.mark.no_sanitizer


@pytest.fixture(scope="module")
def generator(folder: Path) -> Generator:
    """The models of the server, which promise the same text under any load."""
    return load_tiny(folder)


def test_chunks_tell_of_drafts(client: httpx.Client, generator: Generator) -> None:
    """With draft_trees, chunks list all tokens; as many are drafted as the counts say.

    A tree has the sources of each node, and the accepted nodes have those of their tokens.
    """
    chunks = stream(client, PATH, **SHORT, seed=4, draft_trees=True)
    tokens = [token for chunk in chunks for token in chunk["choices"][0]["draft"]["tokens"]]
    expected = generator.chat(MESSAGES, max_tokens=16, draft_nodes=8, seed=4)
    assert [token["id"] for token in tokens] == expected.tokens
    n_drafted = sum(token["source"] is not None for token in tokens)
    assert n_drafted == chunks[-1]["timings"]["draft_n_accepted"] > 0
    for chunk in chunks:
        if tree := chunk["choices"][0]["draft"]["tree"]:
            assert (tree["parents"][0], tree["accepted"][0]) == (-1, 0)
            assert len(tree["tokens"]) == len(tree["parents"]) == len(tree["sources"])
            assert tree["sources"][0] == []
            accepted = [tree["sources"][node][0] for node in tree["accepted"][1:]]
            told = [token["source"] for token in chunk["choices"][0]["draft"]["tokens"]]
            assert accepted == [source for source in told[-len(accepted) - 1 :] if source]


def test_a_request_without_drafts(client: httpx.Client, generator: Generator) -> None:
    """The method "ar" drafts nothing and gives the same text."""
    answer = ask(client, PATH, **SHORT, seed=7, method="ar")
    assert answer["choices"][0]["message"]["content"] == text_of(generator, seed=7)
    assert answer["timings"]["draft_n"] == answer["speculative"]["num_drafts"] == 0
    assert answer["speculative"]["acceptance_length"] == 1


@pytest.mark.parametrize("as_parts", [False, True], ids=["text", "parts"])
def test_a_prediction_drafts(client: httpx.Client, generator: Generator, as_parts: bool) -> None:
    """The text is the same, and the usage counts the tokens of the prediction that were drafted."""
    drafting = {"max_tokens": 40, "draft_nodes": 8, "draft_sources": ["prediction"]}
    text = text_of(generator, seed=9, **drafting)
    content = [{"type": "text", "text": part} for part in (text[:9], text[9:])]
    prediction = {"type": "content", "content": content if as_parts else text}
    answer = ask(client, PATH, messages=MESSAGES, seed=9, prediction=prediction, **drafting)
    assert answer["choices"][0]["message"]["content"] == text
    details = answer["usage"]["completion_tokens_details"]
    n_drafted = answer["speculative"]["num_draft_tokens"]
    assert details["accepted_prediction_tokens"] > 0
    assert details["accepted_prediction_tokens"] == answer["speculative"]["num_accepted_tokens"]
    assert sum(details.values()) == n_drafted
    # Other sources do not count.
    with_model = drafting | {"draft_sources": ["model"]}
    answer = ask(client, PATH, messages=MESSAGES, seed=9, prediction=prediction, **with_model)
    assert answer["choices"][0]["message"]["content"] == text
    assert answer["speculative"]["num_draft_tokens"] > 0
    assert set(answer["usage"]["completion_tokens_details"].values()) == {0}


def test_references_draft_and_requests_do_not(client: httpx.Client, generator: Generator) -> None:
    """The texts of a request are used for it. Those of earlier requests are not."""
    drafting = {"max_tokens": 40, "draft_nodes": 8, "draft_sources": ["history"]}
    text = text_of(generator, seed=9, **drafting)
    for _ in range(2):
        answer = ask(client, PATH, messages=MESSAGES, seed=9, **drafting)
        assert answer["speculative"]["num_draft_tokens"] == 0
    answer = ask(client, PATH, messages=MESSAGES, seed=9, references=["a", text], **drafting)
    assert answer["choices"][0]["message"]["content"] == text
    assert answer["speculative"]["num_accepted_tokens"] > 0
