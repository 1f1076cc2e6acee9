"""Long commands: their progress, and whether a folder holds an earlier run of the same settings."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Progress", "differences"]

# Seconds between two progress lines on a terminal, where a line replaces the last, and elsewhere.
TERMINAL_INTERVAL, LOG_INTERVAL = 0.2, 60


@dataclass
class Progress:
    """Prints to stderr how many steps of a command are done and how long the others will take.

    On a terminal one line is updated. Elsewhere, as in a log file, a line is printed each minute.

    Attributes:
        command: what the line says is running.
        total: number of steps.
        done: steps done, including skipped ones.
        skipped: steps that an earlier run has done.
        begun: when the command began, in seconds of `time.monotonic`.
        shown: when the last line was printed.
    """

    command: str
    total: int
    done: int = 0
    skipped: int = 0
    begun: float = field(default_factory=time.monotonic)
    shown: float = 0.0

    def step(self, n: int = 1, *, skipped: bool = False) -> None:
        """Counts steps as done, and prints a line if it is time for one.

        Args:
            n: number of steps.
            skipped: whether an earlier run has done them. They do not count for the time left.
        """
        self.done = min(self.done + n, self.total)
        self.skipped += n * skipped
        now, is_terminal, is_over = time.monotonic(), sys.stderr.isatty(), self.done == self.total
        interval = TERMINAL_INTERVAL if is_terminal else LOG_INTERVAL
        if not is_over and (skipped or now - self.shown < interval):
            return
        self.shown = now
        left = (now - self.begun) / max(1, self.done - self.skipped) * (self.total - self.done)
        text = f"ersd {self.command}: {self.done}/{self.total}, {left / 60:.0f} min left"
        print(
            ("\r" if is_terminal else "") + text,
            end="\n" if is_over or not is_terminal else "  ",
            file=sys.stderr,
            flush=True,
        )


def differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """Returns the settings in which an earlier run differs, as "seed = 1 instead of 2, ...".

    Args:
        found: settings of the earlier run.
        wanted: settings of this run.

    Returns:
        Empty if all wanted settings were found.
    """
    return ", ".join(
        f"{name} = {found.get(name)!r} instead of {value!r}"
        for name, value in wanted.items()
        if found.get(name) != value
    )
