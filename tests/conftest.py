"""Models that tests share, and the option to run long grids of cases."""

from __future__ import annotations

import gc
import os
import signal
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import pytest

import tiny
from ersd import Generator, Result, Stream, _core, models
from ersd.distill import corpus
from ersd.distill.writing import write
from parallel_requests import N_PARALLEL, N_REQUESTS, request

GRIDS = pytest.StashKey[int]()  # how many tests of long grids were left out


@pytest.hookimpl(trylast=True)  # after -k and -m
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Leaves out the tests that are marked as a long grid, unless they are asked for."""
    if os.environ.get("ERSD_FULL") or "grid" in config.getoption("markexpr"):
        return
    left_out = [item for item in items if item.get_closest_marker("grid")]
    items[:] = [item for item in items if not item.get_closest_marker("grid")]
    config.hook.pytest_deselected(items=left_out)
    config.stash[GRIDS] = len(left_out)


def pytest_sessionfinish(session: pytest.Session) -> None:
    """Lets the main process of pytest-xdist know what its workers left out."""
    if hasattr(session.config, "workeroutput"):
        session.config.workeroutput["grids"] = session.config.stash.get(GRIDS, 0)


@pytest.hookimpl(optionalhook=True)
def pytest_testnodedown(node: Any) -> None:
    """Takes over from a worker of pytest-xdist what it left out; every worker collects all."""
    node.config.stash[GRIDS] = getattr(node, "workeroutput", {}).get("grids", 0)


def pytest_terminal_summary(terminalreporter: Any, config: pytest.Config) -> None:
    """Says how long grids are run."""
    if n := config.stash.get(GRIDS, 0):
        line = f"{n} tests of long grids left out: ERSD_FULL=1 runs them too, -m grid only them"
        terminalreporter.write_line(line)


class Drafting(Generator):
    """A Generator that drafts 16 nodes by default.

    With "auto" it would depend on the machine whether anything is drafted.
    """

    nodes = 16

    def stream(self, prompt: str | Sequence[int], **options: Any) -> Stream:
        """Streams an answer, as Generator.stream does."""
        return super().stream(prompt, **({"draft_nodes": self.nodes} | options))

    def generate(self, prompt: str | Sequence[int], **options: Any) -> Result:
        """Returns an answer, as Generator.generate does."""
        return super().generate(prompt, **({"draft_nodes": self.nodes} | options))


def ctrl_c(seconds: float, function: Callable[..., object], *args: Any, **options: Any) -> bool:
    """Calls a function and interrupts it after some seconds, as Ctrl-C does.

    It is interrupted again every few seconds, as a user would do, because Python drops a
    KeyboardInterrupt that comes while it finalizes an object. An earlier test may have left one.

    Returns whether KeyboardInterrupt came out of the function before it returned.
    """
    previous = signal.signal(signal.SIGALRM, signal.default_int_handler)
    returned = False
    try:
        try:
            signal.setitimer(signal.ITIMER_REAL, seconds, 5)
            function(*args, **options)
            returned = True
        finally:
            signal.setitimer(signal.ITIMER_REAL, 0)
    except KeyboardInterrupt:  # the alarm may also come just after the function returned
        pass
    finally:
        signal.signal(signal.SIGALRM, previous)
    return not returned


@pytest.fixture(scope="session", autouse=True)
def listening() -> None:
    """Lets SIGINT raise KeyboardInterrupt; a shell's background jobs ignore it otherwise."""
    signal.signal(signal.SIGINT, signal.default_int_handler)


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Path]:
    """A cache folder for the tests and their child processes, so that the user's is not touched."""
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
    """A copy of tiny_target whose weights are disturbed."""
    return tiny.write_llama(folder / "draft.gguf", noise=0.15)


@pytest.fixture(scope="session")
def generator(tiny_target: Path, tiny_draft: Path) -> Generator:
    """A Generator of tiny_target and tiny_draft."""
    return Drafting(tiny_target, tiny_draft, n_ctx=1024, n_threads=1)


