"""The paper's experiment on a pair of GGUF files: tokens per target call of every method, drafting strategy and number of drafted nodes.

A text is generated once for each method and temperature, and the rank of each token in the draft's order is recorded (`Generator.ranks`).
A tree of ranks accepts a token where its rank is a child of the node reached, so these ranks tell what any strategy with any k would have
done on that text: exactly what the engine does for races, and a sample of the same distribution for rejection sampling, whose residual is
what trying further siblings draws from. Some generations are run through the engine besides, to be held against it.
Needs ``pip install "ersd[paper]"``.

Source of method and bound: Kobus and Gündüz, arXiv 2504.15475.
"""

from __future__ import annotations

import csv
import json
import os
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import isotonic_regression

from ersd import Generator, theory
from ersd.progress import Progress, differences
from ersd.prompts import read_prompts

__all__ = [
    "METHODS",
    "STRATEGIES",
    "Experiment",
    "Row",
    "analyse",
    "compared_nodes",
    "ratio",
    "replay",
    "run",
    "strategy_tree",
]

METHODS = ("ersd", "gsd", "gsd_iid", "match")
STRATEGIES = ("simple", "sequence", "batch", "tree")
MAX_RANK = 256  # ranks from here on are not told apart
EVERY = 8  # distributions are compared at every 8th position
COMPARISONS = (
    theory.overlap,
    theory.ersd_acceptance,
    theory.kl_divergence,
    theory.channel_simulation_divergence,
)

Array = npt.NDArray[np.float64]
Record = dict[str, Any]


@dataclass(frozen=True)
class Experiment:
    """What is to be run.

    Attributes:
        model, draft: GGUF files.
        chat, text: files of prompts set apart by lines of ---, the former put into the target's chat template. A file is a category.
        n: tokens per prompt.
        temperatures: each above 0; the whole vocabulary is sampled.
        max_nodes: k doubles from 1 to this.
        n_prompts: prompts per category at most; None for all.
        n_checks: prompts per category that run through the engine too, for k = 1, 4 and 16 (as far as max_nodes goes).
        seed: of the first prompt of each category; each further one takes the next.
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
        """Raises ValueError naming the option, what was expected and what came."""
        files = (*self.chat, *self.text)
        if not files:
            raise ValueError("no prompts: give a file of chat messages or of texts")
        if len({path.stem for path in files}) < len(files):
            raise ValueError(
                "two files of prompts have one name; a file's name is that of its category"
            )
        if not self.temperatures or min(self.temperatures) <= 0:
            raise ValueError(f"temperatures must be above 0, got {self.temperatures}")
        if not 1 <= self.max_nodes <= MAX_RANK:
            raise ValueError(f"max_nodes must be between 1 and {MAX_RANK}, got {self.max_nodes}")
        for name, value in (("n", self.n), ("n_prompts", self.n_prompts)):
            if value is not None and value < 1:
                raise ValueError(f"{name} must be at least 1, got {value}")

    def prompts(self) -> dict[tuple[str, int], tuple[str, bool]]:
        """By category and number: text, and whether it is a chat message."""
        return {
            (path.stem, i): (prompt, path in self.chat)
            for path in (*self.chat, *self.text)
            for i, prompt in enumerate(read_prompts(path)[: self.n_prompts])
        }

    def nodes(self) -> list[int]:
        """Each k."""
        return [2**i for i in range(self.max_nodes.bit_length())]

    def jobs(self) -> list[Record]:
        """Texts to record, and after each of the first ones its checks by the engine."""
        checks = [
            (s, k)
            for s, k in product(STRATEGIES, (1, 4, 16))
            if k <= self.max_nodes and (s != "simple" or k == 1)
        ]
        jobs = []
        for temperature, method, (category, i) in product(
            self.temperatures, METHODS, self.prompts()
        ):
            text = {"method": method, "temperature": temperature, "category": category, "prompt": i}
            jobs.append(text)
            if i < self.n_checks:
                jobs += [{**text, "strategy": strategy, "draft_nodes": k} for strategy, k in checks]
        return jobs


def compared_nodes(nodes: Iterable[int]) -> int:
    """The k of figures that are given for one k alone: 16, or the largest there is."""
    return max(k for k in nodes if k <= 16)


def record(experiment: Experiment, folder: Path, **options: Any) -> list[Record]:
    """The settings, then ranks of all texts and calls of the engine's checks.

    They are kept line by line in folder/ranks.jsonl, where a later run goes on. Raises ValueError if the folder holds another
    experiment.
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
    done = {_key(r): r for r in _resume(path, settings)}
    jobs, prompts = experiment.jobs(), experiment.prompts()
    progress = Progress("paper", len(jobs))
    with path.open("a", encoding="utf-8") as file:
        for job in jobs:
            if _key(job) in done:
                progress.step(skipped=True)
                continue
            text, chat = prompts[job["category"], job["prompt"]]
            prompt = generator.target.chat_prompt(text) if chat else text
            measure = _engine if "strategy" in job else _ranks
            result = done[_key(job)] = job | measure(
                generator, prompt, job, experiment.n, experiment.seed + job["prompt"]
            )
            file.write(json.dumps(result) + "\n")
            file.flush()
            progress.step()
    return [settings, *(done[_key(job)] for job in jobs)]


