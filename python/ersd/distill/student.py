"""The draft to be: a small llama-architecture model in PyTorch, begun from the target's own matrices."""

from __future__ import annotations

import re
from dataclasses import dataclass
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor, nn
from torch.nn import functional

from ersd import Generator, _core
from ersd.distill.rounding import rounded

__all__ = ["Shape", "Student", "begin", "output_matrix", "single_states"]

HEAD_WIDTH = 64
EPSILON = 1e-5
ROPE_BASE = 10000.0

Matrix = npt.NDArray[np.float32]


@dataclass(frozen=True)
class Shape:
    """What the student is made of; the feed-forward layers are three times as wide."""

    n_vocab: int
    width: int
    layers: int

    def __post_init__(self) -> None:
        """Refuse what cannot be built."""
        if self.width < HEAD_WIDTH or self.width % HEAD_WIDTH:
            raise ValueError(f"width must be a multiple of {HEAD_WIDTH}, got {self.width}")
        if self.layers < 1:
            raise ValueError(f"layers must be at least 1, got {self.layers}")

    @property
    def heads(self) -> int:
        """Attention heads."""
        return self.width // HEAD_WIDTH

    @property
    def heads_kv(self) -> int:
        """Heads of keys and values: half as many where they can be shared evenly."""
        return self.heads // 2 if self.heads % 2 == 0 else self.heads

    @property
    def feed_forward(self) -> int:
        """Width of the feed-forward layers."""
        return 3 * self.width


class Layer(nn.Module):
    """Attention and feed-forward, each behind a norm and added to the stream. Begins as nothing: what it adds is zero."""

    def __init__(self, shape: Shape) -> None:
        """Random matrices, but for those that write to the stream."""
        super().__init__()
        width, kv = shape.width, shape.heads_kv * HEAD_WIDTH
        self.heads, self.heads_kv = shape.heads, shape.heads_kv
        self.attn_norm = nn.RMSNorm(width, EPSILON)
        self.attn_q = nn.Linear(width, width, bias=False)
        self.attn_k = nn.Linear(width, kv, bias=False)
        self.attn_v = nn.Linear(width, kv, bias=False)
        self.attn_output = nn.Linear(width, width, bias=False)
        self.ffn_norm = nn.RMSNorm(width, EPSILON)
        self.ffn_gate = nn.Linear(width, shape.feed_forward, bias=False)
        self.ffn_up = nn.Linear(width, shape.feed_forward, bias=False)
        self.ffn_down = nn.Linear(shape.feed_forward, width, bias=False)
        for linear in (self.attn_q, self.attn_k, self.attn_v, self.ffn_gate, self.ffn_up):
            nn.init.normal_(linear.weight, std=width**-0.5)
        nn.init.zeros_(self.attn_output.weight)
        nn.init.zeros_(self.ffn_down.weight)

    def forward(self, x: Tensor, rotation: Tensor) -> Tensor:
        """x: [batch, length, width]; rotation: complex [length, HEAD_WIDTH / 2]."""
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
        return x + self.ffn_down(functional.silu(self.ffn_gate(h)) * self.ffn_up(h))  # type: ignore[no-any-return]


def rotate(x: Tensor, rotation: Tensor) -> Tensor:
    """Turn neighbouring pairs by their positions, as llama.cpp does for this architecture (RoPE, arXiv 2104.09864)."""
    pairs = torch.view_as_complex(x.float().reshape(*x.shape[:-1], -1, 2))
    return torch.view_as_real(pairs * rotation).flatten(-2).type_as(x)


class Output(nn.Module):
    """Makes logits of states; where `is_rounded`, by the matrix as its file will have it, so that the student learns to live with that."""

    def __init__(self, shape: Shape) -> None:
        """A random matrix."""
        super().__init__()
        self.weight = nn.Parameter(torch.randn(shape.n_vocab, shape.width) * shape.width**-0.5)
        self.is_rounded = False

    def matrix(self, tokens: Tensor | None = None) -> Tensor:
        """The rows of all tokens or of some, as they are used; [tokens, width]."""
        weight = self.weight if tokens is None else self.weight[tokens]
        return rounded(weight) if self.is_rounded else weight

    def forward(self, states: Tensor, tokens: Tensor | None = None) -> Tensor:
        """Logits of all tokens or of some; [n, width] to [n, tokens]."""
        return states @ self.matrix(tokens).T


