"""The command ``ersd-bench``: starts the C++ program of that name."""

from __future__ import annotations

import os
import subprocess
import sys
from collections.abc import Sequence
from pathlib import Path

from ersd import _loader, models

__all__ = ["main"]


def main() -> int:
    """Run the C++ program ``ersd-bench``; without ``-m``, on the default pair.

    Returns:
        The exit status of the program. Where the system can, the program takes the place of this
        process and the function does not return.
    """
    program = _program()
    words = [str(program), *_with_models(sys.argv[1:])]
    if sys.platform == "win32":
        return subprocess.call(words)
    os.execv(program, words)


def _program() -> Path:
    """Return the program's path: a folder bin next to the extension module holds it."""
    name = "ersd-bench.exe" if sys.platform == "win32" else "ersd-bench"
    return _loader.program_folder() / name


def _with_models(words: Sequence[str]) -> list[str]:
    """Return the words of the command line, with the default pair if they name no target."""
    if not words or "-m" in words or {"-h", "--help"} & set(words):
        return list(words)
    draft = [] if "-md" in words else ["-md", str(models.default_draft())]
    return ["-m", str(models.default_target()), *draft, *words]