def _key(r: Record) -> tuple[Any, ...]:
    return tuple(
        r.get(name)
        for name in ("method", "temperature", "category", "prompt", "strategy", "draft_nodes")
    )


def _resume(path: Path, settings: Record) -> list[Record]:
    """The records of an earlier run; a line that was being written when it was stopped is dropped."""
    *whole, cut = path.read_text(encoding="utf-8").split("\n") if path.exists() else [""]
    if not whole:
        path.write_text(json.dumps(settings) + "\n", encoding="utf-8")
        return []
    if (found := json.loads(whole[0])) != settings:
        raise ValueError(
            f"'{path}' holds another experiment: {differences(found, settings)}; name another folder"
        )
    if cut:
        path.write_text("\n".join(whole) + "\n", encoding="utf-8")
    return [json.loads(line) for line in whole[1:]]


def _sampling(job: Record, seed: int) -> dict[str, Any]:
    return {
        "temperature": job["temperature"],
        "top_k": 0,
        "top_p": 1.0,
        "min_p": 0.0,
        "seed": seed,
        "method": job["method"],
    }


def _ranks(generator: Generator, prompt: str, job: Record, n: int, seed: int) -> Record:
    ranks: list[int] = []
    compared: list[list[float]] = []
    races = job["method"] == "ersd"
    for position in generator.ranks(prompt, max_tokens=n, logits=races, **_sampling(job, seed)):
        ranks.append(position.rank)
        if (
            position.target_logits is not None
            and position.draft_logits is not None
            and len(ranks) % EVERY == 1
        ):
            p, q = (
                theory.softmax(row, job["temperature"])
                for row in (position.target_logits, position.draft_logits)
            )
            q = np.pad(q, (0, len(p) - len(q)))
            compared.append([round(compare(p, q), 5) for compare in COMPARISONS])
    return {"ranks": ranks} | ({"compared": compared} if races else {})


def _engine(generator: Generator, prompt: str, job: Record, n: int, seed: int) -> Record:
    sampling = _sampling(job, seed)
    generator.forget()
    stats = generator.generate(
        prompt,
        max_tokens=n,
        strategy=job["strategy"],
        draft_nodes=job["draft_nodes"],
        adapt_draft=False,
        **sampling,
    ).stats
    return {"generated": stats.generated, "target_calls": stats.target_calls}


def strategy_tree(strategy: str, k: int, ranks: npt.ArrayLike) -> theory.TreeShape:
    """The tree of ranks of a strategy; ranks: P(R = r), which only "tree" looks at."""
    if strategy == "tree":
        return theory.optimal_tree(ranks, k)
    return (
        theory.batch_shape(k)
        if strategy == "batch"
        else theory.sequence_shape(1 if strategy == "simple" else k, k)
    )


def _children(tree: theory.TreeShape) -> dict[tuple[int, int], int]:
    return {
        (parent, rank): i
        for i, (parent, rank) in enumerate(zip(tree.parent, tree.rank, strict=True))
        if i
    }


def replay(ranks: Sequence[int], tree: theory.TreeShape) -> list[int]:
    """How many tokens each target call gives on a text with these ranks; the last call is cut by the text's end."""
    child, node, calls = _children(tree), 0, [0]
    for i, rank in enumerate(ranks):
        calls[-1] += 1
        node = child.get((node, rank), 0)
        if node == 0 and i + 1 < len(ranks):
            calls.append(0)
    return calls


@dataclass(frozen=True)
class Row:
    """One number of the tidy table: a quantity, its value and standard error, and what it belongs to ("" where that does not apply)."""

    quantity: str
    value: float
    stderr: float = float("nan")
    method: str = ""
    strategy: str = ""
    draft_nodes: int | str = ""
    temperature: float | str = ""
    category: str = ""
    x: float | str = ""


