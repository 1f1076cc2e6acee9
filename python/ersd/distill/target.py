"""What a student takes from the target: its output matrix, and its states after single tokens."""

from __future__ import annotations

import re
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

from ersd import Generator
from ersd.engine import Teacher

__all__ = ["files_of", "output_matrix", "single_states"]

Matrix = npt.NDArray[np.float32]


def files_of(path: Path) -> list[Path]:
    """Return all files of a model that may be split, named by its first file."""
    found = re.fullmatch(r"(.*)-00001-of-(\d{5})\.gguf", path.name)
    if not found:
        return [path]
    stem, n = found[1], int(found[2])
    return [path.with_name(f"{stem}-{i + 1:05}-of-{n:05}.gguf") for i in range(n)]


def output_matrix(path: Path) -> Matrix:
    """Return the matrix that makes logits of the target's states; f32[n_vocab, n_embd].

    Raises:
        ValueError: the model has no such matrix.
    """
    tensors = {
        tensor.name: tensor
        for file in files_of(path)
        for tensor in gguf.GGUFReader(str(file)).tensors
    }
    # A model without an output matrix uses the embedding for it.
    for name in ("output.weight", "token_embd.weight"):
        if name in tensors and len(tensors[name].shape) == 2:
            data, kind = tensors[name].data, tensors[name].tensor_type
            return np.asarray(gguf.quants.dequantize(data, kind), np.float32)
    raise ValueError(
        f"'{path}' has no output matrix: a draft can be distilled from language models like Llama"
        " only"
    )


def single_states(teacher: Teacher, target: Generator) -> Matrix:
    """Return the target's states after a line break and each token; f32[n_vocab, n_embd].

    Args:
        teacher: the target. Its texts are removed.
        target: the same model, for its vocabulary.
    """
    for slot in range(teacher.n_texts):
        teacher.clear(slot)
    for token in target.tokenize("\n"):
        teacher.decode([0], [token])
    states = []
    n_vocab, n_slots = target.target.n_vocab, teacher.n_texts - 1
    for first in range(0, n_vocab, n_slots):
        tokens = list(range(first, min(first + n_slots, n_vocab)))
        slots = list(range(1, len(tokens) + 1))
        for slot in slots:
            teacher.copy(0, slot)
        teacher.decode(slots, tokens)
        states.append(teacher.states())
    return np.concatenate(states)
