"""A process of `ersd serve` that the scripts beside this one ask."""

from __future__ import annotations

import argparse
import atexit
import re
import signal
import subprocess
import sys
import time
from pathlib import Path

import httpx

__all__ = ["Server"]


class Server:
    """A process of `ersd serve`."""

    def __init__(self, args: argparse.Namespace, *flags: str) -> None:
        """Starts it and waits until it is ready."""
        command = [sys.executable, "-m", "ersd", "serve", "--port", "0", "-t", str(args.threads)]
        if args.model:
            command += ["-m", args.model, "-md", args.draft]
        began = time.perf_counter()
        self.process = subprocess.Popen(
            [*command, *flags], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
        )
        atexit.register(self.process.kill)
        assert self.process.stdout is not None
        self.url = self.process.stdout.readline().split()[-1]
        while httpx.get(f"{self.url}/health").status_code != 200:
            time.sleep(0.02)
        self.seconds = time.perf_counter() - began

    def client(self) -> httpx.AsyncClient:
        """Returns a client with as many connections as it needs."""
        limits = httpx.Limits(max_connections=None)
        return httpx.AsyncClient(base_url=self.url, timeout=1200, limits=limits)

    def memory(self) -> str:
        """Returns the resident memory in MB, and open files."""
        status = Path(f"/proc/{self.process.pid}/status").read_text()
        (kib,) = re.findall(r"VmRSS:\s+(\d+)", status)
        n_files = len(list(Path(f"/proc/{self.process.pid}/fd").iterdir()))
        return f"RSS {int(kib) / 1024:.0f} MB, {n_files} open files"

    def idle(self) -> str:
        """Waits until nothing runs. Returns what /slots and /metrics say then."""
        while any(slot["is_processing"] for slot in httpx.get(f"{self.url}/slots").json()):
            time.sleep(0.05)
        page = httpx.get(f"{self.url}/metrics").text
        figures = re.findall(r"^llamacpp:requests_(\w+) (\S+)$", page, re.MULTILINE)
        assert all(float(value) == 0 for _, value in figures), figures
        slots = httpx.get(f"{self.url}/slots").json()
        return f"{len(slots)} idle slots, " + ", ".join(f"{v} {name}" for name, v in figures)

    def stop(self) -> int:
        """Ends it, and returns its exit status."""
        self.process.send_signal(signal.SIGTERM)
        return self.process.wait(60)
