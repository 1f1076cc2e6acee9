"""The experiment: its settings, and the ranks that it records.

For each method and temperature a text is generated once, and the rank of each token is recorded
(`Generator.ranks`). The ranks tell what any strategy with any k would have done on that text; see
`ersd.ranks`. For races this is exactly what the engine does. For rejection sampling it is another
sample of the same distribution, because trying more siblings than a tree has is the same as
sampling from the residual. Block verification decides on whole chains, so it has no ranks. What its
chains would have given on ERSD's texts follows from the models' distributions there; see
`ersd.chains`. Some texts are also generated with drafts by the engine, so that both can be
compared.
Needs ``pip install "ersd[paper]"``.

Source of method and bound: Kobus and Gündüz, arXiv 2504.15475.
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from ersd import Generator, Position, theory
from ersd.files import replacing
from ersd.progress import Progress, differences
from ersd.prompts import read_prompts
from ersd.ranks import MAX_RANK, METHODS, STRATEGIES, Record

__all__ = ["COMPARISONS", "Experiment", "record"]

COMPARED_EVERY = 8  # the models' distributions are compared at every 8th position
COMPARISONS = (
    theory.overlap,
    theory.ersd_acceptance,
    theory.kl_divergence,
    theory.channel_simulation_divergence,
)
# What chains of drafted tokens need to know of each token of a text; see `ersd.chains`.
CHAIN_NUMBERS = {"ratios": theory.token_ratio, "agreements": theory.race_agreement}
CHECKED_NODES = (1, 4, 16)  # each k with which the engine generates texts too


@dataclass(frozen=True)
class Experiment:
    """Settings of the experiment.

    Attributes:
        model: the target, a GGUF file.
        draft: the draft, a GGUF file.
        chat: files of chat messages, which are put into the target's chat template.
        text: files of texts, which the target continues. In both kinds of files, lines of ---
            separate the prompts. Each file is a category.
        n: tokens per prompt.
        temperatures: temperatures, each above 0. Sampling is from the whole vocabulary.
        max_nodes: k doubles from 1 to this.
        n_prompts: prompts per category at most; None for all.
        n_checks: prompts per category that the engine also decodes with drafts, for each k of
            `CHECKED_NODES` up to max_nodes.
        seed: seed of the first prompt of each category; the next prompts take the next seeds.
    """

    model: Path
    draft: Path
    chat: tuple[Path, ...] = ()
    text: tuple[Path, ...] = ()
    n: int = 96
    temperatures: tuple[float, ...] = (0.6, 1.0)
    max_nodes: int = 256
    n_prompts: int | None = None
    n_checks: int = 1
    seed: int = 1

    def validate(self) -> None:
        """Raise ValueError for a wrong setting, with its name, what is expected and what came."""
        files = (*self.chat, *self.text)
        if not files:
            raise ValueError("no prompts: give a file of chat messages or of texts")
        if len({path.stem for path in files}) < len(files):
            raise ValueError(
                "two files of prompts have the same name, but a file's name is that of its category"
            )
        if not self.temperatures or min(self.temperatures) <= 0:
            raise ValueError(f"temperatures must be above 0, got {self.temperatures}")
        if not 1 <= self.max_nodes <= MAX_RANK:
            raise ValueError(f"max_nodes must be between 1 and {MAX_RANK}, got {self.max_nodes}")
        for name, value in (("n", self.n), ("n_prompts", self.n_prompts)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")

    def prompts(self) -> dict[tuple[str, int], tuple[str, bool]]:
        """Return each prompt and whether it is a chat message, by category and number."""
        return {
            (path.stem, i): (prompt, path in self.chat)
            for path in (*self.chat, *self.text)
            for i, prompt in enumerate(read_prompts(path)[: self.n_prompts])
        }

    def nodes(self) -> list[int]:
        """Return each k of the experiment."""
        return [2**i for i in range(self.max_nodes.bit_length())]

    def jobs(self) -> list[Record]:
        """Return the texts to record. The engine's checks of a text follow the text.

        A job has the keys "method", "temperature", "category" and "prompt". A check has
        "strategy" and "draft_nodes" too.
        """
        checks = [
            {"strategy": strategy, "draft_nodes": k}
            for strategy, k in product(STRATEGIES, CHECKED_NODES)
            if k <= self.max_nodes and (strategy != "simple" or k == 1)
        ]
        jobs = []
        for temperature, method, (category, i) in product(
            self.temperatures, (*METHODS, "block"), self.prompts()
        ):
            text = {"method": method, "temperature": temperature, "category": category, "prompt": i}
            if method in METHODS:
                jobs.append(text)
            if i < self.n_checks:
                jobs += [
                    text | check
                    for check in checks
                    if method in METHODS or check["strategy"] == "sequence"
                ]
        return jobs


def record(experiment: Experiment, folder: Path, **options: Any) -> list[Record]:
    """Record the ranks of all texts and the target calls of the engine's checks.

    The records are kept in folder/ranks.jsonl, one per line, and a later run continues there.

    Args:
        experiment: the settings.
        folder: an existing folder.
        options: options of `Generator`.

    Returns:
        First the settings, then one record per job.

    Raises:
        ValueError: the folder holds another experiment.
    """
    generator = Generator(experiment.model, experiment.draft, **options)
    settings = {
        "model": experiment.model.name,
        "draft": experiment.draft.name,
        "description": generator.target.description,
        "n_vocab": generator.target.n_vocab,
        "n": experiment.n,
        "seed": experiment.seed,
    }
    path = folder / "ranks.jsonl"
    done = {_key(r): r for r in _open_records(path, settings)}
    jobs, prompts = experiment.jobs(), experiment.prompts()
    progress = Progress("paper", len(jobs))
    with path.open("a", encoding="utf-8") as file:
        for job in jobs:
            if _key(job) in done:
                progress.step(skipped=True)
                continue
            text, is_chat = prompts[job["category"], job["prompt"]]
            prompt = generator.target.chat_prompt(text) if is_chat else text
            measure = _check if "strategy" in job else _record_ranks
            seed = experiment.seed + job["prompt"]
            done[_key(job)] = job | measure(generator, prompt, job, experiment.n, seed)
            file.write(json.dumps(done[_key(job)]) + "\n")
            file.flush()
            progress.step()
    return [settings, *(done[_key(job)] for job in jobs)]


def _key(r: Record) -> tuple[Any, ...]:
    """Return what tells jobs apart."""
    names = ("method", "temperature", "category", "prompt", "strategy", "draft_nodes")
    return tuple(r.get(name) for name in names)


def _open_records(path: Path, settings: Record) -> list[Record]:
    """Return the records of an earlier run, or none after writing the settings to a new file.

    An incomplete last line, which a stopped run may leave, is removed.
    """
    *whole, unfinished = path.read_text(encoding="utf-8").split("\n") if path.exists() else [""]
    if not whole:
        _replace(path, [json.dumps(settings)])
        return []
    if (found := json.loads(whole[0])) != settings:
        which = differences(found, settings)
        raise ValueError(f"'{path}' holds another experiment: {which}; name another folder")
    if unfinished:
        _replace(path, whole)
    return [json.loads(line) for line in whole[1:]]


def _replace(path: Path, lines: list[str]) -> None:
    with replacing(path) as unfinished:
        unfinished.write_text("\n".join(lines) + "\n", encoding="utf-8")


def _sampling(job: Record, seed: int) -> dict[str, Any]:
    """Return options of sampling from the whole vocabulary."""
    return {
        "temperature": job["temperature"],
        "top_k": 0,
        "top_p": 1.0,
        "min_p": 0.0,
        "seed": seed,
        "method": job["method"],
    }


def _record_ranks(generator: Generator, prompt: str, job: Record, n: int, seed: int) -> Record:
    """Record the ranks of a text and, for ERSD, what compares the models' distributions there."""
    is_race = job["method"] == "ersd"
    found: dict[str, list[Any]] = {"ranks": []}
    if is_race:
        found |= {"compared": [], "ratios": [], "agreements": []}
    for position in generator.ranks(prompt, max_tokens=n, logits=is_race, **_sampling(job, seed)):
        if is_race:
            rows = _distributions(position, job["temperature"])
            if len(found["ranks"]) % COMPARED_EVERY == 0:
                found["compared"].append([round(compare(*rows), 5) for compare in COMPARISONS])
            for name, number in CHAIN_NUMBERS.items():
                found[name].append(float(f"{number(*rows, position.token):.6g}"))
        found["ranks"].append(position.rank)
    return found


def _distributions(
    position: Position, temperature: float
) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Return the target's and the draft's distribution at a position with logits."""
    assert position.target_logits is not None
    assert position.draft_logits is not None
    target = theory.softmax(position.target_logits, temperature)
    draft = theory.softmax(position.draft_logits, temperature)
    draft = np.pad(draft, (0, len(target) - len(draft)))  # the draft's vocabulary may be smaller
    return target, draft


def _check(generator: Generator, prompt: str, job: Record, n: int, seed: int) -> Record:
    """Count tokens and target calls of the engine, with nothing learnt from earlier texts."""
    generator.forget()
    stats = generator.generate(
        prompt,
        max_tokens=n,
        strategy=job["strategy"],
        draft_nodes=job["draft_nodes"],
        adapt_draft=False,
        **_sampling(job, seed),
    ).stats
    return {"generated": stats.generated, "target_calls": stats.target_calls}
