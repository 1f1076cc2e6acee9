"""Files of prompts."""

from __future__ import annotations

from pathlib import Path

__all__ = ["read_prompts"]


def read_prompts(path: Path) -> list[str]:
    """The prompts of a file, set apart by lines that hold only ---."""
    prompts = [
        part.strip("\n")
        for part in ("\n" + path.read_text(encoding="utf-8") + "\n").split("\n---\n")
    ]
    return [prompt for prompt in prompts if prompt]
