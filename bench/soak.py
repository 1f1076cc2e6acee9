"""Random requests at random times through a few places: no text changes and nothing leaks.

Each request has a prompt, options, a way to draft, an arrival time and perhaps an early end of its
own. Every finished answer is compared with the one that a Generator with one place gives without
drafts. Prints how many differ, what is left in use, the resident memory at every tenth, and how
many tokens came from which source of drafts.

python bench/soak.py [-m MODEL] [-md DRAFT] [--requests 1000] [--senders 12] [--places 8] [-t 2]
"""

from __future__ import annotations

import argparse
import random
import time
from collections import Counter
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

from ersd import Generator, Stats, models
from ersd.prompts import read_prompts

PROMPTS = [
    p
    for path in sorted((Path(__file__).parent / "prompts").glob("*.txt"))
    for p in read_prompts(path)
]
WAYS: list[dict[str, Any]] = [
    {},
    {"draft_nodes": 16},
    {"strategy": "tree", "draft_nodes": 8},
    {"strategy": "sequence", "draft_nodes": 4},
    {"method": "match", "draft_nodes": 4},
    {"draft_sources": ["lookup"], "draft_nodes": 8},
    {"draft_sources": ["lookup", "history"], "strategy": "tree", "draft_nodes": 12},
    {"method": "ar"},
]
REPEAT = "Repeat the following text three times, word by word:\n\n"
SYSTEM = "You are a helpful assistant who answers in a few short and friendly sentences. " * 4


def random_request(i: int) -> tuple[str, dict[str, Any]]:
    """Returns the prompt and the options of a request, without a way to draft."""
    rng = random.Random(i)
    options = {
        "seed": rng.randrange(1 << 32),
        "max_tokens": rng.choice([1, 8, 24, 48]),
        "temperature": rng.choice([0.0, 0.6, 1.0]),
        "top_k": rng.choice([0, 40]),
        "min_p": rng.choice([0.0, 0.05]),
        "repeat_penalty": rng.choice([1.0, 1.2]),
    }
    return rng.choice(["", SYSTEM, REPEAT]) + rng.choice(PROMPTS), options


def resident_mb() -> float:
    """Returns the resident memory of this process."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * 4096 / 1e6


def send(generator: Generator, i: int, mean_pause: float) -> tuple[list[int], Stats] | None:
    """Sends a request after a pause. Returns its tokens and counts; None if it was ended early."""
    rng = random.Random(-i - 1)
    time.sleep(rng.expovariate(1 / mean_pause))
    prompt, options = random_request(i)
    ends_after = rng.randrange(6) if rng.random() < 0.2 else None
    with generator.stream(prompt, **options, **rng.choice(WAYS)) as stream:
        for n, _ in enumerate(stream):
            if n == ends_after:
                return None
    return stream.tokens, stream.stats


def answers(
    generator: Generator, args: argparse.Namespace
) -> Iterator[tuple[list[int], Stats] | None]:
    """Yields the answer of each request in order, and prints the memory now and then."""
    with ThreadPoolExecutor(args.senders) as senders:
        sent = [senders.submit(send, generator, i, args.pause) for i in range(args.requests)]
        for i, each in enumerate(sent):
            if i % max(args.requests // 10, 1) == 0:
                print(f"after {i} requests: {resident_mb():.0f} MB", flush=True)
            yield each.result()


def main() -> None:
    """Prints what came of the requests."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("-m", "--model", default=None)
    add("-md", "--draft", default=None)
    add("--requests", type=int, default=1000)
    add("--senders", type=int, default=12, help="threads that send")
    add("--places", type=int, default=8)
    add("--pause", type=float, default=0.2, help="mean seconds before a sender's next request")
    add("-t", "--threads", type=int, default=2)
    args = parser.parse_args()
    target = args.model or models.default_target()
    options: dict[str, Any] = {"n_ctx": 1024, "exact": True, "n_threads": args.threads}
    many = Generator(
        target,
        args.draft or models.default_draft(),
        n_parallel=args.places,
        n_ctx_total=3000,
        **options,
    )
    given = list(answers(many, args))
    core = many._core
    print(f"left: {core.n_active} active, {core.n_waiting} waiting, {resident_mb():.0f} MB")
    many.reset()
    print(f"free cells after reset: {core.n_free} of {core.n_cells}")
    del many, core
    alone = Generator(target, n_parallel=1, draft_sources=[], **options)
    finished = {i: answer for i, answer in enumerate(given) if answer is not None}
    accepted: Counter[str] = Counter()
    n_different = 0
    for i, (tokens, stats) in finished.items():
        prompt, sampling = random_request(i)
        n_different += tokens != alone.generate(prompt, **sampling).tokens
        accepted.update(stats.accepted_by)
    n_ended = len(given) - len(finished)
    print(f"{len(finished)} finished, {n_different} of them differ, {n_ended} ended early")
    print("accepted by source:", dict(accepted))


if __name__ == "__main__":
    main()
