"""The ledger of cells: it counts as sets of cells do."""

import numpy as np
import pytest
from ersd._core import CellLedger


def test_random_operations_against_lists_of_cells():
    """After any operations the counts are those of plain lists of cells, one for each place."""
    rng = np.random.default_rng(0)
    for _ in range(200):
        n_places, n_cells = int(rng.integers(1, 6)), 0
        ledger, held = CellLedger(n_places), [[] for _ in range(n_places)]
        for _ in range(60):
            place, other = (int(p) for p in rng.integers(n_places, size=2))
            match rng.integers(3):
                case 0:
                    n = int(rng.integers(8))
                    ledger.append(place, n)
                    held[place] += range(n_cells, n_cells + n)
                    n_cells += n
                case 1:
                    n = int(rng.integers(-2, 20))
                    ledger.truncate(place, n)
                    del held[place][max(n, 0) :]
                case 2 if not held[other] and place != other:
                    n = int(rng.integers(len(held[place]) + 1))
                    ledger.share(place, other, n)
                    held[other] = held[place][:n]
            assert [ledger.n_held(p) for p in range(n_places)] == [len(cells) for cells in held]
            assert ledger.n_live == len(set().union(*held))
            assert ledger.shared_prefix(place, other) == len(set(held[place]) & set(held[other]))


def test_what_it_refuses():
    """A place must exist, must be empty to take over cells, and gives only what it holds."""
    ledger = CellLedger(2)
    ledger.append(0, 3)
    with pytest.raises(ValueError, match=r"n must be between 0 and 3, got 4"):
        ledger.share(0, 1, 4)
    ledger.share(0, 1, 2)
    with pytest.raises(ValueError, match=r"the place that takes over must be empty, got 2"):
        ledger.share(0, 1, 2)
    with pytest.raises(IndexError):
        ledger.append(2, 1)
    with pytest.raises(ValueError, match=r"n_places must be at least 1, got 0"):
        CellLedger(0)
