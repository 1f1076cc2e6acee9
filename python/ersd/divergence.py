"""How far a model's distributions are from those of another, on texts that the first one writes."""

from __future__ import annotations

import os
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from ersd.generator import Generator
from ersd.tune import PROMPTS, chat_prompt

__all__ = ["mean_divergence"]


def mean_divergence(
    model_path: str | os.PathLike[str],
    other_path: str | os.PathLike[str],
    prompts: Sequence[str] = PROMPTS,
    *,
    max_tokens: int = 48,
    n_threads: int | None = None,
) -> tuple[float, float]:
    """Returns the mean divergence D(model || other) in nats, and its standard error over texts.

    The model answers each prompt at temperature 1, and both distributions are compared at each
    position of the answer.

    Args:
        model_path: a GGUF file.
        other_path: a GGUF file with the same vocabulary, such as the model in other bits.
        prompts: user messages; they go into the model's chat template, if it has one.
        max_tokens: the longest answer.
        n_threads: CPU threads; None for one per core.

    Raises:
        FileNotFoundError, ValueError, RuntimeError: as for `ersd.Generator`.
    """
    pair = Generator(
        model_path, other_path, n_ctx=1024, n_threads=n_threads, exact=False, profile=False
    )
    means = []
    for seed, text in enumerate(prompts):
        prompt = chat_prompt(pair, text)
        positions = pair.ranks(prompt, max_tokens=max_tokens, seed=seed, logits=True)
        means.append(np.mean([_divergence(p.target_logits, p.draft_logits) for p in positions]))
    return float(np.mean(means)), float(np.std(means, ddof=1) / np.sqrt(len(means)))


def _divergence(
    logits: npt.NDArray[np.float32] | None, other: npt.NDArray[np.float32] | None
) -> float:
    """Returns sum p log(p / q) of two rows of logits, over the tokens that both models have."""
    assert logits is not None
    assert other is not None
    n = min(len(logits), len(other))
    log_p, log_q = (_log_softmax(row[:n]) for row in (logits, other))
    return float((np.exp(log_p) * (log_p - log_q)).sum())


def _log_softmax(logits: npt.NDArray[np.float32]) -> npt.NDArray[np.float64]:
    shifted = logits.astype(np.float64) - logits.max()
    return np.asarray(shifted - np.log(np.exp(shifted).sum()))
