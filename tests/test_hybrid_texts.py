"""Drafts from texts and grammars on recurrent and hybrid models."""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import pytest

import tiny_hybrid
from ersd import Generator
from hybrid_pairs import FULL, LONG, Pair


@pytest.fixture(scope="module")
def pairs(folder: Path) -> Any:
    """The pair of an architecture, by its name."""
    return cache(lambda arch: Pair(folder, arch))


@pytest.fixture(params=tiny_hybrid.ARCHS)
def models(request: pytest.FixtureRequest, pairs: Any) -> Pair:
    """The pair of each architecture."""
    return pairs(request.param)


def drafting_from(models: Pair, source: str, seed: int) -> tuple[Any, dict[str, Any]]:
    """A prompt, and the options of a generation in which one source of texts has guesses.

    They are often right: what follows is the text of plain sampling with every sixth token wrong.
    The prompt for lookup has it, the grammar allows few texts.
    """
    options: dict[str, Any] = {"max_tokens": 36, "seed": seed, "temperature": 0.7, **FULL}
    if source == "grammar":
        regex = r"( (yes|no|perhaps), I (do|do not) (see|hear) the (rain|snow)\.){2}"
        return LONG, options | {"regex": regex, "max_tokens": 60}
    text = models.plain(LONG, **options)
    guess = [300 if i % 6 == 5 else token for i, token in enumerate(text)]
    if source == "prediction":
        return LONG, options | {"prediction": guess}
    if source == "history":
        return LONG, options | {"references": [[*LONG[-9:], *guess]]}
    options["temperature"] = 0.0  # such a text repeats itself
    text = models.plain(LONG, **options)
    return [*LONG, *text, *LONG[1:]], options


@pytest.mark.parametrize("source", ["lookup", "history", "prediction", "grammar"])
def test_drafts_from_texts(models: Pair, source: str) -> None:
    """Every source makes chains, for every k, and the text is that of plain sampling."""
    prompt, options = drafting_from(models, source, seed=7)
    expected = models.plain(prompt, **options)
    alone, n_accepted, n_drafted = models.alone, 0, 0
    for k in range(1, 17):
        result = alone.generate(prompt, draft_nodes=k, draft_sources=[source], **options)
        assert result.tokens == expected
        assert result.stats.strategy == "sequence"
        assert result.stats.cached_tokens in (0, len(prompt) - 1)
        n_accepted += result.stats.accepted
        n_drafted += result.stats.drafted
        if k % 5 == 0:
            end_early(alone, prompt, {"draft_nodes": k, "draft_sources": [source], **options})
    assert n_drafted > 0
    assert n_accepted > 0
    if source == "prediction":  # the history has earlier answers, too
        assert n_accepted < n_drafted
    mixed = models.pair.generate(prompt, draft_nodes=8, **options)  # the model drafts, too
    assert mixed.tokens == expected


def end_early(generator: Generator, prompt: list[int], options: dict[str, Any]) -> None:
    """Ends a text by a stop string, and another one by closing its stream."""
    whole = generator.generate(prompt, **options)
    stop = re.findall(r"[a-z]{2}", whole.text)[-1]
    stopped = generator.generate(prompt, stop=[stop], **options)
    assert stopped.finish_reason == "stop"
    assert stopped.text == whole.text[: whole.text.index(stop)]
    stream = generator.stream(prompt, **options)
    next(stream)
    stream.close()


@pytest.mark.parametrize("arch", ["lfm2", "mamba2", "granitehybrid"])
def test_drafts_from_texts_in_a_full_context(pairs: Any, arch: str) -> None:
    """After a shift, texts are drafted from as before."""
    models = pairs(arch)
    options: dict[str, Any] = {"n_ctx": 96, "n_threads": 1, "n_parallel": 1, "exact": True}
    shifting = Generator(models.path, context_shift=True, **options)
    given = {"max_tokens": 150, "seed": 2, **FULL}
    expected = shifting.generate(LONG[:40], method="ar", **given).tokens
    assert len(expected) == 150
    guess = [300 if i % 6 == 5 else token for i, token in enumerate(expected)]
    for k in (2, 9):
        result = shifting.generate(LONG[:40], draft_nodes=k, prediction=guess, **given)
        assert result.tokens == expected
        assert 0 < result.stats.accepted < result.stats.drafted
