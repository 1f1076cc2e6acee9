"""Writes a tiny random model of the architecture "bert", which reads whole texts for embeddings."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

import tiny

WORDS = ["the", "a", "of", "in", "rain", "hello", "world", "different", "prompt", "##s", "##ing"]


def vocabulary() -> list[str]:
    """Returns the texts of the tokens, special ones first."""
    tokens = ["[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"]
    tokens += [word[2:] if word.startswith("##") else "▁" + word for word in WORDS]
    tokens += [mark + chr(c) for c in range(ord("!"), ord("~")) for mark in ("", "▁")]
    return list(dict.fromkeys(tokens))


def _add_tokenizer(writer: gguf.GGUFWriter, tokens: list[str]) -> None:
    kinds = [gguf.TokenType.CONTROL] * 5 + [gguf.TokenType.NORMAL] * (len(tokens) - 5)
    writer.add_tokenizer_model("bert")
    writer.add_tokenizer_pre("default")
    writer.add_token_list(tokens)
    writer.add_token_types([int(kind) for kind in kinds])
    writer.add_token_type_count(2)
    for name, token in (("unknown", 1), ("cls", 2), ("seperator", 3), ("padding", 0), ("mask", 4)):
        writer.add_uint32(f"tokenizer.ggml.{name}_token_id", token)


def write_bert(
    path: Path, *, seed: int = 0, pooling: gguf.PoolingType | None = None, n_classes: int = 0
) -> Path:
    """Writes a model of 2 layers and about 300 tokens.

    Args:
        path: the file.
        seed: of the weights.
        pooling: the model's own way to pool.
        n_classes: the classes of the head that ranks texts; 0 for no head.
    """
    tokens = vocabulary()
    writer, rng = gguf.GGUFWriter(str(path), "bert"), np.random.default_rng(seed)
    writer.add_context_length(128)
    writer.add_embedding_length(tiny.WIDTH)
    writer.add_block_count(2)
    writer.add_feed_forward_length(tiny.FEED_FORWARD)
    writer.add_head_count(tiny.HEADS)
    writer.add_layer_norm_eps(1e-5)
    writer.add_causal_attention(False)
    if pooling is not None:
        writer.add_pooling_type(pooling)
    _add_tokenizer(writer, tokens)

    def tensor(name: str, *shape: int) -> None:
        writer.add_tensor(name, (rng.normal(size=shape) * shape[-1] ** -0.5).astype(np.float32))

    def norm(name: str) -> None:
        writer.add_tensor(f"{name}.weight", np.ones(tiny.WIDTH, np.float32))
        writer.add_tensor(f"{name}.bias", np.zeros(tiny.WIDTH, np.float32))

    tensor("token_embd.weight", len(tokens), tiny.WIDTH)
    tensor("token_types.weight", 2, tiny.WIDTH)
    tensor("position_embd.weight", 128, tiny.WIDTH)
    norm("token_embd_norm")
    for i in range(2):
        for name in ("attn_q", "attn_k", "attn_v", "attn_output"):
            tensor(f"blk.{i}.{name}.weight", tiny.WIDTH, tiny.WIDTH)
            tensor(f"blk.{i}.{name}.bias", tiny.WIDTH)
        tensor(f"blk.{i}.ffn_up.weight", tiny.FEED_FORWARD, tiny.WIDTH)
        tensor(f"blk.{i}.ffn_up.bias", tiny.FEED_FORWARD)
        tensor(f"blk.{i}.ffn_down.weight", tiny.WIDTH, tiny.FEED_FORWARD)
        tensor(f"blk.{i}.ffn_down.bias", tiny.WIDTH)
        norm(f"blk.{i}.attn_output_norm")
        norm(f"blk.{i}.layer_output_norm")
    if n_classes > 0:
        writer.add_classifier_output_labels([f"class {i}" for i in range(n_classes)])
        for name, rows in (("cls", tiny.WIDTH), ("cls.output", n_classes)):
            tensor(f"{name}.weight", rows, tiny.WIDTH)
            tensor(f"{name}.bias", rows)
    tiny._finish(writer)
    return path
