"""Writes tiny random GGUF models of recurrent and hybrid architectures."""

from __future__ import annotations

from pathlib import Path

import gguf
import numpy as np

from tiny import vocabulary

Shapes = dict[str, tuple[int, ...]]

N_LAYERS, WIDTH, HEADS, KV_HEADS, HEAD, FEED_FORWARD, STATE = 4, 64, 4, 2, 16, 128, 16
# Parts of the names of tensors that are no matrices for llama.cpp; they stay in F32.
PLAIN = ["norm", "conv1d", "conv.weight", "ssm_a", "ssm_d.", ".bias", "lerp", "gate_inp"]
PLAIN += ["time_mix_w0", "time_mix_a0", "time_mix_v0", "k_k", "k_a", "r_k"]
# The heads of keys and values, of each layer where layers differ; 0: no attention.
KV_HEADS_OF: dict[str, int | list[int]] = {
    "mamba": 0,
    "mamba2": 0,
    "rwkv7": 0,
    "lfm2": [0, KV_HEADS, 0, KV_HEADS],
    "qwen35": KV_HEADS,
    "qwen3next": KV_HEADS,
    "granitehybrid": [0, KV_HEADS, 0, KV_HEADS],
    "falcon-h1": KV_HEADS,
    "nemotron_h": [0, KV_HEADS, 0, 0],
}
ARCHS = list(KV_HEADS_OF)


def write_hybrid(
    path: Path,
    arch: str,
    *,
    seed: int = 0,
    noise: float = 0.0,
    kind: gguf.GGMLQuantizationType = gguf.GGMLQuantizationType.Q8_0,
) -> Path:
    """Writes a model with random weights.

    Args:
        path: the file.
        arch: llama.cpp's name of the architecture, one of ARCHS.
        seed: of the weights.
        noise: how much the output matrix is disturbed; the result drafts for the undisturbed one.
        kind: the type of the matrices whose rows it divides.
    """
    tokens, scores, kinds = vocabulary()
    rng, disturb = np.random.default_rng(seed), np.random.default_rng(seed + 1000)
    writer = gguf.GGUFWriter(str(path), arch)
    writer.add_tokenizer_model("llama")
    writer.add_token_list(tokens)
    writer.add_token_scores(scores)
    writer.add_token_types(kinds)
    writer.add_bos_token_id(1)
    writer.add_eos_token_id(2)
    shapes = {f"{name}.weight": (len(tokens), WIDTH) for name in ("token_embd", "output")}
    shapes |= _layers(arch)
    _add_sizes(writer, arch, shapes)
    for name, shape in shapes.items():
        values = _values(name, shape, rng)
        if name == "output.weight":
            values += disturb.normal(size=shape) * noise * shape[-1] ** -0.5
            values[2] = 0  # the end of the text is improbable
        values = values.astype(np.float32)
        is_plain = any(part in name for part in PLAIN) or len(shape) == 1 or shape[-1] % 32 > 0
        if is_plain:
            writer.add_tensor(name, values)
        else:
            writer.add_tensor(name, gguf.quants.quantize(values, kind), raw_dtype=kind)
    writer.write_header_to_file()
    writer.write_kv_data_to_file()
    writer.write_tensors_to_file()
    writer.close()
    return path


def _values(
    name: str, shape: tuple[int, ...], rng: np.random.Generator
) -> np.ndarray[tuple[int, ...], np.dtype[np.float64]]:
    """Returns random weights of a size that keeps the activations of the model in bounds."""
    is_plain = any(part in name for part in PLAIN) or len(shape) == 1
    scale = 1.0 if name == "token_embd.weight" else 0.3 if is_plain else shape[-1] ** -0.5
    values = rng.normal(size=shape) * scale
    if name.endswith("ssm_a"):
        return -np.exp(values)
    if ("norm" in name and ".bias" not in name) or name.endswith(("ssm_d", "ln.weight")):
        return 1 + values
    return values


def _layers(arch: str) -> Shapes:
    """Returns the shapes of all tensors but the embedding and the output matrix."""
    shapes: Shapes = {
        "token_embd_norm.weight" if arch == "lfm2" else "output_norm.weight": (WIDTH,)
    }
    if arch == "rwkv7":
        shapes |= dict.fromkeys(
            ("output_norm.bias", "token_embd_norm.weight", "token_embd_norm.bias"), (WIDTH,)
        )
    for i in range(N_LAYERS):
        layer = _layer(arch, i)
        shapes |= {f"blk.{i}.{name}": shape for name, shape in layer.items()}
    return shapes


