"""Targets whose weights and caches are in a device's memory: that of a server on this machine.

The tests with a server need llama.cpp's RPC backend, see .ci/device.
"""

from __future__ import annotations

import contextlib
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from device_texts import check_texts
from ersd import Generator
from ersd.engine import rpc_servers

LIBRARY = os.environ.get("GGML_BACKEND_PATH", "")
needs_backend = pytest.mark.skipif("ggml-rpc" not in LIBRARY, reason="bash .ci/device runs it")


@pytest.fixture(scope="module")
def server() -> Iterator[str]:
    """The address of a server in a process of its own."""
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    script = Path(__file__).with_name("rpc_server.py")
    process = subprocess.Popen([sys.executable, script, address, LIBRARY])
    host, port = address.split(":")
    while True:
        try:
            socket.create_connection((host, int(port))).close()
            break
        except OSError:
            assert process.poll() is None
            time.sleep(0.05)
    yield address
    process.kill()
    process.wait()


@needs_backend
@pytest.mark.parametrize("kind", ["Q8_0", "Q4_0", "F16"])
def test_drafted_texts_are_plain_ones(folder: Path, server: str, kind: str) -> None:
    """With exact=True they are, though a device's bits depend on widths; states go there too."""
    check_texts(folder, kind, "RPC", rpc_servers=[server])


def test_servers_that_are_not_there(tiny_target: Path) -> None:
    """They are named, and the process goes on."""
    for bad in ("localhost", "localhost:x", ":1", "a:99999"):
        with pytest.raises(ValueError, match=f"must have addresses 'host:port', got '{bad}'"):
            Generator(tiny_target, rpc_servers=[bad])
    with pytest.raises(TypeError, match="must be a list of 'host:port', got the str"):
        Generator(tiny_target, rpc_servers="localhost:1")
    with pytest.raises(ConnectionError, match=r"'127\.0\.0\.1:1' does not answer"):
        Generator(tiny_target, rpc_servers=["127.0.0.1:1"])


@contextlib.contextmanager
def answering(answer: bytes) -> Iterator[str]:
    """The address of a listener that gives every client one answer; with b"", none."""
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    client, _ = listening.accept()
                    clients.append(client)
                    client.recv(64)
                    client.sendall(answer)

        clients: list[socket.socket] = []
        threading.Thread(target=serve, daemon=True).start()
        yield f"127.0.0.1:{listening.getsockname()[1]}"
        listening.shutdown(socket.SHUT_RDWR)
        for client in clients:
            client.close()


def hello(major: int, minor: int = 0) -> bytes:
    """What a server of a version of the protocol answers first."""
    return struct.pack("<Q4B24x", 28, major, minor, 0, 0)


@pytest.mark.parametrize(
    ("answer", "message"),
    [
        (b"", r"does not answer within 0\.2 s: it is not there, or it serves another client"),
        (b"HTTP/1.1 400 Bad Request\r\n\r\n, which is long", "is no server of llama"),
        (hello(6), r"has version 6\.0 of llama\.cpp's protocol, expected 7\.0"),
        (hello(7, 9), r"has version 7\.9 of llama\.cpp's protocol, expected 7\.0"),
    ],
)
def test_servers_that_cannot_be_used(
    tiny_target: Path, monkeypatch: pytest.MonkeyPatch, answer: bytes, message: str
) -> None:
    """llama.cpp would end the process or wait without end; a sentence comes instead."""
    monkeypatch.setattr(rpc_servers, "_TIMEOUT", 0.2)
    with answering(answer) as address, pytest.raises(ConnectionError, match=message):
        Generator(tiny_target, rpc_servers=[address])


@pytest.mark.skipif("ggml-rpc" in LIBRARY, reason="this process has the backend")
def test_a_build_without_the_backend(tiny_target: Path) -> None:
    """It says what to install."""
    message = "rpc_servers needs a llama"
    with answering(hello(7)) as address, pytest.raises(ValueError, match=message):
        Generator(tiny_target, rpc_servers=[address])
