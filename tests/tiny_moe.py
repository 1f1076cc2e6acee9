"""Writes a tiny random GGUF model with a mixture of experts."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

import tiny


def write_moe(path: Path, *, seed: int = 0, noise: float = 0.0, n_experts: int = 8) -> Path:
    """Writes a model of the architecture "llama" with 2 layers, in which 2 experts work per token.

    noise disturbs the output matrix; the result drafts for the undisturbed one.
    """
    tokens, scores, kinds = tiny.vocabulary()
    rng, disturb = np.random.default_rng(seed), np.random.default_rng(seed + 1000)
    writer = gguf.GGUFWriter(str(path), "llama")
    tiny._add_llama_sizes(writer, 2)
    writer.add_expert_count(n_experts)
    writer.add_expert_used_count(2)
    tiny._add_tokenizer(writer, tokens, scores, kinds)

    def matrix(name: str, *shape: int) -> None:
        kind = gguf.GGMLQuantizationType.Q8_0
        weights = rng.normal(size=shape) * shape[-1] ** -0.5
        if name == "output.weight":
            weights += disturb.normal(size=shape) * shape[-1] ** -0.5 * noise
            weights[2] = 0  # the end of the text is improbable
        data = gguf.quants.quantize(weights.astype(np.float32), kind)
        writer.add_tensor(name, data, raw_dtype=kind)

    matrix("token_embd.weight", len(tokens), tiny.WIDTH)
    for i in range(2):
        for norm in ("attn_norm", "ffn_norm"):
            writer.add_tensor(f"blk.{i}.{norm}.weight", np.ones(tiny.WIDTH, np.float32))
        for part in ("q", "k", "v", "output"):
            matrix(f"blk.{i}.attn_{part}.weight", tiny.WIDTH, tiny.WIDTH)
        router = rng.normal(size=(n_experts, tiny.WIDTH)).astype(np.float32)
        writer.add_tensor(f"blk.{i}.ffn_gate_inp.weight", router)
        matrix(f"blk.{i}.ffn_gate_exps.weight", n_experts, tiny.FEED_FORWARD, tiny.WIDTH)
        matrix(f"blk.{i}.ffn_up_exps.weight", n_experts, tiny.FEED_FORWARD, tiny.WIDTH)
        matrix(f"blk.{i}.ffn_down_exps.weight", n_experts, tiny.WIDTH, tiny.FEED_FORWARD)
    writer.add_tensor("output_norm.weight", np.ones(tiny.WIDTH, np.float32))
    matrix("output.weight", len(tokens), tiny.WIDTH)
    tiny._finish(writer)
    return path
