"""Decoding while other processes keep cores busy: as many threads as cores, and one.

python bench/busy.py [-m MODEL] [--busy 0,1,2] [--repetitions 3] [--tokens 300]

Each line is for one number of busy processes and prints tokens per second of a Generator with one
thread, of one with a thread per core, which gives threads up while its calls stall, and of
llama-cpp-python's Llama with a thread per core: the median of some repetitions, in turn, and the
least and the greatest.
"""

from __future__ import annotations

import argparse
import os
import statistics
import subprocess
import sys
import time
from collections.abc import Callable

import llama_cpp

from ersd import Generator, models

PROMPT = "The history of salt is"
SPIN = "while True: pass"


def of_generator(path: str, n_threads: int) -> Callable[[int], float]:
    """Return a function that generates n tokens and returns tokens per second."""
    generator = Generator(path, n_ctx=1024, n_threads=n_threads)
    options = {"temperature": 0.0, "ignore_eos": True}

    def run(n: int) -> float:
        begin = time.perf_counter()
        generator.generate(PROMPT, max_tokens=n, **options)
        return n / (time.perf_counter() - begin)

    return run


def of_llama(path: str, n_threads: int) -> Callable[[int], float]:
    """Return the same for llama-cpp-python."""
    llama = llama_cpp.Llama(
        path, n_ctx=1024, n_threads=n_threads, n_threads_batch=n_threads, verbose=False
    )
    prompt = llama.tokenize(PROMPT.encode())

    def run(n: int) -> float:
        begin = time.perf_counter()
        llama.reset()
        tokens = llama.generate(prompt, temp=0.0, repeat_penalty=1.0)
        for _ in range(n):
            next(tokens)
        return n / (time.perf_counter() - begin)

    return run


def main() -> None:
    """Print one line for each number of busy processes."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-m", "--model", default=None)
    parser.add_argument("--busy", default="0,1,2")
    parser.add_argument("--repetitions", type=int, default=3)
    parser.add_argument("--tokens", type=int, default=300)
    args = parser.parse_args()
    path, cores = str(args.model or models.default_target()), len(os.sched_getaffinity(0))
    runs = {
        "1 thread": of_generator(path, 1),
        f"{cores} threads": of_generator(path, cores),
        f"Llama, {cores} threads": of_llama(path, cores),
    }
    for n_busy in map(int, args.busy.split(",")):
        others = [subprocess.Popen([sys.executable, "-c", SPIN]) for _ in range(n_busy)]
        try:
            speeds: dict[str, list[float]] = {name: [] for name in runs}
            for _ in range(args.repetitions):
                for name, run in runs.items():
                    speeds[name].append(run(args.tokens))
        finally:
            for other in others:
                other.kill()
        cells = [
            f"{name} {statistics.median(x):.0f} ({min(x):.0f} to {max(x):.0f})"
            for name, x in speeds.items()
        ]
        print(f"{n_busy} busy: {', '.join(cells)} tokens/s", flush=True)


if __name__ == "__main__":
    main()
