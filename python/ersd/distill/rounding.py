"""The types in which a student's matrices are kept, and its output matrix in four bits, in training as in the file."""

from __future__ import annotations

import gguf
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["packed", "rounded"]

Type = gguf.GGMLQuantizationType
BLOCK = 32


def packed(name: str, values: Tensor) -> tuple[npt.NDArray[np.uint8], Type]:
    """A matrix as its file has it, by the name of its tensor; f32[rows, columns].

    The output matrix is most of what a call costs, and llama.cpp computes Q4_0 fastest. Of the embedding a call reads one row, and the
    layers are small: more bits cost them little.
    """
    if name == "output.weight":
        scales, codes = _q4_0(values)
        halves = codes[:, : BLOCK // 2] | codes[:, BLOCK // 2 :] << 4
        blocks = np.concatenate([scales.cpu().numpy().view(np.uint8), halves.cpu().numpy()], 1)
        return blocks.reshape(*values.shape[:-1], -1), Type.Q4_0
    kind = Type.Q5_1 if name == "token_embd.weight" else Type.Q8_0
    return gguf.quants.quantize(values.cpu().numpy(), kind), kind


def rounded(values: Tensor) -> Tensor:
    """What Q4_0 makes of a matrix; gradients pass as if it were the matrix itself."""
    plain = values.detach()
    scales, codes = _q4_0(plain)
    found = ((codes.float() - 8) * scales.float()).view_as(plain)
    return values + (found - plain)


def _q4_0(values: Tensor) -> tuple[Tensor, Tensor]:
    """Blocks of 32 with a scale each: of those around the usual one, the largest value over -8, that of the least square error.

    Returns f16[blocks, 1] and u8[blocks, BLOCK].
    """
    blocks = values.float().reshape(-1, BLOCK)
    largest = blocks.gather(1, blocks.abs().argmax(1, keepdim=True))
    best = torch.full_like(largest, torch.inf)
    codes, scales = (
        torch.zeros_like(blocks, dtype=torch.uint8),
        torch.zeros_like(largest, dtype=torch.float16),
    )
    for divisor in np.linspace(-8.5, -7, 7):
        scale = (largest / divisor).half()
        inverse = torch.where(scale == 0, 0, 1 / scale.float())
        code = (blocks * inverse).round_().add_(8).clamp_(0, 15)
        error = torch.square((code - 8) * scale.float() - blocks).sum(1, keepdim=True)
        better = error < best
        best, scales = torch.where(better, error, best), torch.where(better, scale, scales)
        codes = torch.where(better, code.to(torch.uint8), codes)
    return scales, codes
