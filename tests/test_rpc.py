"""Targets whose weights and caches are in a device's memory: that of a server on this machine.

The tests with a server need llama.cpp's RPC backend, see .ci/device.
"""

from __future__ import annotations

import gc
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import gguf
import pytest

import tiny
from conftest import Drafting
from ersd import Generator

LIBRARY = os.environ.get("GGML_BACKEND_PATH", "")
FULL: dict[str, Any] = {"top_k": 0, "top_p": 1.0, "min_p": 0.0}
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
    types = gguf.GGMLQuantizationType[kind]
    target = tiny.write_llama(folder / f"rpc-{kind}.gguf", kind=types)
    draft = tiny.write_llama(folder / f"rpc-{kind}-draft.gguf", kind=types, noise=0.15)
    options: dict[str, Any] = {"n_ctx": 512, "n_threads": 1, "n_parallel": 2, "exact": True}
    pair = Drafting(target, draft, rpc_servers=[server], **options)
    remote = [m for m in pair.memory if m.device.startswith("RPC")]
    assert [m.model for m in remote] == ["target"]
    assert remote[0].weights > 0
    assert remote[0].cache > 0
    prompt = [1, *range(300, 340)]
    for seed in range(6):
        given = {"max_tokens": 40, "seed": seed, **FULL}
        expected = pair.generate(prompt, method="ar", **given).tokens
        for k, strategy in ((2, "sequence"), (6, "tree"), (16, "adaptive"), (9, "batch")):
            result = pair.generate(prompt, draft_nodes=k, strategy=strategy, **given)
            assert result.tokens == expected
        assert result.stats.accepted > 0
    state = pair.save_state()
    pair.reset()
    pair.load_state(state)
    again = pair.generate(prompt, draft_nodes=6, **given)
    assert again.tokens == expected
    assert again.stats.cached_tokens == len(prompt) - 1
    del pair
    gc.collect()  # llama.cpp frees the server's memory, and ends a process whose server is gone


def test_servers_that_are_not_there(tiny_target: Path) -> None:
    """They are named, and the process goes on."""
    for bad in ("localhost", "localhost:x", ":1", "a:99999"):
        with pytest.raises(ValueError, match=f"must have addresses 'host:port', got '{bad}'"):
            Generator(tiny_target, rpc_servers=[bad])
    with pytest.raises(TypeError, match="must be a list of 'host:port', got the str"):
        Generator(tiny_target, rpc_servers="localhost:1")
    with pytest.raises(ConnectionError, match=r"'127\.0\.0\.1:1' does not answer"):
        Generator(tiny_target, rpc_servers=["127.0.0.1:1"])


@pytest.mark.skipif("ggml-rpc" in LIBRARY, reason="this process has the backend")
def test_a_build_without_the_backend(tiny_target: Path) -> None:
    """It says what to install."""
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"127.0.0.1:{listening.getsockname()[1]}"
        with pytest.raises(ValueError, match="rpc_servers needs a llama"):
            Generator(tiny_target, rpc_servers=[address])
