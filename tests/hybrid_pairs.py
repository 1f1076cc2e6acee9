"""Recurrent and hybrid targets with drafts, and the same targets alone."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np

import tiny_hybrid
from conftest import Drafting
from ersd import Generator

FULL: dict[str, Any] = {"top_k": 0, "top_p": 1.0, "min_p": 0.0}
LONG = [1, *np.random.default_rng(5).integers(260, 500, size=80).tolist()]


class Pair:
    """A target, a draft that is often wrong, and the same target alone."""

    def __init__(self, folder: Path, arch: str) -> None:
        """Writes both models."""
        self.path = tiny_hybrid.write_hybrid(folder / f"{arch}.gguf", arch)
        self.draft = tiny_hybrid.write_hybrid(folder / f"{arch}-draft.gguf", arch, noise=0.4)
        options: dict[str, Any] = {"n_ctx": 512, "n_threads": 1, "n_parallel": 1, "exact": True}
        self.pair = Drafting(self.path, self.draft, **options)
        self.alone = Generator(self.path, **options)

    def plain(self, prompt: Any, **options: Any) -> list[int]:
        """Returns the tokens of plain sampling, from an empty cache."""
        self.alone.reset()
        return self.alone.generate(prompt, method="ar", **(FULL | options)).tokens
