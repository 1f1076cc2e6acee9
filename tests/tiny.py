"""Writes tiny random GGUF models and prunes real ones, with nothing but the gguf package."""

from __future__ import annotations

from itertools import chain, islice, product
from pathlib import Path

import gguf
import numpy as np

WIDTH, HEADS, FEED_FORWARD = 64, 4, 128
WORDS = [
    "▁the",
    "▁a",
    "▁and",
    "▁of",
    "▁to",
    "▁in",
    "ing",
    "er",
    "on",
    "an",
    "▁",
    "é",
    "日",
    "本",
    "語",
    "🙂",
]


def vocabulary(
    n_words: int = 256, swap: bool = False
) -> tuple[list[bytes], list[float], list[int]]:
    """Returns the texts, scores and kinds of the tokens of a SentencePiece vocabulary.

    These are <unk>, <s>, </s>, all bytes, WORDS and made-up words; swap exchanges two words.
    """
    tokens = [b"<unk>", b"<s>", b"</s>"] + [f"<0x{i:02X}>".encode() for i in range(256)]
    kinds = [gguf.TokenType.UNKNOWN, gguf.TokenType.CONTROL, gguf.TokenType.CONTROL] + [
        gguf.TokenType.BYTE
    ] * 256
    letters = "etaoinshrdlu"
    made_up = ("".join(word) for n in (2, 3) for word in product(["▁", *letters], *[letters] * n))
    words = list(islice(dict.fromkeys(chain(WORDS, letters, made_up)), n_words))
    tokens += [word.encode() for word in words]
    kinds += [gguf.TokenType.NORMAL] * len(words)
    if swap:
        tokens[300], tokens[301] = tokens[301], tokens[300]
    scores = [0.0] * 259 + [-float(i) for i in range(len(words))]
    return tokens, scores, [int(kind) for kind in kinds]


