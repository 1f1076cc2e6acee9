"""Reads files of prompts."""

from __future__ import annotations

from pathlib import Path

__all__ = ["read_prompts"]


def read_prompts(path: Path) -> list[str]:
    """Returns the prompts of a UTF-8 file, in which lines that hold only --- separate them."""
    text = "\n" + path.read_text(encoding="utf-8") + "\n"
    prompts = [part.strip("\n") for part in text.split("\n---\n")]
    return [prompt for prompt in prompts if prompt]
