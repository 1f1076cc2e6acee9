"""`echo` with `logprobs`: the log-probabilities of a prompt's tokens."""

from __future__ import annotations

import itertools
from pathlib import Path

import llama_cpp
import numpy as np
import pytest

from ersd import Generator
from llama_answers import GREEDY, close, drafting, llama
from llama_pair import PROMPT, both, no_bytes

pytestmark = pytest.mark.no_sanitizer

PLANETS = "Q: Name the planets in the solar system? A: "


@pytest.mark.parametrize("n", [0, 2])
def test_logprobs_of_the_prompt(tiny_target: Path, n: int) -> None:
    """With echo, the tokens of the prompt come first, without the beginning of sequence."""
    text = llama_cpp.LogitsProcessorList([no_bytes])
    ours, theirs = both(tiny_target)
    options = {"echo": True, "logprobs": n, "max_tokens": 5, "logits_processor": text, **GREEDY}
    answer, expected = ours(PROMPT, **options), theirs(PROMPT, **options)
    assert answer["usage"] == expected["usage"]
    ours_choice, their_choice = answer["choices"][0], expected["choices"][0]
    assert ours_choice["text"] == their_choice["text"]
    close(ours_choice["logprobs"], their_choice["logprobs"])
    assert ours_choice["logprobs"]["token_logprobs"].count(None) == 1
    chunks = [each["choices"][0] for each in ours(PROMPT, stream=True, **options)]
    for key in ("tokens", "text_offset", "token_logprobs", "top_logprobs"):
        parts = [each["logprobs"][key] for each in chunks if each["logprobs"]]
        assert list(itertools.chain(*parts)) == ours_choice["logprobs"][key]
    assert "".join(each["text"] for each in chunks) == ours_choice["text"]


def test_logprobs_of_a_prompt_without_a_beginning(target: Path) -> None:
    """Each token has the log-probability that the model gave it after the tokens before it.

    llama-cpp-python pairs the tokens of such a prompt with the rows that follow them.
    """
    ours, theirs = drafting(target), llama(target)
    options = {"echo": True, "logprobs": 3, "max_tokens": 4, **GREEDY}
    found = ours(PLANETS, **options)["choices"][0]["logprobs"]
    expected = theirs(PLANETS, **options)["choices"][0]["logprobs"]
    assert found["tokens"][: len(expected["tokens"])] == expected["tokens"]
    assert found["text_offset"][: len(expected["tokens"])] == expected["text_offset"]
    rows = theirs.logits_to_logprobs(theirs._scores)
    tokens = [*ours.tokenize(PLANETS), *ours.generate(PLANETS, max_tokens=4, **GREEDY).tokens]
    assert len(found["tokens"]) == len(tokens)
    assert found["token_logprobs"][0] is found["top_logprobs"][0] is None
    right = [rows[i, token] for i, token in enumerate(tokens[1:])]
    np.testing.assert_allclose(found["token_logprobs"][1:], right, atol=2e-3)
    for row, top in zip(rows, found["top_logprobs"][1:], strict=False):
        assert max(top.values()) == pytest.approx(row.max(), abs=2e-3)


def test_what_a_prompt_of_one_token_has(generator: Generator) -> None:
    """Nothing stands before it, so only the answer has numbers. They are those without echo."""
    options = {"max_tokens": 3, "logprobs": 1, "seed": 1}
    echoed = generator([300], echo=True, **options)["choices"][0]["logprobs"]
    plain = generator([300], **options)["choices"][0]["logprobs"]
    assert echoed["token_logprobs"] == [None, *plain["token_logprobs"]]
    assert echoed["top_logprobs"] == [None, *plain["top_logprobs"]]
    with pytest.raises(ValueError, match="logprobs must be between"):
        generator("the", echo=True, logprobs=9999)
