"""What self-correction and race margins are worth: first acceptance, nats and calibration.

python bench/learning.py [--prompts FILE] [--count 100] [-n 128] [--temp 1.0] [-md DRAFT]

Both models run once for each token of plain texts, so all figures are those of the same positions.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from ersd._core import (
    Clock,
    Correction,
    Coupling,
    MarginModel,
    Race,
    RankHistogram,
    SamplingOptions,
)
from scipy.optimize import minimize
from scipy.special import logsumexp

from ersd import Generator, models, theory
from ersd.prompts import read_prompts
from ersd.ranks import ratio, replay, strategy_tree

Array = npt.NDArray[np.float64]

M = MarginModel.n_arrivals


@dataclass
class Positions:
    """What was seen at each position.

    Attributes:
        rank: the rank of the target's token among the draft's arrivals, M for all later ranks.
        hits: the predicted probability of each arrival, f64[n].
        nats: -log of the probability that was predicted for the target's token.
        shipped_nats: nats by the shipped coefficients, which do not learn.
        histogram_nats: nats by the histogram of ranks, which learns.
        features: f64[M + 1, n_features], see Observer.features().
    """

    rank: list[int] = field(default_factory=list)
    hits: list[Array] = field(default_factory=list)
    nats: list[float] = field(default_factory=list)
    shipped_nats: list[float] = field(default_factory=list)
    histogram_nats: list[float] = field(default_factory=list)
    features: list[Array] = field(default_factory=list)


@dataclass
class Observer:
    """Learns along the texts, as a decoder does."""

    temperature: float
    correction: Correction | None
    positions: Positions = field(default_factory=Positions)

    def __post_init__(self) -> None:
        """Begin with the models that ship with the package."""
        self.race, self.options = Race(), SamplingOptions(temperature=self.temperature)
        self.margins, self.shipped, self.histogram = MarginModel(), MarginModel(), RankHistogram()
        self.recent = 0.6  # recent share of positions whose token was the first arrival

    def observe(
        self,
        before: int,
        target: npt.NDArray[np.float32],
        draft: npt.NDArray[np.float32],
        token: int,
        clock: Clock,
    ) -> None:
        """Predict one position, record what came, and learn."""
        row = self.correction.apply(before, draft) if self.correction else draft
        tokens, scores = self.race.arrivals(row, self.options, clock, M)
        rank = int(np.argmax(tokens == token)) if token in tokens else M
        p, at = self.positions, (row, self.options, clock)
        hits, shipped = (model.predict(self.race, *at) for model in (self.margins, self.shipped))
        ranks = self.histogram.probabilities()
        p.rank.append(rank)
        p.hits.append(hits)
        p.nats.append(-np.log(hits[rank] if rank < M else 1 - hits.sum()))
        p.shipped_nats.append(-np.log(shipped[rank] if rank < M else 1 - shipped.sum()))
        p.histogram_nats.append(-np.log(ranks[rank] if rank < M else ranks[M:].sum()))
        p.features.append(self.features(scores, row[tokens], row))
        self.recent += 0.05 * ((rank == 0) - self.recent)
        self.margins.learn(self.race, *at, rank)
        self.histogram.learn(rank)
        if self.correction:
            self.correction.learn(before, target, row, self.temperature)

    def features(
        self, scores: Array, logits: npt.NDArray[np.float32], row: npt.NDArray[np.float32]
    ) -> Array:
        """Return the model's features (margins.h) and others, of each arrival and of later ones."""
        entropy = theory.entropy(theory.softmax(row, self.temperature))
        gap = self.temperature * (np.append(scores, scores[-1]) - scores[0])
        logit_gap = np.append(logits - logits[0], 0) / self.temperature
        first, later = np.eye(M + 1)[0], np.eye(M + 1)[M]
        columns = [
            gap,
            logit_gap,
            np.log(np.arange(1, M + 2)),
            first,
            later,
            first * entropy,
            gap * entropy,
            first * self.recent,
            gap * self.recent,
        ]
        return np.stack(columns, axis=1)


