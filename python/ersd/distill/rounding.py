"""The quantisation of a student's matrices in its file, and of its output matrix in training."""

from __future__ import annotations

import gguf
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

__all__ = ["packed", "rounded"]

Type = gguf.GGMLQuantizationType
BLOCK = 32  # numbers of a block
# The scale of a block is its largest number over one of these; -8 is what llama.cpp uses.
DIVISORS = np.linspace(-8.5, -7, 7)


def packed(name: str, values: Tensor) -> tuple[npt.NDArray[np.uint8], Type]:
    """Return a matrix as it is stored in the file.

    The output matrix takes most of the time of a call, and llama.cpp computes Q4_0 fastest. A call
    reads one row of the embedding, and the layers are small, so more bits cost them little time.

    Args:
        name: the name of the tensor.
        values: f32[rows, columns].

    Returns:
        The blocks of each row, u8[rows, bytes], and their type.
    """
    if name == "output.weight":
        scales, codes = _q4_0(values)
        halves = codes[:, : BLOCK // 2] | codes[:, BLOCK // 2 :] << 4
        blocks = np.concatenate([scales.cpu().numpy().view(np.uint8), halves.cpu().numpy()], 1)
        return blocks.reshape(*values.shape[:-1], -1), Type.Q4_0
    kind = Type.Q5_1 if name == "token_embd.weight" else Type.Q8_0
    return gguf.quants.quantize(values.cpu().numpy(), kind), kind


def rounded(values: Tensor) -> Tensor:
    """Return a matrix rounded to Q4_0. Gradients pass as if it were not rounded."""
    plain = values.detach()
    scales, codes = _q4_0(plain)
    found = ((codes.float() - 8) * scales.float()).view_as(plain)
    return values + (found - plain)


def _q4_0(values: Tensor) -> tuple[Tensor, Tensor]:
    """Round a matrix to four bits per number and a scale per block.

    Of several scales around the usual one, each block gets that with the least square error.

    Returns:
        Scales, f16[blocks, 1], and codes from 0 to 15, u8[blocks, BLOCK].
    """
    blocks = values.float().reshape(-1, BLOCK)
    largest = blocks.gather(1, blocks.abs().argmax(1, keepdim=True))
    best = torch.full_like(largest, torch.inf)
    codes = torch.zeros_like(blocks, dtype=torch.uint8)
    scales = torch.zeros_like(largest, dtype=torch.float16)
    for divisor in DIVISORS:
        scale = (largest / divisor).half()
        inverse = torch.where(scale == 0, 0, 1 / scale.float())
        code = (blocks * inverse).round_().add_(8).clamp_(0, 15)
        error = torch.square((code - 8) * scale.float() - blocks).sum(1, keepdim=True)
        better = error < best
        best, scales = torch.where(better, error, best), torch.where(better, scale, scales)
        codes = torch.where(better, code.to(torch.uint8), codes)
    return scales, codes
