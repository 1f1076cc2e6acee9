"""How far a long command has come."""

from __future__ import annotations

import sys
import time
from dataclasses import dataclass, field

__all__ = ["Progress"]


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
        print(("\r" if terminal else "") + text, end="\n" if over or not terminal else "  ", file=sys.stderr, flush=True)
