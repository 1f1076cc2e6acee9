"""Ranks, trees and tokens per target call in theory: closed forms, bounds and simulations.

The rank R of a position is the index of the emitted token in the order in which the draft's tokens
are tried; 0 is the first. Distributions over tokens are f64[n]. Distributions over ranks are
f64[n_ranks], or f64[n_ranks + 1] if the last entry is for all later ranks. Entropies and
divergences are in bits.

It needs SciPy: ``pip install "ersd[paper]"``.

Sources: [KG] Kobus and Gündüz, arXiv 2504.15475; [GF] Goc and Flamich, arXiv 2401.16579; [LE] Li
and El Gamal, arXiv 1701.02827.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt

from ersd.chains import (
    block_acceptance,
    call_starts,
    chain_tokens,
    joint_acceptance,
    joint_bound,
    race_acceptance,
    race_agreement,
    rejection_acceptance,
    token_ratio,
)
from ersd.engine import TreeShape, batch_shape, optimal_shape, sequence_shape
from ersd.engine import expected_tokens as _expected_tokens
from ersd.rank_distributions import (
    Array,
    distribution,
    ersd_acceptance,
    ersd_ranks,
    gsd_ranks,
    overlap,
    pair,
)

__all__ = [
    "TreeShape",
    "batch_shape",
    "block_acceptance",
    "call_starts",
    "chain_tokens",
    "channel_simulation_divergence",
    "entropy",
    "ersd_acceptance",
    "ersd_ranks",
    "expected_tokens",
    "expected_tokens_bound",
    "gsd_ranks",
    "joint_acceptance",
    "joint_bound",
    "kl_divergence",
    "optimal_tree",
    "overlap",
    "race_acceptance",
    "race_agreement",
    "rank_entropy_bounds",
    "rejection_acceptance",
    "sequence_shape",
    "slope",
    "softmax",
    "token_ratio",
]


def softmax(logits: npt.ArrayLike, temperature: float = 1.0) -> Array:
    """Returns exp(logits / temperature), divided by its sum; f64[n].

    Raises:
        ValueError: the temperature is not above 0.
    """
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    weights = np.exp(scaled - scaled.max())
    return np.asarray(weights / weights.sum())


def entropy(p: npt.ArrayLike) -> float:
    """Returns H = -sum p log2 p of weights or counts, f64[n], in bits."""
    p = distribution(p)
    return float(-(p[p > 0] * np.log2(p[p > 0])).sum())


def slope(ranks: npt.ArrayLike) -> float:
    """Returns 1 / H[R], which is infinite if H[R] is 0 [KG].

    It is the largest number of tokens per target call that doubling k + 1 can add, in the limit of
    large k.
    """
    h = entropy(ranks)
    return 1 / h if h > 0 else float("inf")


def expected_tokens_bound(
    ranks: npt.ArrayLike, k: int | npt.NDArray[np.int64], n_vocab: int
) -> Array:
    """Returns (log2 n_vocab + log2(k + 1)) / H[R] [KG].

    If ranks are i.i.d., no tree of k nodes gives more tokens per target call.

    Args:
        ranks: weights of all ranks, each with its own entry. A last entry for many ranks lowers
            H[R], so the bound becomes looser.
        k: drafted nodes, one number or an array.
        n_vocab: tokens in the vocabulary.
    """
    return np.asarray((np.log2(n_vocab) + np.log2(np.asarray(k) + 1)) * slope(ranks))


def optimal_tree(
    ranks: npt.ArrayLike, k: int, *, max_depth: int | None = None, max_width: int | None = None
) -> TreeShape:
    """Returns the tree of k nodes and a root with the most expected tokens for i.i.d. ranks [KG].

    A heap builds it in O(k log k).

    Args:
        ranks: P(R = r), f64[n_ranks]. It must not increase, or the tree is not optimal. What is
            missing to 1 is the probability of later ranks.
        k: nodes, at least 0. The tree has fewer if no more fit.
        max_depth: the longest path; None for no limit.
        max_width: the largest number of children of a node; None for n_ranks.

    Returns:
        The parent, rank and depth of each node, i32[k + 1] each. Node 0 is the root.

    Raises:
        ValueError: k is negative.
    """
    p = np.asarray(ranks, dtype=np.float64)
    if k < 0:
        raise ValueError(f"k must be at least 0, got {k}")
    return optimal_shape(p[:max_width].tolist(), k, k if max_depth is None else max_depth)


def expected_tokens(tree: TreeShape, ranks: npt.ArrayLike) -> float:
    """Returns the expected tokens per target call for i.i.d. ranks, f64[n_ranks] [KG].

    It is 1 + the sum over nodes of the product of P(R = r) along the path.
    """
    return _expected_tokens(tree, np.asarray(ranks, dtype=np.float64).tolist())


def kl_divergence(p: npt.ArrayLike, q: npt.ArrayLike) -> float:
    """Returns D(p || q) = sum p log2(p / q) in bits; infinite if q lacks a token of p."""
    target, draft = pair(p, q)
    seen = target > 0
    if (draft[seen] == 0).any():
        return float("inf")
    return float((target[seen] * np.log2(target[seen] / draft[seen])).sum())


def channel_simulation_divergence(p: npt.ArrayLike, q: npt.ArrayLike) -> float:
    """Returns D_CS(p || q), in bits, which is at least D(p || q) [GF].

    It is -integral over h > 0 of w(h) log2 w(h), with w(h) = q(p / q >= h).
    """
    target, draft = pair(p, q)
    if (draft[target > 0] == 0).any():
        return float("inf")
    seen = draft > 0
    ratio = target[seen] / draft[seen]
    order = np.argsort(-ratio)
    ratio, width = ratio[order], np.minimum(np.cumsum(draft[seen][order]), 1.0)
    steps = ratio - np.append(ratio[1:], 0.0)
    return float(-(steps * width * np.log2(width)).sum())


def rank_entropy_bounds(p: npt.ArrayLike, q: npt.ArrayLike) -> dict[str, float]:
    """Returns bounds of H[R] that follow from the two distributions alone, in bits.

    Returns:
        gsd_least: D_CS. No causal rejection sampler has a smaller H[R], and so neither has GSD with
            independent siblings [GF].
        gsd_most: D_CS + log2(e + 1), the upper bound for GSD with independent siblings [GF].
        ersd_most: D + log2(D + 1) + 4, by the Poisson functional representation [LE]. A race is
            this representation without its repeated arrivals. Its E[log R], from which the bound
            follows, is therefore lower.
    """
    cs, d = channel_simulation_divergence(p, q), kl_divergence(p, q)
    return {
        "gsd_least": cs,
        "gsd_most": cs + float(np.log2(np.e + 1)),
        "ersd_most": d + float(np.log2(d + 1)) + 4,
    }
