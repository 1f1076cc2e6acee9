"""The answers of a run that may stop at any time: a file that only grows, a line for each row."""

from __future__ import annotations

import json
import os
import shutil
import time
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any, BinaryIO

from ersd.progress import differences
from ersd.tables.answers import Answer

__all__ = ["AnswerLog"]

_SECONDS_TO_DISK = 1.0  # how much of the work a loss of power may take


class AnswerLog:
    """Answers to the first rows of a table, in order.

    The first line has the settings of the run. A line is written at once, so that the end of the
    process loses none. A line that was not written whole is dropped.

    Attributes:
        path: the file.
        n_rows: how many rows are answered.
    """

    def __init__(self, path: Path, settings: Mapping[str, Any]) -> None:
        """Opens the file, or begins it.

        Args:
            path: the file.
            settings: what the answers depend on, as JSON can hold it.

        Raises:
            ValueError: the file is of other settings, or another process writes to it.
        """
        self.path = path
        self.n_rows = 0
        self._file: BinaryIO = path.open("a+b")
        self._to_disk_at = 0.0
        try:
            self._lock()
            # As it is read back: JSON has lists for tuples, and texts for the keys of mappings.
            self._resume(json.loads(json.dumps(settings)))
        except BaseException:
            self.close()
            raise

    def _lock(self) -> None:
        try:
            import fcntl
        except ImportError:  # Windows has no such locks
            return
        try:
            fcntl.flock(self._file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError as error:
            raise ValueError(f"another process writes '{self.path}'") from error

    def _resume(self, settings: Mapping[str, Any]) -> None:
        self._file.seek(0)
        n_lines = n_bytes = 0
        head = b""
        for line in self._file:
            if not line.endswith(b"\n"):
                break
            head = head or line
            n_lines += 1
            n_bytes += len(line)
        self._file.truncate(n_bytes)
        if not n_lines:
            self._write(settings)
            return
        self.n_rows = n_lines - 1
        try:
            found = json.loads(head)
        except ValueError:
            found = {}
        if differing := differences(found, settings):
            raise ValueError(
                f"'{self.path}' is of a run with {differing}: remove it, or run as before"
            )

    def append(self, answer: Answer) -> None:
        """Adds the answer to the next row."""
        self._write(answer)
        self.n_rows += 1

    def _write(self, value: Mapping[str, Any]) -> None:
        line = json.dumps(value, ensure_ascii=False)
        # A text of the input that an error quotes may hold half a character.
        self._file.write(line.encode(errors="replace") + b"\n")
        self._file.flush()
        if (now := time.monotonic()) - self._to_disk_at > _SECONDS_TO_DISK:
            os.fsync(self._file.fileno())
            self._to_disk_at = now

    def __iter__(self) -> Iterator[Answer]:
        """Yields all answers in order."""
        with self.path.open("rb") as file:
            next(file)
            yield from map(json.loads, file)

    def become(self, path: Path) -> None:
        """Writes all answers to a file, which appears when it is whole."""
        unfinished = path.with_name(path.name + ".joining")
        with self.path.open("rb") as file, unfinished.open("wb") as copy:
            next(file)
            shutil.copyfileobj(file, copy)
        os.replace(unfinished, path)

    def close(self) -> None:
        """Closes the file."""
        self._file.close()

    def remove(self) -> None:
        """Closes and removes the file."""
        self.close()
        self.path.unlink(missing_ok=True)
