"""Runs the server until a signal ends it."""

from __future__ import annotations

import asyncio
import signal
import socket
from collections.abc import Callable
from types import FrameType

import uvicorn
from starlette.applications import Starlette

from ersd import Generator
from ersd.serve.app import create_app
from ersd.serve.connection import Connection
from ersd.serve.logs import configure, log
from ersd.serve.server import Server
from ersd.serve.settings import Settings

__all__ = ["HttpServer", "address", "listen", "run"]

_LOOPBACK = {"127.0.0.1", "::1", "localhost"}
_SECONDS_TO_FLUSH = 5  # how long clients may take to read the ends of their answers


def run(load: Callable[[], Generator], settings: Settings) -> None:
    """Serves until SIGTERM or SIGINT, and then until running answers have ended.

    A second signal ends the process at once. So does the first one while the models are loaded.

    Args:
        load: loads the models; it is called in a thread.
        settings: what the operator decides.

    Raises:
        OSError: the address cannot be listened on.
        FileNotFoundError, ValueError, RuntimeError: the models cannot be loaded.
    """
    configure(settings.log_format)
    if not settings.api_keys and settings.host not in _LOOPBACK:
        log.warning("without an API key, everybody who reaches this address may use the models")
    listening = listen(settings)
    HttpServer(create_app(load, settings)).serve_until_signal(listening)


def listen(settings: Settings) -> socket.socket:
    """Returns a socket that listens on the address of these settings.

    Raises:
        OSError: that is not possible.
    """
    family = socket.AF_INET6 if ":" in settings.host else socket.AF_INET
    try:
        listening = socket.create_server((settings.host, settings.port), family=family)
    except OSError as error:
        where = f"{settings.host}:{settings.port}"
        # Python repeats the address in brackets after the reason.
        reason = (error.strerror or str(error)).partition(" (while")[0]
        raise OSError(f"cannot listen on {where}: {reason}") from error
    # Connections inherit this. Without it, a part of an answer waits 40 ms for the one before.
    listening.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    return listening


def address(listening: socket.socket) -> str:
    """Returns the URL of a socket that listens."""
    host, port = listening.getsockname()[:2]
    return f"http://[{host}]:{port}" if ":" in host else f"http://{host}:{port}"


class HttpServer(uvicorn.Server):
    """uvicorn with the app of a server, which lets running answers end when a signal comes."""

    def __init__(self, app: Starlette) -> None:
        """app: of `create_app`."""
        self.state: Server = app.state.server
        self._drained: asyncio.Task[None] | None = None
        super().__init__(
            uvicorn.Config(
                app,
                http=Connection,
                ws="none",
                lifespan="on",
                log_config=None,
                access_log=False,
                server_header=False,
                timeout_keep_alive=self.state.settings.connection_timeout_s,
                timeout_graceful_shutdown=_SECONDS_TO_FLUSH,
                h11_max_incomplete_event_size=self.state.settings.max_header_bytes,
            )
        )

    def serve_until_signal(self, listening: socket.socket) -> None:
        """Serves on a socket that listens. The errors are those of `run`."""
        print(f"ersd serves at {address(listening)}", flush=True)
        super().run([listening])
        if self.state.failure is not None:
            raise self.state.failure

    def handle_exit(self, sig: int, frame: FrameType | None) -> None:
        """Begins to drain. Python calls this in the thread of the event loop."""
        for each in (signal.SIGINT, signal.SIGTERM):
            signal.signal(each, signal.SIG_DFL)
        if self.state.is_loading:
            signal.raise_signal(sig)
        asyncio.get_running_loop().call_soon_threadsafe(self.drain)

    def drain(self) -> None:
        """Refuses new requests, and ends the server when the running ones have ended."""
        log.info("draining")
        self._drained = asyncio.get_running_loop().create_task(self.state.drain())
        self._drained.add_done_callback(lambda _: setattr(self, "should_exit", True))

    async def on_tick(self, counter: int) -> bool:
        """Returns whether the server must end, which uvicorn asks ten times a second."""
        return await super().on_tick(counter) or self.state.failure is not None
