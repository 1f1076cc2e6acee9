"""What recorded ranks tell: the tokens per target call of any draft tree, and their errors.

The rank of a token is its place in the draft's order, 0 for the token that is tried first.
`Generator.ranks` records the rank of every token of a text. A tree of ranks accepts a token if the
token's rank is a child of the node that was reached. So the ranks of a text tell what any drafting
strategy with any number k of drafted nodes would have accepted on it.
Needs SciPy: ``pip install "ersd[paper]"``.

Source of methods and strategies: Kobus and Gündüz, arXiv 2504.15475.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from functools import cached_property
from typing import Any

import numpy as np
import numpy.typing as npt
from scipy.optimize import isotonic_regression

from ersd import theory

__all__ = [
    "MAX_RANK",
    "METHODS",
    "STRATEGIES",
    "Record",
    "Texts",
    "binomial_share",
    "ratio",
    "replay",
    "strategy_tree",
]

METHODS = ("ersd", "gsd", "gsd_iid", "match")
STRATEGIES = ("simple", "sequence", "batch", "tree")
MAX_RANK = 256  # ranks from here on are counted together
MIN_WALKS = 30  # an acceptance at a depth that fewer walks reached says too little

Array = npt.NDArray[np.float64]
Record = dict[str, Any]  # a JSON object


def ratio(numerators: npt.ArrayLike, denominators: npt.ArrayLike) -> tuple[float, float]:
    """Returns a ratio of two sums over prompts, and its standard error.

    The error is that of the linearised ratio (the delta method).

    Args:
        numerators: one number per prompt; f64[n].
        denominators: one number per prompt; f64[n].

    Returns:
        The ratio and its standard error, which is NaN for a single prompt.
    """
    a, b = np.asarray(numerators, float), np.asarray(denominators, float)
    mean, n = a.sum() / b.sum(), len(a)
    if n < 2:
        return float(mean), float("nan")
    return float(mean), float(np.sqrt(((a - mean * b) ** 2).sum() * n / (n - 1)) / b.sum())


def binomial_share(count: float, n: float) -> tuple[float, float]:
    """Returns the share count / n, and its binomial standard error."""
    return float(count / n), float(np.sqrt(count / n * (1 - count / n) / n))


def strategy_tree(strategy: str, k: int, ranks: npt.ArrayLike) -> theory.TreeShape:
    """Returns the tree of ranks that a drafting strategy uses.

    Args:
        strategy: "simple", "sequence", "batch" or "tree".
        k: number of drafted nodes.
        ranks: P(R = r), not increasing; f64[n_ranks]. Only "tree" uses it.
    """
    if strategy == "tree":
        return theory.optimal_tree(ranks, k)
    if strategy == "batch":
        return theory.batch_shape(k)
    return theory.sequence_shape(1 if strategy == "simple" else k, k)


def replay(ranks: Sequence[int], tree: theory.TreeShape) -> list[int]:
    """Returns the number of tokens that each target call would have given.

    Args:
        ranks: the rank of each token of a text.
        tree: the tree that every call checks.

    Returns:
        One number per call. The text may end before its last call has given all its tokens.
    """
    child, node, calls = _children(tree), 0, [0]
    for i, rank in enumerate(ranks):
        calls[-1] += 1
        node = child.get((node, rank), 0)
        if node == 0 and i + 1 < len(ranks):
            calls.append(0)
    return calls


def _children(tree: theory.TreeShape) -> dict[tuple[int, int], int]:
    """Returns the child of each node and rank."""
    return {
        (parent, rank): i
        for i, (parent, rank) in enumerate(zip(tree.parent, tree.rank, strict=True))
        if i
    }


class Texts:
    """The recorded texts of one method and temperature.

    Attributes:
        records: one per text, with its "category", the number of its "prompt" and its "ranks".
    """

    def __init__(self, records: Iterable[Record]) -> None:
        """Keeps the records."""
        self.records = list(records)

    def counts(self) -> Array:
        """Returns how often each rank occurred; f64[MAX_RANK + 1]. The last is for later ranks."""
        ranks = [rank for record in self.records for rank in record["ranks"]]
        return np.asarray(np.bincount(ranks, minlength=MAX_RANK + 1).astype(float))

    def rank_distribution(self) -> Array:
        """Returns P(R = r), fitted so that it does not increase; f64[MAX_RANK].

        Its sum may be below 1: the rest is the probability of all later ranks.
        """
        counts = self.counts()
        shares = counts[:MAX_RANK] / max(1.0, counts.sum())
        return np.asarray(isotonic_regression(shares, increasing=False).x)

    def half(self, parity: int) -> Texts:
        """Returns the texts of even (0) or odd (1) prompts, or all texts if there are none."""
        return Texts([r for r in self.records if r["prompt"] % 2 == parity] or self.records)

    @cached_property
    def _distributions_of_other_half(self) -> list[Array]:
        """For even and for odd prompts: P(R = r) in the other half."""
        return [self.half(1 - parity).rank_distribution() for parity in (0, 1)]

    def trees(self, strategy: str, k: int) -> list[theory.TreeShape]:
        """Returns the tree of even and the tree of odd prompts.

        Each is made for the ranks of the other half, so that no tree has seen the text it is
        measured on.
        """
        return [strategy_tree(strategy, k, ranks) for ranks in self._distributions_of_other_half]

    def by_category(self) -> dict[str, Texts]:
        """Returns all texts under the name "all", then those of each category."""
        names = dict.fromkeys(r["category"] for r in self.records)
        return {"all": self} | {
            name: Texts(r for r in self.records if r["category"] == name) for name in names
        }

    def first_acceptance(self) -> tuple[float, float]:
        """Returns the share of tokens that the draft tries first, and its standard error."""
        hits = [r["ranks"].count(0) for r in self.records]
        return ratio(hits, [len(r["ranks"]) for r in self.records])

    def tokens_per_call(self, trees: Sequence[theory.TreeShape]) -> tuple[float, float]:
        """Returns mean tokens per target call, and its standard error over prompts.

        Args:
            trees: the tree of even and the tree of odd prompts, as `trees` returns them.
        """
        calls = [replay(r["ranks"], trees[r["prompt"] % 2]) for r in self.records]
        return ratio([sum(c) for c in calls], [len(c) for c in calls])

    def acceptance_by_depth(
        self, trees: Sequence[theory.TreeShape]
    ) -> Iterator[tuple[int, tuple[float, float], float]]:
        """Yields how often a walk at a node with children accepts one of them, by depth.

        Args:
            trees: the tree of even and the tree of odd prompts, as `trees` returns them.

        Yields:
            The depth of the children; the share of walks that accept one, with its standard error;
            and the share to expect if ranks were independent.
        """
        ranks = self.rank_distribution()
        # By depth: number of walks, of those that accept a child, and the number to expect of them.
        counts: dict[int, list[float]] = {}
        for record in self.records:
            tree = trees[record["prompt"] % 2]
            child, node = _children(tree), 0
            hit = np.zeros(len(tree))  # f64[nodes], probability that a child is accepted
            np.add.at(hit, tree.parent[1:], ranks[tree.rank[1:]])
            for rank in record["ranks"]:
                following = child.get((node, rank), 0)
                if hit[node] > 0:
                    count = counts.setdefault(tree.depth[node] + 1, [0, 0, 0])
                    count[:] = count[0] + 1, count[1] + (following > 0), count[2] + hit[node]
                node = following
        for depth, (n, accepted, expected) in sorted(counts.items()):
            if n >= MIN_WALKS:
                yield depth, binomial_share(accepted, n), expected / n

    def autocorrelation(self, lag: int) -> tuple[float, float]:
        """Returns the autocorrelation of "the rank is 0" over all texts.

        Args:
            lag: distance in tokens.

        Returns:
            The autocorrelation, and the standard deviation that it would have if ranks were
            independent. Both are 0 where it is not defined.
        """
        first = [np.asarray(r["ranks"]) == 0 for r in self.records]
        mean = np.concatenate(first).mean()
        products = np.concatenate([(x[:-lag] - mean) * (x[lag:] - mean) for x in first])
        variance = mean * (1 - mean)
        if not len(products) or not variance:
            return 0.0, 0.0
        return float(products.mean() / variance), float(len(products) ** -0.5)
