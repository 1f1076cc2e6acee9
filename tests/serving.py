"""Servers on tiny models for tests: the app without a network, and a real server in a thread."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
from starlette.applications import Starlette

import tiny
from ersd import Generator
from ersd.serve import Settings, create_app
from ersd.serve.run import HttpServer, address, listen
from ersd.serve.server import Server

__all__ = ["Running", "asking", "asking_app", "load_tiny", "running", "until"]

CHAT = (
    "{% for m in messages %}<s>{{ m.role }}: {{ m.content }}</s>{% endfor %}"
    "{% if add_generation_prompt %}<s>assistant: {% endif %}"
)


def load_tiny(folder: Path, **options: Any) -> Generator:
    """Loads a tiny target that ends its texts now and then and has a chat template, and a draft.

    Args:
        folder: where the models are written, unless they are there already.
        options: of the Generator.
    """
    target, draft = folder / "served.gguf", folder / "served-draft.gguf"
    if not target.exists():
        tiny.write_llama(target, ends=True, chat_template=CHAT)
        tiny.write_llama(draft, ends=True, noise=0.15)
    options = {"n_ctx": 512, "n_ctx_total": 2048, "n_threads": 1, "exact": True} | options
    options = {"n_history": 0} | options  # as `ersd serve` has it
    return Generator(target, draft, profile=False, **options)


def until(holds: Callable[[], object], seconds: float = 30) -> None:
    """Waits until something holds."""
    deadline = time.monotonic() + seconds
    while not holds():
        assert time.monotonic() < deadline, "it does not happen"
        time.sleep(0.005)


@contextlib.asynccontextmanager
async def asking(
    load: Callable[[], Generator], settings: Settings | None = None
) -> AsyncIterator[httpx.AsyncClient]:
    """Yields a client of a new app, as `asking_app`. The arguments are those of `create_app`."""
    async with asking_app(create_app(load, settings)) as client:
        yield client


@contextlib.asynccontextmanager
async def asking_app(app: Starlette) -> AsyncIterator[httpx.AsyncClient]:
    """Yields a client of an app without a network. An answer comes to it when it is whole."""
    transport = httpx.ASGITransport(app, raise_app_exceptions=False)
    async with app.router.lifespan_context(app):
        while app.state.server.is_loading:
            await asyncio.sleep(0.005)
        async with httpx.AsyncClient(transport=transport, base_url="http://server") as client:
            yield client


class Running:
    """A server that runs in a thread.

    Attributes:
        url: its address.
        server: its state.
    """

    def __init__(self, app: Starlette) -> None:
        """Starts the thread."""
        listening = listen(app.state.server.settings)
        self.url = address(listening)
        self._http = HttpServer(app)
        self.server: Server = self._http.state
        self._loop: asyncio.AbstractEventLoop | None = None

        async def serve() -> None:
            self._loop = asyncio.get_running_loop()
            await self._http.serve([listening])

        self._thread = threading.Thread(target=asyncio.run, args=(serve(),))
        self._thread.start()

    def drain(self) -> None:
        """Lets the server do what it does after SIGTERM. It does not wait."""
        until(lambda: self._loop is not None)
        assert self._loop is not None
        self._loop.call_soon_threadsafe(self._http.drain)

    def stop(self) -> None:
        """Drains the server and waits until its thread has ended."""
        if self._thread.is_alive():
            self.drain()
        self._thread.join(60)
        assert not self._thread.is_alive()


@contextlib.contextmanager
def running(
    load: Callable[[], Generator], settings: Settings | None = None, *, ready: bool = True
) -> Iterator[Running]:
    """Yields a real server on a free port, and stops it.

    Args:
        load: loads the models.
        settings: of the server; its port must be 0.
        ready: whether to wait until the models are loaded.
    """
    server = Running(create_app(load, settings or Settings(port=0)))
    try:
        if ready:
            until(lambda: httpx.get(f"{server.url}/health").status_code == 200)
        yield server
    finally:
        server.stop()
