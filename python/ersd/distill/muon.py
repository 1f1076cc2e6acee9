"""Muon, an optimizer for matrices: it makes each step of the momentum orthogonal.

Source: Jordan and others, 2024, kellerjordan.github.io/posts/muon.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

__all__ = ["Muon", "orthogonal"]

MOMENTUM = 0.95
# Coefficients of x, x^3 and x^5. They bring singular values close to 1 in a few rounds.
COEFFICIENTS = (3.4445, -4.7750, 2.0315)
ROUNDS = 5
MIN_NORM = 1e-7  # so that a matrix of zeros can be divided by its norm
# Muon's steps get the root mean square of AdamW's steps (arXiv 2502.16982).
STEP_SIZE = 0.2


def orthogonal(matrix: Tensor, dtype: torch.dtype) -> Tensor:
    """Return about UV' of a matrix USV', by the Newton-Schulz iteration.

    Singular values of the result are between 0.6 and 1.3, except for those that were very small.

    Args:
        matrix: [rows, columns].
        dtype: the type to compute in.
    """
    x = matrix.to(dtype)
    x = x.T if matrix.shape[0] > matrix.shape[1] else x
    x = x / x.norm().clamp_min(MIN_NORM)
    a, b, c = COEFFICIENTS
    for _ in range(ROUNDS):
        square = x @ x.T
        x = torch.addmm(x, torch.addmm(square, square, square, beta=b, alpha=c), x, beta=a)
    return x.T if matrix.shape[0] > matrix.shape[1] else x


class Muon(torch.optim.Optimizer):
    """Muon in a given type.

    torch.optim.Muon always computes in bf16, and then a step takes 20 seconds on processors that do
    not multiply bf16.
    """

    def __init__(self, parameters: list[dict[str, Any]], dtype: torch.dtype) -> None:
        """Optimize groups of matrices. A learning rate means the same as for AdamW.

        Args:
            parameters: groups with "params" and, from the first step on, "lr".
            dtype: the type to make steps orthogonal in.
        """
        super().__init__(parameters, {"lr": 0.0})
        self.dtype = dtype

    @torch.no_grad()
    def step(self, closure: Callable[[], float] | None = None) -> None:  # type: ignore[override]
        """Do one step by the gradients."""
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
                    alpha=-STEP_SIZE * max(parameter.shape) ** 0.5 * group["lr"],
                )
