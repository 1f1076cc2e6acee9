"""Plain sampling (no draft) beside llama-cpp-python's Llama: same model, options and threads, in turn in one run.

python bench/plain.py [--repetitions 8] [--tokens 128] [--threads 2]
"""

from __future__ import annotations

import argparse
import statistics
import time

import llama_cpp

from ersd import Generator, models

PROMPT = "The history of salt is also a history of"
SAMPLING = {
    "default (top-k 40, top-p 0.95, min-p 0.05, T 0.8)": {
        "temperature": 0.8,
        "top_k": 40,
        "top_p": 0.95,
        "min_p": 0.05,
    },
    "full vocabulary (T 1)": {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0},
}


def main() -> None:
    """Print the ratio of speeds, its spread, and the share of a step outside llama.cpp's decode."""
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
        ratios: dict[str, list[float]] = {key: [] for key in theirs}
        outside, speeds = [], []
        for seed in range(args.repetitions + 1):
            started = time.perf_counter()
            result = ours.generate(
                PROMPT, max_tokens=args.tokens, seed=seed, method="ar", **sampling
            )
            speed = len(result.tokens) / (time.perf_counter() - started)
            stats = result.stats
            steps = stats.total_ms - stats.prefill_ms
            for key, llama in theirs.items():
                llama.reset()  # read the prompt each time, as ours does
                started = time.perf_counter()
                answer = llama.create_completion(
                    PROMPT, max_tokens=args.tokens, seed=seed, repeat_penalty=1.0, **sampling
                )
                their_speed = answer["usage"]["completion_tokens"] / (time.perf_counter() - started)
                if seed > 0:  # the first round warms up
                    ratios[key].append(speed / their_speed)
            if seed > 0:
                speeds.append(speed)
                outside.append(1 - stats.target_ms / steps)
        print(
            f"{name}: {statistics.median(speeds):.1f} tokens/s, outside decode {100 * statistics.median(outside):.2f} %"
        )
        for key, values in ratios.items():
            print(
                f"  ratio to Llama({key}): median {statistics.median(values):.3f}, {min(values):.3f} to {max(values):.3f}"
            )


if __name__ == "__main__":
    main()
