"""Writes tiny random GGUF models of further kinds: byte-pair encoding, and experts."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

import tiny
from tiny import FEED_FORWARD, WIDTH

EXPERTS = 4


def write_bpe(path: Path, *, seed: int = 0) -> Path:
    """Writes a model of the architecture "llama" whose tokens are bytes and pairs of letters."""
    printable = [*range(33, 127), *range(161, 173), *range(174, 256)]
    others = [byte for byte in range(256) if byte not in printable]
    letters = [chr(byte) for byte in printable] + [chr(256 + i) for i in range(len(others))]
    pairs = [a + b for a in "etaoin" for b in "etaoin"]
    tokens = [*letters, *pairs, "<|end|>"]
    writer = _begin(path)
    writer.add_tokenizer_model("gpt2")
    writer.add_tokenizer_pre("smollm")
    writer.add_token_list(tokens)
    writer.add_token_types([1] * (len(tokens) - 1) + [3])
    writer.add_token_merges([f"{pair[0]} {pair[1]}" for pair in pairs])
    writer.add_eos_token_id(len(tokens) - 1)
    return _with_tensors(writer, path, len(tokens), seed, 0)


def write_experts(path: Path, *, seed: int = 0) -> Path:
    """Writes a model of the architecture "llama" with 4 experts, 2 of which are used."""
    tokens, scores, kinds = tiny.vocabulary(32)
    writer = _begin(path)
    writer.add_expert_count(EXPERTS)
    writer.add_expert_used_count(2)
    tiny._add_tokenizer(writer, tokens, scores, kinds)
    return _with_tensors(writer, path, len(tokens), seed, EXPERTS)


def _begin(path: Path) -> gguf.GGUFWriter:
    writer = gguf.GGUFWriter(str(path), "llama")
    tiny._add_llama_sizes(writer, 1)
    return writer


def _with_tensors(
    writer: gguf.GGUFWriter, path: Path, n_tokens: int, seed: int, n_experts: int
) -> Path:
    """Adds random tensors of one layer and writes the file."""
    rng = np.random.default_rng(seed)

    def add(name: str, *shape: int) -> None:
        values = rng.normal(size=shape) * shape[-1] ** -0.5 if len(shape) > 1 else np.ones(shape)
        writer.add_tensor(f"{name}.weight", values.astype(np.float32))

    add("token_embd", n_tokens, WIDTH)
    for name in ("output_norm", "blk.0.attn_norm", "blk.0.ffn_norm"):
        add(name, WIDTH)
    for part in ("q", "k", "v", "output"):
        add(f"blk.0.attn_{part}", WIDTH, WIDTH)
    kind, experts = ("_exps", (n_experts,)) if n_experts else ("", ())
    if n_experts:
        add("blk.0.ffn_gate_inp", n_experts, WIDTH)
    add(f"blk.0.ffn_gate{kind}", *experts, FEED_FORWARD, WIDTH)
    add(f"blk.0.ffn_up{kind}", *experts, FEED_FORWARD, WIDTH)
    add(f"blk.0.ffn_down{kind}", *experts, WIDTH, FEED_FORWARD)
    tiny._finish(writer)
    return path
