"""The paper's experiment: its table and report are complete, and a stopped run continues."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import pytest

from ersd.paper.experiment import Experiment
from ersd.paper.run import run
from ersd.ranks import METHODS, STRATEGIES

pytestmark = pytest.mark.no_sanitizer


@pytest.fixture
def experiment(tmp_path: Path, tiny_target: Path, tiny_draft: Path) -> Experiment:
    """Two categories of three short prompts on the tiny pair."""
    for name, words in (("rain", "the rain"), ("snow", "and snow")):
        (tmp_path / f"{name}.txt").write_text(
            "\n---\n".join(f"{words} {i}" for i in range(3)) + "\n"
        )
    texts = (tmp_path / "rain.txt", tmp_path / "snow.txt")
    return Experiment(
        tiny_target, tiny_draft, text=texts, n=12, temperatures=(0.7, 1.0), max_nodes=16
    )


def test_everything_is_in_the_table_and_the_report(experiment: Experiment, tmp_path: Path) -> None:
    """The table has every method, strategy, k, temperature and category. The report has pictures.

    For races the engine makes as many calls as follow from the ranks.
    """
    out = tmp_path / "out"
    run(experiment, out, n_threads=1, n_ctx=256)
    table = list(csv.DictReader((out / "table.csv").open(encoding="utf-8")))
    tokens = [r for r in table if r["quantity"] == "tokens_per_call"]
    assert len(tokens) == len(METHODS) * (1 + 3 * 5) * 2 * 3
    for strategy in STRATEGIES:
        of = {
            (r["method"], r["draft_nodes"], r["temperature"])
            for r in tokens
            if r["strategy"] == strategy and r["category"] == "snow"
        }
        assert len(of) == len(METHODS) * (1 if strategy == "simple" else 5) * 2
    page = (out / "report.md").read_text(encoding="utf-8")
    pictures = [
        line.split("(")[-1].removesuffix(")") for line in page.split("\n") if line.startswith("![")
    ]
    assert len(pictures) == 9
    for name in pictures:
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    by_race = [r for r in table if r["method"] in ("ersd", "match") and r["strategy"] != "tree"]
    engine = [float(r["value"]) for r in by_race if r["quantity"] == "engine_calls"]
    assert engine == [float(r["value"]) for r in by_race if r["quantity"] == "replayed_calls"]
    assert len(engine) == 2 * 2 * 2 * (1 + 3 + 3)
    # Chains: no method gives more than the bound, and longer chains give no less.
    for category in ("all", "rain", "snow"):
        chains = {
            m: [
                float(r["value"])
                for r in table
                if (r["quantity"], r["method"]) == ("expected_chain_tokens", m)
                and (r["category"], r["temperature"]) == (category, "1")
            ]
            for m in ("ersd", "gsd", "block", "joint")
        }
        for values in chains.values():
            assert len(values) == 5
            assert values == sorted(values)
        assert chains["gsd"][0] == pytest.approx(chains["block"][0])
        assert all(1 < a <= b for a, b in zip(chains["block"], chains["joint"], strict=True))
    by_block = [r for r in table if r["method"] == "block" and r["quantity"] == "engine_calls"]
    assert len(by_block) == 2 * 2 * 3
    # ERSD's first acceptance is at most 1 - TV, which is that of rejection sampling.
    row = {
        r["quantity"]: float(r["value"])
        for r in table
        if r["method"] == "ersd" and r["category"] == "all" and r["temperature"] == "1"
    }
    assert 0 < row["ersd_acceptance"] <= row["overlap"] < 1


def test_a_stopped_run_goes_on(experiment: Experiment, tmp_path: Path) -> None:
    """A run that was stopped within a line ends with the records of an uninterrupted run."""
    experiment = replace(experiment, temperatures=(1.0,))
    run(experiment, tmp_path / "whole", n_threads=1, n_ctx=256)
    whole = (tmp_path / "whole" / "ranks.jsonl").read_text()
    for name, kept in (("cut", len(whole) // 2), ("empty", 0), ("begun", whole.index("\n") + 1)):
        (tmp_path / name).mkdir()
        (tmp_path / name / "ranks.jsonl").write_text(whole[:kept])
        run(experiment, tmp_path / name, n_threads=1, n_ctx=256)
        assert (tmp_path / name / "ranks.jsonl").read_text() == whole
        assert (tmp_path / name / "table.csv").read_text() == (
            tmp_path / "whole" / "table.csv"
        ).read_text()
    marked = whole.split("\n")
    marked[1] = json.dumps(json.loads(marked[1]) | {"ranks": [7] * 12})
    (tmp_path / "cut" / "ranks.jsonl").write_text("\n".join(marked))
    run(experiment, tmp_path / "cut", n_threads=1, n_ctx=256)
    # What was recorded before is kept as it is, even if it is wrong.
    assert (tmp_path / "cut" / "ranks.jsonl").read_text() == "\n".join(marked)
    with pytest.raises(
        ValueError, match="holds another experiment: n = 12 instead of 13; name another folder"
    ):
        run(replace(experiment, n=13), tmp_path / "cut", n_threads=1, n_ctx=256)


def test_ctrl_c_on_the_command_line(experiment: Experiment, tmp_path: Path) -> None:
    """The command says how to continue and exits with 130. Given again, it continues."""
    program = [sys.executable, "-m", "ersd", "paper", "-t", "1", "-n", "60", "-k", "8"]
    models = ["-m", experiment.model, "-md", experiment.draft]
    command = [*program, *models, "-o", tmp_path / "out", "--text", *experiment.text]
    process = subprocess.Popen(list(map(str, command)), stderr=subprocess.PIPE, text=True)
    records = tmp_path / "out" / "ranks.jsonl"
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline and not (
        records.exists() and records.read_text().count("\n") > 3
    ):
        time.sleep(0.02)
    process.send_signal(signal.SIGINT)
    _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert "the same command goes on from here" in errors
    before = records.read_text()
    done = subprocess.run(
        list(map(str, command)), capture_output=True, text=True, timeout=300, check=True
    )
    assert "report.md" in done.stderr
    assert records.read_text().startswith(before[: before.rindex("\n")])


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"text": ()}, "no prompts"),
        ({"temperatures": (0.0,)}, "temperatures must be above 0"),
        ({"max_nodes": 300}, "max_nodes must be between 1 and 256, got 300"),
        ({"n": 0}, "n must be at least 1, got 0"),
        ({"n_prompts": 0}, "n_prompts must be at least 1, got 0"),
    ],
)
def test_bad_experiments(
    experiment: Experiment, tmp_path: Path, changed: dict[str, object], message: str
) -> None:
    """Wrong settings are refused before anything is loaded or written."""
    with pytest.raises(ValueError, match=message):
        run(replace(experiment, **changed), tmp_path / "out")
    assert not (tmp_path / "out").exists()
