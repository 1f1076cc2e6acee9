"""Log-probabilities are written as llama-cpp-python writes them."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ersd import Generator, Step, TokenLogprob
from ersd.api.responses import Chat, Text
from llama_answers import GREEDY, TALK, close, drafting, llama

pytestmark = pytest.mark.no_sanitizer


@pytest.fixture(scope="module")
def ours(target: Path) -> Generator:
    """The default target, which drafts with its twin."""
    return drafting(target)


@pytest.fixture(scope="module")
def theirs(target: Path) -> Any:
    """llama-cpp-python with the same target."""
    return llama(target)


def row_logprobs(llama: Any, tokens: list[int], n_prompt: int, n_top: int) -> list[TokenLogprob]:
    """Returns the log-softmax of llama-cpp-python's logits, by NumPy in double precision."""
    llama.reset()
    llama.eval(tokens)
    found = []
    for i in range(n_prompt, len(tokens)):
        row = np.asarray(llama.scores[i - 1], dtype=np.float64)
        row -= row.max() + math.log(np.exp(row - row.max()).sum())
        best = np.argsort(-row)[:n_top]
        found.append(
            TokenLogprob(
                tokens[i],
                float(row[tokens[i]]),
                [(int(token), float(row[token])) for token in best],
            )
        )
    return found


@pytest.mark.parametrize("n_top", [0, 3])
def test_logprobs_are_written_as_llama_writes_them(
    ours: Generator, theirs: Any, n_top: int
) -> None:
    """NumPy's logprobs give Llama's tokens, offsets and alternatives.

    The text has characters of several tokens.
    """
    prompt = "Hot weather: 🌞🌞. Cold weather:"
    expected = theirs(prompt, max_tokens=12, logprobs=n_top, **GREEDY)["choices"][0]
    tokens = ours.tokenize(prompt)
    # Llama goes on past max_tokens where a character is not complete.
    answer = ours.generate(prompt, max_tokens=len(expected["logprobs"]["tokens"]), **GREEDY)
    logprobs = row_logprobs(theirs, tokens + answer.tokens, len(tokens), n_top)
    step = Step(answer.text, answer.tokens, 0, logprobs)
    close(
        Text(ours, None, prompt, echo=False).whole(step, "length")["logprobs"], expected["logprobs"]
    )
    # In parts, as they come in a stream.
    text = Text(ours, None, prompt, echo=False)
    parts = [
        text.part(Step("x", answer.tokens[i : i + 5], 0, logprobs[i : i + 5]))["logprobs"]
        for i in range(0, len(answer.tokens), 5)
    ]
    close(
        {key: [value for part in parts for value in part[key]] for key in parts[0]},
        expected["logprobs"],
    )
    message = Chat(ours, None).whole(step, "length")["logprobs"]
    assert [each["logprob"] for each in message["content"]] == [each.logprob for each in logprobs]
    assert (
        b"".join(bytes(each["bytes"]) for each in message["content"]).decode("utf-8", "replace")
        == answer.text
    )
    assert [len(each["top_logprobs"]) for each in message["content"]] == [n_top] * len(
        answer.tokens
    )


@pytest.mark.parametrize(
    "options", [{"logprobs": 2, "max_tokens": 20}, {"logprobs": 0, "max_tokens": 5}], ids=str
)
def test_logprobs_of_completions_are_llamas(
    ours: Generator, theirs: Any, options: dict[str, Any]
) -> None:
    """Logprobs are equal in a whole answer and joined from a stream."""
    prompt = "Once upon a time"
    answer = ours(prompt, **GREEDY, **options)["choices"][0]
    close(answer["logprobs"], theirs(prompt, **GREEDY, **options)["choices"][0]["logprobs"])
    parts = [
        chunk["choices"][0]["logprobs"] for chunk in ours(prompt, stream=True, **GREEDY, **options)
    ]
    joined = {
        key: [value for part in parts if part for value in part[key]] for key in answer["logprobs"]
    }
    close(joined, answer["logprobs"])


def test_logprobs_of_chats_are_llamas(ours: Generator, theirs: Any) -> None:
    """There are top_logprobs alternatives; without logprobs=True there are no logprobs."""
    options = GREEDY | {"messages": TALK, "max_tokens": 10, "logprobs": True, "top_logprobs": 3}
    answer = ours.create_chat_completion(**options)
    expected = theirs.create_chat_completion(**options)
    assert [len(each["top_logprobs"]) for each in answer["choices"][0]["logprobs"]["content"]] == [
        3
    ] * 10
    close(answer["choices"][0]["logprobs"], expected["choices"][0]["logprobs"])
    assert (
        ours.create_chat_completion(**options | {"logprobs": False})["choices"][0]["logprobs"]
        is None
    )
    assert (
        ours.create_chat_completion(**options | {"top_logprobs": None})["choices"][0]["logprobs"][
            "content"
        ][0]["top_logprobs"]
        == []
    )
