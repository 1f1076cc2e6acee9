"""Files that the package makes: where they are kept, how they are written, and fingerprints."""

from __future__ import annotations

import contextlib
import hashlib
import os
import re
import secrets
import sys
import time
from collections.abc import Iterator
from functools import lru_cache
from pathlib import Path

__all__ = ["cache_folder", "fingerprint", "replacing"]

_HEAD = 16 << 20  # bytes of a large file that are always hashed
_DAY = 24 * 3600  # seconds
_BLOCK, _N_BLOCKS = 4096, 4096  # bytes of a sample of the rest, and how many there are


def cache_folder() -> Path:
    """Returns the folder for generated files: ERSD_CACHE, else a folder in the system's cache.

    Raises:
        FileNotFoundError: the process has no home folder.
    """
    if folder := os.environ.get("ERSD_CACHE"):
        return Path(folder)
    if sys.platform == "win32" and (folder := os.environ.get("LOCALAPPDATA")):
        return Path(folder) / "ersd"
    if sys.platform != "darwin" and (folder := os.environ.get("XDG_CACHE_HOME")):
        return Path(folder) / "ersd"
    try:
        home = Path.home()
    except RuntimeError as error:
        raise FileNotFoundError(
            "there is no home folder, so there is no cache folder: set ERSD_CACHE"
        ) from error
    inside = {"win32": "AppData/Local", "darwin": "Library/Caches"}.get(sys.platform, ".cache")
    return home / inside / "ersd"


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Yields a temporary path to write to, and moves that file to `path` if no error is raised.

    The folder of `path` is created. Another process sees the old file or the complete new file,
    never a part of it. Each writer has its own temporary file; the last one to finish wins. What a
    writer left that was killed is removed a day later.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    _remove_abandoned(path)
    unfinished = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def _remove_abandoned(path: Path) -> None:
    """Removes old temporary files of a file."""
    suffix = re.compile(re.escape(path.name) + r"\.[0-9a-f]{8}")
    with contextlib.suppress(OSError):
        for found in path.parent.iterdir():
            if suffix.fullmatch(found.name) and found.stat().st_mtime < time.time() - _DAY:
                found.unlink()


def fingerprint(path: Path) -> str:
    """Returns a hash of what is in a model file, in hexadecimal.

    Hashing all of a large file would take as long as loading it, so this reads a part: all of a
    file up to 32 MiB; of a larger one its size, the first 16 MiB and 4096 blocks of 4 KiB that are
    spread over the rest. The first 16 MiB hold the metadata and the descriptions of all tensors. A
    change of a tensor is missed only if it is confined to bytes between the blocks. Training,
    merging an adapter or another quantisation changes nearly every row of a matrix, hence each of
    its blocks. If a model is in several files, all of them count.

    Raises:
        OSError: a file cannot be read.
    """
    found = hashlib.sha256()
    for part in _parts(path):
        status = part.stat()
        found.update(_sample(part, status.st_size, status.st_mtime_ns, status.st_ino))
    return found.hexdigest()


def _parts(path: Path) -> list[Path]:
    """Returns the files of a model, given the first one."""
    numbered = re.fullmatch(r"(.*-)00001(-of-(\d{5})\.gguf)", path.name)
    if not numbered:
        return [path]
    head, tail, n_parts = numbered[1], numbered[2], int(numbered[3])
    return [path.with_name(f"{head}{i:05}{tail}") for i in range(1, n_parts + 1)]


@lru_cache(maxsize=64)
def _sample(path: Path, size: int, modified_ns: int, inode: int) -> bytes:
    """Returns a hash of one file. The last two arguments tell a changed file from a known one."""
    found = hashlib.sha256(f"{size} ".encode())
    with path.open("rb") as file:
        if size <= 2 * _HEAD:
            found.update(file.read())
            return found.digest()
        found.update(file.read(_HEAD))
        # One block stands at a place of its own in each of equal parts. Places at equal distances
        # might all miss the same columns of a matrix.
        part = (size - _HEAD) // _N_BLOCKS
        for i in range(_N_BLOCKS):
            file.seek(_HEAD + i * part + i * 2654435761 % (part - _BLOCK + 1))
            found.update(file.read(_BLOCK))
        file.seek(size - _BLOCK)
        found.update(file.read())
    return found.digest()