def _layer(arch: str, i: int) -> Shapes:
    """Returns the shapes of the tensors of one layer."""
    if arch == "rwkv7":
        return _rwkv7()
    norm: Shapes = {"attn_norm.weight": (WIDTH,)}
    attends = i % 2 == 1
    if arch == "mamba":
        return norm | _mamba1()
    if arch == "mamba2":
        return norm | _mamba2()
    if arch == "lfm2":
        conv: Shapes = {
            "shortconv.conv.weight": (WIDTH, 3),
            "shortconv.in_proj.weight": (3 * WIDTH, WIDTH),
            "shortconv.out_proj.weight": (WIDTH, WIDTH),
        }
        return norm | (_attention(qk_norm=True) if attends else conv) | _feed_forward()
    if arch in ("qwen35", "qwen3next"):
        is_next = arch == "qwen3next"
        mixer = _attention(gated=True, qk_norm=True) if attends else _delta_net(fused=is_next)
        after: Shapes = {"post_attention_norm.weight": (WIDTH,)}
        return norm | mixer | after | (_experts() if is_next else _feed_forward(norm=""))
    if arch == "granitehybrid":
        return norm | (_attention() if attends else _mamba2()) | _feed_forward()
    if arch == "falcon-h1":
        return norm | _attention() | _mamba2() | _feed_forward(norm="ffn_norm")
    kinds = [_mamba2(), _attention(), _mamba2(), _feed_forward(gate=False, norm="")]
    return norm | kinds[i]  # nemotron_h


def _attention(gated: bool = False, qk_norm: bool = False) -> Shapes:
    shapes: Shapes = {
        "attn_q.weight": (HEADS * HEAD * (2 if gated else 1), WIDTH),
        "attn_k.weight": (KV_HEADS * HEAD, WIDTH),
        "attn_v.weight": (KV_HEADS * HEAD, WIDTH),
        "attn_output.weight": (WIDTH, HEADS * HEAD),
    }
    norms: Shapes = {"attn_q_norm.weight": (HEAD,), "attn_k_norm.weight": (HEAD,)}
    return shapes | (norms if qk_norm else {})


def _mamba1(rank: int = 32) -> Shapes:
    inner = 2 * WIDTH
    return {
        "ssm_in.weight": (2 * inner, WIDTH),
        "ssm_conv1d.weight": (inner, 4),
        "ssm_conv1d.bias": (inner,),
        "ssm_x.weight": (rank + 2 * STATE, inner),
        "ssm_dt.weight": (inner, rank),
        "ssm_dt.bias": (inner,),
        "ssm_a": (inner, STATE),
        "ssm_d": (inner,),
        "ssm_out.weight": (WIDTH, inner),
    }