def ratio(numerators: npt.ArrayLike, denominators: npt.ArrayLike) -> tuple[float, float]:
    """A ratio of sums over prompts, and its standard error by linearisation."""
    a, b = np.asarray(numerators, float), np.asarray(denominators, float)
    mean, n = a.sum() / b.sum(), len(a)
    return float(mean), float(
        np.sqrt(((a - mean * b) ** 2).sum() * n / (n - 1)) / b.sum()
    ) if n > 1 else float("nan")


def _share(count: float, n: float) -> tuple[float, float]:
    """A share and its binomial standard error."""
    return float(count / n), float(np.sqrt(count / n * (1 - count / n) / n))


class Texts:
    """The recorded texts of one method and temperature."""

    def __init__(self, records: Iterable[Record]) -> None:
        """Keep the records."""
        self.records = list(records)

    def counts(self) -> Array:
        """How often each rank came; f64[257], all later ones last."""
        return np.asarray(
            np.bincount(
                [rank for r in self.records for rank in r["ranks"]], minlength=MAX_RANK + 1
            ).astype(float)
        )

    def rank_distribution(self) -> Array:
        """P(R = r) made non-increasing; f64[256], what is missing to 1 being later ranks."""
        counts = self.counts()
        return np.asarray(
            isotonic_regression(counts[:MAX_RANK] / max(1.0, counts.sum()), increasing=False).x
        )

    def half(self, parity: int) -> Texts:
        """The prompts of even or odd number; all, where there are none."""
        return Texts([r for r in self.records if r["prompt"] % 2 == parity] or self.records)

    @cached_property
    def _of_the_others(self) -> list[Array]:
        return [self.half(1 - parity).rank_distribution() for parity in (0, 1)]

    def trees(self, strategy: str, k: int) -> list[theory.TreeShape]:
        """The trees of even and of odd prompts, each from the ranks of the others."""
        return [strategy_tree(strategy, k, ranks) for ranks in self._of_the_others]

    def categories(self) -> dict[str, Texts]:
        """All, and each category."""
        names = dict.fromkeys(r["category"] for r in self.records)
        return {"all": self} | {
            name: Texts(r for r in self.records if r["category"] == name) for name in names
        }

    def tokens_per_call(self, trees: Sequence[theory.TreeShape]) -> tuple[float, float]:
        """Their mean and its standard error over prompts."""
        calls = [replay(r["ranks"], trees[r["prompt"] % 2]) for r in self.records]
        return ratio([sum(c) for c in calls], [len(c) for c in calls])

    def acceptance_by_depth(
        self, trees: Sequence[theory.TreeShape]
    ) -> Iterator[tuple[int, tuple[float, float], float]]:
        """Of the walks that meet a node with children at depth d - 1: d, the share that goes on, and what i.i.d. ranks would give."""
        ranks = self.rank_distribution()
        counts: dict[
            int, list[float]
        ] = {}  # by depth: walks, those that went on, those expected to
        for r in self.records:
            tree = trees[r["prompt"] % 2]
            child, node = _children(tree), 0
            hit = np.zeros(len(tree))
            np.add.at(hit, tree.parent[1:], ranks[tree.rank[1:]])
            for rank in r["ranks"]:
                following = child.get((node, rank), 0)
                if hit[node] > 0:
                    count = counts.setdefault(tree.depth[node] + 1, [0, 0, 0])
                    count[:] = count[0] + 1, count[1] + (following > 0), count[2] + hit[node]
                node = following
        for depth, (n, accepted, expected) in sorted(counts.items()):
            if n >= 30:
                yield depth, _share(accepted, n), expected / n

    def autocorrelation(self, lag: int) -> tuple[float, float]:
        """Of whether the rank is 0, pooled over texts; the error is what independent ranks would scatter by."""
        first = [np.asarray(r["ranks"]) == 0 for r in self.records]
        mean = np.concatenate(first).mean()
        products = np.concatenate([(x[:-lag] - mean) * (x[lag:] - mean) for x in first])
        variance = mean * (1 - mean)
        return (
            (float(products.mean() / variance), float(len(products) ** -0.5))
            if len(products) and variance
            else (0.0, 0.0)
        )


