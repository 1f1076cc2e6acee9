"""What a draft's self-correction and the model of race margins are worth: first acceptance, nats per position, calibration.

python bench/learning.py [--prompts FILE] [--count 100] [-n 128] [--temp 1.0] [-md DRAFT] [-t THREADS]

Both models run once for each token of plain texts; every figure is that of the same positions.
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
    """What was seen at each position, the draft corrected or not."""

    rank: list[int] = field(
        default_factory=list
    )  # of the target's token among the draft's arrivals, M for later
    hits: list[Array] = field(default_factory=list)  # predicted for the arrivals
    nats: list[float] = field(
        default_factory=list
    )  # -log of the probability predicted for what came
    shipped_nats: list[float] = field(
        default_factory=list
    )  # the same by coefficients that do not learn
    histogram_nats: list[float] = field(
        default_factory=list
    )  # the same by the learnt histogram of ranks
    features: list[Array] = field(default_factory=list)  # f64[M + 1, n_features], see features()


@dataclass
class Observer:
    """Learns along the texts as a decoder does."""

    temperature: float
    correction: Correction | None
    positions: Positions = field(default_factory=Positions)

    def __post_init__(self) -> None:
        """Begin with what ships."""
        self.race, self.options = Race(), SamplingOptions(self.temperature, 0, 1.0, 0.0)
        self.margins, self.shipped, self.histogram = MarginModel(), MarginModel(), RankHistogram()
        self.recent = 0.6  # first acceptance of late

    def observe(
        self,
        before: int,
        target: npt.NDArray[np.float32],
        draft: npt.NDArray[np.float32],
        token: int,
        clock: Clock,
    ) -> None:
        """One position: predict, see what came, learn."""
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
        """Of each arrival and of all later ones: those of the model (margins.h), then what might be added to it."""
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
    """Nats per position of a conditional logit: each half of the positions by the fit to the other.

    x: f64[n, M + 1, n_features], of which some columns are used.
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
    """Print what was seen."""
    rank, half = np.array(positions.rank), len(positions.rank) // 2
    print(f"\n### {name}: {len(rank)} positions\n")
    for part, ranks in (("all", rank), ("second half", rank[half:])):
        share = np.mean(ranks == 0)
        print(
            f"first acceptance, {part}: {share:.4f} ± {np.sqrt(share * (1 - share) / len(ranks)):.4f}"
        )
    print("\n| nats per position | |\n| --- | ---: |")
    for label, nats in (
        ("histogram of ranks, learning", positions.histogram_nats),
        ("margins, shipped coefficients", positions.shipped_nats),
        ("margins, learning", positions.nats),
    ):
        print(f"| {label} | {np.mean(nats):.4f} |")
    x = np.array([f for f in positions.features if len(f) == M + 1])
    kept = rank[[len(f) == M + 1 for f in positions.features]]
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
        print(f"| {label} | {fitted_nats(x, kept, columns):.4f} |")
    hits = np.concatenate(positions.hits)
    came = np.concatenate(
        [np.arange(len(h)) == r for h, r in zip(positions.hits, rank, strict=True)]
    )
    print(
        "\n| predicted hit | number | mean prediction | came | difference |\n| --- | ---: | ---: | ---: | ---: |"
    )
    for low in np.arange(10) / 10:
        there = (hits >= low) & (hits < low + 0.1 if low < 0.9 else hits <= 1)
        mean, share = hits[there].mean(), came[there].mean()
        print(
            f"| {low:.1f} to {low + 0.1:.1f} | {there.sum()} | {mean:.3f} | {share:.3f} | {share - mean:+.3f} |"
        )


def static_trees(ranks: dict[str, list[list[int]]], k: int) -> None:
    """Print what chains and trees of k nodes give on texts whose positions have these ranks; the tree is the best for all of them."""
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


def main() -> None:
    """Print a report."""
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
    args = parser.parse_args()
    generator = Generator(
        models.default_target(), args.model_draft, n_ctx=1024, n_threads=args.threads, profile=False
    )
    observers = {
        "without self-correction": Observer(args.temp, None),
        "with self-correction": Observer(args.temp, Correction()),
    }
    ranks: dict[str, list[list[int]]] = {
        method: [] for method in ("ersd", "gsd", "gsd_iid", "match")
    }
    for i, text in enumerate(read_prompts(args.prompts)[: args.count]):
        tokens = generator.tokenize(generator.target.chat_prompt(text))
        couplings = {
            method: Coupling(method, SamplingOptions(args.temp, 0, 1.0, 0.0), 100 + i)
            for method in ranks
        }
        for texts in ranks.values():
            texts.append([])
        for position in generator.ranks(
            tokens, max_tokens=args.max_tokens, temperature=args.temp, seed=100 + i, logits=True
        ):
            assert position.target_logits is not None
            assert position.draft_logits is not None
            for observer in observers.values():
                observer.observe(
                    tokens[-1],
                    position.target_logits,
                    position.draft_logits,
                    position.token,
                    Clock(100 + i, len(tokens)),
                )
            for method, coupling in couplings.items():
                ranks[method][-1].append(
                    coupling.emit(position.target_logits, position.draft_logits, len(tokens))[1]
                )
            tokens.append(position.token)
    print(
        f"T = {args.temp:g}, draft {args.model_draft.name}, {args.count} prompts of {args.prompts.name}, {args.max_tokens} tokens"
    )
    static_trees(ranks, args.draft_nodes)
    for name, observer in observers.items():
        report(name, observer.positions)


if __name__ == "__main__":
    main()
