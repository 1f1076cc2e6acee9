"""Drafts for a target with a mixture of experts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import gguf
import numpy as np
from ersd._core import CostCurve, TableModel

from conftest import Drafting
from ersd import Generator
from tiny_moe import write_moe

FULL: dict[str, Any] = {"top_k": 0, "top_p": 1.0, "min_p": 0.0}


def test_the_text_is_that_of_plain_sampling(folder: Path) -> None:
    """Tokens of one call choose experts of their own, whatever is beside them."""
    target = write_moe(folder / "moe.gguf")
    draft = write_moe(folder / "moe-draft.gguf", noise=0.4)
    options: dict[str, Any] = {"n_ctx": 256, "n_threads": 1, "exact": True}
    pair, alone = Drafting(target, draft, **options), Generator(target, **options)
    for temperature in (0.0, 1.0):
        given = {"max_tokens": 60, "seed": 3, "temperature": temperature, **FULL}
        expected = alone.generate("the", method="ar", **given).tokens
        for k, strategy in ((1, "simple"), (6, "sequence"), (16, "tree"), (8, "adaptive")):
            result = pair.generate("the", draft_nodes=k, strategy=strategy, **given)
            assert result.tokens == expected
            assert 0 < result.stats.accepted < result.stats.drafted
    auto = pair.generate("the", draft_nodes="auto", max_tokens=60, seed=3, **FULL)
    assert auto.tokens == alone.generate("the", method="ar", max_tokens=60, seed=3, **FULL).tokens


def n_experts(path: Path, tokens: list[int]) -> int:
    """Returns how many experts of the first layer these tokens choose by their embeddings."""
    tensors = {t.name: t for t in gguf.GGUFReader(path).tensors}

    def matrix(name: str) -> Any:
        return gguf.quants.dequantize(tensors[name].data, tensors[name].tensor_type)

    rows = matrix("token_embd.weight")[tokens]
    rows /= np.sqrt((rows**2).mean(axis=1, keepdims=True))
    scores = rows @ matrix("blk.0.ffn_gate_inp.weight").T
    return len(set(np.argsort(-scores, axis=1)[:, :2].ravel().tolist()))


def test_the_price_of_wide_calls_has_their_experts(folder: Path) -> None:
    """Measured calls have tokens as unlike as those of texts: they need as many experts."""
    path = write_moe(folder / "moe-many.gguf", n_experts=64)
    model = TableModel(np.zeros((1, 515), np.float32))
    for budget, width in ((0.0, 4), (1e6, 48)):
        CostCurve().measure(model, budget)
        tokens = model.last_call
        assert len(tokens) == width
        rng = np.random.default_rng(0)
        texts = [rng.integers(3, 515, size=len(tokens)).tolist() for _ in range(50)]
        expected = np.mean([n_experts(path, text) for text in texts])
        assert n_experts(path, tokens) > 0.85 * expected
        assert n_experts(path, tokens[:1] * len(tokens)) == 2
