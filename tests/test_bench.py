"""ersd-bench: its rows, formats, sweeps and check that tokens are equal."""

from __future__ import annotations

import csv
import io
import json
import subprocess
from pathlib import Path

import pytest

from ersd import _core, models

pytestmark = pytest.mark.no_sanitizer

PROGRAM = Path(_core.__file__).parent / "bin" / "ersd-bench"
PROMPTS = Path(__file__).parent.parent / "bench" / "prompts"
KEYS = {
    "build_commit", "model_filename", "model_type", "model_size", "model_n_params",
    "n_threads", "n_gpu_layers", "n_gen", "test_time",
    "method", "strategy", "sources", "draft_nodes", "temperature", "identical",
    "tokens_per_call", "avg_ts", "stddev_ts", "ratio_to_ar",
    "target_ms", "draft_ms", "race_ms", "rest_ms",
}  # fmt: skip


def bench(*args: object) -> subprocess.CompletedProcess[str]:
    """Runs the program."""
    return subprocess.run(
        [PROGRAM, *map(str, args)], capture_output=True, text=True, encoding="utf-8", timeout=300
    )


@pytest.fixture
def pair(tiny_target: Path, tiny_draft: Path) -> list[object]:
    """The arguments that name the tiny pair."""
    return ["-m", tiny_target, "-md", tiny_draft, "-t", 1, "-c", 512, "-n", 24, "-r", 2]


def test_a_sweep_has_a_row_each(pair: list[object]) -> None:
    """Every combination has a row, and ar has one for each temperature. All tokens are equal."""
    run = bench(
        *pair,
        "--temp",
        "0.6,1.0",
        "--strategy",
        "simple,sequence,batch,tree",
        "-k",
        "2,8",
        "-o",
        "json",
    )
    assert run.returncode == 0, run.stderr
    rows = json.loads(run.stdout)
    assert len(rows) == 2 * (1 + 4 * 2)
    assert all(set(row) >= KEYS for row in rows)
    assert all(row["identical"] for row in rows)
    assert "same tokens as ar: every configuration of races, 1 prompts" in run.stderr
    for row in rows:
        if row["method"] == "ar":
            assert (
                row["tokens_per_call"],
                row["ratio_to_ar"],
                row["draft_ms"],
                row["draft_nodes"],
            ) == (1, 1, 0, 0)
        else:
            assert row["tokens_per_call"] > 1
            assert row["draft_ms"] > 0
        assert min(row["avg_ts"], row["target_ms"], row["race_ms"], row["rest_ms"]) > 0


def test_every_method_runs_every_strategy(pair: list[object]) -> None:
    """Races report equal tokens. Rejection sampling gives another text and reports nothing."""
    sweep = [
        *pair,
        "--method",
        "ar,ersd,gsd,gsd_iid,match,block",
        "--strategy",
        "simple,sequence,batch,tree,adaptive",
        "-k",
        "5",
        "-r",
        1,
    ]
    runs = {kind: bench(*sweep, "-o", kind) for kind in ("json", "md")}
    assert all(run.returncode == 0 for run in runs.values()), runs
    rows = json.loads(runs["json"].stdout)
    assert {(row["method"], row["strategy"]) for row in rows[1:]} == {
        (m, s)
        for m in ("ersd", "gsd", "gsd_iid", "match")
        for s in ("simple", "sequence", "batch", "tree", "adaptive")
        if s != "adaptive" or not m.startswith("gsd")
    } | {("block", "sequence")}
    for row in rows:
        races = row["method"] in ("ar", "ersd", "match")
        assert row["identical"] is (True if races else None)
    assert [line.split("|")[6].strip() for line in runs["md"].stdout.splitlines()[2:]] == [
        "true"
    ] * 6 + ["-"] * 8 + ["true"] * 5 + ["-"]


