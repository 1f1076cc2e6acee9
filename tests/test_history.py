"""The history: what earlier requests said and read, and who may draft from it."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ersd import Generator
from test_draft_sources import LOADING, force

RNG = np.random.default_rng(0)
FIRST, ANSWER, SECOND, OTHER = (RNG.integers(3, 500, n).tolist() for n in (20, 40, 20, 40))
PREDICTION_ERRORS: list[tuple[dict[str, Any], type[Exception], str]] = [
    (
        {"draft_sources": ["lookup", "ngram"]},
        ValueError,
        "draft_sources must be of 'lookup', 'history', 'prediction', 'grammar', 'model', "
        "got 'ngram'",
    ),
    ({"draft_sources": "lookup"}, TypeError, "draft_sources must be a sequence of names, got 'lo"),
    ({"draft_sources": 3}, TypeError, "draft_sources must be a sequence of names, got 3"),
    ({"prediction": 3}, TypeError, "prediction must be a text or tokens, got 3"),
    ({"prediction": [1, "a"]}, TypeError, r"prediction must be a text or tokens, got \[1, 'a'\]"),
    ({"prediction": [5, True]}, TypeError, "prediction must be a text or tokens, got True"),
    ({"prediction": b"a"}, TypeError, "prediction must be a text or tokens, got b'a'"),
    ({"prediction": [1 << 40]}, ValueError, "prediction must have token ids of 32 bits, got 1099"),
    ({"prediction": "a\ud800"}, ValueError, "prediction must be text that UTF-8 can write"),
    ({"prediction": {"type": "text"}}, TypeError, r"prediction must be a text, tokens or \{\"type"),
    ({"prediction": {"type": "content", "content": 3}}, TypeError, "prediction must be a text, to"),
    ({"prediction": [1, 9999]}, ValueError, "prediction must be between 0 and 514, got 9999"),
    ({"references": "a text"}, TypeError, "references must be a sequence of texts, got 'a text'"),
    ({"references": [3]}, TypeError, "references must be a text or tokens, got 3"),
    ({"references": [[5.0]]}, TypeError, "references must be a text or tokens, got 5.0"),
    ({"references": [[-1]]}, ValueError, "references must be between 0 and 514, got -1"),
]


def generator(tiny_target: Path, **options: Any) -> Generator:
    """Returns a Generator without a draft model."""
    return Generator(tiny_target, **LOADING | options)


def history(of: Generator) -> list[int]:
    """Returns the tokens of the history."""
    return list(of._core.history())


def test_later_requests_repeat_earlier_ones(tiny_target: Path) -> None:
    """What was read and said is drafted when it comes again, until it is forgotten."""
    ours = generator(tiny_target)
    alone = force(ours, FIRST, ANSWER).stats
    assert history(ours) == [*FIRST, *ANSWER]
    again = force(ours, SECOND, [*ANSWER, *FIRST]).stats
    assert again.accepted_by["history"] > 40
    assert again.target_calls < alone.target_calls
    assert history(ours) == [*FIRST, *ANSWER, -1, *SECOND, *ANSWER, *FIRST]
    ours.forget()
    assert history(ours) == []
    assert "history" not in force(ours, SECOND, ANSWER).stats.drafted_by


def test_who_sees_the_history(tiny_target: Path) -> None:
    """Neither other Generators nor requests that do not name it; these leave nothing in it."""
    ours, other = generator(tiny_target), generator(tiny_target)
    without = ["lookup", "prediction", "grammar", "model"]
    force(ours, FIRST, ANSWER, draft_sources=without)
    assert history(ours) == []
    force(ours, FIRST, ANSWER)
    n = len(history(ours))
    assert "history" not in force(ours, SECOND, ANSWER, draft_sources=without).stats.drafted_by
    assert len(history(ours)) == n
    assert "history" not in force(other, SECOND, ANSWER).stats.drafted_by
    assert "history" in force(ours, SECOND, ANSWER).stats.accepted_by
    private = generator(tiny_target, draft_sources=without)
    for _ in range(2):
        assert "history" not in force(private, FIRST, ANSWER).stats.drafted_by
    assert history(private) == []


def test_references(tiny_target: Path) -> None:
    """They count as history, for one request."""
    ours = generator(tiny_target)
    stats = force(ours, FIRST, ANSWER, references=[SECOND, [9, *ANSWER]]).stats
    assert stats.accepted_by["history"] > 20
    text = ours.detokenize(ANSWER)
    given = force(ours, SECOND, ours.tokenize(text, add_special=False), references=[text])
    assert given.stats.accepted > 20
    ours.forget()
    assert "history" not in force(ours, FIRST, ANSWER).stats.drafted_by


@pytest.mark.parametrize("n_history", [0, 400, 1000])
def test_the_oldest_goes_first(tiny_target: Path, n_history: int) -> None:
    """The history has at most n_history tokens, and at least three quarters of them once full."""
    ours, rng, said = generator(tiny_target, n_history=n_history), np.random.default_rng(1), []
    for _ in range(30):
        prompt, answer = rng.integers(3, 500, 45).tolist(), rng.integers(3, 500, 5).tolist()
        force(ours, prompt, answer)
        said += [-1, *prompt, *answer]
        kept = history(ours)
        assert len(kept) <= n_history
        assert kept == said[len(said) - len(kept) :]
    assert len(kept) >= 0.75 * n_history


def test_a_text_that_is_read_twice_is_kept_once(tiny_target: Path) -> None:
    """A conversation that goes on adds what is new to the history, and not all of it again."""
    ours, tokens = generator(tiny_target), list(FIRST)
    for _ in range(4):
        force(ours, tokens, ANSWER[:10])
        tokens += [*ANSWER[:10], *SECOND]
    assert len(history(ours)) < len(tokens) + 10


@pytest.mark.parametrize(("options", "error", "message"), PREDICTION_ERRORS)
def test_wrong_values(
    tiny_target: Path, options: dict[str, Any], error: type[Exception], message: str
) -> None:
    """One sentence says which option must be what, and which value came."""
    ours = generator(tiny_target)
    with pytest.raises(error, match=message):
        ours.generate("the", max_tokens=2, **options)
    if "draft_sources" in options:
        with pytest.raises(error, match=message):
            generator(tiny_target, **options)
    with pytest.raises(ValueError, match="n_history must be at least 0, got -1"):
        generator(tiny_target, n_history=-1)
