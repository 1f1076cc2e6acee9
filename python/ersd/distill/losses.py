"""What the student learns by: divergence and race acceptance over the tokens that are kept.

Of each distribution the most probable tokens are kept, and all others count as one token, the rest.
Arguments ``target`` and ``student`` are log-probabilities of kept tokens; f32[n, n_kept].
"""

from __future__ import annotations

import math

import torch
from torch import Tensor

from ersd.distill.student import Student

__all__ = [
    "coarse_logprobs",
    "divergence",
    "logprobs_of",
    "race_acceptance",
    "race_surprise",
    "tempered",
]

OTHERS = 2048  # tokens that stand for all tokens that a batch does not keep, in its softmax
BLIND = 0.02  # acceptances well below this one have almost no gradient
MIN_REST = 1e-5  # least probability of the rest, so that its logarithm is finite
MIN_PROBABILITY = 1e-12  # least probability of a token that is divided by


def logprobs_of(tokens: Tensor, logits: Tensor, weights: Tensor | float = 0.0) -> Tensor:
    """Return log-probabilities of tokens.

    Args:
        tokens: columns of the logits; i64[n, k].
        logits: f32[n, m].
        weights: logarithms of how often each logit counts in the softmax; f32[m].

    Returns:
        f32[n, k].
    """
    return logits.gather(1, tokens) - (logits + weights).logsumexp(1, keepdim=True)


def coarse_logprobs(
    student: Student, states: Tensor, top: Tensor, generator: torch.Generator
) -> Tensor:
    """Return the student's log-probabilities of kept tokens, by a softmax over some tokens.

    The softmax is over all tokens that any position of the batch keeps, and over `OTHERS` tokens
    that are drawn from the rest of the vocabulary. Each of these counts as often as it stands for
    a token of the rest.

    Args:
        student: the student.
        states: its states; f32[n, width].
        top: the kept tokens of each position; i64[n, n_kept].
        generator: draws the other tokens.

    Returns:
        f32[n, n_kept].
    """
    kept, places = torch.unique(top, return_inverse=True)
    is_other = torch.ones(student.dimensions.n_vocab, dtype=torch.bool, device=top.device)
    is_other[kept] = False
    rest = is_other.nonzero()[:, 0]
    n = min(OTHERS, len(rest))
    order = torch.randperm(len(rest), generator=generator, device="cpu")
    drawn = rest[order[:n].to(rest.device)]
    logits = student.output(states, torch.cat([kept, drawn])).float()
    weights = torch.zeros(logits.shape[1], device=logits.device)
    if n:
        weights[len(kept) :] = math.log(len(rest) / n)
    return logprobs_of(places, logits, weights)


def _log_rest(logprobs: Tensor) -> Tensor:
    """Return the log-probability of the rest; f32[n]."""
    return torch.log((1 - logprobs.exp().sum(1)).clamp_min(MIN_REST))


def divergence(target: Tensor, student: Tensor) -> Tensor:
    """Return D_KL(target || student) over the kept tokens and the rest, in nats; f32[n]."""
    kept = (target.exp() * (target - student)).nan_to_num(0.0).sum(1)
    rest, student_rest = _log_rest(target), _log_rest(student)
    return kept + rest.exp() * (rest - student_rest)


def race_acceptance(target: Tensor, student: Tensor) -> Tensor:
    """Return the probability that both races have the same winner; f32[n].

    It is sum_j 1 / sum_i max(p_i / p_j, q_i / q_j) over the kept tokens j, as in
    `ersd.theory.ersd_acceptance`. The rest counts as one token that never wins both races.
    """
    order = (target - student).argsort(1)  # by p / q
    p, q = (x.gather(1, order).exp().clamp_min(MIN_PROBABILITY) for x in (target, student))
    p_above = p.flip(1).cumsum(1).flip(1)
    q_below = q.cumsum(1) - q
    p_rest, q_rest = (_log_rest(x).exp()[:, None] for x in (target, student))
    rest = torch.maximum(p_rest / p, q_rest / q)
    return (1 / (p_above / p + q_below / q + rest)).sum(1)


def race_surprise(target: Tensor, student: Tensor) -> Tensor:
    """Return -log(race acceptance + `BLIND`), in nats; f32[n].

    Without the constant, positions where almost nothing is accepted would dominate the loss.
    """
    return -torch.log(race_acceptance(target, student) + BLIND)


def tempered(logprobs: Tensor, temperature: float) -> Tensor:
    """Return log-probabilities at another temperature, of the kept tokens alone; f32[n, n_kept]."""
    return (logprobs / temperature).log_softmax(1)
