"""The distribution of the rank of the target's token in the draft's order, for one position.

The rank R of a position is the index of the emitted token in the order in which the draft's tokens
are tried; 0 is the first. p is the target's distribution over tokens and q the draft's, both
f64[n]. A distribution of R is f64[n_ranks + 1]; its last entry is for all later ranks.

It needs SciPy: ``pip install "ersd[paper]"``.
"""

from __future__ import annotations

import numpy as np
import numpy.typing as npt
from scipy.integrate import quad_vec

__all__ = ["Array", "distribution", "ersd_acceptance", "ersd_ranks", "gsd_ranks", "overlap", "pair"]

Array = npt.NDArray[np.float64]
_TINY = 1e-15  # a walk that is less probable than this is not followed


def distribution(p: npt.ArrayLike, name: str = "p") -> Array:
    """Returns weights divided by their sum, f64[n].

    Raises:
        ValueError: they are not a vector, or are negative, infinite or all zero.
    """
    p = np.asarray(p, dtype=np.float64)
    if p.ndim != 1 or not (p >= 0).all() or not 0 < p.sum() < np.inf:
        raise ValueError(
            f"{name} must be a vector of weights, none negative and not all zero, "
            f"got shape {p.shape}"
        )
    return np.asarray(p / p.sum())


def pair(p: npt.ArrayLike, q: npt.ArrayLike) -> tuple[Array, Array]:
    """Returns two distributions over the same tokens, f64[n] each.

    Raises:
        ValueError: as `distribution`; or they have different lengths.
    """
    target, draft = distribution(p, "p"), distribution(q, "q")
    if len(target) != len(draft):
        raise ValueError(f"p and q must have one length, got {len(target)} and {len(draft)}")
    return target, draft


def overlap(p: npt.ArrayLike, q: npt.ArrayLike) -> float:
    """Returns sum min(p, q) = 1 - TV, with the total variation distance TV.

    It is the acceptance of rejection sampling with one sibling, and the most that any coupling
    reaches.
    """
    target, draft = pair(p, q)
    return float(np.minimum(target, draft).sum())


def ersd_acceptance(p: npt.ArrayLike, q: npt.ArrayLike) -> float:
    """Returns P(R = 0) of a race with shared clocks, in O(n log n).

    It is sum_j 1 / sum_i max(p_i / p_j, q_i / q_j), between (1 - TV) / (1 + TV) and 1 - TV.
    """
    target, draft = pair(p, q)
    both = (target > 0) & (draft > 0)
    with np.errstate(divide="ignore", invalid="ignore"):
        ratio = np.where(target > 0, target / draft, np.where(draft > 0, 0.0, np.nan))
    order = np.argsort(-ratio[both], kind="stable")
    tp, tq = target[both][order], draft[both][order]
    # If p_i / q_i is at least p_j / q_j, the maximum is p_i / p_j, else it is q_i / q_j.
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
    """Returns the distribution of R under ERSD, f64[n_ranks + 1].

    The exact computation takes O(n^2 n_ranks) for each of some hundred points of quadrature, so it
    is for n up to a few hundred.

    Args:
        p: the target's weights, f64[n].
        q: the draft's weights, f64[n].
        n_ranks: the number of ranks that are told apart.
        samples: the number of simulated races; None for the exact distribution.
        rng: random numbers for the simulation; None for fresh ones.

    Raises:
        ValueError: as `pair`.
    """
    target, draft = pair(p, q)
    if samples is None:
        return _exact_races(target, draft, n_ranks)
    return _simulated_races(target, draft, n_ranks, samples, rng or np.random.default_rng())


def _exact_races(target: Array, draft: Array, n_ranks: int) -> Array:
    # If token j wins at time w, which has the density p_j exp(-w), token i precedes j in the
    # draft's order with probability 1 - exp(-w max(p_j q_i / q_j - p_i, 0)), independently of the
    # other tokens. The integral over w counts how many precede.
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


def _simulated_races(
    target: Array, draft: Array, n_ranks: int, samples: int, rng: np.random.Generator
) -> Array:
    counts, n = np.zeros(n_ranks + 1), len(target)
    chunk = max(1, 2_000_000 // n)  # races at a time, so that arrays stay at 16 MB
    with np.errstate(divide="ignore"):
        for start in range(0, samples, chunk):
            clocks = rng.exponential(size=(min(chunk, samples - start), n))
            winners, arrival = np.argmin(clocks / target, axis=1), clocks / draft
            places = (arrival < np.take_along_axis(arrival, winners[:, None], 1)).sum(1)
            places[draft[winners] == 0] = n_ranks
            counts += np.bincount(np.minimum(places, n_ranks), minlength=n_ranks + 1)
    return np.asarray(counts / samples)


def gsd_ranks(
    p: npt.ArrayLike,
    q: npt.ArrayLike,
    n_ranks: int = 64,
    *,
    replacement: bool = False,
    samples: int | None = None,
    rng: np.random.Generator | None = None,
) -> Array:
    """Returns the distribution of R under greedy rejection sampling, f64[n_ranks + 1].

    The last entry also counts positions where all siblings are rejected. The exact computation
    without replacement enumerates n! / (n - n_ranks)! orders of rejected siblings, so it is for
    small n and n_ranks only. With replacement it takes O(n n_ranks).

    Args:
        p: the target's weights, f64[n].
        q: the draft's weights, f64[n].
        n_ranks: the number of ranks that are told apart.
        replacement: whether siblings are independent, so that they may be equal. The distribution
            is exact then.
        samples: the number of simulated walks without replacement; None for the exact distribution.
        rng: random numbers for the simulation; None for fresh ones.

    Raises:
        ValueError: as `pair`.
    """
    target, draft = pair(p, q)
    if replacement:
        return _exact_independent(target, draft, n_ranks)
    if samples is None:
        return _exact_distinct(target, draft, n_ranks)
    return _simulated_distinct(target, draft, n_ranks, samples, rng or np.random.default_rng())


def _exact_independent(target: Array, draft: Array, n_ranks: int) -> Array:
    out = np.zeros(n_ranks + 1)
    residual, reach = target, 1.0  # reach: the probability that rank r is tried
    for r in range(n_ranks):
        accepted = np.minimum(residual, draft).sum()
        out[r] = reach * accepted
        reach *= 1 - accepted
        rest = np.maximum(residual - draft, 0)
        if reach < _TINY or rest.sum() <= 0:
            break
        residual = rest / rest.sum()
    out[-1] += max(1 - out.sum(), 0)
    return out


def _exact_distinct(target: Array, draft: Array, n_ranks: int) -> Array:
    out = np.zeros(n_ranks + 1)

    def walk(residual: Array, remaining: Array, reach: float, r: int) -> None:
        if r == n_ranks or remaining.sum() <= 0 or reach < _TINY:
            out[-1] += reach
            return
        remaining = remaining / remaining.sum()
        both = np.minimum(residual, remaining)
        out[r] += reach * both.sum()
        rest = residual - both
        if rest.sum() < 10 * _TINY:
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
    chunk = max(1, 1_000_000 // n)  # walks at a time, so that arrays stay at 8 MB
    for start in range(0, samples, chunk):
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
