"""A student as a GGUF file that llama.cpp loads."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path

import gguf

from ersd import models
from ersd.distill.corpus import N_TOP
from ersd.distill.rounding import packed
from ersd.distill.student import EPSILON, HEAD_WIDTH, ROPE_BASE, Student, parts
from ersd.distill.train import ROW

__all__ = ["export"]


def export(
    student: Student, target: Path, path: Path, facts: Mapping[str, str | int | float]
) -> None:
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
                writer.add_key_value(
                    key,
                    field.contents(),
                    kind,
                    field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None,
                )
        for key, tensor in student.state_dict().items():
            key = key.replace("layers.", "blk.", 1)
            if tensor.ndim == 1:
                writer.add_tensor(key, tensor.float().cpu().numpy())
            else:
                blocks, quantisation = packed(key, tensor.float())
                writer.add_tensor(key, blocks, raw_dtype=quantisation)
        writer.write_header_to_file()
        writer.write_kv_data_to_file()
        writer.write_tensors_to_file()
        writer.close()


def _text(reader: gguf.GGUFReader, key: str) -> str:
    field = reader.get_field(key)
    return str(field.contents()) if field else ""
