"""Completions have the text and the dictionaries of llama-cpp-python."""

from __future__ import annotations

import inspect
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import pytest

import tiny
from ersd import Generator
from llama_answers import GREEDY, TALK, drafting, llama, plain, same, shapes

pytestmark = pytest.mark.no_sanitizer

PLANETS = "Q: Name the planets in the solar system? A: "


@pytest.fixture(scope="module")
def ours(target: Path) -> Generator:
    """The default target, which drafts with its twin."""
    return drafting(target)


@pytest.fixture(scope="module")
def theirs(target: Path) -> Any:
    """llama-cpp-python with the same target."""
    return llama(target)


CALLS = {
    "readme": (PLANETS, {"max_tokens": 32, "stop": ["Q:", "\n"], "echo": True}),
    "defaults": (PLANETS, {}),
    "no limit": ("The capital of France is", {"max_tokens": None, "stop": [".\n"]}),
    "zero is no limit": ("The capital of France is", {"max_tokens": 0, "stop": "."}),
    "one stop": ("Once upon a time", {"max_tokens": 40, "stop": "the"}),
    "stop of several tokens": (
        "Once upon a time",
        {"max_tokens": 40, "stop": ["there was a little", "lived in a"]},
    ),
    "no stop": ("Once upon a time", {"max_tokens": 5, "stop": None}),
    "special tokens": (
        "<|im_start|>user\nSay yes.<|im_end|>\n<|im_start|>assistant\n",
        {"max_tokens": 40},
    ),
    "named": (
        "def add(a, b):",
        {"max_tokens": 7, "model": "adder", "top_k": -1, "top_p": 1.5, "min_p": 0.0},
    ),
}


@pytest.mark.parametrize("call", CALLS)
def test_completions_are_llamas(ours: Generator, theirs: Any, call: str) -> None:
    """Text, finish reason, usage and keys are equal: called, by name and streamed."""
    prompt, options = CALLS[call]
    answer = ours(prompt, **GREEDY, **options)
    same(answer, theirs(prompt, **GREEDY, **options))
    assert plain(ours.create_completion(prompt, **GREEDY, **options)) == plain(answer)
    tokens = ours.tokenize(prompt)
    if not options.get("echo"):
        assert (
            ours(tokens, **GREEDY, **options)["choices"][0]["text"] == answer["choices"][0]["text"]
        )
        chunks = list(ours(prompt, stream=True, **GREEDY, **options))
        assert shapes(chunks) == shapes(list(theirs(prompt, stream=True, **GREEDY, **options)))
        assert (
            "".join(chunk["choices"][0]["text"] for chunk in chunks) == answer["choices"][0]["text"]
        )
        assert chunks[-1]["choices"][0]["finish_reason"] == answer["choices"][0]["finish_reason"]
        assert len({chunk["id"] for chunk in chunks}) == 1
        assert len(chunks) > 1
        assert all(chunk["choices"][0]["text"] for chunk in chunks[:-1])


def test_from_draft_counts_accepted_tokens(ours: Generator) -> None:
    """from_draft equals the stats of the same generation, and chunks of a stream add up to it."""
    ours.forget()
    accepted = ours.generate("Once upon a time", max_tokens=40, **GREEDY).stats.accepted
    assert accepted > 5
    ours.forget()
    assert ours("Once upon a time", max_tokens=40, **GREEDY)["choices"][0]["from_draft"] == accepted
    ours.forget()
    chunks = ours("Once upon a time", max_tokens=40, stream=True, **GREEDY)
    assert sum(chunk["choices"][0]["from_draft"] for chunk in chunks) == accepted
    assert (
        ours("Once upon a time", max_tokens=40, method="ar", **GREEDY)["choices"][0]["from_draft"]
        == 0
    )


