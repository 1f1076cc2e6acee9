"""Texts to draft from on the command line, as a user runs it: in a process of its own."""

from __future__ import annotations

import json
import shlex
from pathlib import Path

import pytest

from ersd import Generator
from test_cli import SAMPLING, ersd


@pytest.mark.parametrize(
    ("flags", "source"),
    [
        (["--prediction", "TEXT"], "prediction"),
        (["--prediction-file", "answer"], "prediction"),
        (["--reference", "answer"], "history"),
        (["--reference", "answer"], None),
    ],
    ids=["prediction", "file", "reference", "none"],
)
def test_texts_to_draft_from(
    tiny_target: Path, generator: Generator, tmp_path: Path, flags: list[str], source: str | None
) -> None:
    """An answer that is known before takes fewer calls, and its tokens come from that source."""
    options = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0, "seed": 5}
    expected = generator.generate("the rain", max_tokens=40, **options)
    text = expected.text  # its tokens are others in most places, since the model is random
    (tmp_path / "answer").write_text(text, encoding="utf-8")
    words = ["generate", "the rain", "-m", tiny_target, *SAMPLING]
    words += shlex.split("-n 40 -s 5 -t 1 -k 8 --json --draft-sources")
    run = ersd(*words, source or "none", *(text if w == "TEXT" else w for w in flags), cwd=tmp_path)
    answer = json.loads(run.stdout)
    assert answer["text"] == expected.text
    stats = answer["stats"]
    assert stats["accepted_by"].keys() == ({source} if source else set())
    assert (stats["target_calls"] < 40) == bool(source)
