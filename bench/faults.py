"""What happens to files and processes when signals, disks and other processes get in the way.

python bench/faults.py soak     10,000 generations of mixed kinds, and 50 Generators in a row
python bench/faults.py signals  SIGINT, SIGTERM and SIGKILL at random moments of the commands
python bench/faults.py places   a full disk, a read-only home, no home, two processes, lost models

It uses small random models. --count says how many generations, or moments of each signal.
"""

from __future__ import annotations

import argparse
import gc
import json
import os
import random
import re
import resource
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))
from soak import resident_mb

import tiny
from ersd import Generator
from ersd.commands.main import main as ersd
from ersd.engine import check_model_file

CHAT = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
UNFINISHED = re.compile(r".*\.[0-9a-f]{8}")


def models(folder: Path) -> tuple[Path, Path]:
    """Writes a target and a draft."""
    options = {"chat_template": CHAT, "ends": True}
    target = tiny.write_llama(folder / "target.gguf", **options)
    return target, tiny.write_llama(folder / "draft.gguf", noise=0.15, **options)


def one_of_many(generator: Generator, rng: random.Random) -> None:
    """Generates in a way that is chosen at random."""
    options: dict[str, Any] = {"max_tokens": rng.choice([1, 4, 16]), "seed": rng.randrange(99)}
    options |= {"temperature": rng.choice([0.0, 1.0]), "draft_nodes": rng.choice([1, 8, "auto"])}
    kind = rng.randrange(7)
    if kind == 0:
        generator.generate_batch(["the", "a of", "in"], **options)
    elif kind == 1:
        generator.chat([{"role": "user", "content": "the " * rng.randrange(9)}], **options)
    elif kind == 2:
        next(generator.stream("the rain", **options), None)  # and drops the rest
    elif kind == 3:
        generator.load_state(generator.save_state())
    elif kind == 4:
        generator.create_completion("the of", max_tokens=4, logprobs=2, seed=1, stop=["a"])
    elif kind == 5:
        generator.generate("the", regex="[a-h ]{2,8}", **options)
    else:
        options |= {"strategy": "tree", "logprobs": 1, "dry_multiplier": 1.0}
        generator.generate("the " * rng.randrange(1, 40), **options)


