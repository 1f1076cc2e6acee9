"""What ends a command from outside: Ctrl-C, SIGTERM, and a reader that goes."""

from __future__ import annotations

import os
import shlex
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest

pytestmark = pytest.mark.no_sanitizer

SAMPLING = ["--temp", "1", "--top-k", "0", "--top-p", "1", "--min-p", "0"]


def generating(model: Path, options: str) -> subprocess.Popen[str]:
    """Starts ``ersd generate`` with these options."""
    words = [sys.executable, "-m", "ersd", "generate", "the", "-m", str(model)]
    return subprocess.Popen(
        [*words, *shlex.split(options), *SAMPLING],
        stdout=subprocess.PIPE,
        stderr=subprocess.PIPE,
        text=True,
        encoding="utf-8",
    )


def test_a_closed_pipe_is_no_error(tiny_target: Path) -> None:
    """A reader that stops early, as with ``| head``, causes no traceback."""
    with generating(tiny_target, "-n 2000 -s 1 -t 1") as process:
        assert process.stdout is not None
        assert process.stderr is not None
        process.stdout.read(20)
        process.stdout.close()
        assert process.wait(timeout=60) == 141
        assert process.stderr.read() == ""


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
def test_ctrl_c_keeps_what_was_written(tiny_target: Path) -> None:
    """After Ctrl-C the status is 130, and the summary says that the text was interrupted."""
    with generating(tiny_target, "-c 200000 -n 190000 -s 1 -t 1") as process:
        assert process.stdout is not None
        process.stdout.read(20)
        time.sleep(0.2)
        process.send_signal(signal.SIGINT)
        _, errors = process.communicate(timeout=60)
    assert process.returncode == 130
    assert errors.rstrip().endswith("interrupted")
    assert "Traceback" not in errors


@pytest.mark.skipif(os.name == "nt", reason="POSIX signals")
@pytest.mark.parametrize(("sent", "status"), [(signal.SIGINT, 130), (signal.SIGTERM, 143)])
def test_a_signal_while_a_class_is_made(sent: signal.Signals, status: int) -> None:
    """A signal ends a command quietly, also where Python makes a RuntimeError of it."""
    script = f"""
import os, sys
from ersd.commands import generate, main

class Attribute:
    def __set_name__(self, owner, name):
        os.kill(os.getpid(), {int(sent)})
        list(range(100))

generate.run = lambda args: type("Owner", (), {{"attribute": Attribute()}})
sys.exit(main.main(["generate", "x"]))
"""
    run = subprocess.run(
        [sys.executable, "-c", script],
        capture_output=True,
        text=True,
        timeout=60,
        stdin=subprocess.DEVNULL,
    )
    assert (run.returncode, run.stderr) == (status, "")
