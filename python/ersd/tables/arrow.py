"""The columns of answers as Arrow knows them. It needs pyarrow."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from ersd.tables.answers import ANSWER, STATS, Answer

__all__ = ["answer_fields", "with_answers"]


def answer_fields(prefix: str = "") -> list[Any]:
    """Returns a pyarrow.Field for each name in ANSWER.

    Args:
        prefix: stands before the names.
    """
    import pyarrow  # type: ignore[import-untyped,unused-ignore]

    kinds = {"int": pyarrow.int64(), "float": pyarrow.float64()}
    types = {
        "tokens": pyarrow.list_(pyarrow.int32()),
        "seed": pyarrow.uint64(),
        "stats": pyarrow.struct([(name, kinds[kind]) for name, kind in STATS.items()]),
    }
    return [pyarrow.field(prefix + n, types.get(n, pyarrow.string())) for n in ANSWER]


def with_answers(table: Any, answers: Sequence[Answer]) -> Any:
    """Returns a pyarrow.Table with the columns of the answers to its rows.

    A column of this name that the table has is replaced.
    """
    import pyarrow

    for field in answer_fields():
        if field.name in table.column_names:
            table = table.drop_columns([field.name])
        values = [answer[field.name] for answer in answers]
        table = table.append_column(field, pyarrow.array(values, field.type))
    return table