def test_sources_are_swept(pair: list[object]) -> None:
    """Each set of sources has a row, and accepted tokens are told for each source."""
    sets = ["none", "lookup", "model", "lookup+model"]
    run = bench(*pair, "-p", "the of the of the", "--sources", ",".join(sets), "-o", "jsonl")
    assert run.returncode == 0, run.stderr
    plain, *rows = map(json.loads, run.stdout.splitlines())
    assert [row["sources"] for row in rows] == sets
    assert plain["sources"] == "-"
    for row in rows:
        accepted = {name for name in ("lookup", "history", "model") if row[f"accepted_{name}"]}
        assert accepted <= set(row["sources"].split("+"))
        assert bool(row["draft_filename"]) == ("model" in row["sources"])
        assert (row["drafted_per_call"] > 0) == (row["sources"] != "none")
    assert rows[-1]["accepted_model"] > 0
    alone = [word for word in pair if word not in pair[2:4]]
    without = bench(*alone, "--sources", "lookup", "-o", "jsonl")
    assert without.returncode == 0, without.stderr
    assert [json.loads(line)["sources"] for line in without.stdout.splitlines()] == ["-", "lookup"]


def test_formats_agree(pair: list[object], tmp_path: Path) -> None:
    """CSV, JSON lines and Markdown hold the same rows. Prompts may come from files."""
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("the rain\nof the\n---\nand\n")
    runs = {
        kind: bench(*pair, "-f", prompts, "-p", "a", "-o", kind) for kind in ("csv", "jsonl", "md")
    }
    assert all(run.returncode == 0 for run in runs.values())
    table = list(csv.DictReader(io.StringIO(runs["csv"].stdout)))
    lines = [json.loads(line) for line in runs["jsonl"].stdout.splitlines()]
    cells = [
        [cell.strip() for cell in line.strip("|").split("|")]
        for line in runs["md"].stdout.splitlines()
    ]
    assert len(table) == len(lines) == len(cells) - 2 == 2
    assert lines[0]["n_prompts"] == 3
    assert cells[0][:5] == ["method", "strategy", "sources", "draft_nodes", "temperature"]
    for row, line, cell in zip(table, lines, cells[2:], strict=True):
        assert list(row) == list(line)
        names = ["method", "strategy", "sources", "draft_nodes"]
        assert [row[name] for name in names] == cell[:4]
        assert [str(line[name]) for name in names] == cell[:4]


def test_a_difference_would_be_reported(target: Path) -> None:
    """The check reports texts that differ.

    Without flash attention, llama.cpp's last bits depend on the number of tokens in a call.
    """
    prompt = (PROMPTS / "prose.txt").read_text()[:600]
    run = bench(
        "-m",
        target,
        "-md",
        models.twin(),
        "-n",
        100,
        "-r",
        1,
        "-k",
        8,
        "-fa",
        0,
        "-p",
        prompt,
        "-o",
        "json",
    )
    rows = json.loads(run.stdout)
    assert run.returncode == 1
    assert [row["identical"] for row in rows] == [True, False]
    assert "NOT the same tokens as ar: 1 of 2 answers differ" in run.stderr


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["-m", "absent.gguf", "--method", "ar"], "no such model file: 'absent.gguf'"),
        (["-k", "3"], "-m is needed"),
        (["-m", "x", "--method", "ersd"], "--method ersd needs a draft: -md"),
        (["-m", "x", "-k", "three"], "-k must be a number, got 'three'"),
        (
            ["-m", "x", "--sources", "lookup+magic"],
            "draft_sources must be one of 'lookup', 'history', 'prediction', 'grammar', 'model'",
        ),
        (["-m", "x", "-q"], "unknown option '-q'"),
        (["-m"], "-m needs a value"),
        (["-m", "x", "-f", "absent.txt"], "-f: cannot read 'absent.txt'"),
        (["-m", "x", "-o", "xml"], "-o must be one of md, csv, json, jsonl, got 'xml'"),
        (
            ["-m", "x", "--method", "magic"],
            "method must be one of 'ersd', 'ar', 'gsd', 'gsd_iid', 'match', 'block', got 'magic'",
        ),
    ],
    ids=str,
)
def test_bad_arguments(arguments: list[str], message: str) -> None:
    """The program writes one sentence to stderr and ends with status 2."""
    run = bench(*arguments)
    assert (run.returncode, run.stdout) == (2, "")
    assert run.stderr.startswith("ersd-bench: " + message)
