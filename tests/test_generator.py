"""Generation from model files: equality with plain sampling, options, stops, streams, threads, interruption, errors."""

from __future__ import annotations

import gc
import os
import random
import signal
import threading
import time
from pathlib import Path

import numpy as np
import pytest

import oracles
import tiny
from conftest import Drafting, ctrl_c
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
    """Tokens equal plain sampling with the same seed, for many k, across the 256-cell borders of the cache."""
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
    """A very different draft, and none, give the same tokens."""
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
    """Method "ar" gives the winners of NumPy's races over the logits that llama-cpp-python computes, at every position."""
    import llama_cpp

    # 16-bit keys and values of one kind, as llama-cpp-python has them.
    ours = Generator(tiny_target, n_ctx=512, n_threads=1, type_k="f16").generate(
        "the of", max_tokens=40, seed=5, method="ar", **FULL
    )
    llama = llama_cpp.Llama(
        str(tiny_target),
        n_ctx=512,
        n_threads=1,
        n_threads_batch=1,
        logits_all=True,
        flash_attn=True,
        verbose=False,
    )
    tokens = llama.tokenize(b"the of", add_bos=True, special=True)
    llama.eval(tokens)
    expected = []
    for _ in range(40):
        logits = np.asarray(llama.scores[llama.n_tokens - 1], dtype=np.float32)
        expected.append(oracles.winner(logits, oracles.clocks(5, llama.n_tokens, len(logits))))
        llama.eval([expected[-1]])
    assert ours.tokens == expected


def test_nothing_is_decoded_twice(generator: Generator) -> None:
    """The target sees each prompt token and tree node once; the draft no more than its expanded nodes and what it has to catch up."""
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
    """Sums and ratios."""
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


def test_stream_is_the_answer_in_pieces(generator: Generator) -> None:
    """Texts and tokens of the steps join to the result; each step is one target call."""
    whole = generator.generate("the", max_tokens=60, seed=4, **FULL)
    stream = generator.stream("the", max_tokens=60, seed=4, **FULL)
    steps = list(stream)
    assert "".join(step.text for step in steps) == whole.text == stream.text
    assert [token for step in steps for token in step.tokens] == whole.tokens
    assert len(steps) == stream.stats.target_calls
    assert sum(step.n_accepted for step in steps) == stream.stats.accepted
    assert stream.finish_reason == "length"


def test_stop_strings_cut_exactly(generator: Generator) -> None:
    """Any piece of the text as stop string cuts the text there, also inside accepted blocks; the stream never shows more."""
    whole = generator.generate("the", max_tokens=120, seed=9, **FULL)
    rng = random.Random(0)
    for _ in range(60):
        begin = rng.randrange(len(whole.text) - 6)
        stop = whole.text[begin : begin + rng.randint(1, 6)]
        if "\ufffd" in stop:  # not text that the model wrote
            continue
        expected = whole.text[: whole.text.index(stop)]
        results = []
        for strategy in ("sequence", "tree", "ar"):
            method = {"method": "ar"} if strategy == "ar" else {"strategy": strategy}
            stream = generator.stream(
                "the", max_tokens=120, seed=9, stop=["never in it", stop], **FULL, **method
            )
            shown = ""
            for step in stream:
                shown += step.text
                assert expected.startswith(shown)
            assert (shown, stream.finish_reason) == (expected, "stop")
            assert stream.stats.generated == len(stream.tokens) <= len(whole.tokens)
            assert whole.tokens[: len(stream.tokens)] == stream.tokens
            results.append(stream.tokens)
        assert results[0] == results[1] == results[2]


def test_end_token_inside_a_block_ends_the_answer(folder: Path) -> None:
    """Nothing of an accepted block behind the end token comes out, and the end token is no part of the answer."""
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
    """Characters split over byte tokens come whole, ill-formed bytes as U+FFFD."""
    for seed in range(8):
        result = generator.generate("日本", max_tokens=60, seed=seed, **FULL)
        assert result.text == b"".join(
            generator.target.piece(token) for token in result.tokens
        ).decode("utf-8", "replace")
        assert result.text == generator.detokenize(result.tokens)


