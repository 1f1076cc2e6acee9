"""Tokens per target call: what trees by race margins, a draft that corrects itself and automatic size add to static trees.

python bench/ablation.py [--prompts FILE ...] [--count 20] [-n 96] [-k 16] [--temp 0.6,1.0] [-md DRAFT] [-t THREADS] [--only NAME ...]

Each row of the table begins with nothing learnt, except within itself.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from ersd import Generator, Stats, _core, models
from ersd.prompts import read_prompts
from ersd.ranks import ratio

PROMPTS = Path(__file__).parent / "prompts"
RAW = {"prose", "code"}  # continued as they are; the others are chat messages
CONFIGURATIONS: dict[str, dict[str, Any]] = {
    "match chain": {"method": "match", "strategy": "sequence"},
    "gsd tree": {"method": "gsd", "strategy": "tree"},
    "gsd_iid tree": {"method": "gsd_iid", "strategy": "tree"},
    "sequence of 4": {"strategy": "sequence", "draft_nodes": 4, "adapt_draft": False},
    "sequence of 4, correction": {"strategy": "sequence", "draft_nodes": 4},
    "static tree": {"strategy": "tree", "adapt_draft": False},
    "static tree, correction": {"strategy": "tree"},
    "margins, fixed": {"strategy": "adaptive", "adapt_draft": False},
    "margins": {"strategy": "adaptive", "adapt_draft": False},
    "margins, correction": {"strategy": "adaptive"},
    "margins, correction, auto": {"strategy": "adaptive", "draft_nodes": "auto"},
}


def hold_margins(generator: Generator) -> None:
    """Make the margin model's shipped coefficients so certain that they never move."""
    profile = generator._core.profile()
    margins = profile.margins
    profile.margins = _core.MarginModel(
        margins.coefficients, (1e9 * np.array(margins.information)).tolist()
    )
    generator._core.restore(profile)


def row(name: str, temperature: float, category: str, stats: Sequence[Stats]) -> str:
    """One line of the table: ratios over prompts with standard errors."""
    calls = [s.target_calls for s in stats]
    mean, error = ratio([s.generated for s in stats], calls)
    nodes, _ = ratio([s.drafted for s in stats], calls)
    ranks = np.sum([s.rank_histogram for s in stats[len(stats) // 2 :]], axis=0)
    first = f"{ranks[0] / ranks.sum():.3f}" if ranks.sum() else "-"
    cells = (
        name,
        f"{temperature:g}",
        category,
        str(len(stats)),
        f"{mean:.3f} ± {error:.3f}",
        f"{nodes:.1f}",
        first,
    )
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Print a table."""
    parser = argparse.ArgumentParser(
        description="tokens per target call, and what each part of drafting adds"
    )
    parser.add_argument(
        "--prompts",
        nargs="+",
        type=Path,
        default=[PROMPTS / "chat.txt"],
        help="files; each is a category",
    )
    parser.add_argument("--count", type=int, default=20, help="prompts of each")
    parser.add_argument("-n", "--max-tokens", type=int, default=96)
    parser.add_argument("-k", "--draft-nodes", type=int, default=16)
    parser.add_argument("--temp", default="0.6,1.0")
    parser.add_argument(
        "--only", nargs="+", choices=CONFIGURATIONS, default=list(CONFIGURATIONS), metavar="NAME"
    )
    parser.add_argument("-md", "--model-draft", type=Path, default=models.twin())
    parser.add_argument("-t", "--threads", type=int, default=None)
    args = parser.parse_args()
    generator = Generator(
        models.default_target(), args.model_draft, n_ctx=1024, n_threads=args.threads, profile=False
    )
    prompts = {
        path.stem: [
            text if path.stem in RAW else generator.target.chat_prompt(text)
            for text in read_prompts(path)[: args.count]
        ]
        for path in args.prompts
    }
    print(
        "| drafting | T | prompts | number | tokens per target call | nodes per call | first acceptance, second half |"
    )
    print("| --- | ---: | --- | ---: | ---: | ---: | ---: |")
    for temperature, name in product(map(float, args.temp.split(",")), args.only):
        generator.forget()
        if name == "margins, fixed":
            hold_margins(generator)
        sampling = {
            "temperature": temperature,
            "top_k": 0,
            "top_p": 1.0,
            "min_p": 0.0,
            "max_tokens": args.max_tokens,
        }
        options = sampling | {"draft_nodes": args.draft_nodes} | CONFIGURATIONS[name]
        everything: list[Stats] = []
        for category, texts in prompts.items():
            stats = [
                generator.generate(text, seed=100 + i, **options).stats
                for i, text in enumerate(texts)
            ]
            everything += stats
            print(row(name, temperature, category, stats), flush=True)
        if len(prompts) > 1:
            print(row(name, temperature, "all", everything), flush=True)


if __name__ == "__main__":
    main()
