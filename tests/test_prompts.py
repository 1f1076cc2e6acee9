"""Files of prompts."""

from __future__ import annotations

from pathlib import Path

from ersd.prompts import read_prompts


def test_read_prompts(tmp_path: Path) -> None:
    """Lines of --- set prompts apart; a prompt may have several lines and dashes of its own."""
    path = tmp_path / "prompts.txt"
    path.write_text("---\none\n---\ntwo\n- 2\n\n----\n---\n\n---\nthree")
    assert read_prompts(path) == ["one", "two\n- 2\n\n----", "three"]
