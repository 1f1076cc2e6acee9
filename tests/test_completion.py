"""llama-cpp-python's own ways of calling run on a Generator, and give dictionaries of the same shape with the same text."""

from __future__ import annotations

import inspect
import itertools
import json
import math
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from conftest import Drafting
from ersd import Generator, Step, TokenLogprob, models
from ersd.api.responses import Chat, Text

pytestmark = pytest.mark.no_sanitizer

llama_cpp = pytest.importorskip("llama_cpp")

GREEDY = {"temperature": 0.0}
PLANETS = "Q: Name the planets in the solar system? A: "
TALK = [
    {"role": "system", "content": "You are an assistant who perfectly describes images."},
    {"role": "user", "content": "Describe this image in detail please."},
]
USER_DETAIL = {
    "type": "object",
    "title": "UserDetail",
    "properties": {
        "name": {"title": "Name", "type": "string"},
        "age": {"title": "Age", "type": "integer"},
    },
    "required": ["name", "age"],
}
EXTRACT: dict[str, Any] = {
    "messages": [
        {
            "role": "system",
            "content": "The assistant calls functions with appropriate input when necessary",
        },
        {"role": "user", "content": "Extract Jason is 25 years old"},
    ],
    "tools": [{"type": "function", "function": {"name": "UserDetail", "parameters": USER_DETAIL}}],
    "tool_choice": {"type": "function", "function": {"name": "UserDetail"}},
}


@pytest.fixture(scope="module")
def ours(target: Path) -> Generator:
    """The default pair with llama-cpp-python's types of cache, drafting."""
    generator = Drafting(target, models.twin(), n_ctx=512, n_threads=1, type_k="f16")
    generator.nodes = 4
    return generator


@pytest.fixture(scope="module")
def theirs(target: Path) -> Any:
    """llama-cpp-python on the same file."""
    return llama_cpp.Llama(
        str(target),
        n_ctx=512,
        n_threads=1,
        n_threads_batch=1,
        flash_attn=True,
        logits_all=True,
        verbose=False,
    )


def shape(thing: Any) -> Any:
    """Keys and types all the way down, without the one key that is ours."""
    if isinstance(thing, dict):
        return {key: shape(value) for key, value in thing.items() if key != "from_draft"}
    if isinstance(thing, list):
        return [shape(thing[0])] if thing else []
    return float if isinstance(thing, np.floating) else type(thing)


def shapes(chunks: list[Any]) -> list[Any]:
    """The shapes of the chunks in their order, without those that follow another of the same."""
    every = [shape(chunk) for chunk in chunks]
    return [every[0], *(b for a, b in itertools.pairwise(every) if a != b)]


def plain(answer: Any) -> Any:
    """An answer without what differs from call to call: id, time, and how much a draft that learns was right."""
    choices = [
        {key: value for key, value in choice.items() if key != "from_draft"}
        for choice in answer["choices"]
    ]
    return {**answer, "id": 0, "created": 0, "choices": choices}


def same(ours: Any, theirs: Any) -> None:
    """Same shape and, but for id and time, the same values."""
    assert shape(ours) == shape(theirs)
    assert plain(ours) == plain(theirs)
    assert ours["id"].rsplit("-", 5)[0] == theirs["id"].rsplit("-", 5)[0]
    assert len(ours["id"]) == len(theirs["id"])
    assert abs(ours["created"] - theirs["created"]) < 60


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
    """Text, finish reason, usage and every key; called, as create_completion, and streamed."""
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
        assert all(chunk["choices"][0]["text"] for chunk in chunks[:-1])


def test_from_draft_counts_accepted_tokens(ours: Generator) -> None:
    """As the stats of the same generation do, and over the chunks of a stream together."""
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
    """As the whole answer does; also for token ids."""
    for prompt in (PLANETS, ours.tokenize(PLANETS)):
        chunks = list(ours(prompt, echo=True, stream=True, max_tokens=8, **GREEDY))
        assert chunks[0]["choices"][0]["text"] == PLANETS
        whole = ours(prompt, echo=True, max_tokens=8, **GREEDY)["choices"][0]["text"]
        assert "".join(chunk["choices"][0]["text"] for chunk in chunks) == whole


