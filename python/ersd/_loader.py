"""Loads the llama.cpp that the package was built with, the same copy that llama-cpp-python uses."""

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
            f"ersd {VERSION} was built with {name} {wanted}, found {found}: "
            f"run `pip install {REQUIREMENT}`"
        )


def library_folder() -> Path:
    """Returns the folder of llama.cpp's libraries, without importing llama_cpp.

    Raises:
        ImportError: llama-cpp-python is not installed.
    """
    spec = importlib.util.find_spec("llama_cpp")
    if spec is None or spec.origin is None:
        raise ImportError(
            f"ersd {VERSION} needs the package llama_cpp: run `pip install {REQUIREMENT}`"
        )
    return Path(spec.origin).parent / "lib"


def program_folder() -> Path:
    """Returns the folder of the package's C++ programs, which is beside the extension module.

    Raises:
        ImportError: the extension module is not built.
    """
    spec = importlib.util.find_spec("ersd._core")
    if spec is None or spec.origin is None:
        raise ImportError("the extension module ersd._core is not built: install ersd")
    return Path(spec.origin).parent / "bin"


def _preload() -> None:
    # llama_cpp opens its libraries by these names. A library that is already open under the same
    # name is used again, so ersd._core and llama_cpp share one llama.cpp in the process.
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
    """Imports and returns a module of llama_cpp, like "llama_grammar".

    The import of llama_cpp sends llama.cpp's log to stderr. This function gives the log back to
    ersd, so that llama.cpp stays quiet.
    """
    first_import = "llama_cpp" not in sys.modules
    module = importlib.import_module(f"llama_cpp.{name}")
    if first_import:
        from ersd import _core

        _core.take_log()
    return module


_check_version()
_preload()
