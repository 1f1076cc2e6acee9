"""One model as `ersd.Llama` and as llama_cpp.Llama."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np

from ersd import Llama

OPTIONS: dict[str, Any] = {
    "n_ctx": 256,
    "n_threads": 1,
    "n_threads_batch": 1,
    "logits_all": True,
    "verbose": False,
}
PROMPT = "the rain of the world"
TALK = [{"role": "user", "content": "the rain"}]


def both(path: Path, **options: Any) -> tuple[Any, Any]:
    """Returns the model as each class loads it."""
    options = {**OPTIONS, **options}
    return Llama(str(path), **options), llama_cpp.Llama(str(path), **options)


def first(llama: Any, n: int, prompt: list[int], **options: Any) -> list[int]:
    """Returns the first tokens that `generate` yields."""
    return list(itertools.islice(llama.generate(prompt, **options), n))


def no_bytes(ids: Any, scores: Any) -> Any:
    """A logits processor that leaves only text in UTF-8: llama-cpp-python drops other bytes."""
    scores[3:259] = -np.inf
    return scores
