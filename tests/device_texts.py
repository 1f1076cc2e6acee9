"""Drafted texts beside plain ones, on a device that holds weights and caches."""

from __future__ import annotations

import gc
from pathlib import Path
from typing import Any

import gguf

import tiny
from conftest import Drafting

FULL: dict[str, Any] = {"top_k": 0, "top_p": 1.0, "min_p": 0.0}


def check_texts(folder: Path, kind: str, device: str, **loading: Any) -> None:
    """Checks that drafted texts are plain ones on a device, and that its states can be loaded.

    Args:
        folder: where the models are written.
        kind: the type of their weights.
        device: the beginning of the device's name.
        loading: options that put a model onto the device.
    """
    types = gguf.GGMLQuantizationType[kind]
    target = tiny.write_llama(folder / f"{device}-{kind}.gguf", kind=types)
    draft = tiny.write_llama(folder / f"{device}-{kind}-draft.gguf", kind=types, noise=0.15)
    options: dict[str, Any] = {"n_ctx": 512, "n_threads": 1, "n_parallel": 2, "exact": True}
    pair = Drafting(target, draft, **options, **loading)
    remote = [m for m in pair.memory if m.device.startswith(device) and m.model == "target"]
    assert len(remote) == 1
    assert remote[0].weights > 0
    assert remote[0].cache > 0
    prompt = [1, *range(300, 340)]
    for seed in range(6):
        given = {"max_tokens": 40, "seed": seed, **FULL}
        expected = pair.generate(prompt, method="ar", **given).tokens
        for k, strategy in ((2, "sequence"), (6, "tree"), (16, "adaptive"), (9, "batch")):
            result = pair.generate(prompt, draft_nodes=k, strategy=strategy, **given)
            assert result.tokens == expected
        assert result.stats.accepted > 0
    state = pair.save_state()
    pair.reset()
    pair.load_state(state)
    again = pair.generate(prompt, draft_nodes=6, **given)
    assert again.tokens == expected
    assert again.stats.cached_tokens == len(prompt) - 1
    del pair
    gc.collect()  # llama.cpp frees the device's memory, and ends a process whose server is gone