def analyse(records: Sequence[Record], nodes: Sequence[int]) -> list[Row]:
    """All numbers of the report from what `record` returns. nodes: each k."""
    groups: dict[tuple[str, float], list[Record]] = {}
    for r in records[1:]:
        if "ranks" in r:
            groups.setdefault((r["method"], r["temperature"]), []).append(r)
    texts_of = {key: Texts(group) for key, group in groups.items()}
    rows = []
    for (method, temperature), texts in texts_of.items():
        rows += _analyse_texts(method, temperature, texts, nodes, records[0]["n_vocab"])
    for r in records[1:]:
        if "strategy" in r:
            texts = texts_of[r["method"], r["temperature"]]
            ranks = next(
                t["ranks"]
                for t in texts.records
                if (t["category"], t["prompt"]) == (r["category"], r["prompt"])
            )
            calls = len(
                replay(ranks, texts.trees(r["strategy"], r["draft_nodes"])[r["prompt"] % 2])
            )
            where = {
                name: r[name]
                for name in ("method", "strategy", "draft_nodes", "temperature", "category")
            } | {"x": r["prompt"]}
            rows += [
                Row("engine_calls", r["target_calls"], **where),
                Row("engine_tokens", r["generated"], **where),
            ]
            rows += [
                Row("replayed_calls", calls, **where),
                Row("replayed_tokens", len(ranks), **where),
            ]
    return rows


def _analyse_texts(
    method: str, temperature: float, texts: Texts, nodes: Sequence[int], n_vocab: int
) -> list[Row]:
    rows: list[Row] = []

    def add(
        quantity: str,
        value: float,
        stderr: float = float("nan"),
        category: str = "all",
        **where: Any,
    ) -> None:
        rows.append(
            Row(
                quantity,
                value,
                stderr,
                method=method,
                temperature=temperature,
                category=category,
                **where,
            )
        )

    by_tree, pooled = {}, texts.rank_distribution()
    for strategy, k in product(STRATEGIES, nodes):
        if strategy == "simple" and k > 1:
            continue
        trees = texts.trees(strategy, k)
        for category, members in texts.categories().items():
            add(
                "tokens_per_call",
                *members.tokens_per_call(trees),
                category,
                strategy=strategy,
                draft_nodes=k,
            )
        by_tree[strategy, k] = next(
            r.value for r in rows if (r.strategy, r.draft_nodes, r.category) == (strategy, k, "all")
        )
        expected = theory.expected_tokens(strategy_tree(strategy, k, pooled), pooled)
        add("predicted_tokens_per_call", expected, strategy=strategy, draft_nodes=k)
        if k == compared_nodes(nodes):
            for depth, share, iid in texts.acceptance_by_depth(trees):
                add("acceptance_at_depth", *share, strategy=strategy, draft_nodes=k, x=depth)
                add("iid_acceptance_at_depth", iid, strategy=strategy, draft_nodes=k, x=depth)
    for category, members in texts.categories().items():
        counts = members.counts()
        add("rank_entropy", theory.entropy(counts), category=category)
        first = [(r["ranks"].count(0), len(r["ranks"])) for r in members.records]
        add("rank_probability", *ratio(*zip(*first, strict=True)), category, x=0)
        for rank in np.flatnonzero(counts):
            if rank:
                add("rank_probability", *_share(counts[rank], counts.sum()), category, x=int(rank))
        compared = [np.asarray(r["compared"]) for r in members.records if "compared" in r]
        for column, compare in enumerate(COMPARISONS if compared else ()):
            add(
                compare.__name__,
                *ratio([c[:, column].sum() for c in compared], [len(c) for c in compared]),
                category,
            )
    for k in nodes:
        add("bound", float(theory.expected_tokens_bound(texts.counts(), k, n_vocab)), draft_nodes=k)
    add("slope_bound", theory.slope(texts.counts()))
    large = [k for k in nodes if k >= 16]
    if len(large) > 1:
        values = [by_tree["tree", k] for k in large]
        add("slope", float(np.polyfit(np.log2(np.array(large) + 1), values, 1)[0]), strategy="tree")
    for lag in range(1, 9):
        add("rank_autocorrelation", *texts.autocorrelation(lag), x=lag)
    return rows


def write_table(rows: Iterable[Row], path: Path) -> None:
    """The tidy table as CSV; what does not apply is empty."""

    def cell(value: object) -> object:
        return ("" if np.isnan(value) else f"{value:.6g}") if isinstance(value, float) else value

    with path.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Row.__dataclass_fields__)
        writer.writerows([cell(value) for value in vars(row).values()] for row in rows)


def run(experiment: Experiment, folder: str | os.PathLike[str], **options: Any) -> list[Row]:
    """Record, analyse, and write folder/table.csv, folder/report.md and its pictures. options: those of `Generator`.

    Stopped at any moment, the same call goes on where it was. Raises as `Generator` does, and ValueError for a folder that holds another
    experiment.
    """
    from ersd.paper.report import write_report  # which draws what is defined here

    experiment.validate()
    out = Path(folder)
    out.mkdir(parents=True, exist_ok=True)
    records = record(experiment, out, **options)
    rows = analyse(records, experiment.nodes())
    write_table(rows, out / "table.csv")
    write_report(rows, records[0], out)
    return rows
