"""What the events of streamed answers cost the server beside the model.

Starts `ersd serve`, asks for some streams at once, and prints the processor time of each of its
threads per event. The first thread runs the event loop; that which calls llama.cpp takes most of
the time; the third makes the steps for the event loop. Processor time needs no quiet machine.

python bench/events.py [-m MODEL -md DRAFT] [--streams 8] [-n 96] [--path chat/completions] [-t 1]
"""

from __future__ import annotations

import argparse
import asyncio
import json
import time
from pathlib import Path
from urllib.parse import urlsplit

from served import Server


def thread_seconds(server: Server) -> dict[int, float]:
    """Returns the processor time of each thread of the server, the first thread first."""
    tasks = Path(f"/proc/{server.process.pid}/task")
    ids = sorted(int(path.name) for path in tasks.iterdir())
    return {i: int((tasks / f"{i}/schedstat").read_text().split()[0]) / 1e9 for i in ids}


async def stream(url: str, path: str, seed: int, n_tokens: int) -> int:
    """Reads a streamed answer to its end. Returns how many events it had."""
    address = urlsplit(url)
    body = {"seed": seed, "max_tokens": n_tokens, "ignore_eos": True, "stream": True}
    body |= {"method": "ar", "temperature": 1.0}
    if path.startswith("chat"):
        body["messages"] = [{"role": "user", "content": "Tell me about the sea."}]
    elif path == "responses":
        body |= {"input": "Tell me about the sea.", "max_output_tokens": n_tokens}
    else:
        body["prompt"] = "Once upon a time"
    data = json.dumps(body).encode()
    reader, writer = await asyncio.open_connection(address.hostname, address.port)
    head = f"POST /v1/{path} HTTP/1.1\r\nHost: a\r\nContent-Type: application/json\r\n"
    writer.write(f"{head}Connection: close\r\nContent-Length: {len(data)}\r\n\r\n".encode() + data)
    n_events = 0
    while line := await reader.readline():
        n_events += line.startswith(b"data: ")
    writer.close()
    return n_events


async def streams(url: str, args: argparse.Namespace) -> int:
    """Reads all streams at once. Returns how many events they had."""
    each = (stream(url, args.path, i, args.tokens) for i in range(args.streams))
    return sum(await asyncio.gather(*each))


def main() -> None:
    """Prints the processor time of the threads."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("-m", "--model", default=None)
    add("-md", "--draft", default=None)
    add("--streams", type=int, default=8)
    add("-n", "--tokens", type=int, default=96)
    add("--path", default="chat/completions", help="or completions, or responses")
    add("-t", "--threads", type=int, default=1)
    add("-r", "--repetitions", type=int, default=3)
    args = parser.parse_args()
    server = Server(args, "--parallel", str(args.streams))
    asyncio.run(streams(server.url, args))  # warms up
    for _ in range(args.repetitions):
        before, began = thread_seconds(server), time.perf_counter()
        n_events = asyncio.run(streams(server.url, args))
        seconds = time.perf_counter() - began
        spent = {i: s - before.get(i, 0) for i, s in thread_seconds(server).items()}
        loop, *others = (f"{s / n_events * 1e6:.0f}" for s in spent.values() if s > 1e-4)
        print(
            f"{n_events} events in {seconds:.1f} s; microseconds per event: event loop {loop}, "
            f"other threads {', '.join(others)}",
            flush=True,
        )
    assert server.stop() == 0


if __name__ == "__main__":
    main()
