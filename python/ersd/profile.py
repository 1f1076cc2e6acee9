"""Profiles: what is known of a pair of models, kept in a file from one process to the next.

What calls cost belongs to a machine and to the way the models were loaded; ranks, margins and correction belong to the pair and
serve wherever it runs. Neither changes a text of races: a profile only decides how soon it comes.
"""

from __future__ import annotations

import hashlib
import os
import platform
import zipfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np

from ersd import _core, _loader, models

__all__ = ["Place", "load", "processor", "save"]

_FORMAT = 1


class Place:
    """Where the profile of a pair is kept, and whose it is.

    Attributes:
        pair: fingerprints of both model files.
        machine: the processor, devices, llama.cpp and options of loading that costs depend on.
        path: the file in the user's cache folder (ERSD_CACHE, else the system's).
    """

    def __init__(
        self,
        model_path: str | os.PathLike[str],
        draft_model_path: str | os.PathLike[str],
        loading: Mapping[str, Any],
    ) -> None:
        """Of a target and a draft that were loaded with these options."""
        self.pair = " ".join(
            models.fingerprint(Path(path)) for path in (model_path, draft_model_path)
        )
        devices = [name for name, _, _ in _core.devices()]
        self.machine = repr((processor(), devices, _loader.REQUIREMENT, sorted(loading.items())))
        key = hashlib.sha256(f"{self.pair} {self.machine}".encode()).hexdigest()[:12]
        self.path = (
            models.cache_folder()
            / f"{Path(model_path).stem}+{Path(draft_model_path).stem}.{key}.profile.npz"
        )


def save(profile: _core.Profile, path: str | os.PathLike[str], place: Place) -> None:
    """Write a profile to a file, all of it or nothing. Raises OSError where that cannot be done."""
    before, token, bias, squares = profile.correction.state()
    arrays: dict[str, Any] = {
        "format": np.array(_FORMAT),
        "pair": np.array(place.pair),
        "machine": np.array(place.machine),
        "target_ms": profile.target.points,  # f64[len(CostCurve.widths)]
        "draft_ms": profile.draft.points,
        "rank_weights": profile.ranks.weights,  # f64[65]
        "margin_coefficients": profile.margins.coefficients,  # f64[5]
        "margin_information": profile.margins.information,  # f64[5, 5]
        "correction_before": before,  # i32[n], -1 for any token before
        "correction_token": token,  # i32[n]
        "correction_bias": bias,  # f32[n]
        "correction_squares": squares,  # f32[n]
    }
    with models.replacing(Path(path)) as unfinished, unfinished.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **arrays)


def load(path: str | os.PathLike[str], place: Place) -> _core.Profile:
    """Read a profile. Costs that were measured on another machine, or with other options, are left out.

    Raises:
        FileNotFoundError: no such file.
        ValueError: not a profile, not one of this version, or that of another pair.
    """
    try:
        with np.load(path, allow_pickle=False) as file:
            arrays = {name: file[name] for name in file.files}
        if int(arrays["format"]) != _FORMAT:
            raise ValueError(f"expected format {_FORMAT}, got {int(arrays['format'])}")
        if str(arrays["pair"]) != place.pair:
            raise ValueError("it is that of another target or draft")
        return _profile(arrays, with_costs=str(arrays["machine"]) == place.machine)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"no such profile: '{os.fspath(path)}'") from error
    except KeyError as error:
        raise ValueError(
            f"profile '{os.fspath(path)}' cannot be used: it has no {error}"
        ) from error
    except (ValueError, TypeError, EOFError, zipfile.BadZipFile) as error:
        raise ValueError(f"profile '{os.fspath(path)}' cannot be used: {error}") from error


def _profile(arrays: Mapping[str, Any], *, with_costs: bool) -> _core.Profile:
    profile = _core.Profile()
    for name in ("target", "draft") if with_costs else ():
        cost = _core.CostCurve()
        cost.set(arrays[f"{name}_ms"].tolist())
        setattr(profile, name, cost)
    if any(profile.target.points) != any(profile.draft.points):
        raise ValueError("costs must be those of target and draft, or of neither")
    profile.ranks = _core.RankHistogram(arrays["rank_weights"].tolist())
    profile.margins = _core.MarginModel(
        arrays["margin_coefficients"].tolist(), arrays["margin_information"].tolist()
    )
    correction = _core.Correction()
    correction.restore(
        *(arrays[f"correction_{name}"] for name in ("before", "token", "bias", "squares"))
    )
    profile.correction = correction
    return profile


def processor() -> str:
    """The processor's name, which platform does not tell on Linux, and its cores."""
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()} x {os.cpu_count()}"
