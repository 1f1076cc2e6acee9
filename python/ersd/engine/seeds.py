"""Seeds: one that was given, or a fresh one; and those of a batch of prompts."""

from __future__ import annotations

import secrets
from collections.abc import Sequence

__all__ = ["check_seed", "seeds_of_batch"]


def check_seed(seed: int | None) -> int:
    """Returns the seed, or a fresh random one if it is None.

    Raises:
        TypeError: the seed is not an int.
        ValueError: the seed does not fit into 64 bits.
    """
    if seed is None:
        return secrets.randbits(32)
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise TypeError(f"seed must be an int or None, got {seed!r}")
    if not 0 <= seed < 1 << 64:
        raise ValueError(f"seed must be between 0 and 2**64 - 1, got {seed}")
    return seed


def seeds_of_batch(seed: int | Sequence[int] | None, n: int) -> list[int]:
    """Returns a seed for each of n prompts.

    Args:
        seed: None draws one for each prompt. An int is the seed of the first prompt, and each
            further prompt has the next one. A sequence holds one for each prompt.
        n: number of prompts.

    Raises:
        TypeError, ValueError: as `check_seed`; or the sequence does not have n seeds.
    """
    if seed is None:
        return [check_seed(None) for _ in range(n)]
    if not isinstance(seed, Sequence):
        first = check_seed(seed)
        return [check_seed(first + i) for i in range(n)]
    if len(seed) != n:
        raise ValueError(f"seed must have one for each of {n} prompts, got {len(seed)}")
    return [check_seed(each) for each in seed]
