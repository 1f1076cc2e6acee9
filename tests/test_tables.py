"""Tables of requests and answers: seeds, files of rows, and the log of a run."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from ersd.tables import row_seed
from ersd.tables.answers import MOST_FAILURES, Ended, without_failures
from ersd.tables.log import AnswerLog
from ersd.tables.requests import Columns, Request
from ersd.tables.rows import count_rows, read_rows

pytestmark = pytest.mark.no_sanitizer


def test_the_seed_of_a_row() -> None:
    """It is what the documentation says, whatever the type of the id."""
    digest = hashlib.blake2b(b"5:row 7", digest_size=8).hexdigest()
    assert row_seed(5, "row 7") == int(digest, 16) // 2
    assert row_seed(5, 7) == row_seed(5, "7") != row_seed(6, 7)
    seeds = {row_seed(0, i) for i in range(10_000)}
    assert len(seeds) == 10_000
    assert max(seeds) < 1 << 63
    assert sum(seeds) / 10_000 == pytest.approx(1 << 62, rel=0.02)


def rows_of(path: Path, first: int = 0) -> list[Any]:
    """Returns the rows of a file; an error stands for a row that cannot be read."""
    found = list(read_rows(path, first))
    assert [number for number, _ in found] == list(range(first, count_rows(path)))
    return [row for _, row in found]


def test_rows_of_json(tmp_path: Path) -> None:
    """Bad lines are rows, too. Empty lines are none."""
    path = tmp_path / "in.jsonl"
    path.write_bytes(b'{"prompt": "a\xc3\xa9"}\n\n[1]\n{"prompt": \n"\xff"\n{"n": 1}')
    rows = rows_of(path)
    assert rows[0] == {"prompt": "aé"}
    assert [str(row)[:18] for row in rows[1:4]] == [
        "row 1 must be a JS",
        "row 2 is not JSON:",
        "row 3 is not JSON:",
    ]
    assert rows[4] == {"n": 1}
    assert rows_of(path, 4) == [{"n": 1}]


def test_rows_of_csv(tmp_path: Path) -> None:
    """Values are text as it stands there. A row with too many fields is bad."""
    path = tmp_path / "in.csv"
    path.write_text('\ufeffid,prompt\n007,"two\nlines, ""x"""\n1\n2,b,c\n3,' + "x" * 200_000)
    rows = rows_of(path)
    assert rows[0] == {"id": "007", "prompt": 'two\nlines, "x"'}
    assert rows[1] == {"id": "1", "prompt": None}
    assert str(rows[2]) == "the row has 3 fields where the file has 2"
    assert len(rows[3]["prompt"]) == 200_000


def test_rows_of_parquet(tmp_path: Path) -> None:
    """Rows go on in the middle of a row group, and only some columns are read."""
    pyarrow = pytest.importorskip("pyarrow")
    parquet = pytest.importorskip("pyarrow.parquet")
    path = tmp_path / "in.parquet"
    table = pyarrow.table({"n": range(1000), "b": [b"\xff"] * 1000})
    parquet.write_table(table, path, row_group_size=300)
    assert [row["n"] for row in rows_of(path)] == list(range(1000))
    assert next(read_rows(path, 700, ["n"])) == (700, {"n": 700})
    assert list(read_rows(path, 1000)) == []


