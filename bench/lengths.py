"""Speed against the length of the text: a Generator beside llama-cpp-python's Llama, in turn.

Each round reads a prompt of n tokens and generates; every contender takes its turn in each round.
Prints tokens per second of prompt and answer, and the ratio to the faster Llama of the same round:
its median, least and greatest.

python bench/lengths.py [-m MODEL] [--lengths 100,1500,3500] [--ours exact=True] [-t 2]
"""

from __future__ import annotations

import argparse
import statistics
import time
from collections.abc import Callable
from pathlib import Path

import llama_cpp

from ersd import Generator, models

Times = tuple[float, float]  # prompt tokens and answer tokens per second
PROSE = Path(__file__).parent / "prompts" / "prose.txt"


def of_llama(path: str, n_ctx: int, threads: int, flash: bool) -> Callable[[list[int], int], Times]:
    """A Llama with its default types of cache; its answers are greedy."""
    llama = llama_cpp.Llama(
        path,
        n_ctx=n_ctx,
        n_threads=threads,
        n_threads_batch=threads,
        flash_attn=flash,
        verbose=False,
    )

    def run(prompt: list[int], n: int) -> Times:
        llama.reset()
        begin = time.perf_counter()
        tokens = llama.generate(prompt, temp=0.0, repeat_penalty=1.0)
        next(tokens)
        first = time.perf_counter()
        for _ in range(n - 1):
            next(tokens)
        return len(prompt) / (first - begin), (n - 1) / (time.perf_counter() - first)

    return run


def of_generator(
    path: str, n_ctx: int, threads: int, options: dict
) -> Callable[[list[int], int], Times]:
    """A Generator without a draft model; its answers are greedy."""
    generator = Generator(path, n_ctx=n_ctx, n_threads=threads, **options)

    def run(prompt: list[int], n: int) -> Times:
        generator.reset()
        begin = time.perf_counter()
        stream = generator.stream(
            prompt, max_tokens=n, temperature=0.0, method="ar", ignore_eos=True
        )
        next(stream)
        first = time.perf_counter()
        for _ in stream:
            pass
        return len(prompt) / (first - begin), (n - 1) / (time.perf_counter() - first)

    return run


def main() -> None:
    """Print one table."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("-m", "--model", default=None)
    add("--lengths", default="100,1500,3500")
    add(
        "--ours",
        action="append",
        default=[],
        help="options of a Generator, as type_k=q8_0,type_v=f16",
    )
    add("--repetitions", type=int, default=5)
    add("--tokens", type=int, default=32)
    add("-t", "--threads", type=int, default=2)
    args = parser.parse_args()
    path = str(args.model or models.default_target())
    lengths = [int(n) for n in args.lengths.split(",")]
    n_ctx = max(lengths) + args.tokens + 8
    runs = {
        f"Llama, flash_attn={on}": of_llama(path, n_ctx, args.threads, on) for on in (False, True)
    }
    for text in args.ours or [""]:
        options = {}
        for part in filter(None, text.split(",")):
            name, value = part.split("=")
            options[name] = {"True": True, "False": False, "None": None}.get(value, value)
        runs[f"Generator({text})"] = of_generator(path, n_ctx, args.threads, options)
    text = PROSE.read_text(encoding="utf-8") * 40
    tokens = llama_cpp.Llama(path, vocab_only=True, verbose=False).tokenize(text.encode())
    print(
        "| prompt | who | prompt tokens/s | of the faster Llama "
        "| answer tokens/s | of the faster Llama |"
    )
    print("| ---: | --- | ---: | --- | ---: | --- |")
    for n in lengths:
        seen: dict[str, list[Times]] = {name: [] for name in runs}
        for repetition in range(args.repetitions + 1):
            for name, run in runs.items():
                times = run(tokens[:n], args.tokens)
                if repetition:  # the first round warms up
                    seen[name].append(times)
        for name, times in seen.items():
            cells = []
            for i in (0, 1):
                best = [
                    max(seen[other][r][i] for other in list(runs)[:2])
                    for r in range(args.repetitions)
                ]
                ratios = [t[i] / b for t, b in zip(times, best, strict=True)]
                median = statistics.median(t[i] for t in times)
                cells += [
                    f"{median:.1f}",
                    f"{statistics.median(ratios):.2f} ({min(ratios):.2f} to {max(ratios):.2f})",
                ]
            print(f"| {n} | {name} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
