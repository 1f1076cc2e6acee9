"""Models from the Hugging Face Hub."""

from __future__ import annotations

import os
import re
from collections.abc import Sequence
from fnmatch import fnmatch
from typing import TYPE_CHECKING, Any

if TYPE_CHECKING:
    from ersd.generator import Generator

__all__ = ["from_pretrained"]

_PART = re.compile(r"(?P<name>.*)-(?P<part>\d{5})-of-(?P<count>\d{5})\.gguf")


def from_pretrained(
    cls: type[Generator],
    /,
    repo_id: str,
    filename: str,
    draft_repo_id: str | None = None,
    draft_filename: str | None = None,
    *,
    additional_files: Sequence[str] = (),
    local_dir: str | os.PathLike[str] | None = None,
    cache_dir: str | os.PathLike[str] | None = None,
    **options: Any,
) -> Generator:
    """Load models from the Hugging Face Hub, downloaded once.

    >>> Generator.from_pretrained("unsloth/Qwen3-8B-GGUF", "*Q4_0.gguf", "unsloth/Qwen3-0.6B-GGUF", "*Q8_0.gguf")

    Needs the package huggingface_hub (``pip install "ersd[hub]"``).

    Args:
        repo_id: the target's repository.
        filename: its file, or a pattern like ``*Q4_0.gguf`` that one file matches. Of a model in several parts all are fetched.
        draft_repo_id: the draft's repository; None for the target's, if draft_filename is given.
        draft_filename: its file or pattern; None for no draft.
        additional_files: more files of the target's repository to fetch, names or patterns.
        local_dir: a folder to put the files into; None for the Hub's cache.
        cache_dir: where that cache is; None for its usual place.
        options: of the constructor.

    Raises:
        ImportError: huggingface_hub is not installed.
        ValueError: no file, or more than one, matches; a draft's repository without its file.
    """
    if draft_repo_id is not None and draft_filename is None:
        raise ValueError(f"draft_filename is missing: which file of {draft_repo_id} is the draft?")
    places = {"local_dir": local_dir, "cache_dir": cache_dir}
    model = _download(repo_id, filename, places)
    for name in additional_files:
        _download(repo_id, name, places)
    draft = (
        None
        if draft_filename is None
        else _download(draft_repo_id or repo_id, draft_filename, places)
    )
    return cls(model, draft, **options)


def _download(repo_id: str, pattern: str, places: dict[str, Any]) -> str:
    """The path of the file, or of its first part."""
    try:
        import huggingface_hub
    except ImportError as error:
        raise ImportError(
            'huggingface_hub is not installed: run `pip install "ersd[hub]"`'
        ) from error
    # A plain name needs no list of files, so that what is in the cache already loads without a network.
    names = _parts(
        _only(repo_id, pattern, huggingface_hub.list_repo_files(repo_id))
        if set("*?[") & set(pattern)
        else pattern
    )
    first, *_ = [str(huggingface_hub.hf_hub_download(repo_id, name, **places)) for name in names]
    return first


def _only(repo_id: str, pattern: str, files: Sequence[str]) -> str:
    """The file that matches; the first part where all that match are parts of one model."""
    found = sorted(name for name in files if fnmatch(name, pattern))
    if not found:
        models = [name for name in files if name.endswith(".gguf")]
        raise ValueError(
            f"no file of {repo_id} matches '{pattern}'; its GGUF files: {', '.join(models) or 'none'}"
        )
    if len(found) > 1 and found != _parts(found[0]):
        raise ValueError(
            f"several files of {repo_id} match '{pattern}', expected one: {', '.join(found)}"
        )
    return found[0]


def _parts(name: str) -> list[str]:
    """All parts of a model of which this is one."""
    match = _PART.fullmatch(name)
    if not match:
        return [name]
    count = int(match["count"])
    return [f"{match['name']}-{part:05}-of-{count:05}.gguf" for part in range(1, count + 1)]
