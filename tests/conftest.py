"""Models that tests share."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

import tiny
from ersd import Generator, Result, Stream, models


class Drafting(Generator):
    """Drafts 16 nodes unless told otherwise: with "auto" it would depend on the machine whether anything is drafted at all."""

    nodes = 16

    def stream(self, prompt: str | Sequence[int], **options: Any) -> Stream:
        """As the base, but for the default."""
        return super().stream(prompt, **({"draft_nodes": self.nodes} | options))

    def generate(self, prompt: str | Sequence[int], **options: Any) -> Result:
        """As the base, but for the default."""
        return super().generate(prompt, **({"draft_nodes": self.nodes} | options))


@pytest.fixture(scope="session")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder for model files."""
    return tmp_path_factory.mktemp("models")


@pytest.fixture(scope="session")
def tiny_target(folder: Path) -> Path:
    """A random model of 2 layers and 515 tokens."""
    return tiny.write_llama(folder / "target.gguf")


@pytest.fixture(scope="session")
def tiny_draft(folder: Path) -> Path:
    """A disturbed copy of tiny_target."""
    return tiny.write_llama(folder / "draft.gguf", noise=0.15)


@pytest.fixture(scope="session")
def generator(tiny_target: Path, tiny_draft: Path) -> Generator:
    """The tiny pair."""
    return Drafting(tiny_target, tiny_draft, n_ctx=1024, n_threads=1)


@pytest.fixture(scope="session")
def target() -> Path:
    """The default target."""
    return models.default_target()


@pytest.fixture(scope="session")
def bad_draft(folder: Path, target: Path) -> Path:
    """The default target without its layers 20 to 25."""
    return tiny.prune_layers(target, folder / "bad.gguf", range(20, 26))
