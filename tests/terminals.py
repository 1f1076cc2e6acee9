"""Programs at a pseudo-terminal."""

from __future__ import annotations

import contextlib
import os
import re
import select
import signal
import time
from collections.abc import Iterator

import pytest

COLOUR = re.compile("\x1b\\[[0-9;?]*[a-zA-Z]")


class Terminal:
    """A program at a pseudo-terminal."""

    def __init__(self, arguments: list[str], term: str) -> None:
        """Starts the program. Ctrl-C reaches it as it would at a real terminal."""
        import pty

        self.pid, self.fd = pty.fork()
        if self.pid == 0:
            os.environ.update(TERM=term, PYTHONIOENCODING="utf-8")
            os.execv(arguments[0], arguments)
        self.seen = ""
        self.status: int | None = None

    def until(self, pattern: str, seconds: float = 60) -> str:
        """Reads until a pattern comes. Returns the text since the last call, with the pattern."""
        end = time.monotonic() + seconds
        while not (match := re.search(pattern, self.seen)):
            assert time.monotonic() < end, f"no {pattern!r} in {self.seen!r}"
            if not self._read():
                assert re.search(pattern, self.seen), f"ended without {pattern!r}: {self.seen!r}"
        found, self.seen = self.seen[: match.end()], self.seen[match.end() :]
        return found

    def type(self, text: str) -> None:
        """Types text after a pause.

        Python misses a Ctrl-C that comes after readline's prompt and before it waits for a key.
        """
        time.sleep(0.2)
        os.write(self.fd, text.encode())

    def ends(self) -> int:
        """Waits for the program to end. Returns its exit status."""
        end = time.monotonic() + 60
        while self._read():
            assert time.monotonic() < end, f"still there: {self.seen!r}"
        self.status = os.waitstatus_to_exitcode(os.waitpid(self.pid, 0)[1])
        return self.status

    def _read(self) -> bool:
        """Reads what has come. Returns False once the program is gone."""
        if not select.select([self.fd], [], [], 0.2)[0]:
            return True
        try:
            data = os.read(self.fd, 65536)
        except OSError:
            return False
        self.seen += data.decode("utf-8", "replace").replace("\r\n", "\n")
        return bool(data)

    def close(self) -> None:
        """Kills the program if it still runs."""
        if self.status is None:
            os.kill(self.pid, signal.SIGKILL)
            os.waitpid(self.pid, 0)
        os.close(self.fd)


@contextlib.contextmanager
def terminal(arguments: list[str], term: str = "dumb") -> Iterator[Terminal]:
    """A program at a pseudo-terminal, which is killed in the end if it still runs."""
    pytest.importorskip("pty")
    opened = Terminal(arguments, term)
    try:
        yield opened
    finally:
        opened.close()
