"""Many requests at once: throughput, goodput under load, and the pause that a long prompt causes.

Prints tokens per second of n equal requests together beside the same requests one after the other,
with and without drafts, in turn; then the longest pause of a stream while another request reads a
long prompt, in ordinary steps.

python bench/many.py [-m MODEL] [-md DRAFT] [--loads 1,2,4,8,16] [-n 64] [-r 3] [-t 2]
"""

from __future__ import annotations

import argparse
import statistics
import threading
import time
from pathlib import Path

from ersd import Generator, models
from ersd.prompts import read_prompts

PROMPTS = Path(__file__).parent / "prompts"


def requests(count: int) -> list[str]:
    """Returns prompts of all kinds in turn."""
    kinds = [read_prompts(path) for path in sorted(PROMPTS.glob("*.txt"))]
    return [
        kinds[i % len(kinds)][i // len(kinds) % len(kinds[i % len(kinds)])] for i in range(count)
    ]


def speed(generator: Generator, prompts: list[str], together: bool, **options: object) -> float:
    """Returns tokens per second of all requests, prompts included."""
    generator.reset()
    begin = time.perf_counter()
    if together:
        results = generator.generate_batch(prompts, seed=0, ignore_eos=True, **options)
    else:
        results = [
            generator.generate(prompt, seed=i, ignore_eos=True, **options)
            for i, prompt in enumerate(prompts)
        ]
    seconds = time.perf_counter() - begin
    return sum(len(result.tokens) for result in results) / seconds


def loads(generator: Generator, args: argparse.Namespace) -> None:
    """Prints a line for each number of requests at once."""
    ways = {"one by one": (False, {"method": "ar"}), "together": (True, {"method": "ar"})}
    if generator.draft:
        # The history would hold the same answers from the round before.
        ways["together, drafts"] = (True, {"draft_sources": ("lookup", "model")})
    print("| requests | " + " | ".join(f"{way}, tokens/s" for way in ways) + " | ratios |")
    print("| ---: |" + " ---: |" * (len(ways) + 1))
    for n in args.loads:
        seen: dict[str, list[float]] = {way: [] for way in ways}
        for repetition in range(args.repetitions + 1):
            for way, (together, options) in ways.items():
                found = speed(generator, requests(n), together, max_tokens=args.tokens, **options)
                if repetition:  # the first round warms up
                    seen[way].append(found)
        base, *others = seen.values()
        ratios = [
            f"{statistics.median(ratio):.2f} ({min(ratio):.2f} to {max(ratio):.2f})"
            for other in others
            for ratio in [[o / b for o, b in zip(other, base, strict=True)]]
        ]
        speeds = " | ".join(f"{statistics.median(values):.1f}" for values in seen.values())
        print(f"| {n} | {speeds} | {'; '.join(ratios)} |", flush=True)


def longest_pause(generator: Generator, n_prompt: int) -> tuple[float, float, float]:
    """Returns ms of an ordinary step and of the longest pause, and s until the long answer."""
    generator.reset()
    text = "".join(read_prompts(PROMPTS / "prose.txt")) * 40
    prompt = generator.tokenize(text)[:n_prompt]
    answered: list[float] = []

    def read() -> None:
        begin = time.perf_counter()
        generator.generate(prompt, max_tokens=1, method="ar")
        answered.append(time.perf_counter() - begin)

    reader = threading.Thread(target=read)
    alone, beside, last = [], [], 0.0
    with generator.stream("Once upon a time", max_tokens=1500, method="ar", ignore_eos=True) as s:
        for i, _ in enumerate(s):
            now = time.perf_counter()
            if i > 2:
                (beside if i > 42 else alone).append(1000 * (now - last))
            last = now
            if i == 42:
                reader.start()
            if answered:
                break
    reader.join()
    return statistics.median(alone), max(beside), answered[0]


def main() -> None:
    """Prints both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("-m", "--model", default=None)
    add("-md", "--draft", default=None)
    add("--loads", type=lambda text: [int(n) for n in text.split(",")], default=[1, 2, 4, 8, 16])
    add("-n", "--tokens", type=int, default=64)
    add("-r", "--repetitions", type=int, default=3)
    add("-t", "--threads", type=int, default=2)
    add("--prompt", type=int, default=3000, help="tokens of the long prompt")
    args = parser.parse_args()
    generator = Generator(
        args.model or models.default_target(),
        args.draft or models.default_draft(),
        n_parallel=max(args.loads),
        n_ctx=4096,
        n_ctx_total=8192,
        n_threads=args.threads,
    )
    print(generator, generator.exact)
    loads(generator, args)
    for _ in range(args.repetitions):
        ordinary, longest, seconds = longest_pause(generator, args.prompt)
        print(
            f"a prompt of {args.prompt} tokens beside a stream: ordinary step {ordinary:.1f} ms, "
            f"longest pause {longest:.1f} ms ({longest / ordinary:.1f} steps), "
            f"read in {seconds:.1f} s",
            flush=True,
        )


if __name__ == "__main__":
    main()
