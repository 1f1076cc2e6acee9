"""A table of requests in a file, a table of answers in another: a run that may be stopped."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

from ersd.progress import Progress
from ersd.tables.answers import Answer, Answers, NumberedRow, Texts
from ersd.tables.joined import check_forms, write_joined
from ersd.tables.log import AnswerLog
from ersd.tables.rows import column_names, count_rows, form_of, read_rows

__all__ = ["Engine", "Run"]

# Answers the rows that the second argument reads, in order: with a Generator of this process, or
# with those of other processes, to which both arguments can be sent.
Engine = Callable[[Answers, Callable[[], Iterator[NumberedRow]]], Iterator[Answer]]


@dataclass(frozen=True)
class Run:
    """Answers the rows of a file.

    Until all rows are answered, the answers are in a file beside that of the table, from which the
    same run goes on after a stop.

    Attributes:
        source: the file of requests.
        out: the file of the table.
        answers: what answers the rows.
        settings: what the answers depend on, as JSON can hold it.
        prefix: stands before the names of the columns of answers.
    """

    source: Path
    out: Path
    answers: Answers
    settings: Mapping[str, Any]
    prefix: str = ""

    def check(self) -> None:
        """Raises ValueError or OSError if the files cannot be those of a run."""
        if self.out.exists():
            raise ValueError(f"'{self.out}' exists already: remove it, or choose another name")
        if isinstance(self.answers, Texts):
            names = column_names(self.source)
            if names is not None:
                self.answers.columns.check(names)
            check_forms(self.source, self.out, self.prefix)
        elif form_of(self.out) != "jsonl":
            raise ValueError(f"answers in OpenAI's form are written to .jsonl, not to '{self.out}'")

    def __call__(self, engine: Callable[[int], Engine]) -> tuple[int, int]:
        """Answers the rows that are not answered yet, and writes the table.

        Args:
            engine: makes what answers the rows, given how many there are. It is not called if
                nothing is left to do.

        Returns:
            The number of rows, and how many of them ended by an error.

        Raises:
            OSError, RuntimeError, ValueError: the run cannot begin, or cannot go on.
        """
        self.check()
        self.out.parent.mkdir(parents=True, exist_ok=True)
        log = AnswerLog(self.out.with_name(self.out.name + ".partial"), self.settings)
        with contextlib.closing(log):
            total = count_rows(self.source)
            if log.n_rows < total:
                self._answer_rest(log, total, engine(total - log.n_rows))
            n_errors = sum(_is_error(answer) for answer in log)
            if isinstance(self.answers, Texts):
                write_joined(self.source, log, self.out, self.prefix)
            else:
                log.become(self.out)
            log.remove()
        return total, n_errors

    def _answer_rest(self, log: AnswerLog, total: int, engine: Engine) -> None:
        bar = Progress("batch", total)
        if log.n_rows:
            bar.step(log.n_rows, skipped=True)
        read = partial(read_rows, self.source, log.n_rows, self._columns())
        for answer in engine(self.answers, read):
            log.append(answer)
            bar.step()
        if log.n_rows != total:
            raise RuntimeError(f"{log.n_rows} of {total} rows have an answer: run it again")

    def _columns(self) -> list[str] | None:
        return self.answers.columns.names if isinstance(self.answers, Texts) else None


def _is_error(answer: Answer) -> bool:
    response = answer.get("response")
    return answer["error"] is not None or (response is not None and response["status_code"] != 200)
