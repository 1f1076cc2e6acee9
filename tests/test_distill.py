"""Distillation as a whole: drafts that are worth something, runs that continue, and the command."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

import tiny
from ersd import Generator
from ersd.commands.main import main
from ersd.distill import corpus, writing

pytestmark = pytest.mark.no_sanitizer

torch = pytest.importorskip("torch", reason="needs torch: pip install 'ersd[distill]'")

from ersd.distill.evaluation import evaluate  # noqa: E402
from ersd.distill.export import DraftFile  # noqa: E402
from ersd.distill.run import distill  # noqa: E402
from ersd.distill.settings import Distillation  # noqa: E402
from ersd.distill.student import Dimensions, Student  # noqa: E402
from ersd.distill.train import Trainer  # noqa: E402


def settings(writer_path: Path, draft: Path, **changes: Any) -> Distillation:
    """Returns settings of a distillation that takes seconds."""
    usual: dict[str, Any] = {
        "width": 64,
        "layers": 1,
        "n_positions": 6000,
        "epochs": 20,
        "n_ctx": 48,
        "n_texts": 16,
        "n_threads": 1,
    }
    return Distillation(writer_path, draft, **(usual | changes))


@pytest.fixture(scope="module")
def distilled(folder: Path, writer_path: Path) -> tuple[Path, dict[str, float]]:
    """A draft for the tiny target, and its figures."""
    path = folder / "distilled.gguf"
    return path, distill(settings(writer_path, path))


def test_a_distilled_draft_is_worth_more_than_one_that_learnt_nothing(
    distilled: tuple[Path, dict[str, float]],
    writer_path: Path,
    tmp_path: Path,
    texts: list[corpus.Text],
) -> None:
    """Races agree with a distilled draft clearly more often, and the card has the figures."""
    path, figures = distilled
    torch.manual_seed(1)
    untrained = tmp_path / "untrained.gguf"
    DraftFile(Student(Dimensions(515, 64, 1)), writer_path).write(untrained, {})
    pair = Generator(writer_path, untrained, n_ctx=96, n_threads=1, profile=False)
    before = evaluate(pair, [text.tokens[: len(text.tokens) // 2].tolist() for text in texts[:16]])
    for t in ("t1", "t0.6"):
        assert figures[f"first_{t}"] > before[f"first_{t}"] + 3 * (
            figures[f"first_{t}_stderr"] + before[f"first_{t}_stderr"]
        )
        assert figures[f"tokens_per_call_4_{t}"] < figures[f"tokens_per_call_16_{t}"]
    card = path.with_suffix(".md").read_text()
    assert f"{figures['first_t1']:.3f}" in card
    assert "ersd distill writer.gguf -o distilled.gguf --width 64 --layers 1 --tokens 6000" in card


def test_training_goes_on_to_the_same_weights(
    distilled: tuple[Path, dict[str, float]],
    writer_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """After a stop, even long after the last checkpoint, the same call ends with the same file."""
    path = tmp_path / "distilled.gguf"
    learn = Trainer.learn

    def stop(self: Trainer) -> float:
        if self.step == 37:
            raise KeyboardInterrupt
        return learn(self)

    with monkeypatch.context() as patch:
        patch.setattr(Trainer, "learn", stop)
        with pytest.raises(KeyboardInterrupt):
            distill(settings(writer_path, path))
    assert not path.exists()
    distill(settings(writer_path, path))
    ours, theirs = (gguf.GGUFReader(str(p)).tensors for p in (path, distilled[0]))
    assert all(np.array_equal(a.data, b.data) for a, b in zip(ours, theirs, strict=True))


def test_texts_serve_drafts_of_other_shapes(
    distilled: tuple[Path, dict[str, float]],
    writer_path: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """A draft of another size learns from the same texts, and nothing is written again.

    Its file is the same as with texts of its own. Texts of other settings are refused.
    """
    drawn: list[int] = []

    def refuse(*_: Any, **__: Any) -> list[int]:
        drawn.append(1)
        return []

    monkeypatch.setattr(writing, "write", refuse)
    path = tmp_path / "short.gguf"
    shorter = settings(
        writer_path, path, corpus=distilled[0].with_suffix(".work"), n_positions=5000, epochs=2
    )
    distill(shorter)
    assert not drawn
    assert not (shorter.work / "calls.bin").exists()
    with pytest.raises(ValueError, match="holds another distillation: seed = 1 instead of 2"):
        distill(settings(writer_path, tmp_path / "other.gguf", corpus=shorter.corpus, seed=2))
    monkeypatch.undo()
    alone = tmp_path / "alone.gguf"
    distill(settings(writer_path, alone, n_positions=5000, epochs=2))
    ours, theirs = (gguf.GGUFReader(str(p)).tensors for p in (path, alone))
    assert all(np.array_equal(a.data, b.data) for a, b in zip(ours, theirs, strict=True))


def test_a_draft_learns_further(
    distilled: tuple[Path, dict[str, float]], writer_path: Path, tmp_path: Path
) -> None:
    """A draft that begins from another one is worth more than a new one after the same time.

    The card names the draft it began from, and has the figures on prompts of files.
    """
    prompts = tmp_path / "prompts.txt"
    prompts.write_text("the and\n---\nof a\n---\nin\n---\nto the of")
    found = {}
    for begin_from in (None, distilled[0]):
        path = tmp_path / f"further-{len(found)}.gguf"
        changes = settings(
            writer_path,
            path,
            begin_from=begin_from,
            corpus=distilled[0].with_suffix(".work"),
            epochs=2,
            held_out_text=(prompts,),
            held_out_chat=(prompts,),
        )
        found[begin_from] = distill(changes)["first_t1"]
    assert found[distilled[0]] > found[None] + 0.02
    card = path.with_suffix(".md").read_text()
    assert "It began as distilled.gguf, which had learnt from" in card
    assert "--from distilled.gguf --held-out-chat prompts.txt --held-out-text prompts.txt" in card
    assert "| answers to prompts.txt |" in card
    assert "| continuations of prompts.txt |" in card
    wider = settings(writer_path, tmp_path / "wider.gguf", begin_from=distilled[0], width=128)
    with pytest.raises(ValueError, match="not a draft of `ersd distill` with width 128"):
        distill(wider)


def test_what_cannot_be_is_refused(
    tmp_path: Path, writer_path: Path, distilled: tuple[Path, dict[str, float]], capsys: Any
) -> None:
    """Each wrong setting is refused with a sentence that names it."""
    with pytest.raises(ValueError, match="holds another distillation: seed = 1 instead of 2"):
        distill(settings(writer_path, distilled[0], seed=2))
    with pytest.raises(ValueError, match="width must be a multiple of 64, got 100"):
        distill(settings(writer_path, tmp_path / "a.gguf", width=100))
    with pytest.raises(ValueError, match="keeps one state"):
        distill(settings(tiny.write_mamba(tmp_path / "mamba.gguf"), tmp_path / "b.gguf"))
    with pytest.raises(FileNotFoundError, match="no such text file"):
        distill(settings(writer_path, tmp_path / "c.gguf", text=(tmp_path / "none.txt",)))
    assert main(["distill", str(tmp_path / "none.gguf"), "-o", str(tmp_path / "d.gguf")]) == 1
    assert "no such model file" in capsys.readouterr().err


def test_the_command(tmp_path: Path, writer_path: Path, capsys: Any) -> None:
    """``ersd distill`` writes a draft that works, and prints its figures."""
    draft = tmp_path / "draft.gguf"
    text = tmp_path / "text.txt"
    text.write_text("the and of to in " * 40)
    flags = [
        "--width",
        "64",
        "--layers",
        "1",
        "--tokens",
        "3000",
        "--epochs",
        "1",
        "-c",
        "48",
        "-np",
        "8",
        "-t",
        "1",
    ]
    assert main(["distill", str(writer_path), "-o", str(draft), *flags, "--text", str(text)]) == 0
    assert "first_t1 0." in capsys.readouterr().out
    pair = Generator(writer_path, draft, n_ctx=256, n_threads=1)
    plain, drafted = (
        pair.generate("the", max_tokens=40, seed=5, method=m, draft_nodes=8) for m in ("ar", "ersd")
    )
    assert plain.tokens == drafted.tokens
