"""The experiment: replayed ranks are what the engine does, figures are what their definitions say, and nothing is lost on the way."""

from __future__ import annotations

import csv
import json
import signal
import subprocess
import sys
import time
from dataclasses import replace
from pathlib import Path

import numpy as np
import pytest

from ersd import Generator, theory
from ersd.paper.experiment import (
    METHODS,
    STRATEGIES,
    Experiment,
    Texts,
    ratio,
    replay,
    run,
    strategy_tree,
)

pytestmark = pytest.mark.no_sanitizer

PLAIN = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}


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


def test_replay_by_hand() -> None:
    """A walk goes on while the rank is a child of the node reached, and the last call ends with the text."""
    ranks = [0, 0, 1, 0, 0, 0, 2, 0]
    assert replay(ranks, theory.sequence_shape(2, 2)) == [3, 3, 1, 1]
    assert replay(ranks, theory.sequence_shape(9, 9)) == [3, 4, 1]
    assert replay(ranks, theory.batch_shape(2)) == [2, 2, 2, 1, 1]
    assert replay(ranks, theory.batch_shape(3)) == [2, 2, 2, 2]
    tree = theory.optimal_tree(
        [0.6, 0.3, 0.1], 3
    )  # the first child, its first child, and the second child
    assert sorted(zip(tree.parent, tree.rank, strict=True)) == [(-1, 0), (0, 0), (0, 1), (1, 0)]
    assert replay(ranks, tree) == [3, 3, 1, 1]


@pytest.mark.parametrize("method", ["ersd", "match"])
@pytest.mark.parametrize("strategy", ["simple", "sequence", "batch"])
def test_races_replay_exactly(generator: Generator, method: str, strategy: str) -> None:
    """Target calls of the engine are those that follow from ranks, which belong to the very same tokens."""
    for seed in range(4):
        options = {"max_tokens": 40, "seed": seed, "method": method, **PLAIN}
        positions = list(generator.ranks("the rain", **options))
        for k in (1, 3, 9):
            result = generator.generate(
                "the rain", strategy=strategy, draft_nodes=k, adapt_draft=False, **options
            )
            assert result.tokens == [p.token for p in positions]
            assert result.stats.target_calls == len(
                replay([p.rank for p in positions], strategy_tree(strategy, k, []))
            )


@pytest.mark.parametrize("method", ["gsd", "gsd_iid"])
def test_rejection_replays_in_distribution(generator: Generator, method: str) -> None:
    """Tokens per target call of the engine and of the replay agree within their errors."""
    options = {"max_tokens": 25, "method": method, **PLAIN}
    ranks = [
        [p.rank for p in generator.ranks("the rain", seed=seed, **options)] for seed in range(100)
    ]
    for strategy, k in (("simple", 1), ("sequence", 3), ("batch", 6)):
        calls = [len(replay(r, strategy_tree(strategy, k, []))) for r in ranks]
        stats = [
            generator.generate(
                "the rain", seed=500 + s, strategy=strategy, draft_nodes=k, **options
            ).stats
            for s in range(100)
        ]
        ours, error = ratio([len(r) for r in ranks], calls)
        theirs, other_error = ratio([s.generated for s in stats], [s.target_calls for s in stats])
        assert abs(ours - theirs) < 4 * np.hypot(error, other_error)


def test_ranks_of_a_generator(generator: Generator, tiny_target: Path) -> None:
    """Positions carry the logits on which the race ran; the generator is free again when they are left."""
    for position in generator.ranks("the rain", max_tokens=5, temperature=0.0, seed=1, logits=True):
        assert position.target_logits is not None
        assert position.draft_logits is not None
        assert position.token == position.target_logits.argmax()
        assert (
            position.rank == (position.draft_logits > position.draft_logits[position.token]).sum()
        )
    for i, _ in enumerate(positions := generator.ranks("the rain", max_tokens=None)):
        with pytest.raises(RuntimeError, match="open stream"):
            generator.generate("x", max_tokens=1)
        if i == 3:
            break
    positions.close()  # type: ignore[attr-defined]
    assert generator.generate("the rain", max_tokens=3).tokens
    assert list(generator.ranks("the rain", max_tokens=0)) == []
    for refused in (
        lambda: generator.ranks("x", method="ar"),
        lambda: Generator(tiny_target, n_ctx=64).ranks("x"),
    ):
        with pytest.raises(ValueError, match="need a draft model and a method other than 'ar'"):
            refused()


