"""Tokens per target call of static trees, adaptive trees, and both with a draft that corrects itself, on chat prompts.

python bench/ablation.py [--prompts bench/prompts/chat.txt] [--count 16] [-n 96] [-k 16] [--temp 0.6,1.0] [-t THREADS]
"""

from __future__ import annotations

import argparse
from itertools import product
from pathlib import Path

import numpy as np

from ersd import Generator, models
from ersd.paper import read_prompts


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(description="tokens per target call, with and without what learns while generating")
    parser.add_argument("--prompts", type=Path, default=Path(__file__).parent / "prompts" / "chat.txt")
    parser.add_argument("--count", type=int, default=16, help="how many of them")
    parser.add_argument("-n", "--max-tokens", type=int, default=96)
    parser.add_argument("-k", "--draft-nodes", type=int, default=16)
    parser.add_argument("--temp", default="0.6,1.0")
    parser.add_argument("--strategy", default="tree,adaptive")
    parser.add_argument("-t", "--threads", type=int, default=None)
    args = parser.parse_args()
    generator = Generator(models.default_target(), models.default_draft(), n_ctx=1024, n_threads=args.threads)
    prompts = [generator.target.chat_prompt(text) for text in read_prompts(args.prompts)[: args.count]]
    print("| temperature | strategy | adapt_draft | tokens per target call | nodes per call | first acceptance, second half |")
    print("| ---: | --- | --- | ---: | ---: | ---: |")
    for temperature, strategy, adapt in product(map(float, args.temp.split(",")), args.strategy.split(","), (False, True)):
        generator.forget()
        stats = [
            generator.generate(
                prompt,
                max_tokens=args.max_tokens,
                temperature=temperature,
                top_k=0,
                top_p=1.0,
                min_p=0.0,
                seed=100 + i,
                strategy=strategy,
                draft_nodes=args.draft_nodes,
                adapt_draft=adapt,
            ).stats
            for i, prompt in enumerate(prompts)
        ]
        tokens, calls = (np.array([getattr(s, name) for s in stats], float) for name in ("generated", "target_calls"))
        mean = tokens.sum() / calls.sum()
        error = np.sqrt(((tokens - mean * calls) ** 2).sum() * len(calls) / max(len(calls) - 1, 1)) / calls.sum()
        ranks = np.sum([s.rank_histogram for s in stats[len(stats) // 2 :]], axis=0)
        nodes = sum(s.drafted for s in stats) / calls.sum()
        cells = (
            f"{temperature:g}",
            strategy,
            "yes" if adapt else "no",
            f"{mean:.2f} ± {error:.2f}",
            f"{nodes:.1f}",
            f"{ranks[0] / ranks.sum():.3f}",
        )
        print("| " + " | ".join(cells) + " |", flush=True)


if __name__ == "__main__":
    main()
