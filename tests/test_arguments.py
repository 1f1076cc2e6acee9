"""Wrong types are refused by one sentence, and none is read as something else."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

import tiny
from conftest import CHAT
from ersd import Generator

pytestmark = pytest.mark.no_sanitizer
SURROGATE = "\ud800"
IDS = "prompt must be text or a list of token ids, got "
SEVERAL = r"prompt must be one text or a list of token ids \(generate_batch takes several\), got "
BIAS = "logit_bias must be a mapping from token ids to numbers, got "
STOP = "stop must be a str or a sequence of str, got "


@pytest.fixture(scope="module")
def model(folder: Path) -> Path:
    """A tiny model with a chat template and tokens for a middle."""
    return tiny.write_llama(folder / "arguments.gguf", chat_template=CHAT, fim=(300, 301, 302))


@pytest.fixture(scope="module")
def generator(model: Path) -> Generator:
    """A Generator of this model."""
    return Generator(model, n_ctx=128, n_threads=1)


def refuses(call: Callable[[], object], kind: type[Exception], message: str) -> None:
    """Checks that a call raises this error, in one line."""
    with pytest.raises(kind, match=f"^{message}") as error:
        call()
    assert "\n" not in str(error.value)
    assert type(error.value) is kind


@pytest.mark.parametrize(
    ("prompt", "kind", "message"),
    [
        (b"Hello", TypeError, f"{IDS}b'Hello'"),
        (bytearray(b"Hello"), TypeError, rf"{IDS}bytearray\(b'Hello'\)"),
        ([5.9], TypeError, f"{IDS}5.9"),
        (np.array([5.0]), TypeError, rf"{IDS}(np\.float64\()?5.0"),
        ([True], TypeError, f"{IDS}True"),
        ({5: 1}, TypeError, rf"{IDS}\{{5: 1\}}"),
        ({5}, TypeError, rf"{IDS}\{{5\}}"),
        (5, TypeError, f"{IDS}5"),
        (None, TypeError, f"{IDS}None"),
        (["One", "Two"], TypeError, rf"{SEVERAL}\['One', 'Two'\]"),
        ([[5], [6]], TypeError, rf"{SEVERAL}\[\[5\], \[6\]\]"),
        ([1 << 40], ValueError, "prompt must have token ids of 32 bits, got 1099511627776"),
        ([-1], ValueError, "(prompt )?tokens? must be between 0 and 514, got -1"),
        (
            f"a{SURROGATE}",
            ValueError,
            r"prompt must be text that UTF-8 can write, got '\\ud800' at",
        ),
    ],
)
def test_prompts(generator: Generator, prompt: Any, kind: type[Exception], message: str) -> None:
    """Each way to give a prompt refuses the same things."""
    for call in (
        lambda: generator.generate(prompt, max_tokens=1),
        lambda: generator.stream(prompt, max_tokens=1),
        lambda: generator.create_completion(prompt, max_tokens=1),
        lambda: generator.generate_batch([prompt], max_tokens=1),
    ):
        refuses(call, kind, message)


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"seed": 1.0}, TypeError, "seed must be an int or None, got 1.0"),
        ({"seed": True}, TypeError, "seed must be an int or None, got True"),
        (
            {"seed": -2},
            ValueError,
            r"seed must be between 0 and 2\*\*64 - 1, or -1 for a fresh one",
        ),
        ({"max_tokens": 2.0}, TypeError, "max_tokens must be an int or None, got 2.0"),
        ({"top_k": "4"}, TypeError, "top_k must be an int of 32 bits, got '4'"),
        ({"top_k": True}, TypeError, "top_k must be an int of 32 bits, got True"),
        ({"temperature": True}, TypeError, "temperature must be a number, got True"),
        ({"logprobs": True}, TypeError, "logprobs must be an int or None, got True"),
        ({"stop": b"a"}, TypeError, f"{STOP}b'a'"),
        ({"stop": 5}, TypeError, f"{STOP}5"),
        ({"stop": ["a", 5]}, TypeError, f"{STOP}5"),
        ({"stop": SURROGATE}, ValueError, "stop must be text that UTF-8 can write"),
        ({"regex": SURROGATE}, ValueError, "regex must be text that UTF-8 can write"),
        ({"grammar": SURROGATE}, ValueError, "grammar must be text that UTF-8 can write"),
        ({"response_format": "x"}, TypeError, "response_format must be a mapping or a type"),
        ({"logit_bias": {"abc": 1}}, TypeError, f"{BIAS}'abc'"),
        ({"logit_bias": {300.5: 1}}, TypeError, f"{BIAS}300.5"),
        ({"logit_bias": {True: 1}}, TypeError, f"{BIAS}True"),
        ({"logit_bias": {300: "x"}}, TypeError, f"{BIAS}'x' for token 300"),
        ({"logit_bias": {300: None}}, TypeError, f"{BIAS}None for token 300"),
        ({"logit_bias": [(300, 1)]}, TypeError, rf"{BIAS}\[\(300, 1\)\]"),
        (
            {"logit_bias": {1 << 40: 1}},
            ValueError,
            "logit_bias must be of tokens of the vocabulary",
        ),
        ({"dry_sequence_breakers": 5}, TypeError, "dry_sequence_breakers must be a str or a seq"),
        ({"logits_processor": 5}, TypeError, "logits_processor must be callables"),
        ({"ignore_eos": 1}, TypeError, "ignore_eos must be True or False, got 1"),
    ],
)
def test_options(generator: Generator, options: Any, kind: type[Exception], message: str) -> None:
    """The same sentence comes from the engine and from llama-cpp-python's calls."""
    given = {"max_tokens": 1} | options
    refuses(lambda: generator.generate("a", **given), kind, message)
    name = next(iter(options))
    if name == "top_k":
        message = message.replace("an int of 32 bits", "an int or None")
    if name != "dry_sequence_breakers":
        chat = [{"role": "user", "content": "a"}]
        extra = {"logprobs": True, "top_logprobs": True} if name == "logprobs" else {}
        refuses(lambda: generator.create_chat_completion(chat, **(given | extra)), kind, message)


