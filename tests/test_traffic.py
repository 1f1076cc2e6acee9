"""What a Generator counts of all generations together."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from conftest import Drafting
from ersd import Generator

FULL: dict[str, Any] = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}


def test_counts_of_one_generation(tiny_target: Path, tiny_draft: Path) -> None:
    """They are those of its stats. The prompt is read in a call of its own."""
    options: dict[str, Any] = {"n_ctx": 256, "n_ctx_total": 512, "n_threads": 1, "exact": True}
    pair = Drafting(tiny_target, tiny_draft, n_parallel=2, **options)
    before = pair.traffic
    assert (before.target_calls, before.tokens_per_call, before.rows_per_call) == (0, 0, 0)
    assert (before.cells, before.cells_used) == (512, 0)
    result = pair.generate("the rain of", max_tokens=24, seed=1, draft_nodes=5, **FULL)
    traffic, stats = pair.traffic, result.stats
    n_prompt = len(pair.tokenize("the rain of"))
    assert traffic.target_calls == traffic.sequences == stats.target_calls + 1
    assert traffic.rows == stats.target_tokens
    assert traffic.prompt_rows == n_prompt - 1
    assert traffic.tokens == 24
    assert traffic.tokens_per_call == 24 / traffic.target_calls
    assert traffic.rows_per_call == traffic.rows / traffic.target_calls
    assert (traffic.running, traffic.waiting, traffic.preemptions) == (0, 0, 0)
    assert traffic.cells_used == n_prompt + 24 - 1
    pair.reset()
    assert pair.traffic.cells_used == 0


def test_generations_that_share_calls(tiny_target: Path) -> None:
    """Calls are fewer than tokens, and in a short memory generations give way to others."""
    options: dict[str, Any] = {"n_ctx": 128, "n_threads": 1, "n_parallel": 4, "exact": True}
    generator = Generator(tiny_target, n_ctx_total=200, draft_sources=[], **options)
    results = generator.generate_batch(["the", "a", "of", "in"], max_tokens=100, seed=1, **FULL)
    traffic = generator.traffic
    assert traffic.tokens == sum(len(each.tokens) for each in results) == 400
    assert 1 < traffic.sequences_per_call <= 4
    assert traffic.tokens_per_call > 1
    assert traffic.preemptions > 0
    assert (traffic.running, traffic.waiting) == (0, 0)
