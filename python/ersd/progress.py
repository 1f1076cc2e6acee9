"""Long commands: how far they have come, and whether what lies there is theirs to go on with."""

from __future__ import annotations

import sys
import time
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

__all__ = ["Progress", "differences"]


@dataclass
class Progress:
    """Done and left, on stderr: one line that changes on a terminal, a line a minute elsewhere."""

    command: str
    total: int
    done: int = 0
    skipped: int = 0
    begun: float = field(default_factory=time.monotonic)
    shown: float = 0.0

    def step(self, n: int = 1, *, skipped: bool = False) -> None:
        """So many more; skipped ones were done in an earlier run and tell nothing of the time left."""
        self.done = min(self.done + n, self.total)
        self.skipped += n * skipped
        now, terminal, over = time.monotonic(), sys.stderr.isatty(), self.done == self.total
        if not over and (skipped or now - self.shown < (0.2 if terminal else 60)):
            return
        self.shown = now
        left = (now - self.begun) / max(1, self.done - self.skipped) * (self.total - self.done)
        text = f"ersd {self.command}: {self.done}/{self.total}, {left / 60:.0f} min left"
        print(
            ("\r" if terminal else "") + text,
            end="\n" if over or not terminal else "  ",
            file=sys.stderr,
            flush=True,
        )


def differences(found: Mapping[str, Any], wanted: Mapping[str, Any]) -> str:
    """The settings that an earlier run had otherwise, as "seed = 1 instead of 2, ..."; empty where there are none."""
    return ", ".join(
        f"{name} = {found.get(name)!r} instead of {value!r}"
        for name, value in wanted.items()
        if found.get(name) != value
    )