def test_numbers_of_numpy_are_numbers(generator: Generator) -> None:
    """Integers and floats of NumPy mean what Python's mean."""
    plain = {"max_tokens": 3, "seed": 7, "top_k": 5, "temperature": 0.5, "logit_bias": {300: 1.0}}
    theirs = {
        "max_tokens": np.int64(3),
        "seed": np.uint32(7),
        "top_k": np.int16(5),
        "temperature": np.float32(0.5),
        "logit_bias": {np.int32(300): np.float32(1)},
    }
    expected = generator.generate([1, 300, 301], **plain)
    for prompt in ([np.int64(1), 300, np.uint8(45)], np.array([1, 300, 301])):
        result = generator.generate(prompt, **theirs)
        assert result.seed == 7
        assert len(result.tokens) == 3
    assert result.tokens == expected.tokens
    seeds = [each.seed for each in generator.generate_batch(["a", "b"], seed=np.array([4, 9]))]
    assert seeds == [4, 9]


def test_minus_one_draws_a_seed(generator: Generator) -> None:
    """As llama.cpp's users write it; the result has the seed that was drawn."""
    seeds = {generator.generate("a", max_tokens=1, seed=-1).seed for _ in range(3)}
    seeds |= {each.seed for each in generator.generate_batch(["a", "a"], max_tokens=1, seed=-1)}
    assert len(seeds) == 5
    assert min(seeds) >= 0


def test_none_is_the_default_of_llama_cpp_pythons_calls(generator: Generator) -> None:
    """Of every number that is None, the default of the engine is taken."""
    numbers = ["temperature", "top_k", "top_p", "min_p", "typical_p", "tfs_z", "mirostat_mode"]
    numbers += ["repeat_penalty", "frequency_penalty", "presence_penalty"]
    given = dict.fromkeys(numbers)
    answer = generator.create_completion("the", max_tokens=4, seed=1, **given)
    assert answer["choices"][0]["text"] == generator.generate("the", max_tokens=4, seed=1).text


