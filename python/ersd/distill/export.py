"""Writes a student as a GGUF file that llama.cpp loads, and reads such a file."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import torch

from ersd.distill.batches import ROW
from ersd.distill.corpus import N_TOP
from ersd.distill.rounding import packed
from ersd.distill.student import EPSILON, HEAD_WIDTH, ROPE_BASE, Dimensions, Student
from ersd.distill.target import files_of
from ersd.files import replacing

__all__ = ["DraftFile", "load", "positions_of"]

Facts = Mapping[str, str | int | float]

CONTEXT = 8 * ROW  # context length that the file states; training is on rows of ROW tokens


class DraftFile:
    """A student as a file, with an exact copy of the target's tokenizer. It takes seconds to make.

    Attributes:
        dimensions: the size of the student.
        tensors: the blocks or numbers of each tensor, and how they are quantised, by its name.
    """

    def __init__(self, student: Student, target: Path) -> None:
        """Quantise the matrices and read the target's metadata. Vectors stay in f32.

        Args:
            student: the student.
            target: the model it learnt from, a GGUF file.
        """
        self._reader = gguf.GGUFReader(str(files_of(target)[0]))
        self._name = _text(self._reader, "general.name") or target.stem
        self.dimensions = student.dimensions
        self.tensors: dict[str, tuple[np.ndarray[Any, Any], gguf.GGMLQuantizationType | None]] = {}
        for key, tensor in student.state_dict().items():
            name, values = key.replace("layers.", "blk.", 1), tensor.float()
            is_vector = values.ndim == 1
            self.tensors[name] = (values.cpu().numpy(), None) if is_vector else packed(name, values)

    def write(self, path: Path, facts: Facts) -> None:
        """Write the file.

        It is written under another name first, so it is either complete or not there.

        Args:
            path: the file.
            facts: how the student was made, kept as metadata ``ersd.distill.*``.
        """
        with replacing(path) as unfinished:
            writer = gguf.GGUFWriter(str(unfinished), "llama")
            writer.add_name(f"{self._name} draft")
            writer.add_description(f"A draft for {self._name}, distilled from it")
            if license_name := _text(self._reader, "general.license"):
                writer.add_license(license_name)
            _add_dimensions(writer, self.dimensions)
            _add_facts(writer, {"from": self._name, "tokens_kept": N_TOP, **facts})
            _copy_tokenizer(writer, self._reader)
            for name, (values, quantisation) in self.tensors.items():
                writer.add_tensor(name, values, raw_dtype=quantisation)
            writer.write_header_to_file()
            writer.write_kv_data_to_file()
            writer.write_tensors_to_file()
            writer.close()


def load(path: Path, dimensions: Dimensions) -> Student:
    """Return the student that a file of `DraftFile` holds, with the rounded weights of the file.

    Args:
        path: the file.
        dimensions: the size that the student must have.

    Raises:
        ValueError: the file is not a draft of this size.
    """
    student = Student(dimensions)
    wanted = {name: parameter.shape for name, parameter in student.state_dict().items()}
    reader = gguf.GGUFReader(str(path))
    weights = {
        tensor.name.replace("blk.", "layers.", 1): torch.from_numpy(
            np.array(gguf.quants.dequantize(tensor.data, tensor.tensor_type), np.float32)
        )
        for tensor in reader.tensors
        if tensor.name.replace("blk.", "layers.", 1) in wanted
    }
    if {name: weight.shape for name, weight in weights.items()} != wanted:
        raise ValueError(
            f"'{path}' is not a draft of `ersd distill` with width {dimensions.width},"
            f" {dimensions.layers} layers and {dimensions.n_vocab} tokens, to begin from"
        )
    student.load_state_dict(weights)
    return student


def positions_of(path: Path) -> int:
    """Return how many positions a draft had learnt from, by its metadata; 0 if that is unknown."""
    field = gguf.GGUFReader(str(path)).get_field("ersd.distill.positions")
    return int(field.contents()) if field else 0


def _text(reader: gguf.GGUFReader, key: str) -> str:
    """Return a text of a model's metadata; empty if it has none."""
    field = reader.get_field(key)
    return str(field.contents()) if field else ""


def _add_dimensions(writer: gguf.GGUFWriter, dimensions: Dimensions) -> None:
    """Add what llama.cpp must know to build the model."""
    writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_0)
    writer.add_context_length(CONTEXT)
    writer.add_embedding_length(dimensions.width)
    writer.add_block_count(dimensions.layers)
    writer.add_feed_forward_length(dimensions.feed_forward)
    writer.add_head_count(dimensions.heads)
    writer.add_head_count_kv(dimensions.heads_kv)
    writer.add_layer_norm_rms_eps(EPSILON)
    writer.add_rope_dimension_count(HEAD_WIDTH)
    writer.add_rope_freq_base(ROPE_BASE)
    writer.add_vocab_size(dimensions.n_vocab)


def _add_facts(writer: gguf.GGUFWriter, facts: Facts) -> None:
    """Add the metadata ``ersd.distill.*``."""
    for key, value in facts.items():
        if isinstance(value, str):
            writer.add_string(f"ersd.distill.{key}", value)
        elif isinstance(value, int):
            writer.add_uint64(f"ersd.distill.{key}", value)
        else:
            writer.add_float64(f"ersd.distill.{key}", value)


def _copy_tokenizer(writer: gguf.GGUFWriter, reader: gguf.GGUFReader) -> None:
    """Copy all metadata of the target's tokenizer."""
    for key, field in reader.fields.items():
        if key.startswith("tokenizer."):
            kind = field.types[0]
            items = field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None
            writer.add_key_value(key, field.contents(), kind, items)
