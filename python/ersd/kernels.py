"""How llama.cpp's CPU code multiplies each type of weights, which decides whether drafts pay.

Source: ggml/src/ggml-cpu of llama.cpp, as llama-cpp-python 0.3.36 has it.
"""

from __future__ import annotations

import re

__all__ = ["advice"]

_REPACKED = ("Q4_0", "IQ4_NL", "Q4_K", "MXFP4")
_MATRIX = ("Q8_0", "Q5_0", "F16", "BF16", "F32", "all F32")
_NO_BATCH = ("Q4_1", "Q5_1")


def advice(description: str) -> str:
    """Says in a sentence what several tokens in a call cost a model on a CPU.

    Args:
        description: of a model, as `Generator.target.description` has it; it names the type.
    """
    kind = _kind(description)
    if kind in _NO_BATCH:
        return (
            f"llama.cpp's CPU code has no batch kernel for {kind}: several tokens in a call cost "
            "nearly as much as calls of one, so drafts hardly pay. Q8_0 has one: "
            "`ersd quantize IN OUT Q8_0`."
        )
    if kind in _REPACKED:
        return f"{kind} is computed four rows at a time: calls of 4, 8 and 12 tokens are cheapest."
    if kind in _MATRIX:
        return f"{kind} has a matrix kernel: a further token in a call costs less than the first."
    return f"{kind} has a matrix kernel from about 8 tokens in a call on."


def _kind(description: str) -> str:
    """Returns the type of weights: "llama 135M Q4_K - Medium" has "Q4_K"."""
    found = re.findall(r"\b(?:all F32|IQ\d\w*|Q\d_\w+|MXFP4|BF16|F16|F32)", description)
    return found[-1].removesuffix("_M").removesuffix("_S") if found else description
