"""Joins the rows of a file with their answers to a table, which appears when it is whole."""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from pathlib import Path
from typing import Any

from ersd.tables.answers import ANSWER, Answer
from ersd.tables.arrow import answer_fields
from ersd.tables.rows import column_names, form_of, pyarrow_parquet, read_rows

__all__ = ["answer_names", "check_forms", "write_joined"]

_ROWS_AT_ONCE = 256
_OWN_NAME = "seed"  # a column of seeds may be the input's, too: it has the same values


def answer_names(prefix: str) -> list[str]:
    """Returns the names of the columns of answers."""
    return [prefix + name for name in ANSWER]


def check_forms(source: Path, out: Path, prefix: str) -> None:
    """Raises ValueError if answers to a file cannot be written beside its rows to another one."""
    found = column_names(source)
    if found is None:
        if form_of(out) != "jsonl":
            raise ValueError(
                f"rows of JSON may have different names: write to .jsonl, not to '{out}'"
            )
        return
    for name in answer_names(prefix):
        if name in found and name != _OWN_NAME:
            raise ValueError(
                f"'{source}' has a column {name!r}, which is one of the answer: give --prefix"
            )


def write_joined(source: Path, answers: Iterable[Answer], out: Path, prefix: str) -> None:
    """Writes the rows of a file, each with its answer.

    Another process sees no file or the whole one.

    Args:
        source: the file of rows.
        answers: one for each row.
        out: the file to write.
        prefix: stands before the names of the columns of answers.
    """
    rows = _joined_rows(source, answers, prefix)
    unfinished = out.with_name(out.name + ".joining")
    form = form_of(out)
    if form == "parquet":
        _write_parquet(source, rows, unfinished, prefix)
    elif form == "csv":
        _write_csv(source, rows, unfinished, prefix)
    else:
        with unfinished.open("w", encoding="utf-8", errors="replace") as file:
            file.writelines(json.dumps(row, ensure_ascii=False, default=str) + "\n" for row in rows)
    os.replace(unfinished, out)


def _joined_rows(source: Path, answers: Iterable[Answer], prefix: str) -> Iterator[dict[str, Any]]:
    for (_, row), answer in zip(read_rows(source), answers, strict=True):
        values = {} if isinstance(row, ValueError) else row
        yield {**values, **{prefix + name: value for name, value in answer.items()}}


def _names(source: Path, prefix: str) -> list[str]:
    return list(dict.fromkeys([*(column_names(source) or ()), *answer_names(prefix)]))


def _write_csv(source: Path, rows: Iterable[dict[str, Any]], unfinished: Path, prefix: str) -> None:
    with unfinished.open("w", encoding="utf-8", errors="replace", newline="") as file:
        writer = csv.DictWriter(file, _names(source, prefix))
        writer.writeheader()
        for row in rows:
            writer.writerow({name: _cell(value) for name, value in row.items()})


def _cell(value: Any) -> Any:
    nested = isinstance(value, dict | list)
    return json.dumps(value, ensure_ascii=False, default=str) if nested else value


def _write_parquet(
    source: Path, rows: Iterator[dict[str, Any]], unfinished: Path, prefix: str
) -> None:
    import pyarrow  # type: ignore[import-untyped,unused-ignore]

    parquet = pyarrow_parquet()
    schema = _schema(source, prefix, _names(source, prefix))
    with parquet.ParquetWriter(unfinished, schema) as writer:
        while batch := list(islice(rows, _ROWS_AT_ONCE)):
            writer.write_table(pyarrow.Table.from_pylist(batch, schema))


def _schema(source: Path, prefix: str, names: Sequence[str]) -> Any:
    """Returns the schema of the rows of a file with their answers."""
    import pyarrow

    fields = {}
    if form_of(source) == "parquet":
        fields = {field.name: field for field in pyarrow_parquet().read_schema(source)}
    fields |= {field.name: field for field in answer_fields(prefix)}
    texts = {name: pyarrow.field(name, pyarrow.string()) for name in names}
    return pyarrow.schema([(texts | fields)[name] for name in names])
