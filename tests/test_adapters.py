"""LoRA adapters for the target, and models that are split into several files."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import oracles
import tiny
from conftest import Drafting
from ersd import Generator

FULL = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}


@pytest.fixture(scope="module")
def lora(folder: Path) -> Path:
    """A random adapter for tiny_target."""
    return tiny.write_lora(folder / "lora.gguf")


@pytest.mark.parametrize("scale", [1.0, -0.4])
def test_an_adapter_changes_the_logits_as_in_llama_cpp_python(
    tiny_target: Path, tiny_draft: Path, lora: Path, scale: float
) -> None:
    """The tokens are those of NumPy's races over the logits of Llama with the same adapter.

    At scale 0 the tokens are those without an adapter.
    """
    import llama_cpp

    options = {"n_ctx": 256, "n_threads": 1, "type_k": "f16", "lora_path": lora}
    llama = llama_cpp.Llama(
        str(tiny_target),
        n_ctx=256,
        n_threads=1,
        n_threads_batch=1,
        logits_all=True,
        flash_attn=True,
        verbose=False,
        lora_path=str(lora),
        lora_scale=scale,
    )
    tokens = llama.tokenize(b"the of", add_bos=True, special=True)
    llama.eval(tokens)
    expected = []
    for _ in range(30):
        logits = np.asarray(llama.scores[llama.n_tokens - 1], dtype=np.float32)
        expected.append(oracles.winner(logits, oracles.clocks(5, llama.n_tokens, len(logits))))
        llama.eval([expected[-1]])
    for draft in (None, tiny_draft):
        ours = Drafting(tiny_target, draft, lora_scale=scale, **options)
        assert ours.generate("the of", max_tokens=30, seed=5, **FULL).tokens == expected
    plain, off = (
        Generator(tiny_target, n_ctx=256, n_threads=1, type_k="f16", flash_attn=True),
        Generator(tiny_target, lora_scale=0, **options),
    )
    without = plain.generate("the of", max_tokens=30, seed=5, **FULL).tokens
    assert off.generate("the of", max_tokens=30, seed=5, **FULL).tokens == without != expected


def test_a_state_knows_its_adapter(tiny_target: Path, lora: Path) -> None:
    """A state that was computed with an adapter is refused by a model without it."""
    adapted = Generator(tiny_target, n_ctx=64, n_threads=1, lora_path=lora)
    adapted.generate("the", max_tokens=2)
    with pytest.raises(ValueError, match=r"the state is of the models .*LoRA lora\.gguf by 1\.0"):
        Generator(tiny_target, n_ctx=64, n_threads=1).load_state(adapted.save_state())


def test_files_that_are_no_adapter(folder: Path, tiny_target: Path, lora: Path) -> None:
    """Each wrong file is refused with a message that says why."""
    with pytest.raises(FileNotFoundError, match=r"no such model file: 'absent\.gguf'"):
        Generator(tiny_target, lora_path="absent.gguf")
    deeper = tiny.write_lora(folder / "deeper.gguf", n_layers=3)
    for wrong, reason in (
        (tiny_target, "expect general.type to be 'adapter'"),
        (deeper, "does not exist in base model"),
    ):
        with pytest.raises(
            ValueError, match=rf"'{wrong}' is not a LoRA adapter for '{tiny_target}' \(.*{reason}"
        ):
            Generator(tiny_target, lora_path=wrong)
    with pytest.raises(ValueError, match="lora_scale must be finite, got nan"):
        Generator(tiny_target, lora_path=lora, lora_scale=float("nan"))


def test_models_in_several_files(tmp_path: Path, generator: Generator) -> None:
    """The first file stands for all parts of a model. A missing part is named in the message."""
    tiny.write_llama(tmp_path / "target.gguf", n_files=3)
    tiny.write_llama(tmp_path / "draft.gguf", noise=0.15, n_files=2)
    target, draft = tmp_path / "target-00001-of-00003.gguf", tmp_path / "draft-00001-of-00002.gguf"
    ours = Drafting(target, draft, n_ctx=1024, n_threads=1)
    expected = generator.generate("the rain", max_tokens=60, seed=3, **FULL)
    result = ours.generate("the rain", max_tokens=60, seed=3, **FULL)
    assert result.tokens == expected.tokens
    assert result.stats.accepted > 0
    with pytest.raises(RuntimeError, match="must be loaded with the first split"):
        Generator(tmp_path / "target-00002-of-00003.gguf")
    (tmp_path / "target-00003-of-00003.gguf").unlink()
    with pytest.raises(
        RuntimeError,
        match=r"could not load '.*target-00001-of-00003.gguf' \(.*target-00003-of-00003.gguf",
    ):
        Generator(target)
