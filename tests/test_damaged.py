"""Files that are damaged end in one clear error, and never end the process."""

from __future__ import annotations

import os
import re
import subprocess
import sys
from pathlib import Path
from typing import Any

import gguf
import numpy as np
import pytest

import tiny
import tiny_kinds
from ersd import Generator

SCRIPT = Path(__file__).parent.parent / "bench" / "damaged.py"


def overwritten(path: Path, out: Path, key: str, value: Any) -> Path:
    """Copies a model with another value of a key, of the same type."""
    out.write_bytes(path.read_bytes())
    reader = gguf.GGUFReader(str(out), "r+")
    field = reader.fields[key]
    field.parts[field.data[0]][0] = value
    reader.data.flush()
    return out


@pytest.mark.parametrize("value", [0, 513, 100_000, (1 << 31) - 1, 1 << 31, (1 << 32) - 1])
def test_numbers_of_layers_that_llama_cpp_aborts_on(
    tiny_target: Path, tmp_path: Path, value: int
) -> None:
    """The file, the key, the range and the value are named, for target, draft and quantize."""
    path = overwritten(tiny_target, tmp_path / "d.gguf", "llama.block_count", value)
    shown = re.escape(f"{value:g}")
    expected = rf"'{path}' is a damaged GGUF file: llama.block_count must be between 1 and 512, got"
    for files in ((path,), (tiny_target, path)):
        with pytest.raises(ValueError, match=f"{expected} {shown}"):
            Generator(*files)


@pytest.mark.parametrize("value", [-1.0, np.nan, np.inf])
def test_factors_that_llama_cpp_aborts_on(tiny_target: Path, tmp_path: Path, value: float) -> None:
    """Epsilons are finite and not negative."""
    key = "llama.attention.layer_norm_rms_epsilon"
    path = overwritten(tiny_target, tmp_path / "d.gguf", key, value)
    with pytest.raises(ValueError, match=f"{key} must be between 0 and .*, got {value:g}"):
        Generator(path)


@pytest.mark.parametrize(
    ("key", "value", "message"),
    [
        ("llama.expert_count", 1 << 20, "expert_count must be between 0 and 1024"),
        ("llama.expert_used_count", 5, "expert_used_count must be between 1 and 4, got 5"),
        ("llama.expert_used_count", 0, "expert_used_count must be between 1 and 4, got 0"),
        ("llama.context_length", 1 << 31, "context_length must be between 1 and"),
        ("llama.attention.head_count_kv", 3, "must be a multiple of .*head_count_kv, got 4 and 3"),
        ("llama.attention.head_count", 65, "head_count must be a multiple of"),
        ("llama.rope.dimension_count", 15, "rope.dimension_count must be even and at most 16"),
        ("llama.rope.dimension_count", 18, "rope.dimension_count must be even and at most 16"),
    ],
)
def test_sizes_that_do_not_fit_together(tmp_path: Path, key: str, value: int, message: str) -> None:
    """Each is refused before llama.cpp divides by it or asserts it."""
    model = tiny_kinds.write_experts(tmp_path / "experts.gguf")
    with pytest.raises(ValueError, match=message):
        Generator(overwritten(model, tmp_path / "d.gguf", key, value))


def test_tokens_and_tensors_that_cannot_be(tmp_path: Path, tiny_target: Path) -> None:
    """A token that is there twice, and vectors and matrices of types without arithmetic."""
    data = tiny_target.read_bytes()
    twice = tmp_path / "twice.gguf"
    twice.write_bytes(data.replace("▁the".encode(), "▁and".encode(), 1))
    with pytest.raises(ValueError, match=r"token \d+ of its vocabulary is there twice"):
        Generator(twice)

    for name, fault in (
        ("blk.0.attn_norm.weight", "vector 'blk.0.attn_norm.weight' must be of type f32, got i32"),
        ("output_norm.weight", "vector 'output_norm.weight' must be of type f32, got i32"),
    ):
        changed = bytearray(data)
        # In the header: the name, the number of dimensions, one dimension, the type.
        at = data.index(name.encode()) + len(name) + 4 + 8
        assert changed[at : at + 4] == bytes(4)
        changed[at : at + 4] = int(gguf.GGMLQuantizationType.I32).to_bytes(4, "little")
        (tmp_path / "type.gguf").write_bytes(changed)
        with pytest.raises(ValueError, match=fault):
            Generator(tmp_path / "type.gguf")


def test_damaged_parts_and_adapters(tmp_path: Path, tiny_target: Path) -> None:
    """All files of a model are checked, and so are adapters."""
    tiny.write_llama(tmp_path / "m.gguf", n_files=3)
    second = tmp_path / "m-00002-of-00003.gguf"
    second.write_bytes(second.read_bytes()[:-100])
    with pytest.raises(ValueError, match=rf"'{second}' is truncated: its tensors end at byte"):
        Generator(tmp_path / "m-00001-of-00003.gguf")
    lora = tiny.write_lora(tmp_path / "lora.gguf")
    data = lora.read_bytes()
    at = data.index(b"adapter.lora.alpha") + len(b"adapter.lora.alpha")
    lora.write_bytes(data[:at] + (4).to_bytes(4, "little") + data[at + 4 :])
    with pytest.raises(ValueError, match=r"adapter\.lora\.alpha must be of type f32"):
        Generator(tiny_target, lora_path=lora)


@pytest.mark.parametrize("count", [20, pytest.param(1000, marks=pytest.mark.grid)])
@pytest.mark.no_sanitizer
@pytest.mark.skipif(os.name == "nt", reason="children are made by fork")
def test_no_damage_kills_the_process(count: int) -> None:
    """Files that are cut off, have flipped bits or other numbers load or are refused."""
    run = subprocess.run(
        [sys.executable, SCRIPT, "--count", str(count)], capture_output=True, encoding="utf-8"
    )
    assert run.returncode == 0, run.stdout + run.stderr
    lines = dict(line.split(": ", 1) for line in run.stdout.splitlines())
    assert set(lines) == {"truncated", "flipped", "overwritten"}
    assert "loaded" in lines["flipped"]
