"""The sampling parameters of llama-cpp-python, and the engine's options for them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict

import numpy as np

from ersd.arguments import whole
from ersd.engine.options import LogitsProcessor
from ersd.grammars import Source

if TYPE_CHECKING:
    from llama_cpp.llama_grammar import LlamaGrammar

__all__ = ["Parameters", "engine_options"]


class Parameters(TypedDict, total=False):
    """The parameters that both kinds of completion take. Those not described are in `Options`.

    Attributes:
        max_tokens: the largest number of tokens to generate; None, 0 or less for as many as the
            context has room for.
        seed: 0 or more is a seed; None or -1 draws a random one.
        temperature: None is the default of `Options`, also for the other numbers.
        stop: strings that end the answer; they are not part of it.
        top_k: 0 or less keeps all tokens.
        top_p: 1 or more keeps all tokens; 0 or less keeps the most probable one.
        tfs_z: must be 1, because llama.cpp has no tail-free sampling any more.
        mirostat_mode: must be 0, so mirostat_tau and mirostat_eta have no effect.
    """

    max_tokens: int | None
    seed: int | None
    stop: str | Sequence[str] | None
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    typical_p: float
    tfs_z: float
    mirostat_mode: int
    repeat_penalty: float
    frequency_penalty: float
    presence_penalty: float
    logit_bias: Mapping[Any, float] | None
    logits_processor: LogitsProcessor | Sequence[LogitsProcessor] | None
    grammar: str | LlamaGrammar | Source | None
    logprobs: int | None
    response_format: Mapping[str, Any] | None


def engine_options(given: Parameters, further: Mapping[str, Any]) -> dict[str, Any]:
    """Returns the options of `Engine.stream` that mean what llama-cpp-python's parameters mean.

    Args:
        given: all parameters of `Parameters`, except that response_format may be missing.
        further: options of `Engine.stream` to add.

    Raises:
        ValueError: tfs_z is not 1.
    """
    options: dict[str, Any] = {**given, **further}
    tfs_z = options.pop("tfs_z")
    if tfs_z not in (1.0, None):
        raise ValueError(
            f"tfs_z must be 1.0: llama.cpp has no tail-free sampling any more, got {tfs_z}"
        )
    max_tokens, top_k, top_p = given["max_tokens"], given["top_k"], given["top_p"]
    if max_tokens is not None and whole("max_tokens", max_tokens, "an int or None") <= 0:
        max_tokens = None
    if top_k is not None:
        top_k = max(whole("top_k", top_k, "an int or None"), 0)
    if isinstance(top_p, int | float | np.number):
        top_k = 1 if top_p <= 0 else top_k  # llama.cpp keeps one token then
        top_p = 1.0 if top_p <= 0 else min(top_p, 1.0)
    return options | {"max_tokens": max_tokens, "top_k": top_k, "top_p": top_p}
