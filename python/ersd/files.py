"""Files that the package makes: where they are kept, how they are written, and fingerprints."""

from __future__ import annotations

import contextlib
import hashlib
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

__all__ = ["cache_folder", "fingerprint", "replacing"]

_MIB = 1 << 20


def cache_folder() -> Path:
    """Returns the folder for generated files: ERSD_CACHE, else a folder in the system's cache."""
    if folder := os.environ.get("ERSD_CACHE"):
        return Path(folder)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "ersd"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "ersd"
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "ersd"


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path to write to, and moves that file to `path` if no error is raised.

    The folder of `path` is created. Another process sees the old file or the complete new file,
    never a part of it. Each writer has its own temporary file; the last one to finish wins.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def fingerprint(path: Path) -> str:
    """Returns a hash of a model file's size, its first MiB and its last MiB, in hexadecimal.

    The first MiB holds the metadata and the beginning of the vocabulary.
    """
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(_MIB)
        file.seek(max(0, size - _MIB))
        return hashlib.sha256(f"{size} ".encode() + head + file.read()).hexdigest()
