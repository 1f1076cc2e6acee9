"""Profiles: what is known of a pair of models, kept in a file from one process to the next.

The cost of calls belongs to a machine and to the options of loading. Ranks, margins and correction
belong to the pair of models and are useful on every machine. If it is asked for, the texts of the
history are kept, too. With races (method "ersd") none of this changes the text: a profile only
decides how fast the text comes.
"""

from __future__ import annotations

import hashlib
import os
import platform
import zipfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from pathlib import Path
from typing import Any, TypeVar

import numpy as np
import numpy.typing as npt

from ersd._loader import REQUIREMENT
from ersd.files import cache_folder, replacing

__all__ = ["PairKey", "Profile", "load", "machine", "processor", "save"]

_FORMAT = 2  # of the file; it changes when a field of Profile changes
_MOST_BYTES = 1 << 28  # of all arrays together
_Made = TypeVar("_Made")
_Floats = npt.NDArray[np.float32]
_Tokens = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Profile:
    """What is known of a pair of models. The fields are the arrays of the file.

    Attributes:
        target_ms: milliseconds of a target call by the length of the cache and by its width,
            f64[2, 19]; all 0 if not measured. The axes are `ersd.engine.COST_LENGTHS` and
            `ersd.engine.COST_WIDTHS`.
        draft_ms: milliseconds of a draft call in the same way.
        rank_weights: counts of the emitted token's rank in the draft's order, f64[65]. Older counts
            fade; the last entry is for all later ranks.
        margin_coefficients: of the model of race margins, f64[5]; see learning/margins.h.
        margin_information: the information matrix of these coefficients, f64[5, 5].
        correction_before: the context of each correction, i32[n]: the token before, or -1 for any.
        correction_token: the token whose logit is corrected, i32[n].
        correction_bias: what is added to this logit, f32[n].
        correction_squares: the sum of squared differences behind this number, f32[n].
        history: tokens of texts to draft from, the oldest first, i32[n]; -1 stands between texts.
    """

    target_ms: list[list[float]]
    draft_ms: list[list[float]]
    rank_weights: list[float]
    margin_coefficients: list[float]
    margin_information: list[list[float]]
    correction_before: _Tokens
    correction_token: _Tokens
    correction_bias: _Floats
    correction_squares: _Floats
    history: _Tokens = field(default_factory=lambda: np.zeros(0, np.int32))

    @property
    def has_costs(self) -> bool:
        """Whether the costs of calls are known."""
        return any(map(any, self.target_ms))


class PairKey:
    """Identifies a pair of models, and the machine and the options that call costs depend on.

    Attributes:
        pair: hashes of what is in both model files, and in the target's adapter.
        has_draft: whether there is a draft model.
        machine: the processor, the devices, llama.cpp's version and the options of loading.
    """

    def __init__(
        self,
        paths: Sequence[str | os.PathLike[str]],
        contents: Sequence[str],
        devices: Sequence[str],
        loading: Mapping[str, Any],
    ) -> None:
        """Identifies the pair.

        Args:
            paths: the target's file and, if there is a draft, the draft's.
            contents: a hash of what is in each of them.
            devices: names of llama.cpp's devices.
            loading: the options of loading that costs depend on.
        """
        self.pair = " ".join(contents)
        self.has_draft = len(paths) > 1
        self.machine = machine(devices, loading)
        key = hashlib.sha256(f"{self.pair} {self.machine}".encode()).hexdigest()[:12]
        stem = "+".join(Path(path).stem for path in paths)
        self._name = f"{stem}.{key}.profile.npz"

    @property
    def path(self) -> Path:
        """The profile's file in the cache folder. Raises OSError if there is no such folder."""
        return cache_folder() / self._name


def machine(devices: Sequence[str], loading: Mapping[str, Any]) -> str:
    """Describes what calls run on: the processor, llama.cpp, its devices, options of loading."""
    return repr((processor(), list(devices), REQUIREMENT, sorted(loading.items())))


def save(profile: Profile, path: str | os.PathLike[str], key: PairKey) -> None:
    """Writes a profile to a file. The file is complete, or it is not written.

    Raises:
        OSError: the file cannot be written.
    """
    labels: dict[str, Any] = {"format": _FORMAT, "pair": key.pair, "machine": key.machine}
    with replacing(Path(path)) as unfinished, unfinished.open("wb") as file:
        np.savez_compressed(file, allow_pickle=False, **labels, **vars(profile))


def load(path: str | os.PathLike[str], key: PairKey, make: Callable[[Profile], _Made]) -> _Made:
    """Reads a profile. Costs are set to 0 if another machine or other options measured them.

    Args:
        path: a file of `save`.
        key: identifies the pair of models that the profile must be of.
        make: converts the profile to what is returned. It raises ValueError or TypeError for
            numbers that it cannot use.

    Raises:
        OSError: there is no such file, or it cannot be read.
        ValueError: the file is not a profile, is of another format or another pair, or holds
            numbers that `make` refuses.
    """
    try:
        arrays = _arrays(path)
        if int(arrays["format"]) != _FORMAT:
            raise ValueError(f"expected format {_FORMAT}, got {int(arrays['format'])}")
        if str(arrays["pair"]) != key.pair:
            raise ValueError("it is that of another target or draft")
        profile = _profile(arrays, with_costs=str(arrays["machine"]) == key.machine)
        _check_costs(profile, has_draft=key.has_draft)
        return make(profile)
    except FileNotFoundError as error:
        raise FileNotFoundError(f"no such profile: '{os.fspath(path)}'") from error
    except KeyError as error:
        raise ValueError(
            f"profile '{os.fspath(path)}' cannot be used: it has no {error}"
        ) from error
    except OSError:
        raise
    except Exception as error:  # NumPy and zipfile raise many kinds of errors for damaged files
        reason = str(error) or type(error).__name__
        raise ValueError(f"profile '{os.fspath(path)}' cannot be used: {reason}") from error


def _arrays(path: str | os.PathLike[str]) -> dict[str, Any]:
    """Returns the arrays of a file, which must not be larger than any profile is."""
    with zipfile.ZipFile(path) as archive:
        if sum(member.file_size for member in archive.infolist()) > _MOST_BYTES:
            raise ValueError(f"it has more than {_MOST_BYTES} bytes")
    with np.load(path, allow_pickle=False) as file:
        return {name: file[name] for name in file.files}


def _profile(arrays: Mapping[str, Any], *, with_costs: bool) -> Profile:
    # Files of versions that had no history are read, too.
    arrays = {"history": np.zeros(0, np.int32), **arrays}
    found = {field.name: arrays[field.name] for field in fields(Profile)}
    lists = {
        name: array.tolist()
        for name, array in found.items()
        if name != "history" and not name.startswith("correction_")
    }
    profile = Profile(**found | lists)
    if not with_costs:
        return replace(
            profile,
            target_ms=np.zeros_like(profile.target_ms).tolist(),
            draft_ms=np.zeros_like(profile.draft_ms).tolist(),
        )
    return profile


def _check_costs(profile: Profile, *, has_draft: bool) -> None:
    if np.any(profile.draft_ms) != (has_draft and np.any(profile.target_ms)):
        models = "target and draft, or of neither" if has_draft else "the target alone"
        raise ValueError(f"costs must be those of {models}")


def processor() -> str:
    """Returns the processor's name and its number of cores, like "AMD EPYC 7B13 x 2"."""
    try:  # on Linux platform.processor() does not know the name
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        lines = []
    names = [line.partition(":")[2].strip() for line in lines if line.startswith("model name")]
    return f"{names[0] if names else platform.processor() or platform.machine()} x {os.cpu_count()}"
