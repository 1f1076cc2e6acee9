"""Datasets of Ray: the same table with one actor, two, one that dies, and without Ray."""

from __future__ import annotations

import json
import os
import signal
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray", reason="Ray is not installed")
import pyarrow
import ray
import ray.data

from ersd.commands.main import main
from ersd.ray import GeneratorUDF
from serving import load_tiny

pytestmark = [pytest.mark.no_sanitizer, pytest.mark.ray]

N_ROWS = 60
KEPT = ["id", "text", "finish_reason", "tokens", "seed", "error"]


@pytest.fixture(scope="module", autouse=True)
def cluster() -> Iterator[None]:
    """A cluster on this machine that takes little memory."""
    ray.init(
        "local",
        num_cpus=2,
        object_store_memory=200 << 20,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="warning",
    )
    # Actors do not find this file, so Mortal is sent to them whole.
    ray.cloudpickle.register_pickle_by_value(sys.modules[__name__])
    ray.data.DataContext.get_current().enable_progress_bars = False
    yield
    ray.shutdown()


@pytest.fixture(scope="module")
def rows() -> list[dict[str, Any]]:
    """Rows with options of their own, of which one cannot be answered."""
    rows = [
        {"id": f"row {i}", "prompt": "the " * (i % 6 + 1), "max_tokens": i % 40 + 1}
        for i in range(N_ROWS)
    ]
    rows[7]["max_tokens"] = -5
    return rows


@pytest.fixture(scope="module")
def options(folder: Path) -> dict[str, Any]:
    """The arguments of GeneratorUDF."""
    load_tiny(folder)
    return {
        "model_path": str(folder / "served.gguf"),
        "draft_model_path": str(folder / "served-draft.gguf"),
        "option_columns": ["max_tokens"],
        "options": {"temperature": 1.0},
        "seed": 3,
        "n_ctx": 512,
        "n_threads": 1,
        "profile": False,
    }


def kept(table: pyarrow.Table) -> list[dict[str, Any]]:
    """Returns what does not depend on time, by the order of the rows' ids."""
    found = table.select(KEPT).to_pylist()
    return sorted(found, key=lambda row: int(row["id"].split()[1]))


@pytest.fixture(scope="module")
def alone(rows: list[dict[str, Any]], options: dict[str, Any]) -> list[dict[str, Any]]:
    """The answers without Ray, in another order and with one place."""
    shuffled = rows[::-1]
    answered = GeneratorUDF(**options, n_parallel=1)(pyarrow.Table.from_pylist(shuffled))
    found = kept(answered)
    assert sum(row["error"] is not None for row in found) == 1
    assert found[7]["error"].startswith("max_tokens must be")
    assert len({row["text"] for row in found}) > N_ROWS // 2
    return found


class Mortal(GeneratorUDF):
    """Dies by SIGKILL in its second batch, unless one has died before."""

    def __init__(self, mark: str, **options: Any) -> None:
        super().__init__(**options)
        self._mark = Path(mark)
        self._n_batches = 0

    def __call__(self, batch: pyarrow.Table) -> pyarrow.Table:
        self._n_batches += 1
        answered = super().__call__(batch)
        if self._n_batches == 2 and not self._mark.exists():
            self._mark.touch()
            os.kill(os.getpid(), signal.SIGKILL)
        return answered


@pytest.mark.parametrize("n_actors", [1, 2])
def test_actors(
    n_actors: int, rows: list[dict[str, Any]], options: dict[str, Any], alone: list[dict[str, Any]]
) -> None:
    """Their number changes no row."""
    answered = answers(rows, GeneratorUDF, options, n_actors)
    assert kept(answered) == alone
    assert answered["stats"][0]["generated"].as_py() == len(answered["tokens"][0])


def test_an_actor_that_is_lost(
    tmp_path: Path, rows: list[dict[str, Any]], options: dict[str, Any], alone: list[dict[str, Any]]
) -> None:
    """Its rows are answered again, with the same texts."""
    mark = tmp_path / "killed"
    assert kept(answers(rows, Mortal, options | {"mark": str(mark)}, 2)) == alone
    assert mark.exists()


def answers(
    rows: list[dict[str, Any]], udf: type[GeneratorUDF], options: dict[str, Any], n_actors: int
) -> pyarrow.Table:
    """Returns the rows with the answers of some actors."""
    dataset = ray.data.from_items(rows, override_num_blocks=12).map_batches(
        udf,
        fn_constructor_kwargs=options,
        compute=ray.data.ActorPoolStrategy(size=n_actors),
        num_cpus=1,
        batch_size=5,
        batch_format="pyarrow",
    )
    return pyarrow.concat_tables(ray.get(dataset.to_arrow_refs()), promote_options="permissive")


def test_wrong_use(rows: list[dict[str, Any]], options: dict[str, Any]) -> None:
    """The constructor checks the options of all rows, a call its batch."""
    with pytest.raises(ValueError, match="temperature must be"):
        GeneratorUDF(**options | {"options": {"temperature": -1.0}})
    udf = GeneratorUDF(**options)
    with pytest.raises(
        TypeError, match=r'needs batch_format="pyarrow" in map_batches, got .* dict'
    ):
        udf({"prompt": ["a"]})  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="there is no column 'id'"):
        udf(pyarrow.Table.from_pylist(rows).drop_columns(["id"]))


def test_the_command(folder: Path, tmp_path: Path, rows: list[dict[str, Any]]) -> None:
    """`ersd batch --ray` has the answers of `ersd batch`, in order, also after a lost worker."""
    load_tiny(folder)
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps(row) + "\n" for row in rows) + "[]\n")
    base = ["batch", str(source), "-m", str(folder / "served.gguf"), "-t", "1", "-c", "512"]
    base += ["--id-column", "id", "--option-columns", "max_tokens", "--temp", "1", "-s", "3"]
    assert main([*base, "-o", str(tmp_path / "alone.jsonl")]) == 0
    flags = ["--ray", "local", "--workers", "2"]
    assert main([*base, "-o", str(tmp_path / "ray.jsonl"), *flags]) == 0
    alone, found = (
        [json.loads(line) for line in (tmp_path / f"{name}.jsonl").read_text().splitlines()]
        for name in ("alone", "ray")
    )
    assert len(alone) == N_ROWS + 1
    for row in (*alone, *found):
        row.pop("stats")
    assert found == alone
