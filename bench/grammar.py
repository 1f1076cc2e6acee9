"""What a grammar costs: plain decoding with a JSON schema and without.

python bench/grammar.py [-m MODEL ...] [--count 3] [--repeats 5] [-n 100] [-t THREADS]

Each answer is generated several times, and of each of its tokens the fastest time counts, so that a
busy machine does not show. With and without the schema take turns.
"""

from __future__ import annotations

import argparse
from collections.abc import Iterator, Sequence
from statistics import fmean
from typing import Any, NamedTuple

from ersd import Generator, models

PROMPT = "A person as JSON with name, age and hobbies:\n"
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "hobbies": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["name", "age", "hobbies"],
}
FORMS: dict[str, dict[str, Any]] = {
    "without": {"ignore_eos": True},
    "with": {"response_format": {"type": "json_object", "schema": SCHEMA}},
}
FULL = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
OPTIONS: dict[str, dict[str, Any]] = {
    "temperature 1": FULL,
    "defaults": {},
    "typical_p": {**FULL, "typical_p": 0.9},
    "XTC": {**FULL, "xtc_probability": 0.5, "xtc_threshold": 0.1},
}


class Times(NamedTuple):
    """Milliseconds of a token: of its step, and of its race, with the mask of a grammar."""

    step: float
    race: float


def times(generator: Generator, n: int, **options: Any) -> Iterator[Times]:
    """Yield the times of the tokens of an answer, without the first, which reads the prompt."""
    generator.reset()  # a prompt that is in the cache could give another text
    stream = generator.stream(PROMPT, max_tokens=n, method="ar", **options)
    before = None
    for _ in stream:
        stats = stream.stats
        if before is not None:
            step, race = stats.total_ms - before.total_ms, stats.race_ms - before.race_ms
            yield Times(step, race)
        before = stats


def measure(args: argparse.Namespace, generator: Generator, options: Any) -> dict[str, Times]:
    """Return the mean times with the schema and without."""
    found: dict[str, list[Times]] = {form: [] for form in FORMS}
    for seed in range(args.count):
        runs: dict[str, list[list[Times]]] = {form: [] for form in FORMS}
        for _ in range(args.repeats):
            for form, more in FORMS.items():
                given = {**options, **more, "seed": seed}
                runs[form].append(list(times(generator, args.max_tokens, **given)))
        for form, same in runs.items():
            found[form] += [fastest(each) for each in zip(*same, strict=True)]
    return {form: mean(each) for form, each in found.items()}


def fastest(same: Sequence[Times]) -> Times:
    """Return the least times of the same token."""
    return Times(min(each.step for each in same), min(each.race for each in same))


def mean(tokens: Sequence[Times]) -> Times:
    """Return the mean times of tokens."""
    return Times(fmean(each.step for each in tokens), fmean(each.race for each in tokens))


def main() -> None:
    """Print a table with one line for each model and kind of sampling."""
    parser = argparse.ArgumentParser(description="the time that a grammar takes per token")
    add = parser.add_argument
    add("-m", "--models", nargs="+", help="GGUF files; without them, the default target")
    add("--count", type=int, default=3, help="answers of each kind, with seeds from 0 on")
    add("--repeats", type=int, default=5, help="how often each answer is generated")
    add("-n", "--max-tokens", type=int, default=100, help="tokens of an answer at most")
    add("-t", "--threads", type=int, default=None, help="CPU threads; without it, one per core")
    args = parser.parse_args()
    print("| tokens | sampling | race, us | with a schema | grammar, us | speed with a schema |")
    print("| ---: | --- | ---: | ---: | ---: | ---: |")
    for path in args.models or [models.default_target()]:
        generator = Generator(path, n_ctx=1024, n_threads=args.threads)
        for name, options in OPTIONS.items():
            plain, held = measure(args, generator, options).values()
            races = [1000 * each.race for each in (plain, held)]
            print(
                f"| {generator.target.n_vocab:,} | {name} | {races[0]:.0f} | {races[1]:.0f} "
                f"| {races[1] - races[0]:.0f} | {plain.step / held.step:.3f} |",
                flush=True,
            )


if __name__ == "__main__":
    main()
