"""Count the random draws that the first m arrivals take for several designs of a position's clocks.

python bench/clock_designs.py [--model gemma.gguf] [--arrivals 64]

The count is a lower limit of a race's time. A design draws bounds for groups of tokens first and
clocks of single tokens last. It must draw everything that the bounds leave open. The time of the
last arrival is taken as known; a real race has to guess it and draws more. All designs give i.i.d.
Exp(1) clocks that do not depend on the distribution, so a draft and its target can share them:

blocks of B  the least clock of each B tokens and its place, then single clocks by memorylessness
             (the core takes B = 128: cpp/ersd/race/noise.h)
order of K   the K least clocks of each 128 tokens with their places, one after the other, then
             single clocks
halves       the least clock of each 128 tokens, then that of the half which does not hold it, and
             so on down to single tokens
"""

from __future__ import annotations

import argparse
from collections import defaultdict

import numpy as np
from numpy.typing import NDArray
from race import kinds, record

from ersd import models

BLOCK = 128
Values = NDArray[np.float64]


def blocks(clocks: Values, reach: Values, size: int) -> int:
    """Count the draws of blocks and single tokens.

    Args:
        clocks: f64[n_vocab].
        reach: for each token the clock below which it arrives in time; f64[n_vocab].
        size: the number of tokens in a block.
    """
    least = clocks.reshape(-1, size).min(1)
    open_ = reach.reshape(-1, size) > least[:, None]
    return len(least) + int(open_.sum())


def order(clocks: Values, reach: Values, k: int) -> int:
    """Count the draws of the k least clocks of each block, as far as needed, and single tokens."""
    by_block = clocks.reshape(-1, BLOCK)
    by_clock = np.argsort(by_block, 1)
    known, reach = (
        np.take_along_axis(x, by_clock, 1) for x in (by_block, reach.reshape(-1, BLOCK))
    )
    greatest = np.maximum.accumulate(reach[:, ::-1], 1)[:, ::-1]  # of this token and all later ones
    n, is_open = 0, np.ones(len(known), bool)
    for i in range(k):
        n += int(is_open.sum())
        is_open &= known[:, i] < greatest[:, i + 1]
    return n + int((reach[is_open, k:] > known[is_open, k - 1 : k]).sum())


def halves(clocks: Values, reach: Values) -> int:
    """Count one draw per block, and one for each half of a block that may hold an arrival."""
    n, size = len(clocks) // BLOCK, BLOCK
    while size > 1:
        n += int((clocks.reshape(-1, size).min(1) < reach.reshape(-1, size).max(1)).sum())
        size //= 2
    return n


def main() -> None:
    """Print a table of the mean number of draws."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("--model", default=str(models.default_target()))
    parser.add_argument("--arrivals", type=int, default=64)
    args = parser.parse_args()
    rng = np.random.default_rng(0)
    recorded = record(args.model, 128)
    columns: dict[str, dict[str, list[int]]] = defaultdict(lambda: defaultdict(list))
    for kind, rows in kinds(recorded, recorded.shape[1]).items():
        for row in rows[:32]:
            p = np.exp((row - row.max()).astype(np.float64))
            p = np.pad(p / p.sum(), (0, -len(p) % (4 * BLOCK)))
            clocks = rng.exponential(size=len(p))
            with np.errstate(divide="ignore"):
                reach = (
                    p * np.partition(clocks / p, args.arrivals - 1)[args.arrivals - 1] * (1 + 1e-12)
                )
            for size in (64, 128, 256, 512):
                columns[f"blocks of {size}"][kind].append(blocks(clocks, reach, size))
            for k in (2, 3, 4, 8):
                columns[f"order of {k}"][kind].append(order(clocks, reach, k))
            columns["halves"][kind].append(halves(clocks, reach))
    names = list(next(iter(columns.values())))
    print(
        f"| draws for {args.arrivals} | "
        + " | ".join(names)
        + " |\n| --- |"
        + " ---: |" * len(names)
    )
    for design, draws in columns.items():
        print(
            f"| {design} | " + " | ".join(f"{np.mean(draws[name]):,.0f}" for name in names) + " |"
        )


if __name__ == "__main__":
    main()
