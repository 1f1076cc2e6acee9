"""The end of the interpreter in the midst of generations: soon, silent, and with status 0."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.no_sanitizer,
    pytest.mark.skipif(os.name == "nt", reason="Windows has no fork"),
]

# Each scenario runs in a child that was forked before llama.cpp was used, and ends after a few more
# steps, so that the end meets its threads in many places: in a model, in Python, and between.
PROGRAM = """
import asyncio, json, os, sys, threading
from ersd import Generator
from ersd.serve import Settings, create_app

TARGET, DRAFT, N_ROUNDS = sys.argv[1], sys.argv[2], int(sys.argv[3])
ENDLESS = {"max_tokens": None, "ignore_eos": True}

def load():
    return Generator(
        TARGET, DRAFT, n_ctx=128, n_parallel=4, n_threads=1, context_shift=True, profile=False
    )

class Steps:
    "Counts steps; the main thread waits until there are enough of them."
    def __init__(self, n):
        self.left, self.enough = n, threading.Event()
    def __call__(self):
        self.left -= 1
        if self.left <= 0:
            self.enough.set()

def begin(work):
    threading.Thread(target=work, daemon=True).start()

def iterate(generator, made, **options):
    for _ in generator.stream("the rain", **ENDLESS, **options):
        made()

def one_stream(made):
    generator = load()
    begin(lambda: iterate(generator, made))

def many_streams(made):
    generator = load()
    for nodes in (1, 4, "auto"):
        begin(lambda: iterate(generator, made, draft_nodes=nodes))

def a_processor(made):
    generator = load()
    begin(lambda: iterate(generator, made, logits_processor=lambda ids, scores: scores + 1))
    begin(lambda: iterate(generator, made, regex="[a-z ]*", draft_nodes=3))

def a_batch(made):
    generator = load()
    begin(lambda: generator.generate_batch(["a", "of"], **ENDLESS))
    begin(lambda: iterate(generator, made))

def async_streams(made):
    generator = load()
    async def stream():
        async for _ in generator.astream("the", **ENDLESS):
            made()
    async def main():
        await asyncio.gather(stream(), stream(), generator.agenerate("a", **ENDLESS))
    begin(lambda: asyncio.run(main()))

kept = []

def async_streams_left_alone(made):
    async def main():
        stream = load().astream("the", **ENDLESS)
        while not made.enough.is_set():
            await anext(stream)
            made()
        kept.append(stream)
    loop = asyncio.new_event_loop()
    loop.run_until_complete(main())

def a_job(made):
    app = create_app(load, Settings(port=0))
    body = {"prompt": "the", "max_tokens": 1_000_000, "ignore_eos": True, "stream": True}
    scope = {
        "type": "http", "method": "POST", "path": "/v1/completions", "raw_path": b"",
        "query_string": b"", "headers": [(b"content-type", b"application/json")],
    }
    async def main():
        sent = [{"type": "http.request", "body": json.dumps(body).encode(), "more_body": False}]
        async def receive():
            return sent.pop() if sent else await asyncio.Future()
        async def send(message):
            made()
        async with app.router.lifespan_context(app):
            while app.state.server.is_loading:
                await asyncio.sleep(0.001)
            await app(scope, receive, send)
    begin(lambda: asyncio.run(main()))

SCENARIOS = [
    one_stream, many_streams, a_processor, a_batch, async_streams, async_streams_left_alone, a_job
]
faults = []
for scenario in SCENARIOS:
    for n in range(N_ROUNDS):
        child = os.fork()
        if child == 0:
            made = Steps(3 + 5 * n)
            scenario(made)
            assert made.enough.wait(60), scenario
            sys.exit(0)  # through all that Python does at the end of a process
        status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
        if status:
            faults.append((scenario.__name__, n, status))
assert not faults, faults
"""


@pytest.mark.parametrize("n", [4, pytest.param(60, marks=pytest.mark.grid)])
def test_processes_end_in_the_midst_of_generations(
    tiny_target: Path, tiny_draft: Path, n: int
) -> None:
    """Daemon threads are in the core, in callbacks, or in Python then."""
    pytest.importorskip("starlette")
    ended = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tiny_target), str(tiny_draft), str(n)],
        capture_output=True,
        text=True,
        timeout=600,
    )
    assert (ended.returncode, ended.stderr, ended.stdout) == (0, "", "")