def test_an_echoed_stream_begins_with_the_prompt(ours: Generator) -> None:
    """An echoed stream joins to the whole answer, also if the prompt is token ids."""
    for prompt in (PLANETS, ours.tokenize(PLANETS)):
        chunks = list(ours(prompt, echo=True, stream=True, max_tokens=8, **GREEDY))
        assert chunks[0]["choices"][0]["text"] == PLANETS
        whole = ours(prompt, echo=True, max_tokens=8, **GREEDY)["choices"][0]["text"]
        assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == whole


@pytest.mark.parametrize("as_parts", [False, True], ids=["text", "parts"])
def test_a_prediction_drafts(ours: Generator, as_parts: bool) -> None:
    """OpenAI's parameter changes no text. An answer that is expected is drafted."""
    asked: dict[str, Any] = {"max_tokens": 24, "draft_sources": ["prediction"], **GREEDY}
    plain_answer = ours.create_completion("The capital of France is", **asked)["choices"][0]
    text = plain_answer["text"]
    parts = [{"type": "text", "text": text[:9]}, {"type": "text", "text": text[9:]}]
    prediction = {"type": "content", "content": parts if as_parts else text}
    answer = ours.create_completion("The capital of France is", prediction=prediction, **asked)[
        "choices"
    ][0]
    assert answer | {"from_draft": 0} == plain_answer
    assert answer["from_draft"] > 12
    for wrong in ({"type": "content"}, {"type": "text", "content": "a"}, 3):
        with pytest.raises(TypeError, match="prediction must be a text"):
            ours.create_completion("The capital of France is", prediction=wrong, **asked)


def test_defaults_are_llamas() -> None:
    """Every parameter has the same place and the same default.

    Only `stop` differs: an empty tuple instead of a list.
    """
    for name in ("create_completion", "__call__", "create_chat_completion"):
        mine = inspect.signature(getattr(Generator, name)).parameters
        other = inspect.signature(getattr(llama_cpp.Llama, name)).parameters
        assert list(mine)[: len(other)] == list(other)
        for key, parameter in other.items():
            assert mine[key].default == (() if key == "stop" else parameter.default)


def test_seeds(ours: Generator) -> None:
    """0 is a seed, a seed gives its text again, and None or -1 draws another each time."""

    def text(seed: int | None) -> str:
        return str(
            ours("Once upon a time", max_tokens=12, temperature=1.0, seed=seed, draft_nodes=4)[
                "choices"
            ][0]["text"]
        )

    assert text(0) == text(0) != text(1)
    assert len({text(seed) for seed in (None, None, None, -1, -1)}) == 5


def test_a_closed_stream_frees_the_generator(ours: Generator) -> None:
    """A stream of chunks also frees it if it is garbage or was never begun."""
    expected = plain(ours("The", max_tokens=9, **GREEDY))
    for make in (
        lambda: ours("Once", stream=True, max_tokens=200),
        lambda: ours.create_chat_completion(TALK, stream=True, max_tokens=200),
    ):
        chunks: Iterator[Any] = make()
        next(chunks), next(chunks)
        chunks.close()  # type: ignore[attr-defined]
        chunks = make()
        next(chunks), next(chunks)
        del chunks
        make()
        assert plain(ours("The", max_tokens=9, **GREEDY)) == expected


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"suffix": "end"}, "suffix needs a model with tokens for filling in a middle"),
        (
            {"tfs_z": 0.5},
            "tfs_z must be 1.0: llama.cpp has no tail-free sampling any more, got 0.5",
        ),
        ({"mirostat_mode": 2}, "mirostat_mode must be 0"),
        ({"temperature": -1.0}, "temperature must be"),
        ({"stop": [""]}, "stop must be non-empty"),
        ({"stream": True, "seed": -7}, "seed must be between 0 and"),
    ],
    ids=str,
)
def test_what_cannot_be_honoured_is_refused(
    ours: Generator, options: dict[str, Any], message: str
) -> None:
    """The error is raised by the call, not when the stream is read."""
    with pytest.raises(ValueError, match=message):
        ours("The", **options)


def test_unknown_options_are_no_options(ours: Generator) -> None:
    """A misspelt option raises TypeError."""
    with pytest.raises(TypeError, match="temprature"):
        ours("The", temprature=0.5)
    with pytest.raises(TypeError, match="temprature"):
        ours.create_chat_completion(TALK, temprature=0.5)