CHATS: dict[str, dict[str, Any]] = {
    "readme": {"messages": TALK, "max_tokens": 24},
    "to the end": {
        "messages": [
            {"role": "user", "content": "What is the capital of France? Answer with one word."}
        ]
    },
    "stop": {"messages": TALK, "stop": ["."], "max_tokens": 60, "model": "m"},
    "functions offered": {
        "messages": TALK,
        "functions": [{"name": "f", "parameters": {}}],
        "function_call": "auto",
        "max_tokens": 9,
    },
}


@pytest.mark.parametrize("call", CHATS)
def test_chat_completions_are_llamas(ours: Generator, theirs: Any, call: str) -> None:
    """Message, finish reason, usage and every key; streamed too."""
    options = GREEDY | CHATS[call]
    answer = ours.create_chat_completion(**options)
    same(answer, theirs.create_chat_completion(**options))
    chunks = list(ours.create_chat_completion(stream=True, **options))
    assert shapes(chunks) == shapes(list(theirs.create_chat_completion(stream=True, **options)))
    text = "".join(chunk["choices"][0]["delta"].get("content", "") for chunk in chunks)
    assert text == answer["choices"][0]["message"]["content"]
    assert chunks[-1]["choices"][0]["finish_reason"] == answer["choices"][0]["finish_reason"]


def test_the_loop_of_a_chat_program(ours: Generator) -> None:
    """What many programs do with the deltas."""
    said = ""
    for chunk in ours.create_chat_completion(messages=TALK, stream=True, max_tokens=12, seed=4):
        delta = chunk["choices"][0]["delta"]
        if "role" in delta:
            assert delta["role"] == "assistant"
        elif "content" in delta:
            said += delta["content"]
    assert (
        said
        == ours.create_chat_completion(TALK, max_tokens=12, seed=4)["choices"][0]["message"][
            "content"
        ]
    )


def test_defaults_are_llamas() -> None:
    """Every parameter, in the same place, with the same default; `stop` is an empty tuple in place of a list."""
    for name in ("create_completion", "__call__", "create_chat_completion"):
        mine = inspect.signature(getattr(Generator, name)).parameters
        other = inspect.signature(getattr(llama_cpp.Llama, name)).parameters
        assert list(mine)[: len(other)] == list(other)
        for key, parameter in other.items():
            assert mine[key].default == (() if key == "stop" else parameter.default)


def test_seeds(ours: Generator) -> None:
    """0 is a seed, a seed gives its text again, and none gives another each time."""

    def text(seed: int | None) -> str:
        return str(
            ours("Once upon a time", max_tokens=12, temperature=1.0, seed=seed, draft_nodes=4)[
                "choices"
            ][0]["text"]
        )

    assert text(0) == text(0) != text(1)
    assert len({text(seed) for seed in (None, None, None, -1, -1)}) == 5


def test_a_closed_stream_frees_the_generator(ours: Generator) -> None:
    """Also one that was never begun, or is forgotten."""
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
        ({"echo": True, "logprobs": 1}, "echo and logprobs exclude each other"),
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
    """At once, not when the stream is read."""
    with pytest.raises(ValueError, match=message):
        ours("The", **options)


def test_stopping_criteria_are_llamas(ours: Generator, theirs: Any) -> None:
    """The same text to the same place, alone and with a logits processor. (What Llama shows them as logits is always its first row.)"""
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
    """At temperature 0 their maximum is the next token."""
    best: list[int] = []

    def criterion(_: Any, logits: Any) -> bool:
        best.append(int(np.argmax(logits)))
        return False

    ours(PLANETS, max_tokens=12, stopping_criteria=criterion, **GREEDY)
    assert best[:12] == ours.generate(PLANETS, max_tokens=12, temperature=0).tokens