def texts(ranks: list[list[int]]) -> Texts:
    """Recorded texts of one category."""
    return Texts({"category": "c", "prompt": i, "ranks": r} for i, r in enumerate(ranks))


def test_figures_by_their_definitions() -> None:
    """Ratios against the jackknife, autocorrelation against an autoregressive series, distributions against counts."""
    rng = np.random.default_rng(0)
    a, b = rng.poisson(20, 200).astype(float), rng.poisson(8, 200) + 1.0
    left_out = (a.sum() - a) / (b.sum() - b)
    jackknife = np.sqrt(199 / 200 * ((left_out - left_out.mean()) ** 2).sum())
    assert ratio(a, b) == pytest.approx((a.sum() / b.sum(), jackknife), rel=0.02)
    stays = (
        rng.random(40_000) < 0.6
    )  # each position repeats the last with probability 0.6: correlation 0.6 ** lag
    series = [0]
    for stay, fresh in zip(stays, rng.integers(2, size=40_000), strict=True):
        series.append(series[-1] if stay else int(fresh))
    for lag in (1, 2, 3):
        value, error = texts([series]).autocorrelation(lag)
        assert value == pytest.approx(0.6**lag, abs=4 * error)
    ranks = texts([[0, 0, 0, 1, 3], [0, 2, 2, 2, 300 - 44]])
    assert ranks.counts()[[0, 1, 2, 3, 256]].tolist() == [4, 1, 3, 1, 1]
    assert ranks.rank_distribution()[:5] == pytest.approx(
        [0.4, 0.2, 0.2, 0.1, 0]
    )  # ranks 1 and 2 pooled, as the order asks for


def test_acceptance_by_depth() -> None:
    """Along a chain: of those that get to a depth, the share that goes on; i.i.d. ranks would go on with P(R = 0) everywhere."""
    ranks = texts([[0, 0, 1] * 40, [0, 1] * 40])
    chain = theory.sequence_shape(2, 2)
    depths = list(ranks.acceptance_by_depth([chain, chain]))
    assert [d for d, _, _ in depths] == [1, 2]
    assert [share for _, (share, _), _ in depths] == pytest.approx(
        [1.0, 0.5]
    )  # both texts accept one; only the first a second
    assert [iid for _, _, iid in depths] == pytest.approx([0.6, 0.6])


def test_everything_is_in_the_table_and_the_report(experiment: Experiment, tmp_path: Path) -> None:
    """Each method, strategy, k, temperature and category; pictures that the page shows exist; races equal the engine."""
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
    assert len(pictures) == 8
    for name in pictures:
        assert (out / name).read_bytes().startswith(b"\x89PNG")
    by_race = [r for r in table if r["method"] in ("ersd", "match") and r["strategy"] != "tree"]
    engine = [float(r["value"]) for r in by_race if r["quantity"] == "engine_calls"]
    assert engine == [float(r["value"]) for r in by_race if r["quantity"] == "replayed_calls"]
    assert len(engine) == 2 * 2 * 2 * (1 + 3 + 3)
    # The races' first rank, and the closed form at the positions that were compared, are of one size.
    row = {
        r["quantity"]: float(r["value"])
        for r in table
        if r["method"] == "ersd" and r["category"] == "all" and r["temperature"] == "1"
    }
    assert 0 < row["ersd_acceptance"] <= row["overlap"] < 1


def test_a_stopped_run_goes_on(experiment: Experiment, tmp_path: Path) -> None:
    """Cut within a line, the records are completed to what an uninterrupted run gives; what was there is kept."""
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
    assert (tmp_path / "cut" / "ranks.jsonl").read_text() == "\n".join(
        marked
    )  # nothing was recorded anew
    with pytest.raises(
        ValueError, match="holds another experiment: n = 12 instead of 13; name another folder"
    ):
        run(replace(experiment, n=13), tmp_path / "cut", n_threads=1, n_ctx=256)


def test_ctrl_c_on_the_command_line(experiment: Experiment, tmp_path: Path) -> None:
    """The command says how to go on, exits with 130, and goes on."""
    command = [
        sys.executable,
        "-m",
        "ersd",
        "paper",
        "-m",
        experiment.model,
        "-md",
        experiment.draft,
        "-o",
        tmp_path / "out",
        "-t",
        "1",
    ]
    command += ["--text", *experiment.text, "-n", "60", "-k", "8"]
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
    """Refused before anything is loaded or written."""
    with pytest.raises(ValueError, match=message):
        run(replace(experiment, **changed), tmp_path / "out")
    assert not (tmp_path / "out").exists()
