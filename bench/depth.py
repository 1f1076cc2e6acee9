"""What a step costs against the length of the text: calls of both models, races, and the rest.

Prints milliseconds per target call after prompts of n tokens, plain and with trees of k nodes.
The rest is all that is neither a call of a model nor a race.

python bench/depth.py [-m MODEL] [-md DRAFT] [--lengths 100,1000,3000] [-k 8] [-n 48] [-r 3] [-t 2]
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

from ersd import Generator, Stats, models
from ersd.prompts import read_prompts

PROSE = Path(__file__).parent / "prompts" / "prose.txt"
COLUMNS = ("target", "draft", "races", "rest")


def per_call(stats: Stats) -> list[float]:
    """Returns milliseconds per target call of each column."""
    rest = stats.total_ms - stats.prefill_ms - stats.draft_ms - stats.target_ms - stats.race_ms
    return [
        ms / stats.target_calls for ms in (stats.target_ms, stats.draft_ms, stats.race_ms, rest)
    ]


def main() -> None:
    """Prints the table."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("-m", "--model", default=None)
    add("-md", "--draft", default=None)
    add("--lengths", type=lambda text: [int(n) for n in text.split(",")], default=[100, 1000, 3000])
    add("-k", "--nodes", type=int, default=8)
    add("-n", "--tokens", type=int, default=48)
    add("-r", "--repetitions", type=int, default=3)
    add("-t", "--threads", type=int, default=2)
    args = parser.parse_args()
    generator = Generator(
        args.model or models.default_target(),
        args.draft or models.default_draft(),
        n_ctx=max(args.lengths) + args.tokens + 64,
        n_parallel=1,
        n_threads=args.threads,
    )
    text = generator.tokenize("".join(read_prompts(PROSE)) * 40)
    print(generator, generator.exact)
    print("| prompt | way | " + " | ".join(f"{column}, ms" for column in COLUMNS) + " |")
    print("| ---: | --- |" + " ---: |" * len(COLUMNS))
    ways: dict[str, dict[str, object]] = {
        "plain": {"method": "ar"},
        f"chain of {args.nodes}": {"strategy": "sequence", "draft_nodes": args.nodes},
        f"tree of {args.nodes}": {"strategy": "tree", "draft_nodes": args.nodes},
    }
    for length in args.lengths:
        seen: dict[str, list[list[float]]] = {way: [] for way in ways}
        for seed in range(args.repetitions):
            for way, options in ways.items():
                result = generator.generate(
                    text[:length], max_tokens=args.tokens, seed=seed, ignore_eos=True, **options
                )
                seen[way].append(per_call(result.stats))
        for way, rows in seen.items():
            medians = [statistics.median(column) for column in zip(*rows, strict=True)]
            print(f"| {length} | {way} | " + " | ".join(f"{ms:.2f}" for ms in medians) + " |")


if __name__ == "__main__":
    main()