def test_options_of_a_row() -> None:
    """Values of any kind of file become those of the option. Without a value, the default holds."""
    names = ("max_tokens", "temperature", "stop", "draft_nodes", "seed", "ignore_eos", "method")
    columns = Columns(options=names)
    row: dict[str, Any] = {"prompt": "p", "max_tokens": "12", "temperature": "0.5"}
    row |= {"stop": '["a", "b"]', "draft_nodes": "auto", "ignore_eos": "true", "method": "ar"}
    found = Request.of(None, row, 3, columns, {"top_k": 4}, 9)  # type: ignore[arg-type]
    assert found == Request(
        "p",
        {
            "top_k": 4,
            "seed": row_seed(9, 3),
            "max_tokens": 12,
            "temperature": 0.5,
            "stop": ["a", "b"],
            "draft_nodes": "auto",
            "ignore_eos": True,
            "method": "ar",
        },
    )
    row = {"prompt": [1, 5], "max_tokens": 7.0, "temperature": float("nan"), "stop": "5"}
    row |= {"seed": 11, "method": ""}
    found = Request.of(None, row, 3, columns, {"temperature": 2.0}, 9)  # type: ignore[arg-type]
    expected = {"temperature": 2.0, "max_tokens": 7, "stop": "5", "seed": 11}
    assert found == Request([1, 5], expected)  # type: ignore[arg-type]
    row = {"prompt": "p", "seed": -1}
    found = Request.of(None, row, 3, columns, {}, 9)  # type: ignore[arg-type]
    assert found.options == {"seed": row_seed(9, 3)}
    with pytest.raises(ValueError, match="must have the name of one, got 'tempratur'"):
        Columns(options=("tempratur",))
    with pytest.raises(ValueError, match="'prompt' must have a text or a list of token ids, got 5"):
        Request.of(None, {"prompt": 5}, 0, columns, {}, 0)  # type: ignore[arg-type]


def test_the_log_goes_on(tmp_path: Path) -> None:
    """Lines that were written whole stay, a part of a line goes, wherever the process ended."""
    path = tmp_path / "log"
    answers = [{"text": "é\n" * i, "error": None} for i in range(5)]
    log = AnswerLog(path, {"seed": 1})
    for answer in answers:
        log.append(answer)
    assert list(log) == answers
    log.close()
    whole = path.read_bytes()
    ends = [i + 1 for i, byte in enumerate(whole) if byte == ord("\n")]
    for n_bytes in range(len(whole) + 1):
        path.write_bytes(whole[:n_bytes])
        log = AnswerLog(path, {"seed": 1})
        n_lines = sum(end <= n_bytes for end in ends)
        assert log.n_rows == max(0, n_lines - 1)
        assert list(log) == answers[: log.n_rows]
        for answer in answers[log.n_rows :]:
            log.append(answer)
        log.close()
        assert path.read_bytes() == whole


def test_a_log_of_other_settings(tmp_path: Path) -> None:
    """It is not continued, and neither is one that another process writes."""
    path = tmp_path / "log"
    settings = {"seed": 1, "top_k": 2, "logit_bias": {5: 1.0}, "columns": ("a",)}
    log = AnswerLog(path, settings)
    with pytest.raises(ValueError, match="another process writes"):
        AnswerLog(path, settings)
    log.close()
    AnswerLog(path, settings).close()
    with pytest.raises(ValueError, match="is of a run with seed = 1 instead of 3: remove it"):
        AnswerLog(path, {"seed": 3, "top_k": 2})
    path.write_text("something else\n")
    with pytest.raises(ValueError, match="seed = None instead of 3"):
        AnswerLog(path, {"seed": 3})
    assert path.read_text() == "something else\n"


def test_a_failing_model_ends_the_table() -> None:
    """Single failures are answers; many in succession are not."""

    def ended(*failures: bool) -> Iterator[Any]:
        def answers() -> Any:
            for i, has_failed in enumerate(failures):
                end: Ended = {"error": f"e{i}"}, has_failed
                yield end

        return without_failures(answers())

    some = [True] * (MOST_FAILURES - 1) + [False, True]
    assert [answer["error"] for answer in ended(*some)] == [f"e{i}" for i in range(len(some))]
    answers = ended(False, *[True] * MOST_FAILURES)
    assert next(answers)["error"] == "e0"
    with pytest.raises(RuntimeError, match=r"16 rows in succession failed, .* this: e16"):
        next(answers)
    assert json.dumps(list(ended())) == "[]"
