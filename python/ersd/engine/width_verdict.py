"""What the test of a target's call widths said, kept in the cache folder."""

from __future__ import annotations

import contextlib
import hashlib
import json
import os
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from ersd.files import cache_folder, fingerprint, replacing
from ersd.profile import machine

__all__ = ["WidthVerdict"]


class WidthVerdict:
    """The width of call whose logits differ from those of single calls; 0 if there is none."""

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
        self._known: int | None = None

    def read(self) -> int | None:
        """Returns the width, or None if it is not known. Damaged files are as if missing."""
        if self._path is not None:
            with contextlib.suppress(OSError, ValueError, KeyError, TypeError):
                self._known = int(json.loads(self._path.read_text())["width_that_differs"])
        return self._known

    def write(self, width: int | None) -> None:
        """Keeps a width, unless it is not known or stands there already."""
        if self._path is None or width is None or width == self._known:
            return
        with contextlib.suppress(OSError), replacing(self._path) as unfinished:
            unfinished.write_text(json.dumps({"width_that_differs": width}))