def fitted_nats(x: Array, rank: npt.NDArray[np.int64], columns: list[int]) -> float:
    """Nats per position of a conditional logit; each half is predicted by the fit to the other.

    Args:
        x: f64[n, M + 1, n_features].
        rank: i64[n], M for all later ranks.
        columns: the features that are used.
    """
    x, n = x[:, :, columns], len(rank)

    def loss(a: Array, part: slice) -> tuple[float, Array]:
        utility = x[part] @ a
        log_p = utility - logsumexp(utility, axis=1, keepdims=True)
        rows = np.arange(len(utility))
        chosen = x[part][rows, rank[part]]
        expected = np.einsum("nr,nrf->nf", np.exp(log_p), x[part])
        return -log_p[rows, rank[part]].mean(), -(chosen - expected).mean(axis=0)

    halves = slice(0, n // 2), slice(n // 2, n)
    fits = [
        minimize(loss, np.zeros(len(columns)), args=(half,), jac=True, method="BFGS").x
        for half in halves
    ]
    return float(np.mean([loss(fits[1], halves[0])[0], loss(fits[0], halves[1])[0]]))


def report(name: str, positions: Positions) -> None:
    """Print first acceptance, nats per position and calibration."""
    rank, half = np.array(positions.rank), len(positions.rank) // 2
    print(f"\n### {name}: {len(rank)} positions\n")
    for part, ranks in (("all", rank), ("second half", rank[half:])):
        share = np.mean(ranks == 0)
        error = np.sqrt(share * (1 - share) / len(ranks))
        print(f"first acceptance, {part}: {share:.4f} ± {error:.4f}")
    print("\n| nats per position | |\n| --- | ---: |")
    for label, nats in (
        ("histogram of ranks, learning", positions.histogram_nats),
        ("margins, shipped coefficients", positions.shipped_nats),
        ("margins, learning", positions.nats),
    ):
        print(f"| {label} | {np.mean(nats):.4f} |")
    report_fits(positions)
    report_calibration(positions)


def report_fits(positions: Positions) -> None:
    """Print the nats of conditional logits with fewer and more features than the model's."""
    whole = [len(features) == M + 1 for features in positions.features]
    x = np.array([f for f, is_whole in zip(positions.features, whole, strict=True) if is_whole])
    rank = np.array(positions.rank)[whole]
    model = [0, 1, 2, 3, 4]
    sets = {
        "fit: score gap, later": [0, 4],
        "... and log rank, first": [0, 2, 3, 4],
        "... and logit gap: the model": model,
        "the model and first x entropy": [*model, 5],
        "the model and score gap x entropy": [*model, 6],
        "the model and first x recent acceptance": [*model, 7],
        "the model and score gap x recent acceptance": [*model, 8],
    }
    for label, columns in sets.items():
        print(f"| {label} | {fitted_nats(x, rank, columns):.4f} |")


def report_calibration(positions: Positions) -> None:
    """Print how often arrivals won whose predicted probability was in each tenth."""
    hits = np.concatenate(positions.hits)
    came = np.concatenate(
        [np.arange(len(h)) == rank for h, rank in zip(positions.hits, positions.rank, strict=True)]
    )
    print("\n| predicted hit | number | mean prediction | came | difference |")
    print("| --- | ---: | ---: | ---: | ---: |")
    for low in np.arange(10) / 10:
        there = (hits >= low) & (hits < low + 0.1 if low < 0.9 else hits <= 1)
        mean, share = hits[there].mean(), came[there].mean()
        print(
            f"| {low:.1f} to {low + 0.1:.1f} | {there.sum()} | {mean:.3f} | {share:.3f} "
            f"| {share - mean:+.3f} |"
        )


def static_trees(ranks: dict[str, list[list[int]]], k: int) -> None:
    """Print what chains and trees of k nodes give on texts whose positions have these ranks.

    The tree is the optimal one for all positions together.
    """
    print(f"\n| tokens per target call, k = {k} | chain | tree |\n| --- | ---: | ---: |")
    for method, texts in ranks.items():
        counts = np.bincount(np.minimum(np.concatenate(texts), 256), minlength=257)[:256]
        cells = []
        for strategy in ("sequence", "tree"):
            tree = strategy_tree(strategy, k, np.sort(counts / sum(map(len, texts)))[::-1])
            calls = [replay(text, tree) for text in texts]
            mean, error = ratio([sum(c) for c in calls], [len(c) for c in calls])
            cells.append(f"{mean:.3f} ± {error:.3f}")
        print(f"| {method} | {' | '.join(cells)} |")


class Recorder:
    """The ranks of each method, and what observers see, on the positions of plain texts."""

    def __init__(self, temperature: float) -> None:
        """Begin with nothing recorded."""
        self.temperature = temperature
        self.observers = {
            "without self-correction": Observer(temperature, None),
            "with self-correction": Observer(temperature, Correction()),
        }
        self.ranks: dict[str, list[list[int]]] = {
            method: [] for method in ("ersd", "gsd", "gsd_iid", "match")
        }

    def record(self, generator: Generator, prompt: str, max_tokens: int, seed: int) -> None:
        """Record the positions of one answer."""
        tokens = generator.tokenize(generator.target.chat_prompt(prompt))
        couplings = {
            method: Coupling(method, SamplingOptions(temperature=self.temperature), seed)
            for method in self.ranks
        }
        for texts in self.ranks.values():
            texts.append([])
        for position in generator.ranks(
            tokens, max_tokens=max_tokens, temperature=self.temperature, seed=seed, logits=True
        ):
            target, draft = position.target_logits, position.draft_logits
            assert target is not None
            assert draft is not None
            clock = Clock(seed, len(tokens))
            for observer in self.observers.values():
                observer.observe(tokens[-1], target, draft, position.token, clock)
            for method, coupling in couplings.items():
                self.ranks[method][-1].append(coupling.sample(target, draft, len(tokens))[1])
            tokens.append(position.token)


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(
        description="first acceptance, nats per position and calibration along plain texts"
    )
    parser.add_argument(
        "--prompts", type=Path, default=Path(__file__).parent / "prompts" / "chat.txt"
    )
    parser.add_argument("--count", type=int, default=100)
    parser.add_argument("-n", "--max-tokens", type=int, default=128)
    parser.add_argument("-k", "--draft-nodes", type=int, default=16)
    parser.add_argument("--temp", type=float, default=1.0)
    parser.add_argument("-md", "--model-draft", type=Path, default=models.twin())
    parser.add_argument("-t", "--threads", type=int, default=None)
    return parser.parse_args()


def main() -> None:
    """Print a report."""
    args = arguments()
    generator = Generator(
        models.default_target(), args.model_draft, n_ctx=1024, n_threads=args.threads, profile=False
    )
    recorder = Recorder(args.temp)
    for i, prompt in enumerate(read_prompts(args.prompts)[: args.count]):
        recorder.record(generator, prompt, args.max_tokens, seed=100 + i)
    print(
        f"T = {args.temp:g}, draft {args.model_draft.name}, {args.count} prompts of "
        f"{args.prompts.name}, {args.max_tokens} tokens"
    )
    static_trees(recorder.ranks, args.draft_nodes)
    for name, observer in recorder.observers.items():
        report(name, observer.positions)


if __name__ == "__main__":
    main()
