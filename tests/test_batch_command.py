"""The command ``ersd batch``: its files, its errors, and what a stop leaves."""

from __future__ import annotations

import csv
import json
import random
import signal
import subprocess
import sys
import time
from functools import partial
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")
pytest.importorskip("httpx")
from ersd import Generator
from ersd.commands.main import main
from ersd.tables import row_seed
from serving import load_tiny, until

pytestmark = pytest.mark.no_sanitizer

KEPT = ("text", "finish_reason", "tokens", "seed", "error")
MESSAGES = [{"role": "user", "content": "the and of"}]
ROWS: list[dict[str, Any]] = [
    {"id": "a", "prompt": "the", "label": 5},
    {"id": "b", "prompt": "a rain of", "max_tokens": 3},
    {"id": "c", "prompt": None},
    {"id": "d", "prompt": "in", "temperature": -1},
    {"id": "e", "prompt": [1, 300], "seed": 8},
    {"prompt": "no id"},
    {"id": "f", "prompt": "of the " * 9, "stop": ["e"], "temperature": 0.5},
]


@pytest.fixture(scope="module")
def generator(folder: Path) -> Generator:
    """The models that the command loads, one request at a time."""
    return load_tiny(folder, n_parallel=1)


def words(folder: Path, source: Path, out: Path, *more: str) -> list[str]:
    """Returns the words of a command line."""
    models = ["-m", str(folder / "served.gguf"), "-md", str(folder / "served-draft.gguf")]
    common = ["batch", str(source), "-o", str(out), *models, "-t", "1", "-c", "512"]
    return [*common, "-n", "12", "--temp", "1", *more]


def write_lines(path: Path, rows: list[Any]) -> Path:
    """Writes a file of JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def lines(path: Path) -> list[Any]:
    """Returns the rows of a file of JSON lines."""
    return [json.loads(line) for line in path.read_text().splitlines()]


def expected(generator: Generator, row: dict[str, Any], base: int = 0) -> dict[str, Any]:
    """Returns what stands in the answer to a row without an error, computed alone."""
    options = {
        name: row[name] for name in ("max_tokens", "temperature", "seed", "stop") if name in row
    }
    options = {"max_tokens": 12, "temperature": 1.0, "seed": row_seed(base, row["id"]), **options}
    result = generator.generate(row["prompt"], **options)
    return {name: getattr(result, name) for name in KEPT[:4]} | {"error": None}


def test_rows_of_json(
    folder: Path, tmp_path: Path, generator: Generator, capfd: pytest.CaptureFixture[str]
) -> None:
    """Each row has its own options and the text that it has alone; bad rows have an error."""
    source = write_lines(tmp_path / "in.jsonl", ROWS)
    source.write_text(source.read_text() + "not JSON\n")
    out = tmp_path / "new" / "out.jsonl"
    names = "max_tokens,temperature,seed,stop"
    flags = ("--id-column", "id", "--option-columns", names, "-s", "3")
    assert main(words(folder, source, out, *flags)) == 0
    assert "8 rows in" in (said := capfd.readouterr().err)
    assert "ersd batch: 8/8" in said
    assert "4 with an error" in said
    found = lines(out)
    for row, answer in zip(ROWS, found, strict=False):
        assert {name: answer[name] for name in row if name != "seed"} == {
            name: value for name, value in row.items() if name != "seed"
        }
    for i in (0, 1, 4, 6):
        assert {name: found[i][name] for name in KEPT} == expected(generator, ROWS[i], 3)
        assert found[i]["stats"]["generated"] == len(found[i]["tokens"])
    assert [found[i]["text"] for i in (2, 3, 5, 7)] == [None] * 4
    assert "must have a text or a list of token ids, got None" in found[2]["error"]
    assert found[3]["error"].startswith("temperature must be")
    assert found[5]["error"] == "the column 'id' must have a text or an integer, got None"
    assert found[7]["error"].startswith("row 7 is not JSON")
    assert list(out.parent.iterdir()) == [out]
    assert main(words(folder, source, out)) == 1
    assert f"'{out}' exists already" in capfd.readouterr().err


def test_messages(folder: Path, tmp_path: Path, generator: Generator) -> None:
    """A conversation becomes a prompt by the chat template. Its cell may be JSON."""
    rows = [{"talk": MESSAGES}, {"talk": json.dumps(MESSAGES)}, {"talk": 5}, {"talk": "["}]
    source = write_lines(tmp_path / "in.jsonl", rows)
    out = tmp_path / "out.jsonl"
    assert main(words(folder, source, out, "--messages-column", "talk")) == 0
    found = lines(out)
    for i in (0, 1):
        options: Any = {"max_tokens": 12, "temperature": 1.0, "seed": row_seed(0, i)}
        assert found[i]["text"] == generator.chat(MESSAGES, **options).text
    assert found[2]["error"] == "the column 'talk' must have a list of messages, got 5"
    assert "must have messages as JSON" in found[3]["error"]


@pytest.mark.usefixtures("generator")  # which writes the models
def test_other_files(folder: Path, tmp_path: Path) -> None:
    """Parquet and CSV have the same answers as JSON lines, and keep the other columns."""
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    rows = [{"p": f"the {'of ' * (i % 7)}", "label": i, "max_tokens": i % 5 + 1} for i in range(9)]
    rows[4]["p"] = "the " * 600
    flags = ("--prompt-column", "p", "--option-columns", "max_tokens", "--prefix", "a_")
    write_lines(tmp_path / "in.jsonl", rows)
    parquet.write_table(pyarrow.Table.from_pylist(rows), tmp_path / "in.parquet")
    with (tmp_path / "in.csv").open("w", newline="") as file:
        writer = csv.DictWriter(file, list(rows[0]))
        writer.writeheader()
        writer.writerows(rows)
    for form in ("jsonl", "parquet", "csv"):
        source = tmp_path / f"in.{form}"
        assert main(words(folder, source, tmp_path / f"out.{form}", *flags)) == 0
    base = lines(tmp_path / "out.jsonl")
    assert [{name: row[name] for name in rows[0]} for row in base] == rows
    assert "the prompt has" in base[4]["a_error"]
    table = parquet.read_table(tmp_path / "out.parquet")
    assert table.schema.field("label").type == pyarrow.int64()
    assert table.schema.field("a_tokens").type == pyarrow.list_(pyarrow.int32())
    names = [*rows[0], *("a_" + name for name in KEPT)]
    assert table.select(names).to_pylist() == [{n: row[n] for n in names} for row in base]
    assert table["a_stats"][0]["generated"].as_py() == base[0]["a_stats"]["generated"]
    with (tmp_path / "out.csv").open(newline="") as file:
        cells = list(csv.DictReader(file))
    assert [row["a_text"] for row in cells] == [row["a_text"] or "" for row in base]
    assert json.loads(cells[0]["a_tokens"]) == base[0]["a_tokens"]
    assert cells[8]["label"] == "8"


def openai_line(name: str, url: str, **body: Any) -> dict[str, Any]:
    """Returns a line of OpenAI's batch files."""
    body |= {"model": "any", "temperature": 1.0}
    return {"custom_id": name, "method": "POST", "url": f"/v1/{url}", "body": body}


