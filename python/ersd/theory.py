"""What ranks, trees and tokens per target call must be: closed forms, bounds and simulations, in NumPy and SciPy.

The rank R of a position is the place of the emitted token in the order in which the draft's tokens are tried, 0 the first.
Distributions over tokens are f64[n], over ranks f64[n_ranks] or, with all later ranks last, f64[n_ranks + 1]. Entropies and divergences
are in bits.
Needs SciPy: ``pip install "ersd[paper]"``.

Sources: [KG] Kobus and Gündüz, arXiv 2504.15475; [GF] Goc and Flamich, arXiv 2401.16579; [LE] Li and El Gamal, arXiv 1701.02827.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.integrate import quad_vec

from ersd._core import TreeShape, batch_shape, sequence_shape
from ersd._core import expected_tokens as _expected_tokens
from ersd._core import optimal_shape as _optimal_shape

__all__ = [
    "TreeShape",
    "batch_shape",
    "channel_simulation_divergence",
    "entropy",
    "ersd_acceptance",
    "ersd_ranks",
    "expected_tokens",
    "expected_tokens_bound",
    "gsd_ranks",
    "kl_divergence",
    "optimal_tree",
    "overlap",
    "rank_entropy_bounds",
    "sequence_shape",
    "slope",
    "softmax",
]

Array = npt.NDArray[np.float64]


def _distribution(p: npt.ArrayLike, name: str = "p") -> Array:
    p = np.asarray(p, dtype=np.float64)
    if p.ndim != 1 or not (p >= 0).all() or not 0 < p.sum() < np.inf:
        raise ValueError(
            f"{name} must be a vector of weights, none negative and not all zero, got shape {p.shape}"
        )
    return np.asarray(p / p.sum())


def _pair(p: npt.ArrayLike, q: npt.ArrayLike) -> tuple[Array, Array]:
    target, draft = _distribution(p, "p"), _distribution(q, "q")
    if len(target) != len(draft):
        raise ValueError(f"p and q must have one length, got {len(target)} and {len(draft)}")
    return target, draft


def softmax(logits: npt.ArrayLike, temperature: float = 1.0) -> Array:
    """exp(logits / temperature), normalised; f64[n]. A temperature of 0 or less raises ValueError."""
    if not temperature > 0:
        raise ValueError(f"temperature must be above 0, got {temperature}")
    scaled = np.asarray(logits, dtype=np.float64) / temperature
    weights = np.exp(scaled - scaled.max())
    return np.asarray(weights / weights.sum())


def entropy(p: npt.ArrayLike) -> float:
    """H = -sum p log2 p of weights or counts, in bits."""
    p = _distribution(p)
    return float(-(p[p > 0] * np.log2(p[p > 0])).sum())


def slope(ranks: npt.ArrayLike) -> float:
    """1 / H[R]: the tokens per target call that doubling k + 1 can add at most, in the limit of large k [KG]. Infinite where H[R] is 0."""
    h = entropy(ranks)
    return 1 / h if h > 0 else float("inf")


def expected_tokens_bound(
    ranks: npt.ArrayLike, k: int | npt.NDArray[np.int64], n_vocab: int
) -> Array:
    """(log2 n_vocab + log2(k + 1)) / H[R]: no tree of k nodes gives more tokens per target call for i.i.d. ranks [KG].

    ranks: weights of all ranks, later ones each for itself: a last entry that sums many lowers H[R] and so loosens the bound.
    """
    return np.asarray((np.log2(n_vocab) + np.log2(np.asarray(k) + 1)) * slope(ranks))


def optimal_tree(
    ranks: npt.ArrayLike, k: int, *, max_depth: int | None = None, max_width: int | None = None
) -> TreeShape:
    """The tree of k nodes beside the root that expects most tokens for i.i.d. ranks, in O(k log k) by a heap [KG].

    Args:
        ranks: f64[n_ranks], P(R = r), non-increasing for the optimum; what is missing to 1 is the probability of later ranks.
        k: nodes, 0 or more. Fewer are returned where no more fit.
        max_depth: the longest path; None for any.
        max_width: children of a node at most; None for n_ranks.

    Returns the shape: parent, rank and depth of each node, i32[k + 1], node 0 the root.
    """
    p = np.asarray(ranks, dtype=np.float64)
    if k < 0:
        raise ValueError(f"k must be at least 0, got {k}")
    return _optimal_shape(p[:max_width].tolist(), k, k if max_depth is None else max_depth)


def expected_tokens(tree: TreeShape, ranks: npt.ArrayLike) -> float:
    """1 + the sum over nodes of the product of P(R = r) along the path: tokens per target call for i.i.d. ranks [KG]."""
    return _expected_tokens(tree, np.asarray(ranks, dtype=np.float64).tolist())


def overlap(p: npt.ArrayLike, q: npt.ArrayLike) -> float:
    """Sum min(p, q) = 1 - TV: the acceptance of rejection sampling with one sibling, the most that any coupling reaches."""
    target, draft = _pair(p, q)
    return float(np.minimum(target, draft).sum())


def ersd_acceptance(p: npt.ArrayLike, q: npt.ArrayLike) -> float:
    """P(R = 0) of a race with shared clocks: sum_j 1 / sum_i max(p_i / p_j, q_i / q_j), in O(n log n).

    Between (1 - TV) / (1 + TV) and 1 - TV.
    """
    target, draft = _pair(p, q)
    both = (target > 0) & (draft > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(target > 0, target / draft, np.where(draft > 0, 0.0, np.nan))
    order = np.argsort(-ratio[both], kind="stable")
    tp, tq = target[both][order], draft[both][order]
    # Where p_i / q_i is at least p_j / q_j, the maximum is p_i / p_j, elsewhere q_i / q_j.
    above, below = np.cumsum(tp) + target[(draft == 0)].sum(), draft.sum() - np.cumsum(tq)
    return float((1 / (above / tp + below / tq)).sum())


def ersd_ranks(
    p: npt.ArrayLike,
    q: npt.ArrayLike,
    n_ranks: int = 64,
    *,
    samples: int | None = None,
    rng: np.random.Generator | None = None,
) -> Array:
    """The distribution of R under ERSD for a target p and a draft q; f64[n_ranks + 1], later ranks last.

    Exact for samples = None: given that j wins at time w, which has density p_j exp(-w), token i precedes j in the draft's order with
    probability 1 - exp(-w max(p_j q_i / q_j - p_i, 0)), independently of the others. O(n^2 n_ranks) for each of some hundred points of
    quadrature: for n up to a few hundred. Otherwise from so many simulated races.
    """
    target, draft = _pair(p, q)
    if samples is not None:
        rng = rng or np.random.default_rng()
        counts, n = np.zeros(n_ranks + 1), len(target)
        with np.errstate(divide="ignore"):
            for start in range(0, samples, chunk := max(1, 2_000_000 // n)):
                clocks = rng.exponential(size=(min(chunk, samples - start), n))
                winners, arrival = np.argmin(clocks / target, axis=1), clocks / draft
                places = (arrival < np.take_along_axis(arrival, winners[:, None], 1)).sum(1)
                places[draft[winners] == 0] = n_ranks
                counts += np.bincount(np.minimum(places, n_ranks), minlength=n_ranks + 1)
        return np.asarray(counts / samples)
    both = np.flatnonzero((target > 0) & (draft > 0))
    rate = np.maximum(
        target[both, None] * draft[None, :] / draft[both, None] - target[None, :], 0
    )  # [j, i]

    def integrand(u: float) -> Array:  # u = exp(-w)
        ahead = 1 - u**rate
        count = np.zeros((len(both), n_ranks + 1))
        count[:, 0] = 1
        for i in range(len(draft)):
            a = ahead[:, i, None]
            count[:, 1:] = (
                count[:, 1:] * (1 - a)
                + count[:, :-1] * a
                + np.where(np.arange(1, n_ranks + 1) == n_ranks, count[:, 1:] * a, 0)
            )
            count[:, :1] *= 1 - a
        return np.asarray(target[both] @ count)

    result, _ = quad_vec(integrand, 0.0, 1.0, epsabs=1e-9, epsrel=1e-9)
    result[-1] += target[draft == 0].sum()
    return np.asarray(result)


def gsd_ranks(
    p: npt.ArrayLike,
    q: npt.ArrayLike,
    n_ranks: int = 64,
    *,
    replacement: bool = False,
    samples: int | None = None,
    rng: np.random.Generator | None = None,
) -> Array:
    """The distribution of R under greedy rejection sampling; f64[n_ranks + 1], all later ranks and none last.

    With replacement (independent siblings) exact in O(n n_ranks). Without it exact for samples = None by enumerating the orders of rejected
    siblings, for small n and n_ranks alone: their number is n! / (n - n_ranks)!; otherwise from so many simulated walks.
    """
    target, draft = _pair(p, q)
    out = np.zeros(n_ranks + 1)
    if replacement:
        residual, reach = target, 1.0
        for r in range(n_ranks):
            accepted = np.minimum(residual, draft).sum()
            out[r] = reach * accepted
            reach *= 1 - accepted
            rest = np.maximum(residual - draft, 0)
            if reach < 1e-15 or rest.sum() <= 0:
                break
            residual = rest / rest.sum()
        out[-1] += max(1 - out.sum(), 0)
        return out
    if samples is not None:
        return _simulated_distinct(target, draft, n_ranks, samples, rng or np.random.default_rng())

    def walk(residual: Array, remaining: Array, reach: float, r: int) -> None:
        if r == n_ranks or remaining.sum() <= 0 or reach < 1e-15:
            out[-1] += reach
            return
        remaining = remaining / remaining.sum()
        both = np.minimum(residual, remaining)
        out[r] += reach * both.sum()
        rest = residual - both
        if rest.sum() < 1e-14:
            return
        for x in np.flatnonzero(remaining > both):
            fewer = remaining.copy()
            fewer[x] = 0
            walk(rest / rest.sum(), fewer, reach * (remaining[x] - both[x]), r + 1)

    walk(target, draft, 1.0, 0)
    return out


def _simulated_distinct(
    target: Array, draft: Array, n_ranks: int, samples: int, rng: np.random.Generator
) -> Array:
    counts, n = np.zeros(n_ranks + 1), len(target)
    for start in range(0, samples, chunk := max(1, 1_000_000 // n)):
        m = min(chunk, samples - start)
        residual, remaining = np.tile(target, (m, 1)), np.tile(draft, (m, 1))
        with np.errstate(divide="ignore"):
            order = np.argsort(rng.exponential(size=(m, n)) / draft, axis=1)
        for r in range(min(n_ranks, int(np.count_nonzero(draft)))):
            x = order[:, r : r + 1]
            mass = remaining.sum(1, keepdims=True)
            remaining /= np.where(mass > 0, mass, 1)
            ratio = np.take_along_axis(residual, x, 1) / np.take_along_axis(remaining, x, 1)
            accepted = rng.random((len(x), 1)) < ratio
            counts[r] += accepted.sum()
            alive = ~accepted[:, 0]
            order, x, remaining = order[alive], x[alive], remaining[alive]
            residual = np.maximum(residual[alive] - remaining, 0)
            np.put_along_axis(remaining, x, 0, 1)
            mass = residual.sum(1, keepdims=True)
            residual /= np.where(mass > 0, mass, 1)
        counts[-1] += len(order)
    return np.asarray(counts / samples)


def kl_divergence(p: npt.ArrayLike, q: npt.ArrayLike) -> float:
    """D(p || q) = sum p log2(p / q) in bits; infinite where q lacks a token of p."""
    target, draft = _pair(p, q)
    seen = target > 0
    if (draft[seen] == 0).any():
        return float("inf")
    return float((target[seen] * np.log2(target[seen] / draft[seen])).sum())


def channel_simulation_divergence(p: npt.ArrayLike, q: npt.ArrayLike) -> float:
    """D_CS(p || q) = -integral over h > 0 of w(h) log2 w(h), w(h) = q(p/q >= h), in bits [GF]. At least D(p || q)."""
    target, draft = _pair(p, q)
    if (draft[target > 0] == 0).any():
        return float("inf")
    seen = draft > 0
    ratio = target[seen] / draft[seen]
    order = np.argsort(-ratio)
    ratio, width = ratio[order], np.minimum(np.cumsum(draft[seen][order]), 1.0)
    steps = ratio - np.append(ratio[1:], 0.0)
    return float(-(steps * width * np.log2(width)).sum())


def rank_entropy_bounds(p: npt.ArrayLike, q: npt.ArrayLike) -> dict[str, float]:
    """What is known of H[R] from the two distributions alone, in bits.

    Returns:
        gsd_least: D_CS, which no causal rejection sampler undercuts, so not GSD with independent siblings [GF].
        gsd_most: D_CS + log2(e + 1), which GSD with independent siblings keeps [GF].
        ersd_most: D + log2(D + 1) + 4, by the Poisson functional representation [LE]: a race is one whose repeated arrivals are left
            out, which lowers E[log R], from which the bound follows.
    """
    cs, d = channel_simulation_divergence(p, q), kl_divergence(p, q)
    return {
        "gsd_least": cs,
        "gsd_most": cs + float(np.log2(np.e + 1)),
        "ersd_most": d + float(np.log2(d + 1)) + 4,
    }
