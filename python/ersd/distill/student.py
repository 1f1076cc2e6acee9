"""The student: a small model of the llama architecture in PyTorch, which becomes the draft.

It begins with matrices made from the target's own.
"""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from ersd.distill.rounding import rounded

__all__ = ["EPSILON", "HEAD_WIDTH", "ROPE_BASE", "Dimensions", "Matrix", "Student", "begin"]

HEAD_WIDTH = 64  # numbers of an attention head
EPSILON = 1e-5  # of the RMS norms
ROPE_BASE = 10000.0
# Eigenvalues are at least this share of the largest one, so that they can be inverted.
MIN_EIGENVALUE = 1e-9

Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Dimensions:
    """The size of a student.

    Attributes:
        n_vocab: tokens of the vocabulary.
        width: numbers of a state.
        layers: number of layers.
    """

    n_vocab: int
    width: int
    layers: int

    def __post_init__(self) -> None:
        """Raise ValueError for a size that cannot be built."""
        if self.width < HEAD_WIDTH or self.width % HEAD_WIDTH:
            raise ValueError(f"width must be a multiple of {HEAD_WIDTH}, got {self.width}")
        if self.layers < 1:
            raise ValueError(f"layers must be at least 1, got {self.layers}")

    @property
    def heads(self) -> int:
        """Number of attention heads."""
        return self.width // HEAD_WIDTH

    @property
    def heads_kv(self) -> int:
        """Number of heads of keys and values: half as many, if the number of heads is even."""
        return self.heads // 2 if self.heads % 2 == 0 else self.heads

    @property
    def feed_forward(self) -> int:
        """Width of the feed-forward network."""
        return 3 * self.width