def test_openai_form(folder: Path, tmp_path: Path, generator: Generator) -> None:
    """Answers have the form of OpenAI's output files, and errors that of the server."""
    asked = [
        openai_line("one", "chat/completions", messages=MESSAGES, max_tokens=9),
        openai_line("two", "completions", prompt="the", max_tokens=9, n=2, seed=4),
        openai_line("three", "chat/completions", messages=[]),
        openai_line("four", "embeddings", input="x"),
        openai_line("five", "completions", prompt="the", stream=True),
        {"custom_id": "six"},
        openai_line("seven", "completions", prompt="the", ignore_eos=True),
    ]
    source = write_lines(tmp_path / "in.jsonl", asked)
    source.write_text(source.read_text() + "[\n")
    out = tmp_path / "out.jsonl"
    given = words(folder, source, out, "-s", "3")
    at = given.index("-n")
    assert main([*given[:at], *given[at + 2 :]]) == 0
    found = lines(out)
    names = ["one", "two", "three", "four", "five", "six", "seven", None]
    assert [answer["custom_id"] for answer in found] == names
    one, two, three = (answer["response"] for answer in found[:3])
    assert (one["status_code"], found[0]["error"]) == (200, None)
    options: Any = {"max_tokens": 9, "temperature": 1.0}
    text = generator.chat(MESSAGES, seed=row_seed(3, "one"), **options).text
    assert one["body"]["choices"][0]["message"]["content"] == text
    assert one["request_id"]
    texts = [generator.generate("the", seed=4 + i, **options).text for i in range(2)]
    assert [choice["text"] for choice in two["body"]["choices"]] == texts
    assert three["status_code"] == 400
    assert three["body"]["error"]["param"] == "messages"
    reasons = ("got POST /v1/embeddings", "stream must be false", "method is missing", "not JSON")
    # The default length is that of the endpoint.
    assert found.pop(6)["response"]["body"]["usage"]["completion_tokens"] == 16
    for answer, reason in zip(found[3:], reasons, strict=True):
        assert answer["response"] is None
        assert answer["error"]["code"] == "invalid_request"
        assert reason in answer["error"]["message"]


