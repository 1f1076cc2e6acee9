"""Model files from the Hugging Face Hub."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from fnmatch import fnmatch
from typing import NamedTuple

__all__ = ["Folders", "download"]

_PART = re.compile(r"(?P<name>.*)-(?P<part>\d{5})-of-(?P<count>\d{5})\.gguf")


class Folders(NamedTuple):
    """Where downloaded files go, as huggingface_hub takes it.

    Attributes:
        local_dir: a folder for the files; None for the Hub's cache.
        cache_dir: the folder of the Hub's cache; None for its usual place.
    """

    local_dir: str | os.PathLike[str] | None
    cache_dir: str | os.PathLike[str] | None


def download(repo_id: str, pattern: str, folders: Folders) -> str:
    """Downloads a file, or all files of a model in several, and returns the path of the first.

    Args:
        repo_id: the repository.
        pattern: the file's name, or a pattern that matches one model.
        folders: where the files go.

    Raises:
        ImportError: huggingface_hub is not installed.
        ValueError: the pattern matches no file or several.
    """
    try:
        import huggingface_hub
    except ImportError as error:
        raise ImportError(
            'huggingface_hub is not installed: run `pip install "ersd[hub]"`'
        ) from error
    # A plain name needs no list of files, so a cached file loads without a network.
    name = pattern
    if set("*?[") & set(pattern):
        name = _matching(repo_id, pattern, huggingface_hub.list_repo_files(repo_id))
    first, *_ = [
        str(huggingface_hub.hf_hub_download(repo_id, part, **folders._asdict()))
        for part in _parts(name)
    ]
    return first


def _matching(repo_id: str, pattern: str, files: Sequence[str]) -> str:
    """Returns the one file that matches, or the first part if all matches are of one model."""
    found = sorted(name for name in files if fnmatch(name, pattern))
    if not found:
        models = [name for name in files if name.endswith(".gguf")]
        raise ValueError(
            f"no file of {repo_id} matches '{pattern}'; "
            f"its GGUF files: {', '.join(models) or 'none'}"
        )
    if len(found) > 1 and found != _parts(found[0]):
        raise ValueError(
            f"several files of {repo_id} match '{pattern}', expected one: {', '.join(found)}"
        )
    return found[0]


def _parts(name: str) -> list[str]:
    """Returns the names of all parts of the model that this file is a part of."""
    match = _PART.fullmatch(name)
    if not match:
        return [name]
    count = int(match["count"])
    return [f"{match['name']}-{part:05}-of-{count:05}.gguf" for part in range(1, count + 1)]