def test_tokenize_and_back(generator: Generator) -> None:
    """Text survives tokenisation, emoji and all."""
    text = "the rain in 日本語 🙂 é"
    tokens = generator.tokenize(text)
    assert tokens[0] == generator.target.bos
    assert generator.detokenize(tokens).strip() == text
    assert generator.tokenize(text, add_special=False) == tokens[1:]


def test_seed_zero_is_a_seed_and_none_is_fresh(generator: Generator) -> None:
    """Seeds are used as given and reported."""
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
    """Exactly as many tokens as asked for, none for 0, and to the context's end for None."""
    for n in (0, 1, 2, 17):
        result = generator.generate("the", max_tokens=n, seed=1, **FULL)
        assert (len(result.tokens), result.finish_reason) == (n, "length")
    small = Drafting(tiny_target, tiny_draft, n_ctx=64, n_threads=1)
    prompt = small.tokenize("the of")
    for method in ("ar", "ersd"):
        result = small.generate(prompt, max_tokens=None, seed=3, method=method, **FULL)
        assert result.finish_reason == "length"
        assert len(result.tokens) == 64 - len(prompt)


def test_long_prompts_are_read_in_batches(tiny_target: Path, tiny_draft: Path) -> None:
    """A prompt longer than n_batch gives the same answer as in one call."""
    answers = []
    for n_batch in (1, 100, 2048):
        generator = Drafting(tiny_target, tiny_draft, n_ctx=2048, n_batch=n_batch, n_threads=1)
        answers.append(
            generator.generate("the rain of " * 50, max_tokens=40, seed=8, **FULL).tokens
        )
    assert answers[0] == answers[1] == answers[2]


def test_closing_a_stream_early_frees_the_generator(generator: Generator) -> None:
    """Explicitly, by a with block, and by forgetting it."""
    expected = generator.generate("the", max_tokens=30, seed=6, **FULL).tokens
    stream = generator.stream("a", max_tokens=200, seed=1, **FULL)
    next(stream)
    with pytest.raises(RuntimeError, match="open stream"):
        generator.generate("the")
    stream.close()
    assert list(stream) == []
    with generator.stream("a", max_tokens=200, seed=1, **FULL) as stream:
        next(stream)
    forgotten = generator.stream("a", max_tokens=200, seed=1, **FULL)
    next(forgotten)
    del forgotten
    gc.collect()
    assert generator.generate("the", max_tokens=30, seed=6, **FULL).tokens == expected


