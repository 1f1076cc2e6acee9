"""Drafts for a target with a mixture of experts."""

from __future__ import annotations

from pathlib import Path
from typing import Any

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
