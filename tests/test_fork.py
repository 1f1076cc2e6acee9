"""Forked children: what the parent made is refused there in one sentence, and new models work."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import pytest

pytestmark = [
    pytest.mark.no_sanitizer,
    pytest.mark.skipif(os.name == "nt", reason="Windows has no fork"),
]

PROGRAM = """
import gc, json, os, sys
from ersd import Generator

def make():
    return Generator(sys.argv[1], sys.argv[2], n_ctx=256, n_threads=2, profile=False)

def attempt(call):
    try:
        return call()
    except RuntimeError as error:
        return str(error)

ours = make()
begun = ours.stream("the", max_tokens=20, seed=1)
next(begun)
expected = ours.generate("the rain", max_tokens=20, seed=3, draft_nodes=8).tokens
ours.generate_batch(["the", "a", "of"], max_tokens=4, seed=1)  # starts the worker
reading, writing = os.pipe()
child = os.fork()
if child == 0:
    found = {
        "generate": attempt(lambda: ours.generate("the", max_tokens=2)),
        "stream": attempt(lambda: next(begun)),
        "batch": attempt(lambda: ours.generate_batch(["a", "b"], max_tokens=2)),
        "reset": attempt(ours.reset),
        "profile": attempt(ours.profile),
        "save_state": attempt(ours.save_state),
        "expected": expected,
        "new": make().generate("the rain", max_tokens=20, seed=3, draft_nodes=8).tokens,
    }
    begun.close()
    os.write(writing, json.dumps(found).encode())
    del ours, begun
    gc.collect()
    sys.exit(0)  # through all that Python does at the end of a process
os.close(writing)
sys.stdout.buffer.write(os.fdopen(reading, "rb").read())
status = os.waitstatus_to_exitcode(os.waitpid(child, 0)[1])
assert ours.generate("the rain", max_tokens=20, seed=3, draft_nodes=8).tokens == expected
sys.exit(status)
"""


def test_a_child_is_told_and_can_load_models(tiny_target: Path, tiny_draft: Path) -> None:
    """Two threads are used before the fork. The child ends in time, and the parent goes on."""
    run = subprocess.run(
        [sys.executable, "-c", PROGRAM, str(tiny_target), str(tiny_draft)],
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    assert run.returncode == 0, run.stderr
    found = json.loads(run.stdout)
    assert found.pop("new") == found.pop("expected")
    assert set(found) == {"generate", "stream", "batch", "reset", "profile", "save_state"}
    for sentence in found.values():
        assert sentence == (
            "this Generator belongs to the process from which this one was forked, and its threads "
            "are missing here: make a Generator in the child process"
        )
