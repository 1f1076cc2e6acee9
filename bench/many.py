"""Many requests at once: throughput, goodput under load, and the pause that a long prompt causes.

Prints tokens per second of n equal requests together beside the same requests one after the other,
with and without drafts, in turn; then the pauses of a stream, alone and while another request reads
a long prompt, in ordinary steps.

python bench/many.py [-m MODEL] [-md DRAFT] [--loads 1,2,4,8,16] [-n 64] [-r 3] [-t 2]
"""

from __future__ import annotations

import argparse
import itertools
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


def shares(ratios: list[float]) -> str:
    """Returns the median, the 99th percentile and the greatest of ratios."""
    ratios = sorted(ratios)
    return ", ".join(f"{ratios[int(p * (len(ratios) - 1))]:.2f}" for p in (0.5, 0.99, 1))


def noise(generator: Generator, n_steps: int) -> str:
    """Returns how long the steps of a stream alone are, in the five steps before each."""
    generator.reset()
    times = [time.perf_counter()]
    with generator.stream(
        "Once upon a time", max_tokens=n_steps, method="ar", ignore_eos=True
    ) as stream:
        times += [time.perf_counter() for _ in stream]
    steps = [b - a for a, b in itertools.pairwise(times[2:])]
    ratios = [steps[i] / statistics.median(steps[i - 5 : i]) for i in range(5, len(steps))]
    return f"{len(ratios)} steps of a stream alone: {shares(ratios)} (median, 99 %, longest)"


def pauses(generator: Generator, n_prompt: int) -> str:
    """Returns how long the steps of a stream are while another request reads a long prompt.

    Now and then a step reads nothing. All tokens share one cache, so that such a step, too, takes
    longer the more of the prompt is in it. Pauses are given in steps of both kinds: those before
    the prompt came, and the five steps before each that read nothing.
    """
    generator.reset()
    text = "".join(read_prompts(PROMPTS / "prose.txt")) * 40
    prompt = generator.tokenize(text)[:n_prompt]
    answered: list[float] = []

    def read() -> None:
        begin = time.perf_counter()
        generator.generate(prompt, max_tokens=1, method="ar")
        answered.append(time.perf_counter() - begin)

    reader = threading.Thread(target=read)
    plain: list[float] = []  # ms of the steps that read nothing
    reading: list[tuple[float, float]] = []  # ms of the others, and of ordinary ones near them
    with generator.stream("Once upon a time", max_tokens=2000, method="ar", ignore_eos=True) as s:
        next(s), next(s)
        last, n_read = time.perf_counter(), generator.traffic.prompt_rows
        for _ in s:
            now, n = time.perf_counter(), generator.traffic.prompt_rows
            ms = 1000 * (now - last)
            if n > n_read:
                reading.append((ms, statistics.median(plain[-5:])))
            else:
                plain.append(ms)
            last, n_read = now, n
            if len(plain) == 40 and not reader.ident:
                before = statistics.median(plain)
                reader.start()
            if answered:
                break
    reader.join()
    longest = max(ms for ms, _ in reading)
    return (
        f"pauses of a stream beside a prompt of {n_prompt} tokens, in ordinary steps of the same "
        f"time: {shares([ms / near for ms, near in reading])} (median, 99 %, longest of "
        f"{len(reading)}); the longest is {longest:.0f} ms, an ordinary "
        f"step {before:.1f} ms before the prompt and {statistics.median(plain[-5:]):.1f} at its "
        f"end; read in {answered[0]:.1f} s"
    )


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
        n_parallel=max(2, *args.loads),
        n_ctx=4096,
        n_ctx_total=8192,
        n_threads=args.threads,
    )
    print(generator, generator.exact)
    loads(generator, args)
    for _ in range(args.repetitions):
        print(noise(generator, 1400), flush=True)
        print(pauses(generator, args.prompt), flush=True)


if __name__ == "__main__":
    main()
