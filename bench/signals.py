"""SIGINT, SIGTERM and SIGKILL at random moments of the commands: what is left, and what goes on.

After each signal every file in the cache folder and among the results is read. At last each command
is run to its end, from what is there. It uses small random models.

python bench/signals.py [--count 100] [--commands generate,chat,tune,paper,quantize,distill]
"""

from __future__ import annotations

import argparse
import os
import random
import shutil
import signal
import sys
import tempfile
import time
from collections import Counter
from pathlib import Path
from typing import Any

from faults import damage_in, models

from ersd.commands.main import main as ersd


def start(words: list[str], folder: Path, text: str = "") -> int:
    """Starts ``ersd`` with these words in a forked child, which has all modules loaded."""
    (folder / "input").write_text(text)
    pid = os.fork()
    if pid:
        return pid
    status = 99
    try:
        signal.signal(signal.SIGINT, signal.default_int_handler)
        os.dup2(os.open(folder / "input", os.O_RDONLY), 0)
        for stream in (1, 2):
            written = folder / f"stream{stream}"
            os.dup2(os.open(written, os.O_CREAT | os.O_WRONLY | os.O_TRUNC), stream)
        status = ersd(words)
        sys.stdout.flush()
    except SystemExit as end:
        status = end.code if isinstance(end.code, int) else 98
    except KeyboardInterrupt:  # between the command and its exit
        status = 130
    finally:
        os._exit(status)


def wait(pid: int) -> int:
    """Returns the exit status of a child."""
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def empty(folder: Path) -> None:
    """Removes what is in a folder."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True)


def commands(target: Path, draft: Path, out: Path) -> dict[str, tuple[list[str], str]]:
    """Returns the words of each command, and its standard input. Each writes to out / its name."""
    pair = ["-m", str(target), "-md", str(draft), "-t", "1"]
    text = out.parent / "prompts.txt"
    text.write_text("the rain\n---\nof the\n")
    paper = ["--text", str(text), "-n", "8", "-o", str(out / "paper")]
    made = ["quantize", str(target), str(out / "quantize" / "made.gguf"), "Q4_0", "-n", "4"]
    distill = ["distill", str(target), "-o", str(out / "distill" / "draft.gguf"), "-t", "1"]
    distill += ["--width", "64", "--layers", "1", "--tokens", "2000", "-c", "48", "-np", "16"]
    return {
        "generate": (["generate", "the", *pair, "-n", "300", "-c", "400"], ""),
        "chat": (["chat", *pair, "-n", "60"], "the rain\nof the\nin\n"),
        "tune": (["tune", *pair, "-n", "8", "--save", str(out / "tune" / "tuned.npz")], ""),
        "paper": (["paper", *pair, *paper], ""),
        "quantize": (made, ""),
        "distill": (distill, ""),
    }


def send_all(args: argparse.Namespace, folder: Path) -> int:
    """Sends the signals. Returns 1 if a file is damaged or an end is not clean."""
    target, draft = models(folder)
    out, work = folder / "out", folder / "work"
    work.mkdir()
    every = commands(target, draft, out)
    calls = {name: every[name] for name in args.commands.split(",")}
    if "distill" in calls:
        import torch  # once for all children

        torch.set_num_threads(1)
    durations, n_bad = {}, 0
    for name, (words, text) in calls.items():
        empty(out / name)
        began = time.monotonic()
        status = wait(start(words, work, text))
        durations[name] = time.monotonic() - began
        print(f"{name} alone: status {status} in {durations[name]:.1f} s", flush=True)
        assert status == 0, (work / "stream2").read_text()
        empty(out / name)
    # Before the command has begun, SIGTERM ends the process itself.
    clean = {signal.SIGINT: {0, 130}, signal.SIGTERM: {0, 143, -15}, signal.SIGKILL: {0, -9}}
    for sent, allowed in clean.items():
        ends: Counter[Any] = Counter()
        for i in range(args.count):
            name = list(calls)[i % len(calls)]
            words, text = calls[name]
            rng = random.Random(f"{sent} {args.seed} {i}")
            pid = start(words, work, text)
            time.sleep(rng.uniform(0, durations[name]))
            os.kill(pid, sent)
            status = wait(pid)
            ends[status] += 1
            faults = damage_in(folder, sent)
            errors = (work / "stream2").read_text()
            # Python itself drops a signal's error, with a traceback, inside a weak reference's end.
            is_torn = "Traceback" in errors and "Exception ignored" not in errors
            if status not in allowed or faults or is_torn:
                n_bad += 1
                print(f"{sent.name} {i} {name}: status {status}, {faults}, {errors[-300:]}")
            if status == 0:
                empty(out / name)  # the next one has everything to do
        print(f"{sent.name} at {args.count} moments: ends {dict(ends)}", flush=True)
    for name, (words, text) in calls.items():
        status = wait(start(words, work, text))
        print(f"{name} after all of them: status {status}, {damage_in(out, signal.SIGKILL)}")
        n_bad += status != 0
    return int(n_bad > 0)


def main() -> int:
    """Sends signals to the commands that are named."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("--count", type=int, default=100, help="moments of each signal")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--commands", default="generate,chat,tune,paper,quantize,distill")
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["ERSD_CACHE"] = str(Path(temporary) / "cache")
        return send_all(args, Path(temporary))


if __name__ == "__main__":
    sys.exit(main())
