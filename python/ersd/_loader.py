"""Finds the llama.cpp that this package was built with, and loads it the way llama-cpp-python does."""

from __future__ import annotations

import ctypes
import importlib
import importlib.metadata
import importlib.util
import sys
from pathlib import Path
from typing import Any

VERSION = importlib.metadata.version("ersd")
REQUIREMENT = "llama-cpp-python==0.3.36"


def _check_version() -> None:
    name, wanted = REQUIREMENT.split("==")
    try:
        found = importlib.metadata.version(name)
    except importlib.metadata.PackageNotFoundError:
        found = "none"
    if found.split("+")[0] != wanted:
        raise ImportError(
            f"ersd {VERSION} was built with {name} {wanted}, found {found}: run `pip install {REQUIREMENT}`"
        )


def library_folder() -> Path:
    """The folder of llama.cpp's libraries, without importing llama_cpp."""
    spec = importlib.util.find_spec("llama_cpp")
    if spec is None or spec.origin is None:
        raise ImportError(
            f"ersd {VERSION} needs the package llama_cpp: run `pip install {REQUIREMENT}`"
        )
    return Path(spec.origin).parent / "lib"


def _preload() -> None:
    # llama_cpp opens its libraries by these names; opened first, they serve ersd._core too, and the process holds one llama.cpp.
    folder = library_folder()
    if sys.platform == "win32":
        import os

        os.add_dll_directory(str(folder))
    for stem in ("ggml", "llama"):
        names = {
            "win32": [f"{stem}.dll", f"lib{stem}.dll"],
            "darwin": [f"lib{stem}.so", f"lib{stem}.dylib"],
        }.get(sys.platform, [f"lib{stem}.so"])
        for path in (folder / name for name in names):
            if path.exists():
                ctypes.CDLL(str(path))
                break


def llama_cpp_module(name: str) -> Any:
    """A module of llama_cpp. Importing that package claims llama.cpp's log, so that it would print; here the log is taken back."""
    claimed = "llama_cpp" not in sys.modules
    module = importlib.import_module(f"llama_cpp.{name}")
    if claimed:
        from ersd import _core

        _core.take_log()
    return module


_check_version()
_preload()
