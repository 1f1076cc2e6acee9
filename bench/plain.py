"""Speed of plain sampling (no draft) compared with llama-cpp-python's Llama.

Both have the same model, options and number of threads, and run in turn.

python bench/plain.py [--repetitions 8] [--tokens 128] [--threads 2]
"""

from __future__ import annotations

import argparse
import statistics
import time
from typing import Any

import llama_cpp

from ersd import Generator, models

PROMPT = "The history of salt is also a history of"
SAMPLING: dict[str, dict[str, Any]] = {
    "default (top-k 40, top-p 0.95, min-p 0.05, T 0.8)": {
        "temperature": 0.8,
        "top_k": 40,
        "top_p": 0.95,
        "min_p": 0.05,
    },
    "full vocabulary (T 1)": {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0},
}


def our_run(generator: Generator, options: dict[str, Any]) -> tuple[float, float]:
    """Return tokens per second of ersd, and the share of a step outside llama.cpp's decode."""
    started = time.perf_counter()
    result = generator.generate(PROMPT, method="ar", **options)
    speed = len(result.tokens) / (time.perf_counter() - started)
    stats = result.stats
    return speed, 1 - stats.target_ms / (stats.total_ms - stats.prefill_ms)


def their_speed(llama: llama_cpp.Llama, options: dict[str, Any]) -> float:
    """Return tokens per second of llama-cpp-python."""
    llama.reset()  # it then reads the prompt each time, as ersd does
    started = time.perf_counter()
    answer = llama.create_completion(PROMPT, repeat_penalty=1.0, **options)
    return answer["usage"]["completion_tokens"] / (time.perf_counter() - started)


def compare(
    ours: Generator, theirs: dict[str, llama_cpp.Llama], options: dict[str, Any], repetitions: int
) -> tuple[list[float], list[float], dict[str, list[float]]]:
    """Run both in turn, with a new seed each time.

    Returns:
        Our tokens per second, the share of our steps outside decode, and the ratios of our speed to
        theirs. The first run only warms up.
    """
    speeds, outside = [], []
    ratios: dict[str, list[float]] = {key: [] for key in theirs}
    for seed in range(repetitions + 1):
        speed, share = our_run(ours, options | {"seed": seed})
        others = {k: their_speed(llama, options | {"seed": seed}) for k, llama in theirs.items()}
        if seed > 0:
            speeds.append(speed)
            outside.append(share)
            for key, other in others.items():
                ratios[key].append(speed / other)
    return speeds, outside, ratios


def main() -> None:
    """Print the ratio of speeds, its spread, and the share of a step outside decode."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--repetitions", type=int, default=8)
    parser.add_argument("--tokens", type=int, default=128)
    parser.add_argument("--threads", type=int, default=2)
    args = parser.parse_args()
    path = str(models.default_target())
    ours = Generator(path, n_ctx=1024, n_threads=args.threads)
    common = {
        "n_ctx": 1024,
        "n_threads": args.threads,
        "n_threads_batch": args.threads,
        "verbose": False,
    }
    theirs = {
        f"flash_attn={flash}": llama_cpp.Llama(path, flash_attn=flash, **common)
        for flash in (False, True)
    }
    for name, sampling in SAMPLING.items():
        options = sampling | {"max_tokens": args.tokens}
        speeds, outside, ratios = compare(ours, theirs, options, args.repetitions)
        speed, share = statistics.median(speeds), 100 * statistics.median(outside)
        print(f"{name}: {speed:.1f} tokens/s, outside decode {share:.2f} %")
        for key, values in ratios.items():
            spread = f"{min(values):.3f} to {max(values):.3f}"
            print(f"  ratio to Llama({key}): median {statistics.median(values):.3f}, {spread}")


if __name__ == "__main__":
    main()