def _mamba2(groups: int = 2, heads: int = 4) -> Shapes:
    inner = 2 * WIDTH
    conv = inner + 2 * groups * STATE
    return {
        "ssm_in.weight": (inner + conv + heads, WIDTH),
        "ssm_conv1d.weight": (conv, 4),
        "ssm_conv1d.bias": (conv,),
        "ssm_dt.bias": (heads,),
        "ssm_a": (heads, 1),
        "ssm_d": (heads, 1),
        "ssm_norm.weight": (groups, inner // groups),
        "ssm_out.weight": (WIDTH, inner),
    }


def _delta_net(fused: bool, k_heads: int = 2, v_heads: int = 4) -> Shapes:
    keys, values = STATE * k_heads, STATE * v_heads
    alone: Shapes = {"ssm_beta.weight": (v_heads, WIDTH), "ssm_alpha.weight": (v_heads, WIDTH)}
    gates: Shapes = {"ssm_ba.weight": (2 * v_heads, WIDTH)} if fused else alone
    return gates | {
        "attn_qkv.weight": (2 * keys + values, WIDTH),
        "attn_gate.weight": (values, WIDTH),
        "ssm_conv1d.weight": (2 * keys + values, 4),
        "ssm_dt.bias": (v_heads,),
        "ssm_a": (v_heads,),
        "ssm_norm.weight": (STATE,),
        "ssm_out.weight": (WIDTH, values),
    }


def _feed_forward(gate: bool = True, norm: str = "ffn_norm.weight") -> Shapes:
    shapes: Shapes = {
        "ffn_up.weight": (FEED_FORWARD, WIDTH),
        "ffn_down.weight": (WIDTH, FEED_FORWARD),
    }
    if gate:
        shapes["ffn_gate.weight"] = (FEED_FORWARD, WIDTH)
    if norm:
        shapes[norm] = (WIDTH,)
    return shapes


def _experts(n: int = 4, ff: int = 32) -> Shapes:
    return {
        "ffn_gate_inp.weight": (n, WIDTH),
        "ffn_down_exps.weight": (n, WIDTH, ff),
        "ffn_gate_exps.weight": (n, ff, WIDTH),
        "ffn_up_exps.weight": (n, ff, WIDTH),
        "ffn_gate_inp_shexp.weight": (WIDTH,),
        "ffn_gate_shexp.weight": (ff, WIDTH),
        "ffn_up_shexp.weight": (ff, WIDTH),
        "ffn_down_shexp.weight": (WIDTH, ff),
    }


def _rwkv7(rank: int = 32) -> Shapes:
    line, square = (WIDTH,), (WIDTH, WIDTH)
    down, up = (rank, WIDTH), (WIDTH, rank)
    shapes: Shapes = {}
    for norm in ("attn_norm", "attn_norm_2", "time_mix_ln"):
        shapes |= {f"{norm}.weight": line, f"{norm}.bias": line}
    for part in "wav":
        shapes |= {
            f"time_mix_{part}0.weight": line,
            f"time_mix_{part}1.weight": down,
            f"time_mix_{part}2.weight": up,
        }
    shapes |= {"time_mix_g1.weight": down, "time_mix_g2.weight": up}
    shapes |= {f"time_mix_{part}.weight": line for part in ("k_k", "k_a", "r_k")}
    parts = ("key", "value", "receptance", "output")
    shapes |= {f"time_mix_{part}.weight": square for part in parts}
    return shapes | {
        "time_mix_lerp_fused.weight": (6, 1, 1, WIDTH),
        "channel_mix_lerp_k.weight": (1, 1, WIDTH),
        "channel_mix_key.weight": (FEED_FORWARD, WIDTH),
        "channel_mix_value.weight": (WIDTH, FEED_FORWARD),
    }


def _add_sizes(w: gguf.GGUFWriter, arch: str, shapes: Shapes) -> None:
    """Writes the sizes that the architecture needs."""
    kv_heads = KV_HEADS_OF[arch]
    w.add_context_length(4096)
    w.add_embedding_length(WIDTH)
    w.add_block_count(N_LAYERS)
    w.add_head_count(HEADS if kv_heads else 0)
    w.add_head_count_kv(kv_heads)
    if arch == "nemotron_h":
        w.add_feed_forward_length([0, 0, 0, FEED_FORWARD])
    else:
        w.add_feed_forward_length(0 if arch in ("mamba", "mamba2") else FEED_FORWARD)
    w.add_layer_norm_rms_eps(1e-5)
    w.add_layer_norm_eps(1e-5)
    if kv_heads:
        w.add_key_length(HEAD)
        w.add_value_length(HEAD)
        w.add_rope_dimension_count(HEAD)
    if arch == "rwkv7":
        w.add_token_shift_count(2)
        w.add_wkv_head_size(64)
        for part in ("decay", "iclr", "value_residual_mix", "gate"):
            w.add_uint32(f"{arch}.attention.{part}_lora_rank", 32)
    if arch == "lfm2":
        w.add_shortconv_l_cache(3)
    is_delta = arch in ("qwen35", "qwen3next")
    if is_delta:
        w.add_uint32(f"{arch}.full_attention_interval", 2)
        w.add_rope_dimension_sections([3, 3, 2, 0])
    if arch == "qwen3next":
        w.add_expert_count(4)
        w.add_expert_used_count(2)
        w.add_expert_feed_forward_length(32)
        w.add_expert_shared_feed_forward_length(32)
    if any("ssm_conv1d" in name for name in shapes):
        w.add_ssm_conv_kernel(4)
        w.add_ssm_inner_size(WIDTH if is_delta else 2 * WIDTH)
        w.add_ssm_state_size(STATE)
        w.add_ssm_time_step_rank(32 if arch == "mamba" else 4)
        if arch != "mamba":
            w.add_ssm_group_count(2)
