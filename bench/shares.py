"""The share of a step that is spent outside llama_decode.

Measured for plain decoding and for trees of 16 nodes, with the whole vocabulary at T = 1.

python bench/shares.py [--model gemma.gguf] [--tokens 96] [--threads 2]
"""

from __future__ import annotations

import argparse
import statistics

from ersd import Generator, models

PROMPT = "The history of salt is also a history of"
WHOLE = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}


def main() -> None:
    """Print medians over the generations. The model drafts for itself, so that trees are deep."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default=str(models.default_target()))
    parser.add_argument("--tokens", type=int, default=96)
    parser.add_argument("--threads", type=int, default=2)
    parser.add_argument("--repetitions", type=int, default=5)
    args = parser.parse_args()
    generator = Generator(args.model, args.model, n_ctx=512, n_threads=args.threads)
    for name, options in {
        "plain": {"method": "ar"},
        "tree of 16": {"strategy": "tree", "draft_nodes": 16},
    }.items():
        outside, races = [], []
        for seed in range(args.repetitions):
            stats = generator.generate(
                PROMPT, max_tokens=args.tokens, seed=seed, **WHOLE, **options
            ).stats
            step = stats.total_ms - stats.prefill_ms
            outside.append(100 * (1 - (stats.target_ms + stats.draft_ms) / step))
            races.append(100 * stats.race_ms / step)
        print(
            f"{name}: outside llama_decode {statistics.median(outside):.2f} % of a step, "
            f"races {statistics.median(races):.2f} %",
            flush=True,
        )


if __name__ == "__main__":
    main()
