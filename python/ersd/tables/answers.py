"""Answers to the rows of a table, in the order of the rows."""

from __future__ import annotations

import contextlib
import math
from collections.abc import Generator as Steps
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field, fields
from itertools import count
from typing import Any, Protocol

from ersd import Generator, Options, Result, Stats
from ersd.tables.requests import Columns, Request, Row

__all__ = [
    "ANSWER",
    "STATS",
    "Answer",
    "Answers",
    "Ended",
    "NumberedRow",
    "Texts",
    "failed_answer",
    "without_failures",
]

# The number of a row from 0 on, and its values or why they could not be read.
NumberedRow = tuple[int, Row | ValueError]
Answer = dict[str, Any]
# An answer, and whether the model failed.
Ended = tuple[Answer, bool]

# The columns of an answer.
ANSWER = ("text", "finish_reason", "tokens", "seed", "stats", "error")
# The statistics of an answer, with their types: all counts and times, without the histograms.
STATS = {each.name: str(each.type) for each in fields(Stats) if each.type in ("int", "float")}
# When this many requests in succession end by a failure of the model, the table ends, too.
MOST_FAILURES = 16


class Answers(Protocol):
    """A way to answer the rows of a table."""

    def __call__(self, generator: Generator, rows: Iterable[NumberedRow]) -> Iterator[Answer]:
        """Yields an answer for each row, in order. A few rows are under way at a time.

        Raises:
            RuntimeError: the model fails again and again. Rows that failed last have no answer.
        """


@dataclass(frozen=True)
class Texts:
    """Answers each row with a value for each name in ANSWER.

    Attributes:
        columns: what is where in a row.
        options: options of all rows.
        seed: the base seed of the table.
    """

    columns: Columns = field(default_factory=Columns)
    options: Options = field(default_factory=Options)
    seed: int = 0

    def __call__(self, generator: Generator, rows: Iterable[NumberedRow]) -> Iterator[Answer]:
        """See `Answers`. Answers that end before an earlier one wait for it."""
        return without_failures(self._ended(generator, rows))

    def _ended(self, generator: Generator, rows: Iterable[NumberedRow]) -> Steps[Ended, None, None]:
        ended: dict[int, Ended] = {}  # by the row's place in the order
        places: dict[int, int] = {}  # of the requests; a row may be none
        n_requests = count()

        def requests() -> Iterator[tuple[str | list[int], Options]]:
            for place, (number, row) in enumerate(rows):
                try:
                    request = self._request(generator, number, row)
                except (TypeError, ValueError) as error:
                    ended[place] = failed_answer(error), False
                else:
                    places[next(n_requests)] = place
                    yield request.prompt, request.options

        next_place = 0
        with contextlib.closing(generator.generate_requests(requests())) as results:
            for i, result in results:
                ended[places.pop(i)] = _ended(result)
                while next_place in ended:
                    yield ended.pop(next_place)
                    next_place += 1
        for place in range(next_place, next_place + len(ended)):
            yield ended.pop(place)

    def _request(self, generator: Generator, number: int, row: Row | ValueError) -> Request:
        if isinstance(row, ValueError):
            raise row
        name = self.columns.id
        row_id = number if name is None else row.get(name)
        if not isinstance(row_id, str | int):
            raise ValueError(f"the column {name!r} must have a text or an integer, got {row_id!r}")
        return Request.of(generator, row, row_id, self.columns, self.options, self.seed)


def _ended(result: Result | Exception) -> Ended:
    if isinstance(result, Exception):
        return failed_answer(result), not isinstance(result, TypeError | ValueError)
    answer = {name: getattr(result, name) for name in ANSWER[:4]}
    stats = {name: getattr(result.stats, name) for name in STATS}
    # JSON has no infinite speeds.
    finite = {name: value if math.isfinite(value) else None for name, value in stats.items()}
    return answer | {"stats": finite, "error": None}, False


def failed_answer(error: Exception) -> Answer:
    """Returns the answer to a row that ended by an error."""
    return dict.fromkeys(ANSWER) | {"error": str(error)}


def without_failures(ended: Steps[Ended, None, None]) -> Iterator[Answer]:
    """Yields answers, and holds back those of a failing model until another one has no failure.

    A row at which the model fails must not end the table, but a model that fails at all of them
    must not fill the rest of the table with errors.

    Raises:
        RuntimeError: the model failed MOST_FAILURES times in succession.
    """
    held: list[Answer] = []
    with contextlib.closing(ended):
        for answer, has_failed in ended:
            held.append(answer)
            if has_failed and len(held) == MOST_FAILURES:
                raise RuntimeError(
                    f"{MOST_FAILURES} rows in succession failed, the last one like this: "
                    f"{answer['error']}"
                )
            if not has_failed:
                yield from held
                held.clear()
    yield from held
