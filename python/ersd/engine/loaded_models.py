"""The models of an engine in memory: their tokens, their caches, and what is known of the pair."""

from __future__ import annotations

import os
from collections.abc import Sequence
from typing import Any

from ersd import _core
from ersd import profile as profiles
from ersd.engine.core_profile import CostFile, from_plain, restore_file, to_plain
from ersd.engine.lock import EngineLock
from ersd.engine.width_verdict import WidthVerdict
from ersd.profile import PairKey, Profile
from ersd.results import Exactness, Forecast
from ersd.state import State

__all__ = ["LoadedModels"]

_Path = str | os.PathLike[str]


class LoadedModels:
    """A target and perhaps a draft, loaded from files.

    `ersd.Generator`, a subclass, describes the arguments of the constructor and the errors that it
    raises.

    Attributes:
        chat_template: the Jinja template that replaces the target's own; None to keep the latter.
    """

    def __init__(
        self,
        model_path: _Path,
        draft_model_path: _Path | None = None,
        *,
        n_ctx: int = 0,
        n_batch: int = 512,
        n_threads: int | None = None,
        n_gpu_layers: int = -1,
        draft_n_gpu_layers: int = -1,
        main_gpu: int = 0,
        split_mode: int = 1,
        tensor_split: Sequence[float] | None = None,
        use_mmap: bool = True,
        use_mlock: bool = False,
        flash_attn: bool | None = None,
        offload_kqv: bool = True,
        type_k: str = "",
        type_v: str = "",
        lora_path: _Path | None = None,
        lora_scale: float = 1.0,
        exact: bool | None = None,
        context_shift: bool = False,
        n_keep: int = 0,
        chat_template: str | None = None,
        profile: _Path | bool = True,
        verbose: bool = False,
    ) -> None:
        """Loads the models. The class `ersd.Generator` describes the arguments."""
        _core.set_verbose(verbose)
        loading: dict[str, Any] = {  # the options that the costs of calls depend on
            "n_gpu_layers": n_gpu_layers,
            "draft_n_gpu_layers": draft_n_gpu_layers,
            "main_gpu": main_gpu,
            "split_mode": split_mode,
            "tensor_split": list(tensor_split or []),
            "flash_attn": -1 if flash_attn is None else int(flash_attn),
            "offload_kqv": offload_kqv,
            "type_k": type_k,
            "type_v": type_v,
            "lora_path": "" if lora_path is None else os.fspath(lora_path),
            "lora_scale": lora_scale,
        }
        others = {
            "n_ctx": n_ctx,
            "n_batch": n_batch,
            "n_threads": n_threads or 0,
            "use_mmap": use_mmap,
            "use_mlock": use_mlock,
            "context_shift": context_shift,
            "n_keep": n_keep,
            "exact": exact,
        }
        self._core = _load(model_path, draft_model_path, loading, others)
        self.chat_template = chat_template
        self._lora = "" if lora_path is None else f"{os.path.basename(lora_path)} by {lora_scale}"
        self._pair = _pair_key(model_path, draft_model_path, loading, self._core.n_threads)
        restore_file(self._core, self._pair, profile)
        costs = CostFile(self._core, self._pair if profile is True else None)
        self._lock = EngineLock(before_release=costs.write_if_measured)

    @property
    def target(self) -> _core.Model:
        """The target: path, description, architecture, n_vocab, n_ctx_train, n_params, size, ...

        It also has the token ids bos, eos and fim, and ``metadata(key)`` of the GGUF file.
        """
        return self._core.target

    @property
    def draft(self) -> _core.Model | None:
        """The draft, with the attributes of `target`; None if there is no draft."""
        return self._core.draft

    @property
    def exact(self) -> Exactness:
        """Whether the text is the same to the bit whatever is drafted, and why."""
        return Exactness(self._core.exact, self._core.exact_reason)

    @property
    def n_ctx(self) -> int:
        """The number of tokens that prompt and answer may have together."""
        return self._core.n_ctx

    def tokenize(
        self, text: str, *, add_special: bool = True, parse_special: bool = True
    ) -> list[int]:
        """Converts text to token ids.

        Args:
            text: any text.
            add_special: whether to add the tokens that the model expects around a text, such as the
                beginning of sequence.
            parse_special: whether special tokens like ``<|im_end|>`` in the text are parsed.
        """
        return self._core.target.tokenize(text, add_special, parse_special)

    def detokenize(self, tokens: Sequence[int], *, special: bool = False) -> str:
        """Converts token ids to text. Bytes that are not UTF-8 become U+FFFD.

        Args:
            tokens: token ids.
            special: whether to show special tokens.

        Raises:
            ValueError: a token is not in the vocabulary.
        """
        pieces = (self._core.target.piece(token, special) for token in tokens)
        return b"".join(pieces).decode("utf-8", "replace")

    def reset(self) -> None:
        """Empties the caches, so that all of the next prompt is read."""
        with self._lock:
            self._core.reset()

    def save_state(self) -> State:
        """Returns what the caches hold of the last prompt and answer, as data that can be pickled.

        `load_state` accepts it in a Generator with the same models and the same cache types.
        """
        with self._lock:
            return State(self._descriptions(), *self._core.save_state())

    def load_state(self, state: State) -> None:
        """Replaces what the caches hold. A prompt that begins with these tokens is not read again.

        Raises:
            ValueError: the state is of other models or cache types, or longer than the context. The
                caches are empty then.
        """
        if state.models != self._descriptions():
            raise ValueError(
                f"the state is of the models {state.models}, "
                f"this Generator has {self._descriptions()}"
            )
        with self._lock:
            self._core.load_state(state.tokens, state.data, state.draft_tokens, state.draft_data)

    def _descriptions(self) -> list[str]:
        """Describes the models, to recognise them in another process."""
        models = [self.target, self.draft] if self.draft else [self.target]
        found = [f"{m.description}, {m.n_params} parameters, {m.size} bytes" for m in models]
        if self._lora:
            found[0] += f", LoRA {self._lora}"
        return found

    def profile(self) -> Profile:
        """Returns what is known of the pair: costs of calls, ranks, margins and correction.

        Raises:
            ValueError: there is no draft model.
        """
        with self._lock:
            return to_plain(self._core.profile())

    def save_profile(self, path: _Path | None = None) -> str:
        """Writes what is known of the pair to a file and returns the file's path.

        Args:
            path: a file; None for the one in the cache folder, which every Generator of this pair
                on this machine loads when it is made.

        Raises:
            ValueError: there is no draft model.
            OSError: the file cannot be written.
        """
        pair = self._need_pair()
        written = pair.path if path is None else path
        profiles.save(self.profile(), written, pair)
        return os.fspath(written)

    def load_profile(self, path: _Path | None = None) -> None:
        """Replaces what is known of the pair by a profile.

        Args:
            path: a file of `save_profile`; None for the one in the cache folder.

        Raises:
            FileNotFoundError: there is no such file.
            ValueError: the file is not a profile, or of another pair; or there is no draft model.
        """
        pair = self._need_pair()
        known = profiles.load(pair.path if path is None else path, pair, from_plain)
        with self._lock:
            self._core.restore(known)

    def _need_pair(self) -> PairKey:
        if self._pair is None:
            raise ValueError("a profile describes a pair of models: it needs a draft model")
        return self._pair

    def forget(self) -> None:
        """Forgets what generations taught of the draft: ranks, margins and correction.

        The costs of calls stay known.
        """
        with self._lock:
            self._core.forget()

    def measure_costs(self) -> None:
        """Measures what calls of both models cost, in about a second, even if it is known.

        Raises:
            ValueError: there is no draft model.
        """
        with self._lock:
            known = self._core.profile()
            known.target, known.draft = _core.CostCurve(), _core.CostCurve()
            self._core.restore(known)
            self._core.forecast()

    def forecast(self) -> list[Forecast]:
        """Returns a forecast for plain decoding, then one for each k that "auto" chooses from.

        The first call measures costs, in about a second, unless they are known.

        Raises:
            ValueError: there is no draft model.
        """
        with self._lock:
            plans = self._core.forecast()
        return [Forecast(plan.nodes, plan.tokens, plan.ms) for plan in plans]


def _load(
    model_path: _Path,
    draft_model_path: _Path | None,
    loading: dict[str, Any],
    others: dict[str, Any],
) -> _core.Generator:
    """Loads the models, with what is known of the target's call widths."""
    # A short context is not tested on a long cache, so its verdict does not hold for a longer one.
    tested = loading | {"n_ctx": others["n_ctx"]}
    verdict = WidthVerdict(model_path, _device_names(), tested)
    core = _core.Generator(
        os.fspath(model_path),
        "" if draft_model_path is None else os.fspath(draft_model_path),
        width_that_differs=verdict.read(),
        **loading,
        **others,
    )
    verdict.write(core.width_that_differs)
    return core


def _pair_key(
    model_path: _Path, draft_model_path: _Path | None, loading: dict[str, Any], n_threads: int
) -> PairKey | None:
    """Identifies the pair; None if there is no draft."""
    if draft_model_path is None:
        return None
    loading = loading | {"n_threads": n_threads}
    return PairKey(model_path, draft_model_path, _device_names(), loading)


def _device_names() -> list[str]:
    return [name for name, _, _ in _core.devices()]