def soak(args: argparse.Namespace, folder: Path) -> int:
    """Generates many times in one process, and makes many Generators. Returns 1 if memory grows."""
    target, draft = models(folder)
    generator = Generator(target, draft, n_ctx=256, n_ctx_total=600, n_threads=1)
    rng, seen = random.Random(args.seed), {}
    for i in range(1, args.count + 1):
        one_of_many(generator, rng)
        if i in (args.count // 10, args.count // 2, args.count):
            gc.collect()
            seen[i] = resident_mb()
            print(f"after {i} generations: {seen[i]:.1f} MB", flush=True)
    del generator
    made = []
    for _ in range(50):
        one_of_many(Generator(target, draft, n_ctx=256, n_threads=1), rng)
        gc.collect()
        made.append(resident_mb())
    print(f"after 10 and 50 Generators: {made[9]:.1f} and {made[-1]:.1f} MB")
    return int(seen[args.count] > min(seen.values()) + 10 or made[-1] > made[9] + 10)


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


def damage_in(folder: Path, sent: signal.Signals) -> list[str]:
    """Returns the files in a folder that are not whole, or left over without need."""
    found = []
    for path in sorted(folder.rglob("*")):
        if UNFINISHED.fullmatch(path.name):
            if sent != signal.SIGKILL:
                found.append(f"left over: {path.name}")
            continue
        try:
            if path.suffix == ".npz":
                with np.load(path, allow_pickle=False) as file:
                    assert all(file[name] is not None for name in file.files)
            elif path.suffix == ".json":
                json.loads(path.read_text())
            elif path.suffix == ".gguf":
                check_model_file(str(path))
            elif path.suffix == ".jsonl":
                for line in path.read_text().split("\n")[:-1]:
                    json.loads(line)
        except Exception as error:
            found.append(f"damaged: {path.name}: {error}")
    return found


def commands(target: Path, draft: Path, out: Path) -> dict[str, tuple[list[str], str]]:
    """Returns the words of each command, and its standard input."""
    pair = ["-m", str(target), "-md", str(draft), "-t", "1"]
    text = out.parent / "prompts.txt"
    text.write_text("the rain\n---\nof the\n")
    paper = ["--text", str(text), "-n", "8", "-o", str(out / "paper")]
    return {
        "generate": (["generate", "the", *pair, "-n", "300", "-c", "400"], ""),
        "chat": (["chat", *pair, "-n", "60"], "the rain\nof the\nin\n"),
        "tune": (["tune", *pair, "-n", "8", "--save", str(out / "tuned.npz")], ""),
        "paper": (["paper", *pair, *paper], ""),
        "quantize": (["quantize", str(target), str(out / "made.gguf"), "Q4_0", "-n", "4"], ""),
    }


def signals(args: argparse.Namespace, folder: Path) -> int:
    """Sends signals at random moments. Returns 1 if a file is damaged or an end is not clean."""
    target, draft = models(folder)
    out, work = folder / "out", folder / "work"
    work.mkdir()
    calls = commands(target, draft, out)
    durations, n_bad = {}, 0
    for name, (words, text) in calls.items():
        shutil.rmtree(out, ignore_errors=True)
        began = time.monotonic()
        status = wait(start(words, work, text))
        durations[name] = time.monotonic() - began
        print(f"{name} alone: status {status} in {durations[name]:.1f} s", flush=True)
        assert status == 0, (work / "stream2").read_text()
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
        print(f"{sent.name} at {args.count} moments: ends {dict(ends)}", flush=True)
    for name, (words, text) in calls.items():
        status = wait(start(words, work, text))
        print(f"{name} after all of them: status {status}, {damage_in(out, signal.SIGKILL)}")
        n_bad += status != 0
    return int(n_bad > 0)


SCRIPT = """
import pathlib, sys

def no_home():
    raise RuntimeError("Could not determine home directory.")

if "homeless" in sys.argv:
    pathlib.Path.home = no_home
from ersd import Generator
g = Generator(sys.argv[1], sys.argv[2], n_ctx=256, n_threads=1, use_mmap="map" in sys.argv)
before = g.generate("the rain", max_tokens=30, seed=1).text
print("ready", flush=True)
sys.stdin.readline()
g.reset()
print("same" if g.generate("the rain", max_tokens=30, seed=1).text == before else "another text")
"""


def child(target: Path, draft: Path, **options: Any) -> subprocess.Popen[str]:
    """Starts a process that loads the models, waits for a line, and generates again."""
    more = options.pop("more", [])
    words = [sys.executable, "-c", SCRIPT, str(target), str(draft), *more]
    pipes = {"stdin": subprocess.PIPE, "stdout": subprocess.PIPE, "stderr": subprocess.PIPE}
    return subprocess.Popen(words, text=True, **pipes, **options)


def outcome(process: subprocess.Popen[str], between: Callable[[], object] = lambda: None) -> str:
    """Lets a child go on after something has happened, and returns how it ended."""
    process.stdout.readline()  # type: ignore[union-attr]
    between()
    said, errors = process.communicate("\n", timeout=120)
    lines = [line for line in errors.splitlines() if line.startswith("ersd: ")]
    ending = "" if process.returncode == 0 else f", status {process.returncode}"
    return f"{said.strip() or errors.strip()[-200:]}{ending}{', ' + lines[0] if lines else ''}"


def places(_: argparse.Namespace, folder: Path) -> int:
    """Takes away disks, homes and models. Returns 1 if anything but the documented happens."""
    target, draft = models(folder)
    found: dict[str, str] = {}

    def environment(**changed: str | None) -> dict[str, str]:
        wanted = dict(os.environ) | {"ERSD_CACHE": None} | changed
        return {name: value for name, value in wanted.items() if value is not None}

    def full() -> None:
        resource.setrlimit(resource.RLIMIT_FSIZE, (10, 10))  # bytes of a file

    cache = str(folder / "cache")
    usual = environment(ERSD_CACHE=cache)
    found["full disk"] = outcome(child(target, draft, env=usual, preexec_fn=full))
    found["left on the full disk"] = str([path.name for path in Path(cache).glob("*")])
    wrong = environment(ERSD_CACHE=str(target))
    found["cache folder is a file"] = outcome(child(target, draft, env=wrong))
    nowhere = environment(HOME="/proc", XDG_CACHE_HOME=None)  # where nobody can write
    found["read-only home"] = outcome(child(target, draft, env=nowhere))
    found["no home"] = outcome(child(target, draft, env=nowhere, more=["homeless"]))
    shared = [child(target, draft, env=environment(ERSD_CACHE=cache + "2")) for _ in range(4)]
    found["four processes with one cache"] = ", ".join(map(outcome, shared))
    found["their files"] = str(damage_in(Path(cache + "2"), signal.SIGINT) or "whole")
    for how, act in (
        ("deleted", lambda path: path.unlink()),
        ("replaced", lambda path: shutil.copy(draft, path.with_suffix(".new")).replace(path)),
        ("truncated", lambda path: os.truncate(path, 1000)),
    ):
        for more in (["map"], []):
            copy = Path(shutil.copy(target, folder / "copy.gguf"))
            process = child(copy, draft, env=usual, more=more)
            which = f"model {how} while {'mapped' if more else 'in use, read without mmap'}"
            found[which] = outcome(process, lambda act=act, copy=copy: act(copy))
    expected = {"left on the full disk": "[]", "their files": "whole"}
    expected["four processes with one cache"] = "same, same, same, same"
    expected["model truncated while mapped"] = f", status {-signal.SIGBUS}"
    n_bad = 0
    for what, happened in found.items():
        print(f"{what}: {happened}")
        wanted = expected.get(what, "same")
        n_bad += not happened.startswith(wanted)
    return int(n_bad > 0)


def main() -> int:
    """Runs one part."""
    form = argparse.RawDescriptionHelpFormatter
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=form)
    parser.add_argument("part", choices=["soak", "signals", "places"])
    parser.add_argument("--count", type=int, default=0)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    args.count = args.count or (10_000 if args.part == "soak" else 100)
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["ERSD_CACHE"] = str(Path(temporary) / "cache")
        parts = {"soak": soak, "signals": signals, "places": places}
        return parts[args.part](args, Path(temporary))


if __name__ == "__main__":
    sys.exit(main())
