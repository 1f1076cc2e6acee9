"""How many tokens of a drafted chain are accepted: by races, by rejection, by block verification.

A chain is accepted up to some token, and one more token follows. On a text of the target, two
numbers per token decide how far a chain that begins there is accepted on average:

- its ratio, the draft's probability of the token divided by the target's, and
- its agreement, the probability that the token wins the draft's race if it wins the target's.

So a recorded text tells what a chain of any length gives on it, without drafting it. A chain's
`Acceptance` maps these numbers of the next k tokens to the probabilities that at least the first 1,
2, ..., k of them are accepted, given the text. A mean over texts of the target is an unbiased
estimate of what it is for all texts, since no other approximation is made. Numbers are f64[..., k];
the last axis has consecutive tokens.

Sources: [LE] Leviathan et al., arXiv 2211.17192; [SU] Sun et al., arXiv 2403.10444; [KG] Kobus and
Gündüz, arXiv 2504.15475. The formulas below follow from theirs by weighting the draft's chains with
the ratios, which makes texts of the target of them.
"""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import numpy.typing as npt

from ersd.rank_distributions import Array, pair

__all__ = [
    "CHAINS",
    "Acceptance",
    "block_acceptance",
    "call_starts",
    "chain_tokens",
    "joint_acceptance",
    "joint_bound",
    "race_acceptance",
    "race_agreement",
    "rejection_acceptance",
    "token_ratio",
]

Acceptance = Callable[[npt.ArrayLike], Array]
_MOST_TEXTS = 2_000_000  # that chain_tokens enumerates


def token_ratio(p: npt.ArrayLike, q: npt.ArrayLike, token: int) -> float:
    """Returns q(token) / p(token) for the target's weights p and the draft's q, f64[n].

    Raises:
        ValueError: the weights are no distributions over the same tokens, or p(token) is 0.
    """
    target, draft = pair(p, q)
    return float(draft[token] / _positive(target, token))


def race_agreement(p: npt.ArrayLike, q: npt.ArrayLike, token: int) -> float:
    """Returns P(the token wins the draft's race | it wins the target's), with shared clocks [KG].

    It is 1 / sum_i max(p_i, q_i p_j / q_j) for the token j. Raises ValueError as `token_ratio`.
    """
    target, draft = pair(p, q)
    share = _positive(target, token)
    if draft[token] == 0:
        return 0.0
    return float(1 / np.maximum(target, draft * (share / draft[token])).sum())


def _positive(target: Array, token: int) -> float:
    if target[token] == 0:
        raise ValueError(f"the target must give token {token} a probability, got 0")
    return float(target[token])


def race_acceptance(agreements: npt.ArrayLike) -> Array:
    """Returns the acceptance of a chain by races: all tokens so far agree."""
    return np.asarray(np.cumprod(np.asarray(agreements), axis=-1), dtype=np.float64)


def rejection_acceptance(ratios: npt.ArrayLike) -> Array:
    """Returns the acceptance of a chain by rejection, token by token [LE].

    Each token counts with min(1, ratio), whatever the tokens before it.
    """
    return np.asarray(np.cumprod(np.minimum(ratios, 1), axis=-1), dtype=np.float64)


def joint_acceptance(ratios: npt.ArrayLike) -> Array:
    """Returns min(1, product of the ratios so far); f64[..., k].

    Its mean over texts is 1 - TV of the first tokens, with the total variation distance TV. No
    method accepts so many tokens more often. It is no method, as it may rise along a text.
    """
    return np.minimum(np.cumprod(np.asarray(ratios, dtype=np.float64), axis=-1), 1)


def block_acceptance(ratios: npt.ArrayLike) -> Array:
    """Returns the acceptance of a chain by block verification [SU].

    It is the least that `joint_acceptance` has been so far: what a token gains, a later token may
    lose again, but no token can make up for what was lost before it.
    """
    return np.asarray(np.minimum.accumulate(joint_acceptance(ratios), axis=-1))