def test_shaping_options_go_through(ours: Generator, theirs: Any) -> None:
    """Options arrive under llama-cpp-python's names, a LlamaGrammar as its text."""
    grammar = llama_cpp.LlamaGrammar.from_string('root ::= "yes" | "no"', verbose=False)
    answers = [
        each("Is it so? ", grammar=grammar, **GREEDY)["choices"][0]["text"]
        for each in (ours, theirs)
    ]
    assert answers == ["no", "no"]
    token = ours.tokenize(" Paris", add_special=False)[0]
    assert (
        ours("The capital of Mars is", max_tokens=1, logit_bias={str(token): 100.0}, **GREEDY)[
            "choices"
        ][0]["text"]
        == " Paris"
    )

    def only_paris(ids: Any, scores: Any) -> Any:
        scores[:] = -100
        scores[token] = 100
        return scores

    processors = llama_cpp.LogitsProcessorList([only_paris])
    assert (
        ours("The capital of Mars is", max_tokens=2, logits_processor=processors, **GREEDY)[
            "choices"
        ][0]["text"]
        == " Paris Paris"
    )
    once, more = (
        ours("no no no no no no", max_tokens=20, repeat_penalty=p, **GREEDY)["choices"][0]["text"]
        for p in (1.0, 1.9)
    )
    assert once != more


def test_stopping_criteria_are_llamas(ours: Generator, theirs: Any) -> None:
    """The text ends at the same token, alone and with a logits processor.

    The logits that Llama shows to criteria are always its first row, so they are not compared.
    """
    for n, more in (
        (7, {}),
        (0, {}),
        (
            5,
            {
                "logits_processor": [
                    lambda _, scores: np.where(np.arange(scores.size) == 28, -100, scores)
                ]
            },
        ),
    ):
        answers, seen = [], []
        for each in (ours, theirs):
            calls: list[list[int]] = []
            seen.append(calls)

            def criterion(
                input_ids: Any, _: Any, calls: list[list[int]] = calls, n: int = n
            ) -> bool:
                calls.append(list(input_ids))
                return len(calls) > n

            processors = {key: llama_cpp.LogitsProcessorList(value) for key, value in more.items()}
            answers.append(
                each(
                    PLANETS,
                    max_tokens=30,
                    stopping_criteria=llama_cpp.StoppingCriteriaList([criterion]),
                    **processors,
                    **GREEDY,
                )
            )
        assert plain(answers[0]) == plain(answers[1])
        assert answers[0]["choices"][0]["finish_reason"] == "stop"
        assert answers[0]["usage"]["completion_tokens"] == n
        assert seen[0][: n + 1] == seen[1][: n + 1]


def test_stopping_criteria_see_the_logits_of_each_token(ours: Generator) -> None:
    """At temperature 0 the largest logit is that of the next token."""
    best: list[int] = []

    def criterion(_: Any, logits: Any) -> bool:
        best.append(int(np.argmax(logits)))
        return False

    ours(PLANETS, max_tokens=12, stopping_criteria=criterion, **GREEDY)
    assert best[:12] == ours.generate(PLANETS, max_tokens=12, temperature=0).tokens


def test_a_middle_is_filled_in(folder: Path) -> None:
    """The prompt is the one of llama.cpp's server; the echo is the text before the answer."""
    path = tiny.write_llama(folder / "fim.gguf", fim=(300, 301, 302))
    generator = Generator(path, n_ctx=256)
    before, after = (generator.tokenize(text, add_special=False) for text in ("the on", "an a"))
    begin = generator.tokenize("")
    expected = generator([*begin, 300, *before, 301, *after, 302], max_tokens=9, seed=3)
    answer = generator("the on", suffix="an a", max_tokens=9, seed=3, echo=True)
    assert answer["choices"][0]["text"] == "the on" + expected["choices"][0]["text"]
    assert answer["usage"] == expected["usage"]
