"""Tokens per target call of chains: races, rejection token by token, block verification, the bound.

python bench/block.py RECORDS.jsonl ... [-md twin|default|FILE] [--prompts FILE ...] [--count 24]
                      [-n 64] [-k 4,8,16] [--temp 1.0,0.6] [--methods ersd,gsd,block] [--batch 8]
                      [-t 1] [--table]

It continues where the first file ends, and then prints the tables of all files; --table prints them
alone. Give each draft files of its own. The engine's rows are counts of target calls, so a busy
machine does not change them. For races they follow from the recorded ranks, and are those of the
engine exactly. The rows of theory are what is expected on texts of the target, by the closed form
for each token.
"""

from __future__ import annotations

import argparse
import json
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from ersd import Generator, models, theory
from ersd.chains import CHAINS
from ersd.progress import Progress
from ersd.prompts import read_prompts
from ersd.ranks import ratio, replay

PROMPTS = Path(__file__).parent / "prompts"
RAW = {"prose", "code"}  # files whose texts the model continues; the others are chat messages
SAMPLING = {"top_k": 0, "top_p": 1.0, "min_p": 0.0}  # the whole vocabulary
ENGINE = ("block", "gsd")  # methods whose chains the engine runs
NAMES = {
    "ersd": "races",
    "gsd": "token-wise rejection",
    "block": "block verification",
    "joint": "the bound of every method",
}
FIRST_SEED = 1000

Record = dict[str, Any]


@dataclass(frozen=True)
class Prompt:
    """A prompt, its category and its number there."""

    category: str
    number: int
    text: str

    @property
    def seed(self) -> int:
        """The seed of the prompt's texts."""
        return FIRST_SEED + self.number


def parse_arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(description="tokens per target call of drafted chains")
    add = parser.add_argument
    add("records", nargs="+", type=Path, help="files of JSON lines; the run continues the first")
    add("-md", "--model-draft", default="twin", help="twin, default, or a GGUF file")
    add("--prompts", nargs="+", type=Path, default=[PROMPTS / "chat.txt"], help="files of prompts")
    add("--count", type=int, default=24, help="prompts of each file")
    add("-n", "--max-tokens", type=int, default=64, help="tokens per prompt")
    add("-k", "--draft-nodes", default="4,8,16", help="lengths of chains")
    add("--temp", default="1.0,0.6", help="temperatures")
    add("--batch", type=int, default=8, help="prompts that share target calls")
    add("-t", "--threads", type=int, default=1)
    add("--methods", default="ersd,gsd,block", help="what to run; theory needs the texts of ersd")
    add("--table", action="store_true", help="print the tables of what is recorded")
    return parser.parse_args()


def draft_of(name: str) -> Path:
    """Return the draft's path."""
    known = {"twin": models.twin, "default": models.default_draft}
    return known[name]() if name in known else Path(name)


def record_text(generator: Generator, prompt: Prompt, temperature: float, n: int) -> Record:
    """Record the ranks of a text of races, and what other chains need to know of its tokens."""
    ranks, ratios, agreements = [], [], []
    given = {"max_tokens": n, "temperature": temperature, "seed": prompt.seed, **SAMPLING}
    for position in generator.ranks(prompt.text, logits=True, **given):
        target = theory.softmax(position.target_logits, temperature)
        draft = theory.softmax(position.draft_logits, temperature)
        draft = np.pad(draft, (0, len(target) - len(draft)))
        ranks.append(position.rank)
        ratios.append(theory.token_ratio(target, draft, position.token))
        agreements.append(theory.race_agreement(target, draft, position.token))
    return {"ranks": ranks, "ratios": ratios, "agreements": agreements}


def jobs(args: argparse.Namespace) -> list[Record]:
    """Return what is to be recorded of each batch of prompts."""
    chains = [("ersd", 0), *product(ENGINE, map(int, args.draft_nodes.split(",")))]
    return [
        {"method": method, "temperature": temperature, "k": k}
        for (method, k), temperature in product(chains, map(float, args.temp.split(",")))
        if method in args.methods.split(",")
    ]


def key(record: Record) -> tuple[Any, ...]:
    """Return what tells records apart."""
    return tuple(record[name] for name in ("category", "prompt", "method", "temperature", "k"))


def read_records(path: Path) -> list[Record]:
    """Return the records so far, without an unfinished last line."""
    lines = path.read_text(encoding="utf-8").split("\n")[:-1] if path.exists() else []
    return [json.loads(line) for line in lines]


