"""generate_batch: order, seeds, errors, and how much of it is under way."""

from __future__ import annotations

import signal
import weakref
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from conftest import ctrl_c
from ersd import Generator
from ersd.engine import batch, engine

N_PARALLEL = 3
OPTIONS: dict[str, Any] = {"max_tokens": 12, "draft_nodes": 4, "top_k": 0, "top_p": 1.0}
PROMPTS = ["the", "a rain", [1, 300], "of the " * 20, "in"] * 5


@pytest.fixture(scope="module")
def pair(tiny_target: Path, tiny_draft: Path) -> Generator:
    """A Generator that runs three prompts at once."""
    options = {"n_ctx": 256, "n_ctx_total": 1024, "n_parallel": N_PARALLEL, "n_threads": 1}
    return Generator(tiny_target, tiny_draft, exact=True, **options)


def check_idle(pair: Generator) -> None:
    """Checks that nothing is under way any more."""
    pair.generate("a", max_tokens=1, draft_nodes=1)  # cancelled ones leave before a step
    assert (pair._core.n_active, pair._core.n_waiting) == (0, 0)


def test_results_are_in_order_and_those_of_the_prompts_alone(pair: Generator) -> None:
    """Prompt i has the seed that follows the one of prompt i - 1."""
    results = pair.generate_batch(PROMPTS, seed=40, **OPTIONS)
    alone = [pair.generate(each, seed=40 + i, **OPTIONS) for i, each in enumerate(PROMPTS)]
    assert [each.seed for each in results] == list(range(40, 40 + len(PROMPTS)))
    assert [each.text for each in results] == [each.text for each in alone]
    assert [each.tokens for each in results] == [each.tokens for each in alone]
    assert {each.finish_reason for each in results} == {"length"}
    assert all(each.stats.generated == 12 for each in results)
    assert pair.generate_batch([], **OPTIONS) == []
    check_idle(pair)


def test_seeds(pair: Generator) -> None:
    """None draws one for each prompt, and a sequence holds them."""
    fresh = pair.generate_batch(["the"] * 6, **OPTIONS)
    assert len({each.seed for each in fresh}) == len({each.text for each in fresh}) == 6
    seeds = [each.seed for each in fresh]
    again = pair.generate_batch(["the"] * 6, seed=seeds, **OPTIONS)
    assert [each.tokens for each in again] == [each.tokens for each in fresh]
    with pytest.raises(ValueError, match="seed must have one for each of 2 prompts, got 3"):
        pair.generate_batch(["a", "b"], seed=[1, 2, 3])
    with pytest.raises(ValueError, match=r"seed must be between 0 and 2\*\*64 - 1"):
        pair.generate_batch(["a", "b"], seed=(1 << 64) - 1)
    with pytest.raises(TypeError, match=r"seed must be an int or None, got 1\.5"):
        pair.generate_batch(["a"], seed=1.5)  # type: ignore[call-overload]


def test_few_prompts_are_under_way(pair: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """Memory does not grow with the number of prompts."""
    live: weakref.WeakSet[batch.BatchItem] = weakref.WeakSet()
    most = 0

    class Counted(batch.BatchItem):
        def __init__(self, *args: Any) -> None:
            nonlocal most
            super().__init__(*args)
            live.add(self)
            most = max(most, len(live))

    monkeypatch.setattr(engine, "BatchItem", Counted)
    assert len(pair.generate_batch(["the"] * 60, seed=0, **OPTIONS | {"max_tokens": 2})) == 60
    assert N_PARALLEL < most <= batch.WINDOW * N_PARALLEL


def test_bad_prompts_and_options_are_refused_before_anything_runs(pair: Generator) -> None:
    """A text in place of prompts is a mistake, too."""
    ran: list[int] = []

    def note(ids: np.ndarray, scores: np.ndarray) -> np.ndarray:
        ran.append(len(ids))
        return scores

    for prompts, options, kind, message in (
        (["the", []], {}, ValueError, "the prompt is empty"),
        (["the", [999]], {}, ValueError, "between 0 and 514, got 999"),
        (["the"], {"temperature": -1}, ValueError, "temperature must be"),
        (["the"], {"tok_k": 7}, TypeError, "there is no option 'tok_k', did you mean 'top_k'"),
        ("the", {}, TypeError, "prompts must be a sequence of prompts, got the text 'the'"),
    ):
        with pytest.raises(kind, match=message):
            pair.generate_batch(prompts, logits_processor=note, **options)
    assert not ran


def test_the_first_error_ends_the_batch(pair: Generator) -> None:
    """All others are cancelled."""

    def fail(ids: np.ndarray, scores: np.ndarray) -> np.ndarray:
        if ids[1] == 300 and len(ids) > 6:
            raise LookupError("mine")
        return scores

    with pytest.raises(LookupError, match="mine"):
        pair.generate_batch(PROMPTS, logits_processor=fail, **OPTIONS)
    check_idle(pair)


def test_errors_in_place_of_results(pair: Generator) -> None:
    """With return_exceptions the other prompts get their answers."""

    def fail(ids: np.ndarray, scores: np.ndarray) -> np.ndarray:
        if ids[1] == 300 and len(ids) > 6:
            raise LookupError("mine")
        return scores

    results = pair.generate_batch(
        [*PROMPTS[:5], []], seed=1, return_exceptions=True, logits_processor=fail, **OPTIONS
    )
    assert isinstance(results[2], LookupError)
    assert isinstance(results[5], ValueError)
    for i in (0, 1, 3, 4):
        alone = pair.generate(PROMPTS[i], seed=1 + i, **OPTIONS)
        assert results[i].tokens == alone.tokens  # type: ignore[union-attr]
    check_idle(pair)


def test_requests_with_options_of_their_own(pair: Generator) -> None:
    """They are taken as places become free, and end with their results or errors."""
    taken = 0
    asked: list[tuple[Any, Any]] = [
        ("the", {"max_tokens": i % 4 + 1, "seed": i, "draft_nodes": i % 3 + 1}) for i in range(30)
    ]
    asked[3] = ("the", {"max_tokens": -5})
    asked[4] = ("the", {"unknown": 1})

    def requests() -> Iterator[tuple[Any, Any]]:
        nonlocal taken
        for each in asked:
            taken += 1
            yield each

    results = pair.generate_requests(requests())
    assert taken == 0
    found = dict([next(results)])
    assert taken <= batch.WINDOW * N_PARALLEL
    found |= dict(results)
    assert sorted(found) == list(range(30))
    assert (type(found.pop(3)), type(found.pop(4))) == (ValueError, TypeError)
    for i, result in found.items():
        assert result == replace(pair.generate("the", **asked[i][1]), stats=result.stats)
    results = pair.generate_requests(requests())
    next(results)
    results.close()
    check_idle(pair)


def test_progress(pair: Generator, capfd: pytest.CaptureFixture[str]) -> None:
    """Stderr shows how many answers are finished, if asked for."""
    pair.generate_batch(["the"] * 4, **OPTIONS)
    assert not capfd.readouterr().err
    pair.generate_batch(["the"] * 4, progress=True, **OPTIONS)
    assert "ersd generate_batch: 4/4" in capfd.readouterr().err


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs POSIX timers")
def test_ctrl_c_ends_the_batch(pair: Generator) -> None:
    """The Generator stays usable."""
    options = OPTIONS | {"max_tokens": 200}
    assert ctrl_c(0.2, pair.generate_batch, ["the"] * 10_000, **options)
    check_idle(pair)
