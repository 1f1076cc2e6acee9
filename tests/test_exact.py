"""exact: what is promised, by the test of call widths, and what is asked of the caller."""

from __future__ import annotations

import hashlib
import json
from pathlib import Path

import gguf
import numpy as np
import pytest

import tiny
from conftest import Drafting
from ersd import Generator

FULL = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}


@pytest.fixture(scope="module")
def half_precision(folder: Path) -> Path:
    """A model in F16, for which llama.cpp has one kernel for one row and one for more."""
    return tiny.write_llama(folder / "f16.gguf", kind=gguf.GGMLQuantizationType.F16)


def test_who_gets_an_exact_text(tiny_target: Path, tiny_draft: Path) -> None:
    """By default all whose drafts may come from anywhere do; exact asks for either."""
    options = {"n_ctx": 256, "n_threads": 1, "profile": False}
    assert Generator(tiny_target, tiny_draft, **options).exact
    assert Generator(tiny_target, tiny_draft, draft_sources=["model"], **options).exact
    assert Generator(tiny_target, **options).exact
    assert Generator(tiny_target, draft_sources=["grammar"], **options).exact
    for sources in ([], ["model"]):
        alone = Generator(tiny_target, draft_sources=sources, **options).exact
        assert not alone
        assert alone.reason == "nothing drafts, so the cache is llama.cpp's own"
        assert Generator(tiny_target, exact=True, draft_sources=sources, **options).exact
    assert not Generator(tiny_target, tiny_draft, exact=False, **options).exact


def test_a_target_whose_widths_differ(half_precision: Path, tiny_draft: Path) -> None:
    """Such a target is used without the promise by default. exact=True pads its calls."""
    options = {"n_ctx": 512, "n_threads": 1, "profile": False}
    pair = Generator(half_precision, tiny_draft, **options)
    assert not pair.exact
    assert "gives other logits in calls of 2 tokens" in pair.exact.reason
    assert pair.generate("the of", max_tokens=8, seed=1, draft_nodes=4).tokens
    padded = Generator(half_precision, tiny_draft, exact=True, **options)
    assert padded.exact
    assert "every call is padded to a multiple of 2 tokens" in padded.exact.reason


@pytest.mark.parametrize("padding", [2, 4, 8, 16])
def test_padded_calls_give_one_text(
    half_precision: Path,
    tiny_draft: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    padding: int,
) -> None:
    """Log-probabilities are the same to the bit with every draft, alone and beside others."""
    monkeypatch.setenv("ERSD_CACHE", str(tmp_path))
    options = {"n_ctx": 300, "n_ctx_total": 1500, "n_threads": 1, "n_parallel": 3}
    Generator(half_precision, tiny_draft, profile=False, **options)
    (verdict,) = tmp_path.iterdir()
    verdict.write_text(written({"width_that_differs": 2, "padding": padding}))
    pair = Generator(half_precision, tiny_draft, profile=False, exact=True, **options)
    assert f"multiple of {padding} tokens" in pair.exact.reason
    prompts = ["the", "the rain of", "of the " * 40]
    for temperature in (0.0, 1.0):
        sampling = FULL | {"temperature": temperature, "max_tokens": 40, "logprobs": 1}
        plain = [pair.generate(p, seed=3, method="ar", **sampling).logprobs for p in prompts]
        for strategy, k in (("sequence", 1), ("sequence", 5), ("tree", 16), ("adaptive", 9)):
            drafts = {"strategy": strategy, "draft_nodes": k} | sampling
            assert [pair.generate(p, seed=3, **drafts).logprobs for p in prompts] == plain
            together = pair.generate_batch(prompts, seed=[3] * 3, **drafts)
            assert [each.logprobs for each in together] == plain


def written(verdict: dict[str, int | None]) -> str:
    """Returns the file of a verdict."""
    checksum = hashlib.sha256(json.dumps(verdict, sort_keys=True).encode()).hexdigest()[:12]
    return json.dumps(verdict | {"checksum": checksum})


