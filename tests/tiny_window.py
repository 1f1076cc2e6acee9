"""Writes a tiny random GGUF model in which every second layer sees a sliding window."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

import tiny

WINDOW = 32


def write_gemma(path: Path, *, seed: int = 0) -> Path:
    """Writes a model of the architecture "gemma2" with random weights, 2 layers and WINDOW."""
    tokens, scores, kinds = tiny.vocabulary()
    rng = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(str(path), "gemma2")
    tiny._add_llama_sizes(writer, 2)
    writer.add_key_length(tiny.WIDTH // tiny.HEADS)
    writer.add_value_length(tiny.WIDTH // tiny.HEADS)
    writer.add_sliding_window(WINDOW)
    tiny._add_tokenizer(writer, tokens, scores, kinds)

    def matrix(name: str, rows: int, columns: int) -> None:
        kind = gguf.GGMLQuantizationType.Q8_0
        weights = (rng.normal(size=(rows, columns)) * columns**-0.5).astype(np.float32)
        writer.add_tensor(name, gguf.quants.quantize(weights, kind), raw_dtype=kind)

    matrix("token_embd.weight", len(tokens), tiny.WIDTH)
    for i in range(2):
        for name in ("attn_norm", "post_attention_norm", "ffn_norm", "post_ffw_norm"):
            writer.add_tensor(f"blk.{i}.{name}.weight", np.ones(tiny.WIDTH, np.float32))
        for name in ("q", "k", "v", "output"):
            matrix(f"blk.{i}.attn_{name}.weight", tiny.WIDTH, tiny.WIDTH)
        matrix(f"blk.{i}.ffn_gate.weight", tiny.FEED_FORWARD, tiny.WIDTH)
        matrix(f"blk.{i}.ffn_up.weight", tiny.FEED_FORWARD, tiny.WIDTH)
        matrix(f"blk.{i}.ffn_down.weight", tiny.WIDTH, tiny.FEED_FORWARD)
    writer.add_tensor("output_norm.weight", np.ones(tiny.WIDTH, np.float32))
    tiny._finish(writer)
    return path
