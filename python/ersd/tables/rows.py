"""The rows of a file: Parquet, CSV, or a JSON object per line. They are read one by one."""

from __future__ import annotations

import csv
import json
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path
from types import ModuleType
from typing import Any

from ersd.tables.answers import NumberedRow

__all__ = [
    "FORMS",
    "column_names",
    "count_rows",
    "form_of",
    "is_openai_form",
    "pyarrow_parquet",
    "read_rows",
]

FORMS = {".parquet": "parquet", ".jsonl": "jsonl", ".csv": "csv"}
_ROWS_AT_ONCE = 256


def form_of(path: Path) -> str:
    """Returns "parquet", "jsonl" or "csv". Raises ValueError if a name ends otherwise."""
    if (form := FORMS.get(path.suffix.lower())) is None:
        raise ValueError(f"a table must be a file {', '.join(FORMS)}, got '{path}'")
    return form


def pyarrow_parquet() -> ModuleType:
    """Returns the module pyarrow.parquet. Raises ValueError if pyarrow is not installed."""
    try:
        import pyarrow.parquet  # type: ignore[import-untyped,unused-ignore]
    except ImportError as error:
        raise ValueError(
            'files in Parquet need pyarrow: run `pip install "ersd[batch]"`'
        ) from error
    module: ModuleType = pyarrow.parquet
    return module


def column_names(path: Path) -> list[str] | None:
    """Returns the names of a file's columns; None for a file of JSON, whose rows decide."""
    form = form_of(path)
    if form == "parquet":
        return list(pyarrow_parquet().read_schema(path).names)
    if form == "csv":
        with path.open(encoding="utf-8-sig", newline="") as file:
            return next(csv.reader(file), [])
    return None


def count_rows(path: Path) -> int:
    """Returns the number of rows of a file."""
    form = form_of(path)
    if form == "parquet":
        return int(pyarrow_parquet().read_metadata(path).num_rows)
    if form == "csv":
        return sum(1 for _ in _csv_rows(path))
    return sum(1 for _ in _lines(path))


def is_openai_form(path: Path) -> bool:
    """Whether the first row of a file of JSON has the keys of a line of OpenAI's batch files."""
    if form_of(path) != "jsonl":
        return False
    _, row = next(read_rows(path), (0, {}))
    return isinstance(row, dict) and all(key in row for key in ("custom_id", "url", "body"))


def read_rows(
    path: Path, first: int = 0, columns: Sequence[str] | None = None
) -> Iterator[NumberedRow]:
    """Yields the rows of a file with their numbers.

    Args:
        path: the file.
        first: the number of the first row that is wanted.
        columns: the columns that are wanted; None for all. Rows of text files have all.

    Yields:
        A row's number, and its values by column or a ValueError that says why there are none.
    """
    form = form_of(path)
    if form == "parquet":
        yield from _parquet_rows(path, first, columns)
    elif form == "csv":
        for number, row in enumerate(_csv_rows(path)):
            if number >= first:
                yield number, row
    else:
        for number, line in enumerate(_lines(path)):
            if number >= first:
                yield number, _json_row(line, number)


def _parquet_rows(path: Path, first: int, columns: Sequence[str] | None) -> Iterator[NumberedRow]:
    begin = 0
    with pyarrow_parquet().ParquetFile(path) as file:
        for batch in file.iter_batches(_ROWS_AT_ONCE, columns=columns and list(columns)):
            skipped = min(max(0, first - begin), batch.num_rows)
            yield from enumerate(batch.slice(skipped).to_pylist(), begin + skipped)
            begin += batch.num_rows


def _csv_rows(path: Path) -> Iterator[dict[str, Any] | ValueError]:
    csv.field_size_limit(sys.maxsize)
    with path.open(encoding="utf-8-sig", newline="") as file:
        for row in csv.DictReader(file, restkey="", restval=None):
            if "" in row and isinstance(row[""], list):
                n = len(row) - 1 + len(row[""])
                yield ValueError(f"the row has {n} fields where the file has {len(row) - 1}")
            else:
                yield row


def _lines(path: Path) -> Iterator[bytes]:
    with path.open("rb") as file:
        yield from (line for line in file if line.strip())


def _json_row(line: bytes, number: int) -> dict[str, Any] | ValueError:
    try:
        row = json.loads(line)
    except ValueError as error:
        return ValueError(f"row {number} is not JSON: {error}")
    if not isinstance(row, dict):
        return ValueError(f"row {number} must be a JSON object, got {str(row)[:80]!r}")
    return row
