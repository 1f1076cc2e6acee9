"""The options that models are loaded with, in the core's form, and what identifies the models."""

from __future__ import annotations

import contextlib
import hashlib
import math
import os
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from ersd import _core, arguments
from ersd.engine.rpc_servers import reachable
from ersd.engine.width_verdict import WidthVerdict
from ersd.files import fingerprint
from ersd.profile import PairKey

__all__ = ["ModelOptions", "load_core"]

_Path = str | os.PathLike[str]
# What another context of the target has in common with the Generator's.
_CONTEXT = ("flash_attn", "offload_kqv", "op_offload", "type_k", "type_v", "rope_", "yarn_")
# Options that the core takes as they are: those that the costs of calls depend on, and others.
_LOADING = (
    "n_gpu_layers",
    "main_gpu",
    "draft_n_gpu_layers",
    "split_mode",
    "offload_kqv",
    "type_k",
    "type_v",
    "lora_scale",
)
_OTHERS = (
    "n_ctx",
    "n_batch",
    "n_parallel",
    "n_ctx_total",
    "exact",
    "prompt_share",
    "context_shift",
    "n_keep",
    "use_mmap",
    "use_mlock",
    "n_history",
)


class ModelOptions:
    """The arguments of `ersd.Generator` that concern its models.

    Attributes:
        target: the target's path.
        draft: the draft's path; None without a draft.
        loading: the options that the costs of calls depend on, for the core.
        others: the other options for the core.
    """

    def __init__(self, given: Mapping[str, Any]) -> None:
        """Checks the arguments.

        Raises:
            TypeError, ValueError: a path, a flag or a share is of a wrong type or out of range.
        """
        self.target = arguments.file_path("model_path", given["model_path"])
        self.draft = _path_or_none("draft_model_path", given["draft_model_path"])
        self.loading: dict[str, Any] = {name: given[name] for name in _LOADING}
        self.loading["tensor_split"] = _shares(given["tensor_split"])
        self.loading["rpc_servers"] = reachable(given["rpc_servers"] or [])
        self.loading["flash_attn"] = _flag_or_auto("flash_attn", given["flash_attn"])
        self.loading["lora_path"] = _path_or_none("lora_path", given["lora_path"]) or ""
        self.loading |= given["llama_params"] or {}
        self.others: dict[str, Any] = {name: given[name] for name in _OTHERS}
        self.others["n_threads"] = given["n_threads"] or 0

    def contents(self) -> list[str]:
        """Returns a hash for each model that tells whether two Generators have the same one.

        The target's counts its adapter, too.
        """
        found = [fingerprint(Path(path)) for path in self._paths()]
        if lora := self.loading["lora_path"]:
            adapted = f"{found[0]} {fingerprint(Path(lora))} {self.loading['lora_scale']}"
            found[0] = hashlib.sha256(adapted.encode()).hexdigest()
        return found

    def context(self) -> dict[str, Any]:
        """Returns the options of a context of llama.cpp beside the Generator's, except sizes."""
        return {k: v for k, v in self.loading.items() if k.startswith(_CONTEXT)}

    def pair_key(self, contents: list[str], n_threads: int) -> PairKey:
        """Identifies the models and what their costs depend on."""
        loading = self.loading | {"n_threads": n_threads}
        return PairKey(self._paths(), contents, _device_names(), loading)

    def _paths(self) -> list[str]:
        return [path for path in (self.target, self.draft) if path is not None]


def load_core(options: ModelOptions) -> _core.Generator:
    """Loads the models, with what is known of the target's call widths."""
    # A short context is not tested on a long cache, so its verdict does not hold for a longer one.
    tested = options.loading | {"n_ctx": options.others["n_ctx"]}
    if lora := options.loading["lora_path"]:
        with contextlib.suppress(OSError):  # the core says that there is no such file
            tested["lora_path"] = fingerprint(Path(lora))
    verdict = WidthVerdict(options.target, _device_names(), tested)
    core = _core.Generator(
        options.target,
        options.draft or "",
        **verdict.read(),
        **options.loading,
        **options.others,
    )
    verdict.write(width_that_differs=core.width_that_differs, padding=core.padding)
    return core


def _flag_or_auto(who: str, flag: bool | None) -> int:
    return -1 if flag is None else int(arguments.flag(who, flag))


def _path_or_none(who: str, path: _Path | None) -> str | None:
    return None if path is None else arguments.file_path(who, path)


def _shares(tensor_split: Sequence[float] | None) -> list[float]:
    """Returns the shares of GPUs; none for llama.cpp's choice."""
    if tensor_split is None:
        return []
    shares = list(tensor_split) if isinstance(tensor_split, Iterable) else [None]
    numbers = all(isinstance(each, int | float | np.number) for each in shares)
    if not numbers or not all(0 <= each < math.inf for each in shares):
        raise ValueError(
            f"tensor_split must be shares of at least 0, one for each GPU, got {tensor_split!r}"
        )
    return [float(each) for each in shares]


def _device_names() -> list[str]:
    return [name for name, _, _ in _core.devices()]
