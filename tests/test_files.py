"""Fingerprints of model files: a change is seen, and what is not in the file does not matter."""

from __future__ import annotations

import dataclasses
import os
import pickle
import shutil
from pathlib import Path

import numpy as np
import pytest

import tiny
from conftest import Drafting
from ersd import Generator
from ersd.files import fingerprint

MIB = 1 << 20


def altered(path: Path, out: Path, begin: int, n: int) -> Path:
    """Copies a file and changes some of its bytes; the copy has the same times."""
    shutil.copy2(path, out)
    with out.open("r+b") as file:
        file.seek(begin)
        old = file.read(n)
        file.seek(begin)
        file.write(bytes(byte ^ 0x55 for byte in old))
    times = path.stat()
    os.utime(out, ns=(times.st_atime_ns, times.st_mtime_ns))
    return out


def test_any_byte_of_a_small_file_counts(tiny_target: Path, tmp_path: Path) -> None:
    """One changed byte anywhere gives another fingerprint; a copy elsewhere gives the same."""
    size = tiny_target.stat().st_size
    expected = fingerprint(tiny_target)
    assert fingerprint(Path(shutil.copy(tiny_target, tmp_path / "copy.gguf"))) == expected
    for i, begin in enumerate(np.random.default_rng(0).integers(0, size, 20)):
        assert fingerprint(altered(tiny_target, tmp_path / f"{i}", int(begin), 1)) != expected


def test_a_changed_matrix_of_a_large_file_counts(tmp_path: Path) -> None:
    """Every stretch of a few samples' distance is seen, and so are the first and the last bytes."""
    path = tmp_path / "large.gguf"
    path.write_bytes(np.random.default_rng(1).bytes(64 * MIB))
    expected, size = fingerprint(path), path.stat().st_size
    distance = (size - 16 * MIB) // 4096
    out = tmp_path / "altered.gguf"
    for begin in np.random.default_rng(2).integers(16 * MIB, size - 3 * distance, 20):
        assert fingerprint(altered(path, out, int(begin), 2 * distance)) != expected
    for begin in (0, 16 * MIB - 1, size - 1):
        assert fingerprint(altered(path, out, begin, 1)) != expected
    with out.open("ab") as file:
        file.write(b"\0")
    assert fingerprint(out) != expected


def test_all_parts_of_a_model_count(tmp_path: Path) -> None:
    """A change in the second file of a model in several files gives another fingerprint."""
    tiny.write_llama(tmp_path / "m.gguf", n_files=3)
    first = tmp_path / "m-00001-of-00003.gguf"
    expected = fingerprint(first)
    second = tmp_path / "m-00002-of-00003.gguf"
    altered(second, tmp_path / "new", second.stat().st_size - 1, 1).replace(second)
    assert fingerprint(first) != expected
    second.unlink()
    with pytest.raises(FileNotFoundError):
        fingerprint(first)


def test_states_of_another_fine_tune_are_refused(
    tiny_target: Path, tiny_draft: Path, tmp_path: Path
) -> None:
    """Models of one shape, adapters of one name, and a changed draft are told apart by content."""
    options = {"n_ctx": 64, "n_threads": 1}
    loras = []
    for seed in (0, 1):
        (tmp_path / str(seed)).mkdir()
        loras.append(tiny.write_lora(tmp_path / str(seed) / "lora.gguf", seed=seed))
    tuned = tiny.write_llama(tmp_path / "target.gguf", noise=0.01)
    copy = Path(shutil.copy(tiny_target, tmp_path / "copy.gguf"))

    def state(target: Path, draft: Path | None = None, lora: Path | None = None) -> object:
        writer = Generator(target, draft, lora_path=lora, profile=False, **options)
        writer.generate("the", max_tokens=2, draft_nodes=2)
        return writer.save_state()

    cases = [
        (state(tuned), Generator(tiny_target, **options)),
        (state(tiny_target, None, loras[0]), Generator(tiny_target, lora_path=loras[1], **options)),
        (state(tiny_target, tuned), Drafting(tiny_target, tiny_draft, **options)),
    ]
    for theirs, ours in cases:
        with pytest.raises(ValueError, match="the state is of the models") as error:
            ours.load_state(theirs)
        assert "\n" not in str(error.value)
    Generator(copy, **options).load_state(state(tiny_target))


def test_damaged_states_are_refused(tiny_target: Path) -> None:
    """A changed byte anywhere is noticed, and so are things that are no state."""
    generator = Generator(tiny_target, n_ctx=64, n_threads=1)
    generator.generate("the", max_tokens=2)
    state = generator.save_state()
    generator.load_state(pickle.loads(pickle.dumps(state)))
    flipped = bytearray(state.data)
    flipped[len(flipped) // 2] ^= 1
    changes = ({"data": bytes(flipped)}, {"data": b""}, {"tokens": [1, 2]}, {"tokens": None})
    for change in changes:
        with pytest.raises(ValueError, match="the state is damaged"):
            generator.load_state(dataclasses.replace(state, **change))
    with pytest.raises(TypeError, match=r"state must be one of save_state\(\), got 'state'"):
        generator.load_state("state")  # type: ignore[arg-type]


def test_profiles_of_another_adapter_are_refused(
    tiny_target: Path, tiny_draft: Path, tmp_path: Path
) -> None:
    """An adapter changes what the draft's ranks are, so it belongs to the pair."""
    lora = tiny.write_lora(tmp_path / "lora.gguf")
    options = {"n_ctx": 64, "n_threads": 1, "profile": False}
    plain, adapted = (
        Generator(tiny_target, tiny_draft, lora_path=path, **options) for path in (None, lora)
    )
    plain.save_profile(tmp_path / "plain.npz")
    with pytest.raises(ValueError, match="that of another target or draft"):
        adapted.load_profile(tmp_path / "plain.npz")
