"""Seeds: one that was given, or a fresh one; and those of a batch of prompts."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

import numpy as np

from ersd.arguments import whole

__all__ = ["check_seed", "seeds_of_batch"]


def check_seed(seed: int | None) -> int:
    """Returns the seed, or a fresh random one if it is None or -1, as llama.cpp's users write it.

    Raises:
        TypeError: the seed is not an int.
        ValueError: the seed does not fit into 64 bits.
    """
    if seed is None or (number := whole("seed", seed, "an int or None")) == -1:
        return secrets.randbits(32)
    if not 0 <= number < 1 << 64:
        raise ValueError(f"seed must be between 0 and 2**64 - 1, or -1 for a fresh one, got {seed}")
    return number


def seeds_of_batch(seed: int | Sequence[int] | None, n: int) -> list[int]:
    """Returns a seed for each of n prompts.

    Args:
        seed: None or -1 draws one for each prompt. An int is the seed of the first prompt, and each
            further prompt has the next one. A sequence holds one for each prompt.
        n: number of prompts.

    Raises:
        TypeError, ValueError: as `check_seed`; or the sequence does not have n seeds.
    """
    if not isinstance(seed, Sequence | np.ndarray):
        first = check_seed(seed)
        if seed is None or seed == -1:
            return [check_seed(None) for _ in range(n)]
        return [check_seed(first + i) for i in range(n)]
    if len(seed) != n:
        raise ValueError(f"seed must have one for each of {n} prompts, got {len(seed)}")
    return [check_seed(each) for each in seed]
