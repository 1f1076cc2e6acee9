"""What ``ersd --version`` prints."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from ersd import __version__
from test_cli import ersd

pytestmark = pytest.mark.no_sanitizer


def test_version_names_the_devices() -> None:
    """The versions of both packages, and at least the CPU."""
    run = ersd("--version")
    assert run.returncode == 0
    assert run.stdout.startswith(f"ersd {__version__}, llama-cpp-python ")
    assert "CPU: " in run.stdout


def test_version_tells_what_models_take(tiny_target: Path, tiny_draft: Path) -> None:
    """Weights, cache and calls of target and draft on each device, and what exactness holds."""
    words = [
        "--version",
        "-m",
        str(tiny_target),
        "-md",
        str(tiny_draft),
        *["-c", "256", "-np", "2"],
    ]
    run = ersd(*words)
    assert run.returncode == 0
    lines = run.stdout.splitlines()
    assert "memory, with n_ctx=256 and n_parallel=2:" in lines
    for who in ("target", "draft"):
        assert any(re.fullmatch(rf"  {who} on CPU: weights \S+ MB, .*", line) for line in lines)
    assert lines[-1].startswith("exact text: yes, calls of one and of several tokens give the same")
    run = ersd("--version", "-m", str(tiny_target), "-c", "1000000000")
    assert run.returncode == 1
    (line,) = run.stderr.splitlines()
    assert re.fullmatch(
        r"ersd: a context of \d+ tokens for .* GB are free: a smaller n_ctx.*", line
    )
