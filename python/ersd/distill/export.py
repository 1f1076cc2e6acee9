"""A student as a GGUF file that llama.cpp loads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import gguf
import numpy as np
import numpy.typing as npt

from ersd import models
from ersd.distill.corpus import N_TOP
from ersd.distill.student import EPSILON, HEAD_WIDTH, ROPE_BASE, Student, parts
from ersd.distill.train import ROW

__all__ = ["export"]

# What llama.cpp computes fastest at this size on a CPU: it keeps Q4_0 in an order made for its vector instructions.
TYPE = gguf.GGMLQuantizationType.Q4_0
BLOCK = 32


def export(student: Student, target: Path, path: Path, facts: Mapping[str, str | int | float]) -> None:
    """Write a student with the target's own tokenizer, word for word.

    Args:
        student: what learnt.
        target: the file it learnt from.
        path: the file to write; whole or not at all.
        facts: how it was made, kept as metadata ``ersd.distill.*``.
    """
    reader = gguf.GGUFReader(str(parts(target)[0]))
    with models.replacing(path) as unfinished:
        writer = gguf.GGUFWriter(str(unfinished), "llama")
        shape = student.shape
        name = _text(reader, "general.name") or target.stem
        writer.add_name(f"{name} draft")
        writer.add_description(f"A draft for {name}, distilled from it")
        if license_name := _text(reader, "general.license"):
            writer.add_license(license_name)
        writer.add_file_type(gguf.LlamaFileType.MOSTLY_Q4_0)
        writer.add_context_length(8 * ROW)
        writer.add_embedding_length(shape.width)
        writer.add_block_count(shape.layers)
        writer.add_feed_forward_length(shape.feed_forward)
        writer.add_head_count(shape.heads)
        writer.add_head_count_kv(shape.heads_kv)
        writer.add_layer_norm_rms_eps(EPSILON)
        writer.add_rope_dimension_count(HEAD_WIDTH)
        writer.add_rope_freq_base(ROPE_BASE)
        writer.add_vocab_size(shape.n_vocab)
        for key, value in {"from": name, "tokens_kept": N_TOP, **facts}.items():
            if isinstance(value, str):
                writer.add_string(f"ersd.distill.{key}", value)
            elif isinstance(value, int):
                writer.add_uint64(f"ersd.distill.{key}", value)
            else:
                writer.add_float64(f"ersd.distill.{key}", value)
        for key, field in reader.fields.items():
            if key.startswith("tokenizer."):
                kind = field.types[0]
                writer.add_key_value(key, field.contents(), kind, field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None)
        for key, tensor in student.state_dict().items():
            values = tensor.detach().float().cpu().numpy()
            key = key.replace("layers.", "blk.", 1)
            if values.ndim == 1:
                writer.add_tensor(key, values)
            else:
                writer.add_tensor(key, quantize(values), raw_dtype=TYPE)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def quantize(values: npt.NDArray[np.float32]) -> npt.NDArray[np.uint8]:
    """In blocks of 32 with one scale each: of those around the usual one, the largest value over -8, that of the least square error."""
    blocks = values.reshape(-1, BLOCK)
    largest = np.take_along_axis(blocks, np.abs(blocks).argmax(1)[:, None], 1)
    best = np.full((len(blocks), 1), np.inf, np.float32)
    codes, scales = np.zeros(blocks.shape, np.uint8), np.zeros((len(blocks), 1), np.float16)
    for divisor in np.linspace(-8.5, -7, 7):
        scale = (largest / np.float32(divisor)).astype(np.float16)
        inverse = np.divide(1, scale, out=np.zeros(scale.shape, np.float32), where=scale != 0, dtype=np.float32)
        code = np.clip(np.rint(blocks * inverse) + 8, 0, 15)
        error = np.square((code - 8) * scale.astype(np.float32) - blocks).sum(1, keepdims=True)
        better = error < best
        best, scales = np.where(better, error, best), np.where(better, scale, scales)
        codes = np.where(better, code, codes).astype(np.uint8)
    packed = codes[:, : BLOCK // 2] | codes[:, BLOCK // 2 :] << 4
    return np.concatenate([scales.view(np.uint8), packed], 1).reshape(*values.shape[:-1], -1)


def _text(reader: gguf.GGUFReader, key: str) -> str:
    field = reader.get_field(key)
    return str(field.contents()) if field else ""
