"""Converts profiles between the core's form and the plain form, and restores them from files."""

from __future__ import annotations

import contextlib
import os
import sys
import threading
from dataclasses import replace

import numpy as np

from ersd import _core
from ersd import profile as profiles
from ersd.profile import PairKey, Profile

__all__ = [
    "COST_LENGTHS",
    "COST_WIDTHS",
    "CostFile",
    "load_into",
    "restore_file",
    "to_plain",
]

# The axes of target_ms and draft_ms: tokens in the cache, and tokens of a call.
COST_LENGTHS: list[int] = _core.CostCurve.lengths
COST_WIDTHS: list[int] = _core.CostCurve.widths


def to_plain(known: _core.Profile) -> Profile:
    """Returns the core's profile as plain data."""
    return Profile(
        [list(curve) for curve in known.target.points],
        [list(curve) for curve in known.draft.points],
        list(known.ranks.weights),
        list(known.margins.coefficients),
        [list(row) for row in known.margins.information],
        *known.correction.state(),
    )


def from_plain(profile: Profile) -> _core.Profile:
    """Returns a profile for the core. Raises ValueError or TypeError for impossible numbers."""
    known = _core.Profile()
    target, draft = _core.CostCurve(), _core.CostCurve()
    target.set(profile.target_ms)
    draft.set(profile.draft_ms)
    known.target, known.draft = target, draft
    known.ranks = _core.RankHistogram(profile.rank_weights)
    known.margins = _core.MarginModel(profile.margin_coefficients, profile.margin_information)
    correction = _core.Correction()
    correction.restore(
        profile.correction_before,
        profile.correction_token,
        profile.correction_bias,
        profile.correction_squares,
    )
    known.correction = correction
    return known


def _history(profile: Profile, n_vocab: int) -> list[list[int]]:
    """Returns the texts of a profile's history. Raises ValueError or TypeError for others."""
    tokens = profile.history
    if tokens.ndim != 1 or tokens.dtype.kind != "i":
        raise TypeError(f"history must be tokens, got {tokens.dtype}{list(tokens.shape)}")
    if np.any((tokens < -1) | (tokens >= n_vocab)):
        raise ValueError(f"tokens of the history must be below {n_vocab}")
    ends = np.flatnonzero(tokens == -1)
    parts = np.split(tokens, ends)
    return [text for part in parts if (text := part[part >= 0].tolist())]


def load_into(core: _core.Generator, path: str | os.PathLike[str], key: PairKey) -> None:
    """Lets a core continue from a file. The file's history is added to that of the core.

    Raises:
        OSError, ValueError: as `profiles.load`.
    """
    n_vocab = core.target.n_vocab
    known, texts = profiles.load(
        path, key, lambda profile: (from_plain(profile), _history(profile, n_vocab))
    )
    core.restore(known)
    for text in texts:
        core.add_history(text)


def restore_file(
    core: _core.Generator, key: PairKey, profile: str | os.PathLike[str] | bool
) -> None:
    """Lets a new core start from a file.

    Args:
        core: knows nothing of its pair.
        key: identifies the models.
        profile: a file; True for the one in the cache folder, if it exists; False for none.

    Raises:
        OSError, ValueError: as `profiles.load`, for a file that was named.
    """
    if not isinstance(profile, bool):
        load_into(core, profile, key)
    elif profile:
        # A file in the cache folder that cannot be used, such as one of an older version, is
        # ignored here and written again once the costs are measured.
        try:
            load_into(core, key.path, key)
        except FileNotFoundError:
            pass
        except (ValueError, OSError) as error:
            print(f"ersd: starting without a profile: {error}", file=sys.stderr)


class CostFile:
    """Writes the costs of calls to the cache folder, each time after they have been measured."""

    def __init__(self, core: _core.Generator, key: PairKey | None) -> None:
        """key: identifies the pair; None for costs that are not to be written."""
        self._core = core
        self._key = key
        self._lock = threading.Lock()
        self._written = 0  # measurements whose result the file holds

    def write_if_measured(self) -> None:
        """Writes the costs beside what the file holds already, if they were measured since."""
        if self._key is None or self._core.n_measurements == self._written:
            return
        with self._lock:
            n_measurements = self._core.n_measurements
            if n_measurements != self._written:  # no other thread has written them meanwhile
                self._write(self._key)
                self._written = n_measurements

    def _write(self, key: PairKey) -> None:
        kept, known = to_plain(_core.Profile()), to_plain(self._core.profile())
        with contextlib.suppress(ValueError, OSError):
            kept = profiles.load(key.path, key, _checked)
        kept = replace(kept, target_ms=known.target_ms, draft_ms=known.draft_ms)
        with contextlib.suppress(OSError):  # the folder may be read-only, or the disk full
            profiles.save(kept, key.path, key)


def _checked(profile: Profile) -> Profile:
    from_plain(profile)
    return profile