def test_kill_and_run_again(folder: Path, tmp_path: Path) -> None:
    """After kill -9 at random moments, no row is there twice, and none is missing."""
    load_tiny(folder)
    rng = random.Random(0)
    rows = [{"prompt": "the " * rng.randint(1, 9), "n": i} for i in range(600)]
    source = write_lines(tmp_path / "in.jsonl", rows)
    whole, out = tmp_path / "whole.jsonl", tmp_path / "out.jsonl"
    assert main(words(folder, source, whole)) == 0
    log = tmp_path / "out.jsonl.partial"
    command = [sys.executable, "-m", "ersd", *words(folder, source, out)]
    n_kills = n_before = 0
    while not out.exists() and n_kills < 4:
        with subprocess.Popen(command, stderr=subprocess.DEVNULL) as process:
            # It is killed after it has added something to what was there, and long before the end.
            until(partial(has_grown, process, log, n_before), 60)
            time.sleep(rng.uniform(0, 0.02))
            process.send_signal(signal.SIGKILL)
        n_kills += not out.exists()
        n_before = n_lines(log)
        if n_kills % 2 and log.exists():  # as if it had been killed while it wrote a line
            log.write_bytes(log.read_bytes()[:-3])
    assert n_kills >= 2
    if not out.exists():
        assert subprocess.run(command, stderr=subprocess.DEVNULL).returncode == 0
    assert not log.exists()
    assert [pick(row) for row in lines(out)] == [pick(row) for row in lines(whole)]


def has_grown(process: subprocess.Popen[bytes], log: Path, n_before: int) -> bool:
    """Whether the process has ended, or written some lines."""
    return process.poll() is not None or n_lines(log) > n_before + 2


def n_lines(path: Path) -> int:
    """Returns the number of whole lines of a file; 0 if there is none."""
    return path.read_bytes().count(b"\n") if path.exists() else 0


def pick(row: dict[str, Any]) -> list[Any]:
    """Returns what must be the same in two runs."""
    return [row[name] for name in ("n", "prompt", *KEPT)]


def test_a_run_that_was_begun_otherwise(
    folder: Path, tmp_path: Path, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is not continued with other flags, but with another number of threads and places."""
    load_tiny(folder)
    source = write_lines(tmp_path / "in.jsonl", [{"prompt": "the"}, {"prompt": "a"}])
    out = tmp_path / "out.jsonl"
    assert main(words(folder, source, out, "-s", "1")) == 0
    first = lines(out)
    (tmp_path / "out.jsonl").unlink()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(
            "ersd.tables.run.write_joined", lambda *_: (_ for _ in ()).throw(OSError("full"))
        )
        assert main(words(folder, source, out, "-s", "1")) == 1
    capfd.readouterr()
    assert main(words(folder, source, out, "-s", "2")) == 1
    assert "is of a run with seed = 1 instead of 2" in capfd.readouterr().err
    assert main(words(folder, source, out, "-s", "1", "-np", "2")) == 0
    assert [row["text"] for row in lines(out)] == [row["text"] for row in first]


@pytest.mark.parametrize(
    ("name", "flags", "message"),
    [
        ("in.txt", [], "a table must be a file .parquet, .jsonl, .csv, got"),
        ("none.jsonl", [], "cannot open"),
        ("in.csv", [], "there is no column 'prompt'; there are ['text', 'seed']"),
        ("in.csv", ["--prompt-column", "text"], "has a column 'text', which is one of the answer"),
        ("in.jsonl", ["--option-columns", "x"], "must have the name of one, got 'x'"),
        ("in.jsonl", ["--temp", "-2"], "temperature must be"),
        ("in.jsonl", ["--ray", "local"], "--ray needs --threads"),
        ("in.jsonl", ["--ray", "local", "--workers", "0", "--threads", "1"], "--workers must be"),
        ("in.jsonl", ["-s", "-1"], "--seed must be a base seed from 0 on, got -1"),
        ("in.jsonl", ["-s", "-2"], "seed must be between 0 and"),
        ("in.jsonl", ["-o", "out.csv"], "rows of JSON may have different names: write to .jsonl"),
    ],
)
def test_wrong_usage(
    folder: Path,
    tmp_path: Path,
    capfd: pytest.CaptureFixture[str],
    name: str,
    flags: list[str],
    message: str,
) -> None:
    """One sentence says what is wrong, and no row is written."""
    load_tiny(folder)
    write_lines(tmp_path / "in.jsonl", [{"prompt": "the"}])
    (tmp_path / "in.csv").write_text("text,seed\nthe,1\n")
    given = words(folder, tmp_path / name, tmp_path / "out.jsonl", *flags)
    if flags == ["--ray", "local"]:
        at = given.index("-t")
        del given[at : at + 2]
    assert main(given) == 1
    said = capfd.readouterr().err
    assert message in said
    assert said.count("\n") == 1
    assert not (tmp_path / "out.jsonl").exists()