def test_a_middle_is_filled_in(folder: Path) -> None:
    """The prompt is what llama.cpp's server makes of it; the echo is what stands before the answer."""
    path = tiny.write_llama(folder / "fim.gguf", fim=(300, 301, 302))
    generator = Generator(path, n_ctx=256)
    before, after = (generator.tokenize(text, add_special=False) for text in ("the on", "an a"))
    begin = generator.tokenize("")
    expected = generator([*begin, 300, *before, 301, *after, 302], max_tokens=9, seed=3)
    answer = generator("the on", suffix="an a", max_tokens=9, seed=3, echo=True)
    assert answer["choices"][0]["text"] == "the on" + expected["choices"][0]["text"]
    assert answer["usage"] == expected["usage"]


def test_unknown_options_are_no_options(ours: Generator) -> None:
    """A misspelt one is not swallowed."""
    with pytest.raises(TypeError, match="temprature"):
        ours("The", temprature=0.5)
    with pytest.raises(TypeError, match="temprature"):
        ours.create_chat_completion(TALK, temprature=0.5)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        (
            {"tool_choice": "required"},
            "tool_choice must be 'none', 'auto' or a function by its name, got 'required'",
        ),
        (
            {"tool_choice": {"type": "function", "function": {"name": "x"}}},
            r"tool_choice must name one of the tools \['UserDetail'\], got 'x'",
        ),
        ({"grammar": "root ::= [a]"}, "a chosen tool excludes grammar and response_format"),
        (
            {"tools": [{"type": "function", "function": {"name": "UserDetail", "parameters": 3}}]},
            "the parameters of the tool 'UserDetail' are",
        ),
        ({"messages": [{"content": "x"}]}, "expected mappings with a 'role'"),
    ],
    ids=str,
)
def test_tools_that_cannot_be_called(
    ours: Generator, options: dict[str, Any], message: str
) -> None:
    """Each with its reason."""
    with pytest.raises(ValueError, match=message):
        ours.create_chat_completion(**EXTRACT | options)


def test_tool_choice_none_offers_no_tool(folder: Path) -> None:
    """The template sees the tools only where one may be called."""
    template = "{{ tools | tojson if tools else 'no' }} {{ tool_choice }}:"
    generator = Generator(
        tiny.write_llama(folder / "tooled.gguf", chat_template=template), n_ctx=512, n_threads=1
    )
    options = {"messages": TALK, "tools": EXTRACT["tools"], "max_tokens": 1}
    none, auto = (
        generator.create_chat_completion(**options, tool_choice=choice)["usage"]["prompt_tokens"]
        for choice in ("none", "auto")
    )
    assert none == len(generator.tokenize("no none:")) < auto


def row_logprobs(llama: Any, tokens: list[int], n_prompt: int, n_top: int) -> list[TokenLogprob]:
    """Log-softmax of llama-cpp-python's logits, by NumPy in double precision."""
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


def close(ours: Any, theirs: Any) -> None:
    """Equal but for rounding of logprobs, and but for bytes, which llama-cpp-python leaves out."""
    if isinstance(theirs, dict):
        assert ours.keys() == theirs.keys()
        for key in theirs:
            if key != "bytes":
                close(ours[key], theirs[key])
    elif isinstance(theirs, list):
        assert len(ours) == len(theirs)
        for a, b in zip(ours, theirs, strict=True):
            close(a, b)
    else:
        assert ours == (
            pytest.approx(theirs, abs=1e-4) if isinstance(theirs, float | np.floating) else theirs
        )


@pytest.mark.parametrize("n_top", [0, 3])
def test_logprobs_are_written_as_llama_writes_them(
    ours: Generator, theirs: Any, n_top: int
) -> None:
    """Tokens, offsets and alternatives of a text with characters of several tokens, from logprobs computed by NumPy."""
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
    """Whole, and joined from a stream."""
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
    """With alternatives as many as asked for; where logprobs is not true, none."""
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