class Layer(nn.Module):
    """Attention and a feed-forward network. Each has a norm before it, and its output is added.

    A new layer adds nothing, since its last matrices are zero.
    """

    def __init__(self, dimensions: Dimensions) -> None:
        """Make random matrices, except for those whose output is added, which are zero."""
        super().__init__()
        width, kv = dimensions.width, dimensions.heads_kv * HEAD_WIDTH
        self.heads, self.heads_kv = dimensions.heads, dimensions.heads_kv
        self.attn_norm = nn.RMSNorm(width, EPSILON)
        self.attn_q = nn.Linear(width, width, bias=False)
        self.attn_k = nn.Linear(width, kv, bias=False)
        self.attn_v = nn.Linear(width, kv, bias=False)
        self.attn_output = nn.Linear(width, width, bias=False)
        self.ffn_norm = nn.RMSNorm(width, EPSILON)
        self.ffn_gate = nn.Linear(width, dimensions.feed_forward, bias=False)
        self.ffn_up = nn.Linear(width, dimensions.feed_forward, bias=False)
        self.ffn_down = nn.Linear(dimensions.feed_forward, width, bias=False)
        for linear in (self.attn_q, self.attn_k, self.attn_v, self.ffn_gate, self.ffn_up):
            nn.init.normal_(linear.weight, std=width**-0.5)
        nn.init.zeros_(self.attn_output.weight)
        nn.init.zeros_(self.ffn_down.weight)

    def forward(self, x: Tensor, rotation: Tensor) -> Tensor:
        """Compute the layer.

        Args:
            x: states; f32[batch, length, width].
            rotation: of each position; complex64[length, HEAD_WIDTH / 2].

        Returns:
            f32[batch, length, width].
        """
        batch, length, _ = x.shape
        h = self.attn_norm(x)
        q, k, v = (
            linear(h).view(batch, length, n, HEAD_WIDTH).transpose(1, 2)
            for linear, n in (
                (self.attn_q, self.heads),
                (self.attn_k, self.heads_kv),
                (self.attn_v, self.heads_kv),
            )
        )
        repeats = self.heads // self.heads_kv
        k, v = rotate(k, rotation).repeat_interleave(repeats, 1), v.repeat_interleave(repeats, 1)
        attended = functional.scaled_dot_product_attention(
            rotate(q, rotation), k, v, is_causal=True
        )
        x = x + self.attn_output(attended.transpose(1, 2).reshape(batch, length, -1))
        h = self.ffn_norm(x)
        y: Tensor = x + self.ffn_down(functional.silu(self.ffn_gate(h)) * self.ffn_up(h))
        return y


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Rotate neighbouring pairs of numbers by their position (RoPE, arXiv 2104.09864).

    llama.cpp does the same for the llama architecture.
    """
    pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * rotation).flatten(-2).type_as(x)


class Output(nn.Module):
    """The output matrix, which makes logits of states.

    Attributes:
        weight: f32[n_vocab, width].
        is_rounded: whether the matrix is used as it will be rounded in the file. The student then
            learns with the rounding.
    """

    def __init__(self, dimensions: Dimensions) -> None:
        """Make a random matrix."""
        super().__init__()
        self.weight = nn.Parameter(
            torch.randn(dimensions.n_vocab, dimensions.width) * dimensions.width**-0.5
        )
        self.is_rounded = False

    def matrix(self, tokens: Tensor | None = None) -> Tensor:
        """Return the rows of some tokens, or of all, as they are used; f32[tokens, width]."""
        weight = self.weight if tokens is None else self.weight[tokens]
        return rounded(weight) if self.is_rounded else weight

    def forward(self, states: Tensor, tokens: Tensor | None = None) -> Tensor:
        """Return logits of some tokens, or of all; from f32[n, width] to f32[n, tokens]."""
        return states @ self.matrix(tokens).T


class Student(nn.Module):
    """The model: token ids to states, and the output matrix."""

    def __init__(self, dimensions: Dimensions) -> None:
        """Make random weights. `begin` makes better ones."""
        super().__init__()
        self.dimensions = dimensions
        self.token_embd = nn.Embedding(dimensions.n_vocab, dimensions.width)
        self.layers = nn.ModuleList(Layer(dimensions) for _ in range(dimensions.layers))
        self.output_norm = nn.RMSNorm(dimensions.width, EPSILON)
        self.output = Output(dimensions)

    def forward(self, tokens: Tensor) -> Tensor:
        """Return the state after each token; from i64[batch, length] to f32[batch, length, width].

        ``output(states)`` makes logits of them.
        """
        frequency = ROPE_BASE ** -(
            torch.arange(0, HEAD_WIDTH, 2, device=tokens.device) / HEAD_WIDTH
        )
        angle = torch.outer(torch.arange(tokens.shape[1], device=tokens.device), frequency)
        rotation = torch.polar(torch.ones_like(angle), angle)
        x = self.token_embd(tokens)
        for layer in self.layers:
            x = layer(x, rotation)
        return self.output_norm(x)  # type: ignore[no-any-return]


def begin(dimensions: Dimensions, output: Matrix, states: Matrix, seed: int) -> Student:
    """Return a student that predicts what the target predicts after a single token.

    It does so as well as its width allows. Let h be the target's states and W its output matrix.
    The student keeps z = U' S h, where S = (W'W)^1/2 and the columns of U are the first
    eigenvectors of S E[hh'] S. Of all projections of this rank, it has the least mean square error
    of the logits.

    Args:
        dimensions: the size of the student.
        output: W; f32[n_vocab, n_embd].
        states: h after each single token; f32[n_vocab, n_embd].
        seed: seed of the random matrices.
    """
    torch.manual_seed(seed)
    student = Student(dimensions)
    w = torch.from_numpy(output)
    w = w - w.mean(0)  # adding the same to all logits changes nothing
    h = torch.from_numpy(states)
    values, vectors = torch.linalg.eigh((w.T @ w).double())
    values = values.clamp_min(values[-1] * MIN_EIGENVALUE)
    root, inverse = ((vectors * values**power) @ vectors.T for power in (0.5, -0.5))
    _, order = torch.linalg.eigh(root @ (h.T @ h).double() / len(h) @ root)
    kept = order.flip(1)[:, : dimensions.width]
    rank = kept.shape[1]  # less than the width if the target is narrower
    z = (h.double() @ root @ kept).float()
    scale = z.square().mean().sqrt()
    with torch.no_grad():
        student.output.weight[:, :rank] = w @ (inverse @ kept).float() * scale
        student.token_embd.weight[:, :rank] = z / scale
    return student
