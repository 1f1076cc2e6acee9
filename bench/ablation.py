"""Tokens per target call: what each part of drafting adds to static trees.

The parts are trees by race margins, a draft that corrects itself, and an automatic number of nodes.

python bench/ablation.py [--prompts FILE ...] [--count 20] [-n 96] [-k 16] [--temp 0.6,1.0]
                         [-m TARGET] [-md DRAFT] [-t THREADS] [--only NAME ...]

Each row of the table starts with nothing learnt, and learns from its own prompts only.
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
RAW = {"prose", "code"}  # files whose texts the model continues; the others are chat messages
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
# The options of all answers: sampling from the whole vocabulary.
SAMPLING = {"top_k": 0, "top_p": 1.0, "min_p": 0.0}
# Observations that stand behind each coefficient once it is held.
CERTAIN = 1e9


def hold_margins(generator: Generator) -> None:
    """Make the coefficients of the margin model so certain that they never move."""
    profile = generator._core.profile()
    margins = profile.margins
    information = (CERTAIN * np.array(margins.information)).tolist()
    profile.margins = _core.MarginModel(margins.coefficients, information)
    generator._core.restore(profile)


def row(name: str, temperature: float, category: str, stats: Sequence[Stats]) -> str:
    """Return one line of the table: ratios over prompts with standard errors."""
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


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="tokens per target call, and what each part of drafting adds"
    )
    add = parser.add_argument
    add(
        "--prompts",
        nargs="+",
        type=Path,
        default=[PROMPTS / "chat.txt"],
        help="files of prompts; each is a category",
    )
    add("--count", type=int, default=20, help="prompts of each file")
    add("-n", "--max-tokens", type=int, default=96, help="tokens per prompt")
    add("-k", "--draft-nodes", type=int, default=16, help="drafted tokens per target call")
    add("--temp", default="0.6,1.0", help="temperatures, separated by commas")
    add(
        "--only",
        nargs="+",
        choices=CONFIGURATIONS,
        default=list(CONFIGURATIONS),
        metavar="NAME",
        help="rows of the table; without it, all",
    )
    add("-m", "--model", type=Path, default=models.default_target(), help="target GGUF")
    add("-md", "--model-draft", type=Path, default=models.twin(), help="draft GGUF")
    add("-t", "--threads", type=int, default=None, help="CPU threads; without it, one per core")
    return parser.parse_args()


def read_categories(
    generator: Generator, paths: Sequence[Path], count: int
) -> dict[str, list[str]]:
    """Return the prompts of each file, chat messages in the target's template."""
    return {
        path.stem: [
            text if path.stem in RAW else generator.target.chat_prompt(text)
            for text in read_prompts(path)[:count]
        ]
        for path in paths
    }


def print_rows(
    generator: Generator, name: str, prompts: dict[str, list[str]], options: dict[str, Any]
) -> None:
    """Generate with one configuration, and print the row of each category and of all."""
    generator.forget()
    if name == "margins, fixed":
        hold_margins(generator)
    temperature = options["temperature"]
    everything: list[Stats] = []
    for category, texts in prompts.items():
        stats = [
            generator.generate(text, seed=100 + i, **options).stats for i, text in enumerate(texts)
        ]
        everything += stats
        print(row(name, temperature, category, stats), flush=True)
    if len(prompts) > 1:
        print(row(name, temperature, "all", everything), flush=True)


def main() -> None:
    """Print the table."""
    args = parse_arguments()
    generator = Generator(
        args.model, args.model_draft, n_ctx=1024, n_threads=args.threads, profile=False
    )
    prompts = read_categories(generator, args.prompts, args.count)
    header = "drafting | T | prompts | number | tokens per target call | nodes per call"
    print(f"| {header} | first acceptance, second half |")
    print("| --- | ---: | --- | ---: | ---: | ---: | ---: |")
    common = SAMPLING | {"max_tokens": args.max_tokens, "draft_nodes": args.draft_nodes}
    for temperature, name in product(map(float, args.temp.split(",")), args.only):
        options = common | {"temperature": temperature} | CONFIGURATIONS[name]
        print_rows(generator, name, prompts, options)


if __name__ == "__main__":
    main()
