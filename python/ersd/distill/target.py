"""What a student takes from the target: its matrices, and its states after single tokens."""

from __future__ import annotations

import re
from collections.abc import Sequence
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

from ersd import Generator
from ersd.engine import Teacher

__all__ = ["all_states", "files_of", "matrices", "single_states"]

MIN_SCALE = 1e-9  # so that an embedding of zeros can be divided by its scale
RIDGE = 1e-3  # keeps the linear map small where few states are known

Matrix = npt.NDArray[np.float32]


def files_of(path: Path) -> list[Path]:
    """Return all files of a model that may be split, named by its first file."""
    found = re.fullmatch(r"(.*)-00001-of-(\d{5})\.gguf", path.name)
    if not found:
        return [path]
    stem, n = found[1], int(found[2])
    return [path.with_name(f"{stem}-{i + 1:05}-of-{n:05}.gguf") for i in range(n)]


def matrices(path: Path) -> tuple[Matrix, Matrix]:
    """Return the target's embedding, and the matrix that makes logits of its states.

    Returns:
        Both f32[n_vocab, n_embd].

    Raises:
        ValueError: the model has no such matrices.
    """
    tensors = {
        tensor.name: tensor
        for file in files_of(path)
        for tensor in gguf.GGUFReader(str(file)).tensors
    }
    embedding = tensors.get("token_embd.weight")
    # A model without an output matrix uses the embedding for it.
    output = tensors.get("output.weight", embedding)
    if embedding is None or output is None or not len(embedding.shape) == len(output.shape) == 2:
        raise ValueError(
            f"'{path}' has no embedding and output matrix: a draft can be distilled from language"
            " models like Llama only"
        )
    first = _dequantised(embedding)
    return first, first if output is embedding else _dequantised(output)


def _dequantised(tensor: gguf.ReaderTensor) -> Matrix:
    return np.asarray(gguf.quants.dequantize(tensor.data, tensor.tensor_type), np.float32)


def single_states(teacher: Teacher, target: Generator, tokens: Sequence[int]) -> Matrix:
    """Return the target's states after a line break and each of some tokens; f32[n, n_embd].

    Args:
        teacher: the target. Its texts are removed.
        target: the same model, for its vocabulary.
        tokens: the tokens.
    """
    for slot in range(teacher.n_texts):
        teacher.clear(slot)
    for token in target.tokenize("\n"):
        teacher.decode([0], [token])
    states = []
    n_slots = teacher.n_texts - 1
    for first in range(0, len(tokens), n_slots):
        part = [int(token) for token in tokens[first : first + n_slots]]
        slots = list(range(1, len(part) + 1))
        for slot in slots:
            teacher.copy(0, slot)
        teacher.decode(slots, part)
        states.append(teacher.states())
    return np.concatenate(states)


def all_states(embedding: Matrix, tokens: Sequence[int], states: Matrix) -> Matrix:
    """Return the states after all single tokens, of which some are known.

    The others are what a linear map of the tokens' embeddings predicts. The map has the least
    square error for the known ones.

    Args:
        embedding: f32[n_vocab, n_embd].
        tokens: the tokens whose states are known.
        states: their states; f32[n, n_embd].

    Returns:
        f32[n_vocab, n_embd].
    """
    scale = np.sqrt(np.square(embedding).mean(1, keepdims=True)) + MIN_SCALE
    inputs = np.concatenate([embedding / scale, np.ones_like(scale)], 1)
    known = inputs[tokens]
    square = known.T @ known
    square += np.eye(len(square), dtype=np.float32) * RIDGE * len(tokens)
    found: Matrix = inputs @ np.linalg.solve(square, known.T @ states)
    found[tokens] = states
    return found