def run_job(generator: Generator, prompts: Sequence[Prompt], job: Record, n: int) -> list[Record]:
    """Return one record for each prompt."""
    if job["method"] == "ersd":
        found = [record_text(generator, p, job["temperature"], n) for p in prompts]
    else:
        results = generator.generate_batch(
            [p.text for p in prompts],
            seed=[p.seed for p in prompts],
            max_tokens=n,
            method=job["method"],
            strategy="sequence",
            draft_nodes=job["k"],
            temperature=job["temperature"],
            **SAMPLING,
        )
        found = [
            {
                "calls": r.stats.target_calls,
                "tokens": round(r.stats.tokens_per_call * r.stats.target_calls),
            }
            for r in results
        ]
    return [
        {"category": p.category, "prompt": p.number} | job | values
        for p, values in zip(prompts, found, strict=True)
    ]


def record(args: argparse.Namespace) -> None:
    """Record what is missing, batch by batch, so that all rows of the tables grow together."""
    generator = Generator(
        models.default_target(),
        draft_of(args.model_draft),
        n_ctx=512,
        n_ctx_total=512 * args.batch,
        n_parallel=args.batch,
        n_threads=args.threads,
        profile=False,
    )
    prompts = [
        Prompt(path.stem, i, text if path.stem in RAW else generator.target.chat_prompt(text))
        for path in args.prompts
        for i, text in enumerate(read_prompts(path)[: args.count])
    ]
    batches = [prompts[i : i + args.batch] for i in range(0, len(prompts), args.batch)]
    done = {key(r) for r in read_records(args.records[0])}
    progress = Progress("block", len(batches) * len(jobs(args)))
    with args.records[0].open("a", encoding="utf-8") as file:
        for batch, job in product(batches, jobs(args)):
            left = [
                p
                for p in batch
                if key({"category": p.category, "prompt": p.number} | job) not in done
            ]
            for found in run_job(generator, left, job, args.max_tokens) if left else ():
                file.write(json.dumps(found) + "\n")
            file.flush()
            progress.step(skipped=not left)


def expected(texts: Sequence[Record], chain: str, k: int) -> tuple[float, float]:
    """Return tokens per call that are expected on recorded texts, and the error over prompts.

    The bound is that of the calls of block verification, averaged over where they begin.
    """
    tokens, calls = [], []
    for text in texts:
        values, n = text["agreements" if chain == "ersd" else "ratios"], len(text["ranks"])
        starts = theory.call_starts("block" if chain == "joint" else chain, values, k)
        calls.append(starts.sum())
        tokens.append(float(n))
        if chain == "joint":
            bounds = [theory.joint_bound(values[t : min(t + k, n - 1)]) for t in range(n)]
            tokens[-1] = float(starts @ np.array(bounds))
    return ratio(tokens, calls)


def measured(records: Sequence[Record], chain: str, k: int) -> tuple[float, float] | None:
    """Return tokens per call of the engine, and the error over prompts; None if it has not run."""
    if chain == "ersd":
        shape = theory.sequence_shape(k, k)
        calls = [len(replay(r["ranks"], shape)) for r in records if r["method"] == "ersd"]
        return ratio([len(r["ranks"]) for r in records if r["method"] == "ersd"], calls)
    found = [r for r in records if r["method"] == chain and r["k"] == k]
    return ratio([r["tokens"] for r in found], [r["calls"] for r in found]) if found else None


def cell(figure: tuple[float, float] | None) -> str:
    """Return a figure and its error."""
    return "" if figure is None else f"{figure[0]:.2f} ± {figure[1]:.2f}"


def print_tables(records: Sequence[Record], lengths: Sequence[int]) -> None:
    """Print a table for each category and temperature."""
    for category, temperature in product(
        dict.fromkeys(r["category"] for r in records),
        dict.fromkeys(r["temperature"] for r in records),
    ):
        here = [r for r in records if (r["category"], r["temperature"]) == (category, temperature)]
        texts = [r for r in here if r["method"] == "ersd"]
        n_engine = len({r["prompt"] for r in here if r["method"] == "block"})
        print(
            f"\n{category}, T = {temperature:g}: {len(texts)} texts, engine on {n_engine} prompts\n"
        )
        print("| | " + " | ".join(f"k = {k}, engine | theory" for k in lengths) + " |")
        print("| --- |" + " ---: | ---: |" * len(lengths))
        for chain in CHAINS:
            cells = [
                figure
                for k in lengths
                for figure in (
                    cell(measured(here, chain, k)) if chain != "joint" else "",
                    cell(expected(texts, chain, k)),
                )
            ]
            print(f"| {NAMES[chain]} | " + " | ".join(cells) + " |")


def main() -> None:
    """Record what is missing, and print the tables."""
    args = parse_arguments()
    if not args.table:
        record(args)
    records = [r for path in args.records for r in read_records(path)]
    print_tables(records, [int(k) for k in args.draft_nodes.split(",")])


if __name__ == "__main__":
    main()