def test_the_verdict_is_kept(
    half_precision: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A verdict in the cache folder is believed; a damaged one is tested again."""
    monkeypatch.setenv("ERSD_CACHE", str(tmp_path))
    options = {"n_ctx": 256, "n_threads": 1, "exact": True}
    Generator(half_precision, half_precision, n_ctx=256, n_threads=1, profile=False)
    (path,) = tmp_path.iterdir()
    assert path.read_text() == written({"width_that_differs": 2, "padding": None})
    assert "multiple of 2" in Generator(half_precision, **options).exact.reason
    assert path.read_text() == written({"width_that_differs": 2, "padding": 2})
    path.write_text(written({"width_that_differs": 7, "padding": 0}))
    with pytest.raises(ValueError, match=r"exact=True cannot hold: .* in calls of 7 tokens .*Q8_0"):
        Generator(half_precision, **options)
    damaged = ["{", "[" * 100_000, "\0", written({}), path.read_text().replace("7", "0")]
    for text in damaged:
        path.write_text(text)
        assert "multiple of 2" in Generator(half_precision, **options).exact.reason
        (line,) = capfd.readouterr().err.splitlines()
        assert line.startswith(f"ersd: ignoring '{path}': ")


def test_without_drafts_the_text_is_llama_cpp_pythons(tiny_target: Path) -> None:
    """Logits are those of Llama with its defaults to the bit, on a prompt of several batches."""
    import llama_cpp

    rows: list[np.ndarray] = []

    def record(input_ids: np.ndarray, scores: np.ndarray) -> np.ndarray:
        rows.append(scores.copy())
        return scores

    ours = Generator(tiny_target, n_ctx=1536, n_threads=1, draft_sources=[])
    theirs = llama_cpp.Llama(
        str(tiny_target), n_ctx=1536, n_threads=1, n_threads_batch=1, verbose=False
    )
    for n_prompt in (1, 5, 511, 512, 513, 1100):
        prompt = [
            int(token) for token in np.random.default_rng(n_prompt).integers(3, 500, n_prompt)
        ]
        rows.clear()
        ours.reset()
        tokens = ours.generate(
            prompt, max_tokens=8, temperature=0, ignore_eos=True, logits_processor=record
        ).tokens
        theirs.reset()
        theirs.eval(prompt)
        for token, row in zip(tokens, rows, strict=True):
            expected = np.ctypeslib.as_array(theirs._ctx.get_logits_ith(-1), shape=(len(row),))
            assert np.array_equal(row, expected)
            theirs.eval([token])


@pytest.mark.parametrize("n_ctx", [16, 64])
def test_short_contexts_are_tested_too(half_precision: Path, n_ctx: int) -> None:
    """In a context shorter than the widest call of the test, other widths are found to differ."""
    found = Generator(half_precision, n_ctx=n_ctx, n_threads=1, exact=True)
    assert "in calls of 2 tokens" in found.exact.reason


def test_a_verdict_on_a_short_context_says_nothing_of_a_longer_one(
    tiny_target: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each length of the context has a verdict of its own."""
    monkeypatch.setenv("ERSD_CACHE", str(tmp_path))
    for n_ctx in (128, 1536):
        Generator(tiny_target, n_ctx=n_ctx, n_threads=1, exact=True)
    assert len(list(tmp_path.glob("*.width.json"))) == 2


@pytest.mark.parametrize("n_prompt", [520, 1100])
def test_long_texts_are_the_same_with_every_draft(
    tiny_target: Path, tiny_draft: Path, n_prompt: int
) -> None:
    """More than 512 cached tokens and two threads change nothing."""
    options = {"n_ctx": 1536, "n_threads": 2, "profile": False}
    plain = Generator(tiny_target, exact=True, **options)
    pair = Drafting(tiny_target, tiny_draft, exact=True, **options)
    prompt = [int(token) for token in np.random.default_rng(n_prompt).integers(3, 500, n_prompt)]
    expected = plain.generate(prompt, max_tokens=24, seed=5, **FULL)
    for strategy in ("sequence", "tree", "adaptive"):
        ours = pair.generate(prompt, max_tokens=24, seed=5, strategy=strategy, **FULL)
        assert ours.tokens == expected.tokens
        assert ours.stats.accepted > 0


@pytest.mark.parametrize("exact", [True, False])
def test_threads_change_no_bit(tiny_target: Path, exact: bool) -> None:
    """Log-probabilities are the same to the bit, as the engine may change threads at any call."""
    prompt = np.random.default_rng(4).integers(3, 500, 700).tolist()
    answers = [
        Generator(tiny_target, n_ctx=1024, n_threads=n, exact=exact).generate(
            prompt, max_tokens=16, seed=2, logprobs=3, **FULL
        )
        for n in (1, 2, 3)
    ]
    assert answers[0].logprobs == answers[1].logprobs == answers[2].logprobs
