"""What the test of a target's call widths said, kept in the cache folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ersd.files import cache_folder, fingerprint, replacing
from ersd.profile import machine

__all__ = ["WidthVerdict"]


class WidthVerdict:
    """What is known of a target's calls.

    They are "width_that_differs", a width of call whose logits differ from those of single calls, 0
    if there is none; and "padding", the number of tokens to multiples of which calls must be padded
    to give the same logits, 0 if no padding helps. None stands for what is not known.
    """

    _NAMES = ("width_that_differs", "padding")

    def __init__(
        self,
        model_path: str | os.PathLike[str],
        devices: Sequence[str],
        loading: Mapping[str, Any],
    ) -> None:
        """Finds the file of a target on these devices, loaded with these options."""
        self._path: Path | None = None
        target = Path(model_path)
        with contextlib.suppress(OSError):  # the core says that there is no such file
            facts = f"{fingerprint(target)} {machine(devices, loading)}"
            key = hashlib.sha256(facts.encode()).hexdigest()[:12]
            self._path = cache_folder() / f"{target.stem}.{key}.width.json"
        self._known: dict[str, int | None] = dict.fromkeys(self._NAMES)

    def read(self) -> dict[str, int | None]:
        """Returns what is known. A damaged file counts as missing, and a line on stderr says so."""
        if self._path is not None:
            try:
                self._known = self._parsed(self._path.read_text(encoding="utf-8"))
            except FileNotFoundError:
                pass
            except Exception as error:  # a damaged file makes the parser raise many kinds
                reason = str(error) or type(error).__name__
                print(f"ersd: ignoring '{self._path}': {reason}", file=sys.stderr)
        return dict(self._known)

    def _parsed(self, text: str) -> dict[str, int | None]:
        """Returns the verdict in a file. Raises any error if the file is damaged."""
        found = json.loads(text)
        known = {name: found[name] for name in self._NAMES}
        if found["checksum"] != self._checksum(known):
            raise ValueError("its checksum is that of other contents")
        return known

    def write(self, **found: int | None) -> None:
        """Keeps what was found, if there is anything new."""
        if self._path is None or found in (self._known, dict.fromkeys(self._NAMES)):
            return
        with contextlib.suppress(OSError), replacing(self._path) as unfinished:
            unfinished.write_text(json.dumps(found | {"checksum": self._checksum(found)}))

    @staticmethod
    def _checksum(verdict: Mapping[str, int | None]) -> str:
        return hashlib.sha256(json.dumps(verdict, sort_keys=True).encode()).hexdigest()[:12]
