"""What happens to files and processes when disks and other processes get in the way.

python bench/faults.py soak     10,000 generations of mixed kinds, and 50 Generators in a row
python bench/faults.py places   a full disk, a read-only home, no home, two processes, lost models

It uses small random models. --count says how many generations. bench/signals.py sends signals.
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
from collections.abc import Callable
from pathlib import Path
from typing import Any

import numpy as np

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))
from soak import resident_mb

import tiny
from ersd import Generator
from ersd.distill.corpus import Corpus
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
            elif path.suffix == ".npy":
                np.load(path, allow_pickle=False)
            elif path.suffix == ".bin":
                [text.distributions() for text in Corpus(path).texts]
            elif path.suffix == ".pt":
                import torch

                torch.load(path, weights_only=True)
            elif path.suffix == ".jsonl":
                for line in path.read_text().split("\n")[:-1]:
                    json.loads(line)
        except Exception as error:
            found.append(f"damaged: {path.name}: {error}")
    return found


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
    parser.add_argument("part", choices=["soak", "places"])
    parser.add_argument("--count", type=int, default=10_000)
    parser.add_argument("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as temporary:
        os.environ["ERSD_CACHE"] = str(Path(temporary) / "cache")
        return {"soak": soak, "places": places}[args.part](args, Path(temporary))


if __name__ == "__main__":
    sys.exit(main())
