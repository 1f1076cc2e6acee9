"""A cache folder that is damaged, in the way, or not there."""

from __future__ import annotations

from pathlib import Path

import pytest

from test_profile import generator


def test_a_cache_that_cannot_be_used_does_no_harm(
    tiny_target: Path, tiny_draft: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A broken file is written again; a cache folder that is a file is ignored."""
    monkeypatch.setenv("ERSD_CACHE", str(tmp_path))
    generator(tiny_target, tiny_draft, profile=True).generate("a", max_tokens=2)
    (path,) = tmp_path.glob("*.npz")
    path.write_bytes(path.read_bytes()[:100])
    broken = generator(tiny_target, tiny_draft, profile=True)
    assert not broken.profile().has_costs
    broken.generate("a", max_tokens=2)
    assert generator(tiny_target, tiny_draft, profile=True).profile().has_costs
    monkeypatch.setenv("ERSD_CACHE", str(path))
    assert generator(tiny_target, tiny_draft, profile=True).generate("a", max_tokens=2).tokens


def test_without_a_home(
    tiny_target: Path, tiny_draft: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A process without a home folder generates, and saves profiles where it is told to."""

    def no_home() -> Path:
        raise RuntimeError("Could not determine home directory.")

    monkeypatch.delenv("ERSD_CACHE")
    monkeypatch.delenv("XDG_CACHE_HOME", raising=False)
    monkeypatch.setattr(Path, "home", no_home)
    homeless = generator(tiny_target, tiny_draft, profile=True)
    assert homeless.generate("a", max_tokens=2).tokens
    homeless.save_profile(tmp_path / "pair.npz")
    with pytest.raises(FileNotFoundError, match="there is no home folder"):
        homeless.save_profile()