@pytest.mark.parametrize(
    "schema",
    [
        None,
        {
            "type": "object",
            "properties": {"team_name": {"type": "string"}},
            "required": ["team_name"],
        },
    ],
)
def test_json_mode(ours: Generator, theirs: Any, schema: dict[str, Any] | None) -> None:
    """The README's examples: what comes parses, and has the keys of the schema."""
    messages = [
        {"role": "system", "content": "You are a helpful assistant that outputs in JSON."},
        {"role": "user", "content": "Who won the world series in 2020"},
    ]
    form: dict[str, Any] = {"type": "json_object"} | ({"schema": schema} if schema else {})
    for seed in range(3):
        answer = ours.create_chat_completion(
            messages, response_format=form, temperature=0.7, seed=seed, max_tokens=300
        )
        if answer["choices"][0]["finish_reason"] == "stop":
            assert set((schema or {}).get("required", [])) <= set(
                json.loads(answer["choices"][0]["message"]["content"])
            )
    options = GREEDY | {"messages": messages, "response_format": form, "max_tokens": 40}
    assert shape(ours.create_chat_completion(**options)) == shape(
        theirs.create_chat_completion(**options)
    )


@pytest.mark.parametrize("older", [False, True])
def test_a_chosen_tool_is_called(ours: Generator, theirs: Any, older: bool) -> None:
    """The README's example, by the newer and the older names: arguments that parse, in Llama's dictionaries, streamed too."""
    options: dict[str, Any] = dict(EXTRACT)
    if older:
        function = options.pop("tools")[0]["function"]
        options |= {"functions": [function], "function_call": {"name": "UserDetail"}}
        del options["tool_choice"]
    answer, expected = (
        each.create_chat_completion(**GREEDY, max_tokens=100, **options) for each in (ours, theirs)
    )
    assert shape(answer) == shape(expected)
    message = answer["choices"][0]["message"]
    assert set(json.loads(message["tool_calls"][0]["function"]["arguments"])) == {"name", "age"}
    assert message["function_call"] == message["tool_calls"][0]["function"]
    assert answer["choices"][0]["finish_reason"] == "tool_calls"
    chunks = list(ours.create_chat_completion(stream=True, **GREEDY, max_tokens=100, **options))
    assert shapes(chunks) == shapes(
        list(theirs.create_chat_completion(stream=True, **GREEDY, max_tokens=100, **options))
    )
    calls = [chunk["choices"][0]["delta"]["tool_calls"] for chunk in chunks]
    assert (
        "".join(call[0]["function"]["arguments"] for call in calls if call)
        == message["function_call"]["arguments"]
    )


def test_shaping_options_go_through(ours: Generator) -> None:
    """By their names, a LlamaGrammar by its text."""
    grammar = llama_cpp.LlamaGrammar.from_string('root ::= "yes" | "no"', verbose=False)
    assert ours("Is it so? ", grammar=grammar)["choices"][0]["text"] in ("yes", "no")
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


def test_openai_objects(ours: Generator) -> None:
    """create_chat_completion_openai_v1 gives the objects of the package openai."""
    pytest.importorskip("openai")
    answer = ours.create_chat_completion_openai_v1(messages=TALK, max_tokens=8, **GREEDY)
    assert (
        answer.choices[0].message.content
        == ours.create_chat_completion(TALK, max_tokens=8, **GREEDY)["choices"][0]["message"][
            "content"
        ]
    )
    chunks = list(
        ours.create_chat_completion_openai_v1(messages=TALK, max_tokens=8, stream=True, **GREEDY)
    )
    assert (
        "".join(chunk.choices[0].delta.content or "" for chunk in chunks)
        == answer.choices[0].message.content
    )