def test_threads_wait_their_turn(generator: Generator) -> None:
    """Concurrent generations on one Generator all come out right, and the GIL is free meanwhile."""
    expected = [
        generator.generate("the", max_tokens=60, seed=seed, **FULL).tokens for seed in range(6)
    ]
    results: dict[int, list[int]] = {}

    def work(seed: int) -> None:
        results[seed] = generator.generate("the", max_tokens=60, seed=seed, **FULL).tokens

    threads = [threading.Thread(target=work, args=(seed,)) for seed in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert [results[seed] for seed in range(6)] == expected


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs POSIX timers")
@pytest.mark.parametrize(
    "prompt", ["the", "the rain of " * 300], ids=["while generating", "in a long prompt"]
)
def test_ctrl_c_stops_and_the_generator_stays_usable(
    generator: Generator, tiny_target: Path, prompt: str
) -> None:
    """KeyboardInterrupt comes out soon, and the next answer is right."""
    big = Generator(tiny_target, n_ctx=4096, n_threads=1) if prompt != "the" else generator
    expected = big.generate("a", max_tokens=30, seed=6, **FULL).tokens
    started = time.monotonic()
    finished = False
    with ctrl_c(0.05):
        for seed in range(10_000):
            big.generate(prompt, max_tokens=500, seed=seed, **FULL)
        finished = True
    assert not finished
    assert time.monotonic() - started < 20
    assert big.generate("a", max_tokens=30, seed=6, **FULL).tokens == expected


def test_memory_is_flat(generator: Generator) -> None:
    """500 generations, some of them abandoned, leave the process as large as it was."""

    def resident() -> int:
        with open("/proc/self/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    if not os.path.exists("/proc/self/statm"):
        pytest.skip("needs /proc")

    def work(n: int) -> None:
        for seed in range(n):
            if seed % 5 == 0:
                next(generator.stream("the of", max_tokens=20, seed=seed, **FULL))
            else:
                generator.generate(
                    "the of", max_tokens=20, seed=seed, strategy=STRATEGIES[seed % 4], **FULL
                )

    work(100)
    before = resident()
    work(500)
    assert resident() - before < 4 << 20


def test_model_files_that_are_none(folder: Path, tiny_target: Path) -> None:
    """Missing, empty, foreign, cut and damaged files each get their sentence."""
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
    """The message names the first difference."""
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
    """As in llama.cpp, up to 128 tokens at the end may be missing on either side; the text stays the same."""
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


def test_recurrent_models(folder: Path, tiny_target: Path) -> None:
    """They generate alone, and are refused where a tree is needed, with the reason."""
    mamba = tiny.write_mamba(folder / "mamba.gguf")
    alone = Generator(mamba, n_ctx=256)
    first, second = (alone.generate("the", max_tokens=20, seed=3, **FULL).tokens for _ in range(2))
    assert first == second
    assert len(first) == 20
    for pair in ((mamba, tiny_target), (tiny_target, mamba)):
        with pytest.raises(
            ValueError, match=r"\(mamba\) keeps one recurrent state and cannot hold a tree"
        ):
            Generator(*pair)


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
        ({"seed": -1}, r"seed must be between 0 and 2\*\*64 - 1, got -1"),
        ({"seed": 1 << 64}, r"seed must be between"),
        (
            {"method": "magic"},
            r"method must be one of 'ersd', 'ar', 'gsd', 'gsd_iid', 'match', got 'magic'",
        ),
        (
            {"strategy": "forest"},
            r"strategy must be one of 'simple', 'sequence', 'batch', 'tree', 'adaptive', got 'forest'",
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
    """ValueError with the option, what was expected and what came; the Generator stays usable."""
    with pytest.raises(ValueError, match=message):
        generator.generate("the", **options)
    with pytest.raises(ValueError, match=message):
        generator.stream("the", **options)
    assert len(generator.generate("the", max_tokens=3, seed=1).tokens) <= 3


@pytest.mark.parametrize(
    "options",
    [{"seed": 1.5}, {"seed": True}, {"max_tokens": "9"}, {"stop": [3]}, {"temperature": "hot"}],
    ids=str,
)
def test_options_of_the_wrong_type(generator: Generator, options: dict) -> None:
    """TypeError."""
    with pytest.raises(TypeError):
        generator.generate("the", **options)


def test_bad_prompts(generator: Generator) -> None:
    """Empty, too long, and tokens that do not exist."""
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


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"n_ctx": -5}, "n_ctx must be at least 1, got -5"),
        ({"n_batch": 0}, "n_batch must be at least 1, got 0"),
        ({"n_threads": -1}, "n_threads must be at least 0, got -1"),
        ({"type_k": "f8"}, "type_k must be one of .*, got 'f8'"),
        ({"tensor_split": [1.0] * 1000}, "tensor_split must have at most"),
    ],
    ids=str,
)
def test_bad_model_options(tiny_target: Path, options: dict, message: str) -> None:
    """ValueError with the option, what was expected and what came."""
    with pytest.raises(ValueError, match=message):
        Generator(tiny_target, **options)


def test_repr_and_result(generator: Generator) -> None:
    """A Generator says what it runs; a result is plain data."""
    assert "target.gguf" in repr(generator)
    assert "draft.gguf" in repr(generator)
    result = generator.generate("the", max_tokens=5, seed=1)
    assert isinstance(result, Result)
    assert "tokens per target call" in str(result.stats)


def test_forget(tiny_target: Path, tiny_draft: Path) -> None:
    """What a Generator learns of the draft shapes its trees, and is forgotten when asked."""
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