@pytest.mark.parametrize(
    ("options", "kind", "message"),
    [
        ({"model_path": None}, TypeError, "model_path must be a str or a path, got None"),
        ({"model_path": ""}, ValueError, "model_path must be the name of a file, got ''"),
        ({"model_path": "a\0b"}, ValueError, "model_path must be the name of a file, got 'a"),
        ({"draft_model_path": ""}, ValueError, "draft_model_path must be the name of a file"),
        (
            {"draft_model_path": b"x"},
            TypeError,
            "draft_model_path must be a str or a path, got b'x'",
        ),
        ({"lora_path": 5}, TypeError, "lora_path must be a str or a path, got 5"),
        ({"n_ctx": True}, TypeError, "n_ctx must be an int of 32 bits, got True"),
        ({"n_threads": 2.5}, TypeError, "n_threads must be an int of 32 bits, got 2.5"),
        ({"tensor_split": 5}, ValueError, "tensor_split must be shares of at least 0"),
        ({"tensor_split": [-1.0]}, ValueError, "tensor_split must be shares of at least 0"),
        ({"flash_attn": "x"}, TypeError, "flash_attn must be True or False, got 'x'"),
        ({"chat_template": 5}, TypeError, "chat_template must be a str, got 5"),
        ({"profile": None}, TypeError, "profile must be a str or a path, got None"),
        ({"verbose": "x"}, TypeError, "verbose must be True or False, got 'x'"),
    ],
)
def test_the_constructor(
    model: Path, options: dict[str, Any], kind: type[Exception], message: str
) -> None:
    """Nothing is loaded before all types are right."""
    given = {"model_path": model, "n_ctx": 64} | options
    refuses(lambda: Generator(**given), kind, message)


@pytest.mark.parametrize(
    ("call", "kind", "message"),
    [
        (lambda g: g.tokenize(b"a"), TypeError, "text must be a str, got b'a'"),
        (lambda g: g.tokenize(SURROGATE), ValueError, "text must be text that UTF-8 can write"),
        (lambda g: g.detokenize([5.9]), TypeError, "tokens must be a list of token ids, got 5.9"),
        (lambda g: g.detokenize("abc"), TypeError, "tokens must be a list of token ids, got 'abc'"),
        (lambda g: g.detokenize([1 << 40]), ValueError, "tokens must have token ids of 32 bits"),
        (lambda g: g.generate_batch(5), TypeError, "prompts must be a sequence of prompts, got 5"),
        (lambda g: g.chat("hi"), TypeError, "messages must be a list of mappings"),
        (lambda g: g.chat(None), TypeError, "messages must be a list of mappings"),
        (lambda g: g.chat([5]), ValueError, "expected mappings with a 'role', got 5"),
        (
            lambda g: g.chat([{"role": "user", "content": 5}]),
            ValueError,
            "expected 'content' to be text or parts of type 'text', got 5",
        ),
        (
            lambda g: g.chat([{"role": "user", "content": [{"type": "text", "text": 5}]}]),
            ValueError,
            "expected 'content' to be text or parts",
        ),
        (
            lambda g: g.chat([{"role": "user", "content": SURROGATE}]),
            ValueError,
            "messages must be text that UTF-8 can write",
        ),
        (
            lambda g: g.create_chat_completion([], tools=[5]),
            TypeError,
            r"tools must be a list of mappings, got \[5\]",
        ),
        (
            lambda g: g.create_chat_completion([], tool_choice=5),
            TypeError,
            "tool_choice must be 'none', 'auto', 'required' or a mapping whose 'function' has a "
            "'name'",
        ),
        (
            lambda g: g.create_chat_completion([], functions=[5]),
            TypeError,
            "functions must be mappings with a 'name'",
        ),
        (
            lambda g: g.create_chat_completion([], function_call={}),
            TypeError,
            "function_call must be 'none', 'auto' or a mapping with a 'name', got {}",
        ),
        (
            lambda g: g.create_completion("a", suffix=b"x"),
            TypeError,
            "suffix must be a str or None, got b'x'",
        ),
        (
            lambda g: g.create_completion("a", stopping_criteria=[5]),
            TypeError,
            "stopping_criteria must be callables",
        ),
    ],
)
def test_calls(
    generator: Generator, call: Callable[[Generator], object], kind: type[Exception], message: str
) -> None:
    """The other calls name the argument, too."""
    refuses(lambda: call(generator), kind, message)
