"""Settings of a distillation, and the command line that gives them."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path

from ersd.distill.student import Dimensions

__all__ = ["Distillation", "command"]

# Least values of settings. The C++ Teacher has at most 255 slots, one of which the texts share.
LEAST = {"n_positions": 1, "epochs": 0, "n_ctx": 16, "n_texts": 2, "seed": 0, "n_threads": 0}
MAX_TEXTS = 254


@dataclass(frozen=True)
class Distillation:
    """Settings of a distillation.

    Attributes:
        target: the target, a GGUF file.
        draft: the GGUF file to write. Next to it come a card, ``.md``, and a folder ``.work`` with
            all that is needed to continue a stopped run.
        width: width of the student, a multiple of 64.
        layers: layers of the student.
        n_positions: positions of text that the target writes or reads.
        epochs: how often the student sees each position.
        n_ctx: the longest text, in tokens.
        n_texts: texts that are written in parallel.
        text: files of text that the target reads before it writes.
        seed: seed of the texts and of training.
        n_threads: CPU threads; 0 for one per core.
        n_gpu_layers: layers of the target on the GPU, if there is one; -1 for all.
        corpus: the folder of the texts; None for `work`. Drafts of other sizes can learn from the
            same texts, or from the first ones of them.
        begin_from: a draft of the same size, made from the same or a similar target, which learns
            further; None for a new one.
        held_out_chat: files of chat messages on whose answers the draft is evaluated, too.
        held_out_text: files of texts that the target continues, for the same purpose.
    """

    target: Path
    draft: Path
    width: int = 256
    layers: int = 3
    n_positions: int = 1_000_000
    epochs: float = 6
    n_ctx: int = 320
    n_texts: int = MAX_TEXTS
    text: tuple[Path, ...] = ()
    seed: int = 1
    n_threads: int = 0
    n_gpu_layers: int = -1
    corpus: Path | None = None
    begin_from: Path | None = None
    held_out_chat: tuple[Path, ...] = ()
    held_out_text: tuple[Path, ...] = ()

    def validate(self) -> None:
        """Raise ValueError for a wrong setting and FileNotFoundError for a missing text file."""
        for name, least in LEAST.items():
            if not getattr(self, name) >= least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if self.n_texts > MAX_TEXTS:
            raise ValueError(f"n_texts must be at most {MAX_TEXTS}, got {self.n_texts}")
        for path in (*self.text, *self.held_out_chat, *self.held_out_text):
            if not path.is_file():
                raise FileNotFoundError(f"no such text file: '{path}'")
        if self.begin_from and not self.begin_from.is_file():
            raise FileNotFoundError(f"no such draft: '{self.begin_from}'")
        if self.draft.suffix != ".gguf":
            raise ValueError(f"the draft's file name must end with .gguf, got '{self.draft}'")
        Dimensions(1, self.width, self.layers)  # raises for wrong ones

    @property
    def work(self) -> Path:
        """The folder of all files that a stopped run needs to continue."""
        return self.draft.with_suffix(".work")

    @property
    def texts(self) -> Path:
        """The folder of the texts."""
        return self.corpus or self.work


# The flags of the settings that decide what the draft becomes.
_FLAGS = {
    "width": "width",
    "layers": "layers",
    "n_positions": "tokens",
    "epochs": "epochs",
    "n_ctx": "ctx-size",
    "n_texts": "parallel",
    "seed": "seed",
}
_FILES = {"text": "text", "held_out_chat": "held-out-chat", "held_out_text": "held-out-text"}


def command(settings: Distillation) -> str:
    """Return the command line of ``ersd distill`` that makes the same draft."""
    words = ["ersd distill", settings.target.name, "-o", settings.draft.name]
    for name, flag in _FLAGS.items():
        value = getattr(settings, name)
        if value != getattr(Distillation, name):
            words += [f"--{flag}", f"{value:g}" if name == "epochs" else str(value)]
    if settings.begin_from:
        words += ["--from", settings.begin_from.name]
    for name, flag in _FILES.items():
        if paths := getattr(settings, name):
            words += [f"--{flag}", *(path.name for path in paths)]
    return " ".join(words)
