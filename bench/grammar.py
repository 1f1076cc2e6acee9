"""What a grammar costs: time per token of plain decoding with a JSON schema and without.

python bench/grammar.py [-m MODEL] [--count 5] [-n 150] [-t THREADS]
"""

from __future__ import annotations

import argparse
from statistics import median
from typing import Any

from ersd import Generator, models

PROMPT = "Describe a person as JSON with name, age and hobbies."
SCHEMA = {
    "type": "object",
    "properties": {
        "name": {"type": "string"},
        "age": {"type": "integer", "minimum": 0, "maximum": 120},
        "hobbies": {"type": "array", "items": {"type": "string"}},
    },
    "required": ["name", "age", "hobbies"],
}
OPTIONS: dict[str, dict[str, Any]] = {
    "temperature 1": {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0},
    "defaults": {},
    "typical_p": {"typical_p": 0.9},
    "XTC": {"xtc_probability": 0.5, "xtc_threshold": 0.1},
}


def measure(generator: Generator, seed: int, n: int, **options: Any) -> tuple[float, float]:
    """Return the milliseconds per token of an answer, and those of the races and the grammar."""
    result = generator.chat(
        [{"role": "user", "content": PROMPT}], seed=seed, max_tokens=n, method="ar", **options
    )
    stats = result.stats
    return (stats.total_ms - stats.prefill_ms) / stats.generated, stats.race_ms / stats.generated


def main() -> None:
    """Print a table with one line for each kind of sampling."""
    parser = argparse.ArgumentParser(description="the time that a grammar takes per token")
    add = parser.add_argument
    add("-m", "--model", help="a GGUF file; without it, the default target")
    add("--count", type=int, default=5, help="answers of each kind")
    add("-n", "--max-tokens", type=int, default=150, help="tokens of an answer at most")
    add("-t", "--threads", type=int, default=None, help="CPU threads; without it, one per core")
    args = parser.parse_args()
    path = args.model or models.default_target()
    generator = Generator(path, n_ctx=1024, n_threads=args.threads)
    print(f"{generator.target.n_vocab} tokens; medians of {args.count} answers, in ms per token")
    form = {"response_format": {"type": "json_object", "schema": SCHEMA}}
    for name, options in OPTIONS.items():
        found: dict[bool, list[tuple[float, float]]] = {False: [], True: []}
        for seed in range(args.count):  # in turn, so that a busy moment meets both
            for with_schema in found:
                more = form if with_schema else {}
                found[with_schema].append(
                    measure(generator, seed, args.max_tokens, **options, **more)
                )
        plain, held = (
            [median(each[i] for each in found[with_schema]) for i in range(2)]
            for with_schema in (False, True)
        )
        print(
            f"{name}: {plain[0]:.2f} without, {held[0]:.2f} with the schema; "
            f"races and grammar {plain[1]:.3f} and {held[1]:.3f}, so {held[1] - plain[1]:.3f} more"
        )


if __name__ == "__main__":
    main()
