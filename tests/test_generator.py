"""Generation from model files: the text is that of plain sampling, whatever the draft is."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import llama_answers
import oracles
import tiny
from conftest import Drafting
from ersd import Generator, Result

FULL = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
CUT = {"temperature": 0.7, "top_k": 40, "top_p": 0.95, "min_p": 0.0}
GREEDY = {"temperature": 0.0}
STRATEGIES = ["simple", "sequence", "batch", "tree", "adaptive"]


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(
    "sampling",
    [
        pytest.param(FULL, id="full", marks=pytest.mark.no_sanitizer),
        pytest.param(CUT, id="cut"),
        pytest.param(GREEDY, id="greedy", marks=pytest.mark.no_sanitizer),
    ],
)
def test_speculation_does_not_change_the_text(
    generator: Generator, strategy: str, sampling: dict
) -> None:
    """Tokens equal plain sampling with the same seed, for every strategy and many k.

    The longer texts cross the 256-cell borders of the cache.
    """
    for seed, (k, prompt) in enumerate(
        [
            (1, "the rain"),
            (3, "a"),
            (8, "日本語 " * 30),
            (16, "of the " * 30),
            (64, "in"),
            (256, "to the " * 70),
        ]
    ):
        plain = generator.generate(prompt, max_tokens=80, seed=seed, method="ar", **sampling)
        ours = generator.generate(
            prompt, max_tokens=80, seed=seed, strategy=strategy, draft_nodes=k, **sampling
        )
        assert ours.tokens == plain.tokens
        assert (ours.text, ours.finish_reason) == (plain.text, plain.finish_reason)


def test_text_does_not_depend_on_the_draft(
    tiny_target: Path, folder: Path, generator: Generator
) -> None:
    """A very different draft gives the same tokens as no draft and as the tiny pair."""
    other = tiny.write_llama(folder / "other.gguf", seed=5, n_layers=1)
    answers = [
        Drafting(tiny_target, draft, n_ctx=1024, n_threads=threads)
        .generate("an", max_tokens=80, seed=11, **FULL)
        .tokens
        for draft, threads in ((None, 1), (other, 2))
    ]
    assert (
        answers[0] == answers[1] == generator.generate("an", max_tokens=80, seed=11, **FULL).tokens
    )


def test_plain_sampling_races_over_llama_cpp_logits(tiny_target: Path) -> None:
    """Method "ar" emits the winners of NumPy's races over llama-cpp-python's logits."""
    # 16-bit keys and values of one kind, as llama-cpp-python has them.
    ours = Generator(tiny_target, n_ctx=512, n_threads=1, type_k="f16", flash_attn=True).generate(
        "the of", max_tokens=40, seed=5, method="ar", **FULL
    )
    llama = llama_answers.llama(tiny_target)
    tokens = llama.tokenize(b"the of", add_bos=True, special=True)
    llama.eval(tokens)
    expected = []
    for _ in range(40):
        logits = np.asarray(llama.scores[llama.n_tokens - 1], dtype=np.float32)
        expected.append(oracles.winner(logits, oracles.clocks(5, llama.n_tokens, len(logits))))
        llama.eval([expected[-1]])
    assert ours.tokens == expected


def test_nothing_is_decoded_twice(generator: Generator) -> None:
    """The target computes each prompt token and each tree node once.

    The draft computes no more than the prompt, one token per target call, and the tree nodes.
    """
    prompt = generator.tokenize("the of and " * 20)
    for strategy in STRATEGIES:
        stats = generator.generate(
            prompt, max_tokens=100, seed=1, strategy=strategy, draft_nodes=12, **FULL
        ).stats
        assert (
            stats.target_tokens
            == len(prompt) - 1 - stats.cached_tokens + stats.target_calls + stats.drafted
        )
        assert stats.draft_tokens <= len(prompt) + stats.target_calls + stats.drafted
    generator.reset()
    stats = generator.generate(prompt, max_tokens=100, seed=1, method="ar", **FULL).stats
    assert (stats.target_tokens, stats.draft_tokens, stats.draft_calls) == (
        len(prompt) - 1 + 100,
        0,
        0,
    )


def test_stats_agree_with_each_other(generator: Generator) -> None:
    """Histograms sum to the counts, and ratios are those of the counts."""
    result = generator.generate("the", max_tokens=90, seed=2, **FULL)
    stats = result.stats
    assert stats.generated == len(result.tokens) == 90
    assert sum(stats.acceptance_histogram) == stats.target_calls
    assert (
        sum(n * count for n, count in enumerate(stats.acceptance_histogram))
        == stats.accepted
        == stats.generated - stats.target_calls
    )
    assert stats.tokens_per_call == pytest.approx(90 / stats.target_calls)
    assert stats.acceptance_rate == pytest.approx(stats.accepted / stats.drafted)
    assert len(stats.rank_histogram) == 65
    assert stats.total_ms >= stats.prefill_ms + stats.draft_ms + stats.target_ms + stats.race_ms


def test_end_token_inside_a_block_ends_the_answer(folder: Path) -> None:
    """The answer has no end token and nothing that an accepted block holds after it."""
    target, draft = (
        tiny.write_llama(folder / f"end{noise}.gguf", seed=21, noise=noise, ends=True)
        for noise in (0, 0.02)
    )
    generator = Drafting(target, draft, n_ctx=2048, n_threads=1)
    ended = 0
    for seed in range(12):
        plain = generator.generate("a", max_tokens=600, seed=seed, method="ar", **FULL)
        ours = generator.generate("a", max_tokens=600, seed=seed, **FULL)
        assert (ours.tokens, ours.text, ours.finish_reason) == (
            plain.tokens,
            plain.text,
            plain.finish_reason,
        )
        assert ours.stats.generated == len(ours.tokens)
        assert not any(generator.target.is_end(token) for token in ours.tokens)
        ended += ours.finish_reason == "stop"
    assert ended >= 3


def test_text_is_valid_utf8_and_equals_detokenised_tokens(generator: Generator) -> None:
    """Characters of several tokens come whole, and ill-formed bytes become U+FFFD."""
    for seed in range(8):
        result = generator.generate("日本", max_tokens=60, seed=seed, **FULL)
        assert result.text == b"".join(
            generator.target.piece(token) for token in result.tokens
        ).decode("utf-8", "replace")
        assert result.text == generator.detokenize(result.tokens)


def test_tokenize_and_back(generator: Generator) -> None:
    """A text with emoji survives tokenisation."""
    text = "the rain in 日本語 🙂 é"
    tokens = generator.tokenize(text)
    assert tokens[0] == generator.target.bos
    assert generator.detokenize(tokens).strip() == text
    assert generator.tokenize(text, add_special=False) == tokens[1:]


def test_long_prompts_are_read_in_batches(tiny_target: Path, tiny_draft: Path) -> None:
    """A prompt longer than n_batch gives the same answer as one that is read in one call."""
    answers = []
    for n_batch in (1, 100, 2048):
        generator = Drafting(tiny_target, tiny_draft, n_ctx=2048, n_batch=n_batch, n_threads=1)
        answers.append(
            generator.generate("the rain of " * 50, max_tokens=40, seed=8, **FULL).tokens
        )
    assert answers[0] == answers[1] == answers[2]


def test_repr_and_result(generator: Generator) -> None:
    """repr() names both models, and str() of the stats gives tokens per target call."""
    assert "target.gguf" in repr(generator)
    assert "draft.gguf" in repr(generator)
    result = generator.generate("the", max_tokens=5, seed=1)
    assert isinstance(result, Result)
    assert "tokens per target call" in str(result.stats)


def test_forget(tiny_target: Path, tiny_draft: Path) -> None:
    """What a Generator learns of the draft changes its trees until forget() is called."""
    pair = Drafting(tiny_target, tiny_draft, n_ctx=512, n_threads=1)
    options = {
        "temperature": 1.0,
        "top_k": 0,
        "top_p": 1.0,
        "min_p": 0.0,
        "max_tokens": 100,
        "seed": 1,
        "draft_nodes": 24,
    }
    fresh = pair.generate("the rain", **options).stats.acceptance_histogram
    for seed in range(2, 12):
        pair.generate("the snow", **{**options, "seed": seed})
    assert pair.generate("the rain", **options).stats.acceptance_histogram != fresh
    pair.forget()
    assert pair.generate("the rain", **options).stats.acceptance_histogram == fresh
