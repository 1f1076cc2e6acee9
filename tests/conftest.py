"""Models that tests share."""

from __future__ import annotations

import contextlib
import signal
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import tiny
from ersd import Generator, Result, Stream, _core, models
from ersd.distill import corpus
from ersd.distill.writing import write


class Drafting(Generator):
    """Drafts 16 nodes unless told otherwise: with "auto" it would depend on the machine whether anything is drafted at all."""

    nodes = 16

    def stream(self, prompt: str | Sequence[int], **options: Any) -> Stream:
        """As the base, but for the default."""
        return super().stream(prompt, **({"draft_nodes": self.nodes} | options))

    def generate(self, prompt: str | Sequence[int], **options: Any) -> Result:
        """As the base, but for the default."""
        return super().generate(prompt, **({"draft_nodes": self.nodes} | options))


@contextlib.contextmanager
def ctrl_c(seconds: float) -> Iterator[None]:
    """KeyboardInterrupt in what stands inside, which it ends, if that lasts so long."""
    previous = signal.signal(signal.SIGALRM, signal.default_int_handler)
    try:
        with contextlib.suppress(KeyboardInterrupt):
            try:
                signal.setitimer(signal.ITIMER_REAL, seconds)
                yield
            finally:
                signal.setitimer(signal.ITIMER_REAL, 0)
    finally:
        signal.signal(signal.SIGALRM, previous)


@pytest.fixture(scope="session", autouse=True)
def listening() -> None:
    """SIGINT reaches the tests' processes also where the runner was started in the background, which ignores it."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder of the tests' own, in their processes too: profiles and the twin that a user has are neither used nor touched."""
    with pytest.MonkeyPatch.context() as patch:
        folder = tmp_path_factory.mktemp("cache")
        patch.setenv("ERSD_CACHE", str(folder))
        yield folder


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


def writing(
    path: Path, writer: Generator, writer_path: Path, n: int, given: Sequence[Sequence[int]] = ()
) -> Iterator[int]:
    """Texts of up to 48 tokens, four at a time, with seed 3, as they are written."""
    teacher = _core.Teacher(_core.Model(str(writer_path)), n_texts=5, n_ctx=48, n_threads=1)
    return write(teacher, writer, path, n, n_ctx=48, seed=3, given=given)


def written(
    path: Path, writer: Generator, writer_path: Path, n: int, given: Sequence[Sequence[int]] = ()
) -> list[corpus.Text]:
    """The first of them that make up n positions."""
    for _ in writing(path, writer, writer_path, n, given):
        pass
    return corpus.Corpus(path).up_to(n)


CHAT = "{% for m in messages %}<s>{{ m.role }}: {{ m.content }}</s>{% endfor %}{% if add_generation_prompt %}<s>assistant: {% endif %}"


@pytest.fixture(scope="session")
def writer_path(folder: Path) -> Path:
    """A random model that ends its texts now and then and has a chat template."""
    return tiny.write_llama(folder / "writer.gguf", ends=True, chat_template=CHAT)


@pytest.fixture(scope="session")
def writer(writer_path: Path) -> Generator:
    """The same as a Generator, with the cache of a teacher."""
    return Generator(writer_path, n_ctx=512, n_threads=1, type_k="f16")


@pytest.fixture(scope="session")
def texts(folder: Path, writer: Generator, writer_path: Path) -> list[corpus.Text]:
    """Two thousand positions of texts that it wrote."""
    return written(folder / "texts.bin", writer, writer_path, 2000)