def write_llama(
    path: Path,
    *,
    seed: int = 0,
    noise: float = 0.0,
    n_layers: int = 2,
    n_words: int = 256,
    swap: bool = False,
    ends: bool = False,
    chat_template: str | list[dict[str, str]] = "",
    n_files: int = 1,
    fim: tuple[int, int, int] | None = None,
    kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.Q8_0,
) -> Path:
    """Writes a model of the architecture "llama" with random weights.

    Args:
        path: the file; with n_files > 1, the name from which those of the files are made.
        seed: of the weights.
        noise: how much the weights are disturbed; the result drafts for the undisturbed one.
        n_layers: layers of the model.
        n_words: tokens of the vocabulary beside the bytes and the special tokens.
        swap: exchanges two words of the vocabulary.
        ends: lets the end token come up; otherwise it is too improbable.
        chat_template: the template, or several with their names.
        n_files: over how many files the tensors are spread.
        fim: the tokens before the beginning, the end and the middle of a text to be filled in.
        kind: the type of the matrices.
    """
    tokens, scores, kinds = vocabulary(n_words, swap)
    rng, disturb = np.random.default_rng(seed), np.random.default_rng(seed + 1000)
    tensors_a_file = -(-(9 * n_layers + 3) // n_files) if n_files > 1 else 0  # 0: one file
    writer = gguf.GGUFWriter(str(path), "llama", split_max_tensors=tensors_a_file)
    _add_llama_sizes(writer, n_layers)
    _add_tokenizer(writer, tokens, scores, kinds)
    if chat_template:
        writer.add_chat_template(chat_template)
    if fim:
        _add_fim_tokens(writer, *fim)

    def matrix(name: str, rows: int, columns: int, scale: float) -> None:
        weights = rng.normal(size=(rows, columns)) * scale
        weights = (weights + disturb.normal(size=weights.shape) * scale * noise).astype(np.float32)
        if name == "output.weight" and not ends:
            weights[2] = 0
        writer.add_tensor(name, gguf.quants.quantize(weights, kind), raw_dtype=kind)

    matrix("token_embd.weight", len(tokens), WIDTH, 1.0)
    for i in range(n_layers):
        writer.add_tensor(f"blk.{i}.attn_norm.weight", np.ones(WIDTH, np.float32))
        for part in ("q", "k", "v", "output"):
            matrix(f"blk.{i}.attn_{part}.weight", WIDTH, WIDTH, WIDTH**-0.5)
        writer.add_tensor(f"blk.{i}.ffn_norm.weight", np.ones(WIDTH, np.float32))
        matrix(f"blk.{i}.ffn_gate.weight", FEED_FORWARD, WIDTH, WIDTH**-0.5)
        matrix(f"blk.{i}.ffn_up.weight", FEED_FORWARD, WIDTH, WIDTH**-0.5)
        matrix(f"blk.{i}.ffn_down.weight", WIDTH, FEED_FORWARD, FEED_FORWARD**-0.5)
    writer.add_tensor("output_norm.weight", np.ones(WIDTH, np.float32))
    matrix("output.weight", len(tokens), WIDTH, 0.35)
    _finish(writer)
    return path


def write_lora(
    path: Path, *, seed: int = 0, rank: int = 4, n_layers: int = 2, scale: float = 0.3
) -> Path:
    """Writes a LoRA adapter with random matrices for the attention of write_llama's models."""
    rng = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(str(path), "llama")
    writer.add_type(gguf.GGUFType.ADAPTER)
    writer.add_string(gguf.Keys.Adapter.TYPE, "lora")
    writer.add_float32(gguf.Keys.Adapter.LORA_ALPHA, 8.0)
    for i in range(n_layers):
        for part in ("q", "v", "output"):
            name = f"blk.{i}.attn_{part}.weight"
            writer.add_tensor(
                f"{name}.lora_a", (rng.normal(size=(rank, WIDTH)) * scale).astype(np.float32)
            )
            writer.add_tensor(
                f"{name}.lora_b", (rng.normal(size=(WIDTH, rank)) * scale).astype(np.float32)
            )
    _finish(writer)
    return path


def write_mamba(path: Path, *, seed: int = 0) -> Path:
    """Writes a recurrent model (Mamba) with random weights, which cannot hold a tree."""
    tokens, scores, kinds = vocabulary()
    inner, state, rank, kernel = 2 * WIDTH, 16, 4, 4
    rng = np.random.default_rng(seed)
    writer = gguf.GGUFWriter(str(path), "mamba")
    writer.add_context_length(4096)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(1)
    writer.add_feed_forward_length(0)
    writer.add_head_count(0)
    writer.add_ssm_conv_kernel(kernel)
    writer.add_ssm_inner_size(inner)
    writer.add_ssm_state_size(state)
    writer.add_ssm_time_step_rank(rank)
    writer.add_layer_norm_rms_eps(1e-5)
    _add_tokenizer(writer, tokens, scores, kinds)
    shapes = {
        "token_embd.weight": (len(tokens), WIDTH),
        "output_norm.weight": (WIDTH,),
        "output.weight": (len(tokens), WIDTH),
        "blk.0.attn_norm.weight": (WIDTH,),
        "blk.0.ssm_in.weight": (2 * inner, WIDTH),
        "blk.0.ssm_conv1d.weight": (inner, kernel),
        "blk.0.ssm_conv1d.bias": (inner,),
        "blk.0.ssm_x.weight": (rank + 2 * state, inner),
        "blk.0.ssm_dt.weight": (inner, rank),
        "blk.0.ssm_dt.bias": (inner,),
        "blk.0.ssm_a": (inner, state),
        "blk.0.ssm_d": (inner,),
        "blk.0.ssm_out.weight": (WIDTH, inner),
    }
    for name, shape in shapes.items():
        values = rng.normal(size=shape) * (0.1 if len(shape) > 1 else 1)
        writer.add_tensor(
            name, (-np.abs(values) if name.endswith("ssm_a") else values).astype(np.float32)
        )
    _finish(writer)
    return path


def prune_layers(
    source: Path, path: Path, removed: range, *, shuffled: bool = False, n_idle: int = 0
) -> Path:
    """Writes a copy of a model without some of its layers, which is a bad draft for it.

    Args:
        source: the model.
        path: the file of the copy.
        removed: the layers that are left out.
        shuffled: shuffles the rows of all matrices, so that the copy knows nothing of the text.
        n_idle: how many copies of the last layer to append that add nothing to the logits: a
            target that costs more and agrees with the model as it was.
    """
    rng = np.random.default_rng(0)
    reader = gguf.GGUFReader(str(source))
    arch = reader.fields["general.architecture"].contents()
    writer = gguf.GGUFWriter(str(path), arch)
    for name, field in reader.fields.items():
        if name.startswith("GGUF.") or name in ("general.architecture", f"{arch}.block_count"):
            continue
        kind = field.types[0]
        writer.add_key_value(
            name,
            field.contents(),
            kind,
            field.types[-1] if kind == gguf.GGUFValueType.ARRAY else None,
        )
    kept = [i for i in range(reader.fields[f"{arch}.block_count"].contents()) if i not in removed]
    writer.add_block_count(len(kept) + n_idle)
    for tensor in reader.tensors:
        name, data = tensor.name, tensor.data
        if name.startswith(f"blk.{kept[-1]}."):
            rest = name.split(".", 2)[2]
            idle = (
                np.zeros_like(data) if rest in ("attn_output.weight", "ffn_down.weight") else data
            )
            for i in range(n_idle):
                writer.add_tensor(f"blk.{len(kept) + i}.{rest}", idle, raw_dtype=tensor.tensor_type)
        if name.startswith("blk."):
            _, layer, rest = name.split(".", 2)
            if int(layer) in removed:
                continue
            name = f"blk.{kept.index(int(layer))}.{rest}"
        if shuffled and len(tensor.shape) > 1:
            data = rng.permutation(data)
        writer.add_tensor(name, data, raw_dtype=tensor.tensor_type)
    _finish(writer)
    return path


def _add_llama_sizes(writer: gguf.GGUFWriter, n_layers: int) -> None:
    """Writes the sizes that the architecture "llama" needs."""
    writer.add_context_length(4096)
    writer.add_embedding_length(WIDTH)
    writer.add_block_count(n_layers)
    writer.add_feed_forward_length(FEED_FORWARD)
    writer.add_head_count(HEADS)
    writer.add_head_count_kv(HEADS)
    writer.add_layer_norm_rms_eps(1e-5)
    writer.add_rope_dimension_count(WIDTH // HEADS)


def _add_fim_tokens(writer: gguf.GGUFWriter, prefix: int, suffix: int, middle: int) -> None:
    """Writes the tokens with which a model is asked to fill in the middle of a text."""
    for part, token in (("pre", prefix), ("suf", suffix), ("mid", middle)):
        writer.add_uint32(f"tokenizer.ggml.fim_{part}_token_id", token)


def _add_tokenizer(
    writer: gguf.GGUFWriter, tokens: list[bytes], scores: list[float], kinds: list[int]
) -> None:
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)


def _finish(writer: gguf.GGUFWriter) -> None:
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
