"""Tables of requests: how much faster than one by one, and what stops and lost workers leave.

speed   seconds of a table through `generate_batch`'s engine, as `ersd batch` uses it, beside the
        same rows one after the other, in turn. The texts must be equal.
kills   `ersd batch` is killed with SIGKILL at random moments until its table is there. The table
        must be that of a run without kills.
ray     the same table with one worker of Ray, with two, and with two of which one is killed in the
        middle.

python bench/batch.py speed|kills|ray [-m MODEL -md DRAFT] [-n 96] [-p 8] [-t 2] [-r 3] [--seed 0]
"""

from __future__ import annotations

import argparse
import contextlib
import json
import os
import random
import signal
import statistics
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from ersd import Generator, models
from ersd.prompts import read_prompts
from ersd.tables import row_seed
from ersd.tables.answers import Texts

PROMPTS = Path(__file__).parent / "prompts"
KEPT = ("row", "text", "finish_reason", "tokens", "seed", "error")


def table(n: int, rng: random.Random) -> list[dict[str, Any]]:
    """Returns rows with prompts of all kinds, of different lengths."""
    texts = [text for path in sorted(PROMPTS.glob("*.txt")) for text in read_prompts(path)]
    return [
        {"row": i, "prompt": rng.choice(texts), "max_tokens": rng.randint(8, 64)} for i in range(n)
    ]


def write(rows: list[dict[str, Any]], path: Path) -> Path:
    """Writes rows as JSON lines."""
    path.write_text("".join(json.dumps(row) + "\n" for row in rows))
    return path


def kept(path: Path) -> list[list[Any]]:
    """Returns what must be the same in every run."""
    rows = [json.loads(line) for line in path.read_text().splitlines()]
    return [[row[name] for name in KEPT] for row in rows]


def command(args: argparse.Namespace, source: Path, out: Path, *more: str) -> list[str]:
    """Returns the words of `ersd batch`."""
    words = [sys.executable, "-m", "ersd", "batch", str(source), "-o", str(out)]
    words += ["--option-columns", "max_tokens", "-t", str(args.threads), "-np", str(args.parallel)]
    if args.model:
        words += ["-m", args.model, *(("-md", args.draft) if args.draft else ())]
    return [*words, "-c", "2048", *more]


def speed(args: argparse.Namespace, folder: Path) -> None:
    """Prints the speed of both ways, and their ratio."""
    from ersd.tables.requests import Columns

    rows = table(args.count, random.Random(args.seed))
    generator = Generator(
        args.model or models.default_target(),
        args.draft or (None if args.model else models.default_draft()),
        n_ctx=2048,
        n_ctx_total=args.parallel * 512,
        n_parallel=args.parallel,
        n_threads=args.threads,
        exact=True,
    )
    texts = Texts(Columns(options=("max_tokens",)), seed=0)

    def one_by_one() -> Iterator[Any]:
        for i, row in enumerate(rows):
            options: Any = {"max_tokens": row["max_tokens"], "seed": row_seed(0, i)}
            yield generator.generate(row["prompt"], **options).tokens

    def together() -> Iterator[Any]:
        yield from (answer["tokens"] for answer in texts(generator, enumerate(rows)))

    seen: dict[str, list[float]] = {"one by one": [], "together": []}
    found: list[list[list[int]]] = []
    for repetition in range(args.repetitions + 1):
        for name, way in zip(seen, (one_by_one, together), strict=True):
            generator.reset()
            begin = time.perf_counter()
            found.append(list(way()))
            if repetition:  # the first round warms up
                seen[name].append(time.perf_counter() - begin)
    assert all(tokens == found[0] for tokens in found)
    n_tokens = sum(map(len, found[0]))
    print(f"{len(rows)} rows, {n_tokens} tokens, the same in all {len(found)} runs")
    for name, seconds in seen.items():
        print(f"{name}: {n_tokens / statistics.median(seconds):.0f} tokens/s")
    ratios = [alone / both for alone, both in zip(*seen.values(), strict=True)]
    spread = f"{min(ratios):.2f} to {max(ratios):.2f}"
    print(f"ratio {statistics.median(ratios):.2f} ({spread})")


def kills(args: argparse.Namespace, folder: Path) -> None:
    """Kills a run again and again, and compares its table with that of a whole run."""
    rng = random.Random(args.seed)
    source = write(table(args.count, rng), folder / "in.jsonl")
    whole, out = folder / "whole.jsonl", folder / "out.jsonl"
    began = time.perf_counter()
    subprocess.run(command(args, source, whole), check=True, stderr=subprocess.DEVNULL)
    seconds = time.perf_counter() - began
    n_kills, before, log = 0, 0, folder / "out.jsonl.partial"
    while not out.exists():
        with subprocess.Popen(command(args, source, out), stderr=subprocess.DEVNULL) as process:
            with contextlib.suppress(subprocess.TimeoutExpired):
                process.wait(rng.uniform(0, seconds / 2))
            n_kills += process.poll() is None
            process.kill()
        n_lines = log.read_bytes().count(b"\n") if log.exists() else 0
        print(f"{n_kills} kills, {max(0, n_lines - 1)} rows written", flush=True)
        assert n_lines >= before or out.exists()
        before = n_lines
    assert kept(out) == kept(whole)
    assert [row[0] for row in kept(out)] == list(range(args.count))
    print(f"after {n_kills} kills, {args.count} rows equal to those of a run without")


def ray(args: argparse.Namespace, folder: Path) -> None:
    """Compares the tables of one worker, of two, and of two of which one is killed."""
    source = write(table(args.count, random.Random(args.seed)), folder / "in.jsonl")
    alone = folder / "alone.jsonl"
    subprocess.run(command(args, source, alone), check=True, stderr=subprocess.DEVNULL)
    for n, is_killed in ((1, False), (2, False), (2, True)):
        out = folder / f"{n}{is_killed}.jsonl"
        flags = ("--ray", "local", "--workers", str(n))
        process = subprocess.Popen(command(args, source, out, *flags), stderr=subprocess.DEVNULL)
        if is_killed:
            threading.Thread(target=kill_a_worker, args=(folder / f"{out.name}.partial",)).start()
        assert process.wait() == 0
        assert kept(out) == kept(alone)
        end = " of which one was killed" if is_killed else ""
        print(f"{n} workers{end}: {args.count} rows equal to those without Ray", flush=True)


def kill_a_worker(log: Path) -> None:
    """Kills a worker once some rows are written."""
    while not log.exists() or log.read_bytes().count(b"\n") < 4:
        time.sleep(0.05)
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if b"MapWorker" in path.read_bytes():
                os.kill(int(path.parent.name), signal.SIGKILL)
                print("a worker was killed", flush=True)
                return


def main() -> None:
    """Runs what is asked for."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    ways = {"speed": speed, "kills": kills, "ray": ray}
    add("what", choices=list(ways))
    add("-m", "--model", default=None)
    add("-md", "--draft", default=None)
    add("-n", "--count", type=int, default=96, help="rows of the table")
    add("-p", "--parallel", type=int, default=8)
    add("-t", "--threads", type=int, default=2)
    add("-r", "--repetitions", type=int, default=3)
    add("--seed", type=int, default=0)
    args = parser.parse_args()
    with tempfile.TemporaryDirectory() as folder:
        ways[args.what](args, Path(folder))


if __name__ == "__main__":
    main()
