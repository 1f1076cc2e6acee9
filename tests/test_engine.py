"""What an engine accepts: model files, pairs, options, seeds and prompts."""

from __future__ import annotations

from pathlib import Path

import pytest

import tiny
from conftest import Drafting
from ersd import Generator

FULL = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}


def test_model_files_that_are_none(folder: Path, tiny_target: Path) -> None:
    """Missing, empty, foreign, cut and damaged files are refused, each with its reason."""
    with pytest.raises(FileNotFoundError, match=r"no such model file: '.*absent\.gguf'"):
        Generator(folder / "absent.gguf")
    with pytest.raises(ValueError, match="is a directory"):
        Generator(folder)
    whole = tiny_target.read_bytes()
    for name, content, message in (
        ("empty", b"", "not a GGUF file"),
        ("foreign", b"PK\x03\x04 a zip file", "not a GGUF file"),
        ("header", whole[:2000], "truncated or damaged"),
        ("cut", whole[:-5000], "truncated: its tensors end at byte"),
    ):
        path = folder / f"{name}.gguf"
        path.write_bytes(content)
        with pytest.raises(ValueError, match=message):
            Generator(path)
        with pytest.raises(ValueError, match=message):
            Generator(tiny_target, path)


def test_a_draft_must_share_the_vocabulary(folder: Path, tiny_target: Path) -> None:
    """The message names the first token that differs."""
    swapped = tiny.write_llama(folder / "swapped.gguf", swap=True)
    tokens = [token.decode() for token in tiny.vocabulary()[0]]
    with pytest.raises(
        ValueError,
        match=f"token 300 is '{tokens[300]}' in the target and '{tokens[301]}' in the draft",
    ):
        Generator(tiny_target, swapped)
    short = tiny.write_llama(folder / "short.gguf", n_words=100)
    with pytest.raises(ValueError, match="the target has 515 tokens, the draft 359"):
        Generator(tiny_target, short)


def test_a_little_padding_of_the_vocabulary_is_no_difference(
    folder: Path, tiny_target: Path, generator: Generator
) -> None:
    """As in llama.cpp, one vocabulary may lack up to 128 tokens at its end.

    The text stays the same.
    """
    expected = generator.generate("the", max_tokens=50, seed=2, **FULL).tokens
    shorter = tiny.write_llama(folder / "shorter.gguf", n_words=200)
    assert (
        Drafting(tiny_target, shorter, n_ctx=1024)
        .generate("the", max_tokens=50, seed=2, **FULL)
        .tokens
        == expected
    )
    both = [
        Drafting(shorter, draft, n_ctx=1024).generate("the", max_tokens=50, seed=2, **FULL).tokens
        for draft in (None, tiny_target)
    ]
    assert both[0] == both[1]