# The chains by their names. "joint" is the bound of all methods.
CHAINS: dict[str, Acceptance] = {
    "ersd": race_acceptance,
    "gsd": rejection_acceptance,
    "block": block_acceptance,
    "joint": joint_acceptance,
}


def joint_bound(ratios: npt.ArrayLike) -> Array:
    """Returns 1 + the sum of `joint_acceptance`; f64[...].

    Its mean over texts is 1 + sum_j (1 - TV of the first j tokens), for j = 1 to k. No exact method
    gives more tokens per call with a chain of k.
    """
    return np.asarray(1 + joint_acceptance(ratios).sum(axis=-1))


def call_starts(chain: str, values: npt.ArrayLike, k: int) -> Array:
    """Returns the probability that a target call begins at each token of a text, given the text.

    Their sum is the expected number of calls. The last call drafts no more than the text needs.

    Args:
        chain: "ersd", "gsd" or "block".
        values: the agreements of the text's tokens for "ersd", else their ratios; f64[n].
        k: tokens of a chain.

    Raises:
        ValueError: there is no such chain.
    """
    if chain not in CHAINS or chain == "joint":
        raise ValueError(f"chain must be 'ersd', 'gsd' or 'block', got {chain!r}")
    numbers = np.asarray(values, dtype=np.float64)
    starts = np.zeros(len(numbers) + 1)
    starts[:1] = 1
    for t in range(len(numbers)):
        accepted = CHAINS[chain](numbers[t : min(t + k, len(numbers) - 1)])
        ends = -np.diff(np.concatenate([[1.0], accepted, [0.0]]))
        starts[t + 1 : t + 1 + len(ends)] += starts[t] * ends
    return starts[:-1]


def chain_tokens(
    chain: str,
    p: npt.ArrayLike,
    q: npt.ArrayLike,
    *,
    samples: int | None = None,
    rng: np.random.Generator | None = None,
) -> tuple[float, float]:
    """Returns the expected tokens per call of a chain whose rows do not depend on its tokens.

    Args:
        chain: "ersd", "gsd", "block" or "joint", the bound.
        p: the target's weights at each position of the chain, f64[k, n].
        q: the draft's weights, f64[k, n].
        samples: texts that are drawn for a Monte Carlo estimate; None for the exact value, for
            which all n^k texts are enumerated.
        rng: random numbers for the texts; None for fresh ones.

    Returns:
        The expected tokens per call, and the standard error, which is 0 for an exact value.

    Raises:
        ValueError: there is no such chain, the rows do not fit, or there are too many texts.
    """
    if chain not in CHAINS:
        raise ValueError(f"chain must be one of {', '.join(map(repr, CHAINS))}, got {chain!r}")
    rows = [pair(a, b) for a, b in zip(np.asarray(p), np.asarray(q), strict=True)]
    number = race_agreement if chain == "ersd" else token_ratio
    values = [[number(a, b, x) if a[x] else 0.0 for x in range(len(a))] for a, b in rows]
    if samples is not None:
        rng = rng or np.random.default_rng()
        drawn = [
            np.array(v)[rng.choice(len(a), samples, p=a)]
            for v, (a, _) in zip(values, rows, strict=True)
        ]
        tokens = 1 + CHAINS[chain](np.stack(drawn, axis=-1)).sum(axis=-1)
        return float(tokens.mean()), float(tokens.std(ddof=1) / np.sqrt(samples))
    n_texts = np.prod([float(len(v)) for v in values])
    if n_texts > _MOST_TEXTS:
        raise ValueError(f"{n_texts:.0f} texts are too many to enumerate: give samples")
    grid = np.stack(np.meshgrid(*values, indexing="ij"), axis=-1)
    weights = np.ones(())
    for a, _ in rows:
        weights = np.multiply.outer(weights, a)
    return float((weights * (1 + CHAINS[chain](grid).sum(axis=-1))).sum()), 0.0
