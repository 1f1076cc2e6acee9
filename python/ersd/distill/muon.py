"""Muon: steps of momentum made orthogonal, for the matrices of layers (Jordan and others, 2024, kellerjordan.github.io/posts/muon)."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["Muon", "orthogonal"]

MOMENTUM = 0.95
COEFFICIENTS = (
    3.4445,
    -4.7750,
    2.0315,
)  # of x, x^3 and x^5, which bring singular values close to 1 in few rounds
ROUNDS = 5


def orthogonal(matrix: Tensor, dtype: torch.dtype) -> Tensor:
    """About UV' of a matrix USV', by Newton and Schulz's iteration in a type; singular values come out between 0.6 and 1.3."""
    x = matrix.to(dtype)
    x = x.T if matrix.shape[0] > matrix.shape[1] else x
    x = x / x.norm().clamp_min(1e-7)
    a, b, c = COEFFICIENTS
    for _ in range(ROUNDS):
        square = x @ x.T
        x = torch.addmm(x, torch.addmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x.T if matrix.shape[0] > matrix.shape[1] else x


class Muon(torch.optim.Optimizer):
    """As torch.optim.Muon, which computes in bf16 everywhere: 20 seconds a step on processors that do not multiply it."""

    def __init__(self, parameters: list[dict[str, Any]], dtype: torch.dtype) -> None:
        """Groups of matrices; their steps have the mean square that AdamW's have at the same rate (arXiv 2502.16982)."""
        super().__init__(parameters, {"lr": 0.0})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """One step by the gradients."""
        for group in self.param_groups:
            for parameter in group["params"]:
                if parameter.grad is None:
                    continue
                state = self.state[parameter]
                if not state:
                    state["momentum"] = torch.zeros_like(parameter)
                momentum = state["momentum"].lerp_(parameter.grad, 1 - MOMENTUM)
                towards = parameter.grad.lerp(momentum, MOMENTUM)
                parameter.add_(
                    orthogonal(towards, self.dtype),
                    alpha=-0.2 * max(parameter.shape) ** 0.5 * group["lr"],
                )