def test_recurrent_models(folder: Path) -> None:
    """Recurrent models generate alone too, without a chain."""
    alone = Generator(tiny.write_mamba(folder / "mamba.gguf"), n_ctx=256)
    first, second = (alone.generate("the", max_tokens=20, seed=3, **FULL).tokens for _ in range(2))
    assert first == second
    assert len(first) == 20


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_ctx": -5}, "n_ctx must be at least 1, got -5"),
        ({"n_batch": 0}, "n_batch must be at least 1, got 0"),
        ({"n_threads": -1}, "n_threads must be at least 0, got -1"),
        ({"n_parallel": 0}, "n_parallel must be .*, got 0"),
        ({"n_ctx_total": -1}, "n_ctx_total must be .*, got -1"),
        ({"prompt_share": 1.0}, "prompt_share must be .*, got 1"),
        ({"type_k": "f8"}, "type_k must be one of .*, got 'f8'"),
        ({"tensor_split": [1.0] * 1000}, "tensor_split must have at most"),
    ],
    ids=str,
)
def test_bad_model_options(tiny_target: Path, options: dict, message: str) -> None:
    """ValueError names the option, what was expected and what came."""
    with pytest.raises(ValueError, match=message):
        Generator(tiny_target, **options)


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"temperature": -0.1}, r"temperature must be 0, or between .*, got -0.1"),
        ({"temperature": float("nan")}, r"temperature must be .*, got nan"),
        ({"temperature": float("inf")}, r"temperature must be .*, got inf"),
        ({"top_p": 0.0}, r"top_p must be above 0 .*, got 0"),
        ({"top_p": float("nan")}, r"top_p must be .*, got nan"),
        ({"min_p": 1.5}, r"min_p must be between 0 and 1, got 1.5"),
        ({"max_tokens": -2}, r"max_tokens must be at least 0, .*, got -2"),
        ({"seed": -2}, r"seed must be between 0 and 2\*\*64 - 1, or -1 for a fresh one, got -2"),
        ({"seed": 1 << 64}, r"seed must be between"),
        (
            {"method": "magic"},
            r"method must be one of 'ersd', 'ar', 'gsd', 'gsd_iid', 'match', 'block', got 'magic'",
        ),
        (
            {"strategy": "forest"},
            r"strategy must be one of 'simple', 'sequence', 'batch', 'tree', 'adaptive', "
            r"got 'forest'",
        ),
        ({"draft_nodes": 0}, r"draft_nodes must be between 1 and 256, or 'auto', got 0"),
        ({"draft_nodes": 257}, r"draft_nodes must be between 1 and 256, or 'auto', got 257"),
        ({"draft_depth": 0}, r"draft_depth must be between 1 and 256, got 0"),
        ({"stop": ""}, r"stop must be non-empty strings"),
    ],
    ids=str,
)
def test_bad_options_are_refused_before_anything_runs(
    generator: Generator, options: dict, message: str
) -> None:
    """ValueError names the option, what was expected and what came.

    The Generator stays usable.
    """
    with pytest.raises(ValueError, match=message):
        generator.generate("the", **options)
    with pytest.raises(ValueError, match=message):
        generator.stream("the", **options)
    assert len(generator.generate("the", max_tokens=3, seed=1).tokens) == 3


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"seed": 1.5}, r"seed .*, got 1\.5"),
        ({"seed": True}, "seed .*, got True"),
        ({"max_tokens": "9"}, "max_tokens .*, got '9'"),
        ({"stop": [3]}, "stop .*, got "),
        ({"temperature": "hot"}, "temperature must be a number, got 'hot'"),
    ],
    ids=str,
)
def test_options_of_the_wrong_type(generator: Generator, options: dict, message: str) -> None:
    """TypeError names the option, what was expected and what came."""
    with pytest.raises(TypeError, match=message):
        generator.generate("the", **options)


def test_bad_prompts(generator: Generator) -> None:
    """Prompts that are empty, too long or have unknown tokens are refused."""
    with pytest.raises(ValueError, match="the prompt is empty"):
        generator.generate([])
    with pytest.raises(
        ValueError,
        match=r"the prompt has \d+ tokens, the context of 1024 \(n_ctx\) has room for 1023",
    ):
        generator.generate("the rain " * 1000)
    for token in (-1, 515):
        with pytest.raises(
            ValueError, match=f"prompt tokens must be between 0 and 514, got {token}"
        ):
            generator.generate([1, token])


def test_seed_zero_is_a_seed_and_none_is_fresh(generator: Generator) -> None:
    """Seeds are used as given and reported; None draws a different one each time."""
    a, b = (generator.generate("the", max_tokens=40, seed=0, **FULL) for _ in range(2))
    assert a.tokens == b.tokens
    assert a.seed == 0
    fresh = [generator.generate("the", max_tokens=40, **FULL) for _ in range(3)]
    assert len({result.seed for result in fresh}) == 3
    assert len({tuple(result.tokens) for result in [a, *fresh]}) == 4
    assert (
        generator.generate("the", max_tokens=40, seed=fresh[0].seed, **FULL).tokens
        == fresh[0].tokens
    )


def test_max_tokens(generator: Generator, tiny_target: Path, tiny_draft: Path) -> None:
    """The answer has max_tokens tokens; with None it fills the context."""
    for n in (0, 1, 2, 17):
        result = generator.generate("the", max_tokens=n, seed=1, **FULL)
        assert (len(result.tokens), result.finish_reason) == (n, "length")
    small = Drafting(tiny_target, tiny_draft, n_ctx=64, n_threads=1)
    prompt = small.tokenize("the of")
    for method in ("ar", "ersd"):
        result = small.generate(prompt, max_tokens=None, seed=3, method=method, **FULL)
        assert result.finish_reason == "length"
        assert len(result.tokens) == 64 - len(prompt)