class Student(nn.Module):
    """Token ids to states, and the output matrix that makes logits of them."""

    def __init__(self, shape: Shape) -> None:
        """All random or zero; `begin` makes one that knows something."""
        super().__init__()
        self.shape = shape
        self.token_embd = nn.Embedding(shape.n_vocab, shape.width)
        self.layers = nn.ModuleList(Layer(shape) for _ in range(shape.layers))
        self.output_norm = nn.RMSNorm(shape.width, EPSILON)
        self.output = Output(shape)

    def forward(self, tokens: Tensor) -> Tensor:
        """States of tokens; i64[batch, length] to [batch, length, width]. Logits are ``output(states)``."""
        frequency = ROPE_BASE ** -(
            torch.arange(0, HEAD_WIDTH, 2, device=tokens.device) / HEAD_WIDTH
        )
        angle = torch.outer(torch.arange(tokens.shape[1], device=tokens.device), frequency)
        rotation = torch.polar(torch.ones_like(angle), angle)
        x = self.token_embd(tokens)
        for layer in self.layers:
            x = layer(x, rotation)
        return self.output_norm(x)  # type: ignore[no-any-return]


def output_matrix(path: Path) -> Matrix:
    """What a target makes logits of its states with; f32[n_vocab, n_embd]. Raises ValueError where there is no such matrix."""
    tensors = {
        tensor.name: tensor for part in parts(path) for tensor in gguf.GGUFReader(str(part)).tensors
    }
    for name in (
        "output.weight",
        "token_embd.weight",
    ):  # models without the first use the second for both
        if name in tensors and len(tensors[name].shape) == 2:
            return np.asarray(
                gguf.quants.dequantize(tensors[name].data, tensors[name].tensor_type), np.float32
            )
    raise ValueError(
        f"'{path}' has no output matrix: a draft can be distilled from language models like Llama only"
    )


def parts(path: Path) -> list[Path]:
    """The files of a model, of which the first is named."""
    found = re.fullmatch(r"(.*)-00001-of-(\d{5})\.gguf", path.name)
    return (
        [path.with_name(f"{found[1]}-{i + 1:05}-of-{found[2]}.gguf") for i in range(int(found[2]))]
        if found
        else [path]
    )


def single_states(teacher: _core.Teacher, target: Generator) -> Matrix:
    """The target's state after each token of its vocabulary alone, in a new line; f32[n_vocab, n_embd]."""
    before = target.tokenize("\n")
    for slot in range(teacher.n_texts):
        teacher.clear(slot)
    for token in before:
        teacher.decode([0], [token])
    states = []
    for first in range(0, target.target.n_vocab, teacher.n_texts - 1):
        tokens = list(range(first, min(first + teacher.n_texts - 1, target.target.n_vocab)))
        slots = list(range(1, len(tokens) + 1))
        for slot in slots:
            teacher.copy(0, slot)
        teacher.decode(slots, tokens)
        states.append(teacher.states())
    return np.concatenate(states)


def begin(shape: Shape, output: Matrix, states: Matrix, seed: int) -> Student:
    """A student that says of each token what the target says of it alone, as well as its width allows.

    Of the target's states h and output matrix W, the student keeps z = U' S h, where S = (W'W)^1/2 and the columns of U are the first
    eigenvectors of S E[hh'] S: the projection of this rank that is nearest in the logits, in the mean square.

    Args:
        shape: of the student.
        output: W; f32[n_vocab, n_embd].
        states: h after single tokens; f32[n_vocab, n_embd].
        seed: of the random matrices.
    """
    torch.manual_seed(seed)
    student = Student(shape)
    w = torch.from_numpy(output) - torch.from_numpy(output).mean(
        0
    )  # what all logits have in common says nothing
    h = torch.from_numpy(states)
    values, vectors = torch.linalg.eigh((w.T @ w).double())
    values = values.clamp_min(values[-1] * 1e-9)
    root, inverse = ((vectors * values**power) @ vectors.T for power in (0.5, -0.5))
    _, order = torch.linalg.eigh(root @ (h.T @ h).double() / len(h) @ root)
    kept = order.flip(1)[:, : shape.width]
    rank = kept.shape[1]  # less than the width for a target that is narrower still
    z = (h.double() @ root @ kept).float()
    scale = z.square().mean().sqrt()
    with torch.no_grad():
        student.output.weight[:, :rank] = w @ (inverse @ kept).float() * scale
        student.token_embd.weight[:, :rank] = z / scale
    return student