@pytest.fixture(scope="module")
def client(generator: Generator) -> Iterator[Any]:
    """A client of a server with the Generator that a module's fixture gives."""
    httpx, serving = (pytest.importorskip(name) for name in ("httpx", "serving"))
    with serving.running(lambda: generator) as server, httpx.Client(base_url=server.url) as client:
        yield client


@pytest.fixture(scope="session")
def texts_alone(tiny_target: Path, tiny_draft: Path) -> list[list[int]]:
    """The tokens of each request, from a Generator that runs one at a time."""
    alone = Drafting(tiny_target, tiny_draft, n_ctx=512, n_parallel=1, n_threads=1, exact=True)
    answers = []
    for i in range(N_REQUESTS):
        prompt, options = request(i)
        answers.append(alone.generate(prompt, **options).tokens)
    return answers


@pytest.fixture(scope="session")
def parallel_generator(tiny_target: Path, tiny_draft: Path) -> Generator:
    """A Generator that runs several requests at once, with room for all of them."""
    return Generator(
        tiny_target,
        tiny_draft,
        n_ctx=512,
        n_parallel=N_PARALLEL,
        n_ctx_total=N_PARALLEL * 512,
        n_threads=1,
        exact=True,
    )


@pytest.fixture
def parallel(parallel_generator: Generator) -> Iterator[Generator]:
    """The Generator of many requests. After the test all its places and cells must be free."""
    yield parallel_generator
    gc.collect()
    # Cancelled requests leave before the next step.
    parallel_generator.generate("a", max_tokens=1, draft_nodes=1)
    core = parallel_generator._core
    assert (core.n_active, core.n_waiting) == (0, 0)
    parallel_generator.reset()
    assert core.n_free == core.n_cells


@pytest.fixture(scope="session")
def target() -> Path:
    """The default target, which is made in the cache folder of the tests."""
    return models.default_target()


@pytest.fixture(scope="session")
def bad_draft(folder: Path, target: Path) -> Path:
    """The default target without its layers 20 to 25."""
    return tiny.prune_layers(target, folder / "bad.gguf", range(20, 26))


def writing(
    path: Path, writer: Generator, writer_path: Path, n: int, given: Sequence[Sequence[int]] = ()
) -> Iterator[int]:
    """Writes texts of up to 48 tokens to a file; yields how many positions there are so far."""
    teacher = _core.Teacher(_core.Model(str(writer_path)), n_texts=5, n_ctx=48, n_threads=1)
    return write(teacher, writer, path, n, n_ctx=48, seed=3, given=given)


def written(
    path: Path, writer: Generator, writer_path: Path, n: int, given: Sequence[Sequence[int]] = ()
) -> list[corpus.Text]:
    """Returns the first texts that writing() writes, enough for n positions."""
    for _ in writing(path, writer, writer_path, n, given):
        pass
    return corpus.Corpus(path, n).texts


CHAT = (
    "{% for m in messages %}<s>{{ m.role }}: {{ m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant: {% endif %}"
)


@pytest.fixture(scope="session")
def writer_path(folder: Path) -> Path:
    """A random model that ends its texts now and then and has a chat template."""
    return tiny.write_llama(folder / "writer.gguf", ends=True, chat_template=CHAT)


@pytest.fixture(scope="session")
def writer(writer_path: Path) -> Generator:
    """A Generator of the model writer_path, with the types of cache that a teacher has."""
    return Generator(writer_path, n_ctx=512, n_threads=1, type_k="f16", flash_attn=True)


@pytest.fixture(scope="session")
def texts(folder: Path, writer: Generator, writer_path: Path) -> list[corpus.Text]:
    """Texts of two thousand positions that the writer wrote."""
    return written(folder / "texts.bin", writer, writer_path, 2000)
