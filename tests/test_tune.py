"""Tuning finds what the engine then uses, and its results are kept."""

from __future__ import annotations

from itertools import pairwise
from pathlib import Path

import numpy as np
import pytest

from ersd import Generator, tune
from ersd.engine import COST_WIDTHS
from test_cli import ersd

TEXTS = ["the rain", "of the", "and a river", "what is"]


def pair(target: Path, draft: Path | None, **options: object) -> Generator:
    """Returns the tiny pair on one thread."""
    return Generator(target, draft, **({"n_ctx": 512, "n_threads": 1, "profile": False} | options))


def test_it_teaches_forecasts_and_measures(tiny_target: Path, tiny_draft: Path) -> None:
    """Forecasts follow from learnt ranks and costs, and the first is for plain calls.

    The first, third, ... texts teach.
    """
    generator = pair(tiny_target, tiny_draft)
    generator.generate("something else", max_tokens=200, draft_nodes=8)
    tuning = tune.tune(generator, TEXTS, max_tokens=50, temperature=1.0)
    plain, *others = tuning.forecasts
    assert (plain.draft_nodes, plain.tokens_per_call) == (0, 1)
    assert plain.ms_per_call == pytest.approx(
        tuning.target_ms[0][0], rel=0.5
    )  # calls since then changed it
    assert [f.draft_nodes for f in others] == [*range(1, 17), 20, 24, 32, 48]
    assert all(a.tokens_per_call < b.tokens_per_call for a, b in pairwise(others))
    assert min(tuning.plain, tuning.auto) > 0
    assert tuning.best == max(tuning.forecasts, key=lambda f: f.tokens_per_call / f.ms_per_call)

    reference = pair(tiny_target, tiny_draft)
    histograms = [
        reference.generate(
            text, max_tokens=50, temperature=1.0, seed=1, draft_nodes=16
        ).stats.rank_histogram
        for text in TEXTS[::2]
    ]
    assert tuning.first_acceptance == histograms[1][0] / sum(histograms[1])
    expected = pair(tiny_target, tiny_draft)
    for text in TEXTS[::2]:
        expected.generate(text, max_tokens=50, temperature=1.0, seed=1, draft_nodes=16)
    assert tuning.coefficients == expected.profile().margin_coefficients
    assert tuning.n_corrections == len(expected.profile().correction_token)


def test_the_report_and_the_picture(tiny_target: Path, tiny_draft: Path, tmp_path: Path) -> None:
    """The command line reports every width and every k.

    It also writes a picture, and a profile that a Generator can load.
    """
    (tmp_path / "texts.txt").write_text("\n---\n".join(TEXTS))
    picture, profile = tmp_path / "tune.png", tmp_path / "pair.npz"
    common = [
        "tune",
        "-m",
        tiny_target,
        "-md",
        tiny_draft,
        "-f",
        tmp_path / "texts.txt",
        "-n",
        30,
        "-t",
        1,
    ]
    run = ersd(*common, "--plot", picture, "--save", profile)
    assert (run.returncode, run.stderr.splitlines()[-1]) == (0, f"ersd: {profile}")
    rows = [
        line.split(" | ")[0]
        for line in run.stdout.splitlines()
        if line.startswith("| ") and line[2].isdigit()
    ]
    assert rows == [f"| {n}" for n in [*COST_WIDTHS, *range(17), 20, 24, 32, 48]]
    assert "Measured: " in run.stdout
    assert picture.read_bytes().startswith(b"\x89PNG")
    taught = pair(tiny_target, tiny_draft, profile=profile)
    assert taught.profile().has_costs
    assert len(taught.profile().correction_token) > 100


def test_kept_for_every_later_use(
    tiny_target: Path, tiny_draft: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """--save without a file writes to the cache folder.

    A Generator that is loaded with the same options reads it there.
    """
    monkeypatch.setenv("ERSD_CACHE", str(tmp_path))
    run = ersd("tune", "-m", tiny_target, "-md", tiny_draft, "-n", 30, "-t", 1, "--save")
    (path,) = tmp_path.glob("*.npz")
    assert run.stderr.splitlines()[-1] == f"ersd: {path}"
    with np.load(path) as file:
        assert (
            pair(tiny_target, tiny_draft, profile=True).profile().target_ms
            == file["target_ms"].tolist()
        )


def test_what_cannot_be_tuned(
    tiny_target: Path, tiny_draft: Path, generator: Generator, tmp_path: Path
) -> None:
    """Refused are a missing draft, one text, an option out of range and a missing file."""
    with pytest.raises(ValueError, match="needs a draft model"):
        tune.tune(pair(tiny_target, None), TEXTS)
    with pytest.raises(ValueError, match="at least 2 prompts, got 1"):
        tune.tune(generator, TEXTS[:1])
    with pytest.raises(ValueError, match="temperature must be"):
        tune.tune(pair(tiny_target, tiny_draft), TEXTS, temperature=-1.0)
    for args, message in (
        (["-m", tiny_target], "needs a draft model"),
        (["-m", tiny_target, "-md", tiny_draft, "-f", tmp_path / "none.txt"], "none.txt"),
    ):
        run = ersd("tune", *args, "-t", 1)
        assert (run.returncode, run.stdout) == (1, "")
        assert message in run.stderr
