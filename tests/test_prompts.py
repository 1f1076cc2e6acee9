"""Reading files of prompts."""

from __future__ import annotations

from pathlib import Path

from ersd.prompts import read_prompts


def test_read_prompts(tmp_path: Path) -> None:
    """Lines of --- separate prompts. A prompt may have several lines, and other dashes."""
    path = tmp_path / "prompts.txt"
    path.write_text("---\none\n---\ntwo\n- 2\n\n----\n---\n\n---\nthree")
    assert read_prompts(path) == ["one", "two\n- 2\n\n----", "three"]
