"""Counts what a target on a server of llama.cpp's RPC backend costs per call: messages and bytes.

    GGML_BACKEND_PATH=libggml-rpc.so python bench/rpc.py [-m MODEL] [-k 0,4,16]

.ci/device says how that library is compiled. A server runs on this machine, behind a proxy that
reads the protocol. A call costs one round trip for each message that waits for an answer, and the
time of its bytes.
"""

from __future__ import annotations

import argparse
import os
import socket
import struct
import subprocess
import sys
import threading
import time
from collections import Counter
from pathlib import Path

from ersd import Generator, models

SCRIPT = Path(__file__).parent.parent / "tests" / "rpc_server.py"
# The commands of llama.cpp's protocol 7.0, in its order, and those that have no answer.
NAMES = [
    "ALLOC_BUFFER",
    "GET_ALIGNMENT",
    "GET_MAX_SIZE",
    "BUFFER_GET_BASE",
    "FREE_BUFFER",
    "BUFFER_CLEAR",
    "SET_TENSOR",
    "SET_TENSOR_HASH",
    "GET_TENSOR",
    "COPY_TENSOR",
    "GRAPH_COMPUTE",
    "GET_DEVICE_MEMORY",
    "INIT_TENSOR",
    "GET_ALLOC_SIZE",
    "HELLO",
    "DEVICE_COUNT",
    "GRAPH_RECOMPUTE",
    "MEMSET_TENSOR",
]
NO_ANSWER = [
    "FREE_BUFFER",
    "BUFFER_CLEAR",
    "SET_TENSOR",
    "GRAPH_COMPUTE",
    "INIT_TENSOR",
    "GRAPH_RECOMPUTE",
    "MEMSET_TENSOR",
]
PROMPT = "The rain had not stopped for three days, and"


class Proxy:
    """Passes one client at a time on to a server, and counts.

    Attributes:
        commands: how often each command was sent.
        sent: the bytes of each command.
        received: bytes of answers.
    """

    def __init__(self, server: tuple[str, int]) -> None:
        """Listens on a free port."""
        self._server = server
        self._listening = socket.create_server(("127.0.0.1", 0))
        self.address = f"127.0.0.1:{self._listening.getsockname()[1]}"
        self.clear()
        threading.Thread(target=self._run, daemon=True).start()

    def clear(self) -> None:
        """Counts from zero."""
        self.commands: Counter[str] = Counter()
        self.sent: Counter[str] = Counter()
        self.received = 0

    def _run(self) -> None:
        while True:
            client, _ = self._listening.accept()
            upstream = socket.create_connection(self._server)
            for end in (client, upstream):
                end.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            threading.Thread(target=self._answers, args=(upstream, client), daemon=True).start()
            self._requests(client, upstream)
            upstream.shutdown(socket.SHUT_RDWR)  # the server serves one client at a time

    def _requests(self, client: socket.socket, upstream: socket.socket) -> None:
        """Passes commands on: a byte, a length, and so many bytes."""
        stream = client.makefile("rb", buffering=1 << 20)
        while len(head := stream.read(9)) == 9:
            command, size = struct.unpack("<BQ", head)
            upstream.sendall(head + stream.read(size))
            self.commands[NAMES[command]] += 1
            self.sent[NAMES[command]] += 9 + size

    def _answers(self, upstream: socket.socket, client: socket.socket) -> None:
        while piece := upstream.recv(1 << 20):
            self.received += len(piece)
            client.sendall(piece)


def start_server() -> tuple[subprocess.Popen[bytes], tuple[str, int]]:
    """Returns a server on a free port of this machine, and its address."""
    with socket.create_server(("127.0.0.1", 0)) as free:
        address = free.getsockname()
    library = os.environ["GGML_BACKEND_PATH"]
    words = [sys.executable, str(SCRIPT), f"{address[0]}:{address[1]}", library]
    process = subprocess.Popen(words, stdout=subprocess.DEVNULL)
    while process.poll() is None:
        try:
            socket.create_connection(address).close()
            break
        except OSError:
            time.sleep(0.05)
    return process, address


def main() -> None:
    """Prints a row for each number of drafted tokens."""
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("-m", "--model", default=None, help="without it, the default target")
    parser.add_argument("-k", "--draft-nodes", default="0,4,16")
    parser.add_argument("-n", "--max-tokens", type=int, default=32)
    parser.add_argument("--exact", action=argparse.BooleanOptionalAction, default=False)
    args = parser.parse_args()
    process, address = start_server()
    proxy = Proxy(address)
    target = args.model or models.default_target()
    generator = Generator(
        target, n_ctx=512, n_threads=1, n_parallel=1, rpc_servers=[proxy.address], exact=args.exact
    )
    for memory in generator.memory:
        print(memory)
    print("| k | tokens per call | round trips | messages | kB sent | kB received | commands |")
    print("| ---: | ---: | ---: | ---: | ---: | ---: | --- |")
    options = {"max_tokens": args.max_tokens, "seed": 1, "ignore_eos": True}
    plain = generator.generate(PROMPT, method="ar", **options)
    for k in [int(k) for k in args.draft_nodes.split(",")]:
        drafts = {"draft_nodes": k, "prediction": plain.tokens} if k else {"method": "ar"}
        generator.generate(PROMPT, **drafts, **options)
        proxy.clear()
        stats = generator.generate(PROMPT, **drafts, **options).stats
        n = stats.target_calls
        waits = sum(c for name, c in proxy.commands.items() if name not in NO_ANSWER)
        each = ", ".join(
            f"{name} {proxy.commands[name] / n:.1f} of {proxy.sent[name] / c:.0f} B"
            for name, c in proxy.commands.most_common()
        )
        print(
            f"| {k} | {stats.tokens_per_call:.2f} | {waits / n:.1f} |"
            f" {proxy.commands.total() / n:.1f} | {proxy.sent.total() / n / 1e3:.1f} |"
            f" {proxy.received / n / 1e3:.1f} | {each} |",
            flush=True,
        )
    del generator
    process.kill()


if __name__ == "__main__":
    main()
