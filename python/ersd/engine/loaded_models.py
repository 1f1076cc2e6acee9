"""The models of an engine in memory: their options, their tokens and their caches."""

from __future__ import annotations

import os
from collections.abc import Sequence
from functools import partial
from typing import Any

from ersd import _core
from ersd.engine.async_driver import AsyncDriver
from ersd.engine.core_profile import CostFile, restore_file
from ersd.engine.draft_texts import DraftTexts
from ersd.engine.rpc_servers import reachable
from ersd.engine.shared_core import SharedCore
from ersd.engine.width_verdict import WidthVerdict
from ersd.grammars import Compiler
from ersd.profile import PairKey
from ersd.results import Exactness
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
        rpc_servers: Sequence[str] | None = None,
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
        n_parallel: int = 4,
        n_ctx_total: int = 0,
        prompt_share: float = 0.6,
        draft_sources: Sequence[str] | None = None,
        n_history: int = 32768,
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
            "rpc_servers": reachable(rpc_servers or []),
            "flash_attn": -1 if flash_attn is None else int(flash_attn),
            "offload_kqv": offload_kqv,
            "type_k": type_k,
            "type_v": type_v,
            "lora_path": "" if lora_path is None else os.fspath(lora_path),
            "lora_scale": lora_scale,
        }
        others: dict[str, Any] = {"n_ctx": n_ctx, "n_batch": n_batch, "n_threads": n_threads or 0}
        others |= {"n_parallel": n_parallel, "n_ctx_total": n_ctx_total}
        others |= {"prompt_share": prompt_share, "context_shift": context_shift, "n_keep": n_keep}
        others |= {"use_mmap": use_mmap, "use_mlock": use_mlock, "exact": exact}
        self._texts = DraftTexts(partial(self.tokenize, add_special=False), draft_sources)
        others |= {"n_history": n_history if self._texts.keeps_history else 0}
        others |= {"drafts": self._texts.drafts_without_model}
        self._core = _load(model_path, draft_model_path, loading, others)
        self.chat_template = chat_template
        self._grammars = Compiler(self._core.target)
        self._lora = "" if lora_path is None else f"{os.path.basename(lora_path)} by {lora_scale}"
        self._pair = _pair_key(model_path, draft_model_path, loading, self._core.n_threads)
        restore_file(self._core, self._pair, profile)
        kept = self._pair if profile is True else None
        self._shared = SharedCore(self._core, CostFile(self._core, kept))
        self._driver = AsyncDriver(self._shared, owner=self)

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

    @property
    def n_parallel(self) -> int:
        """The largest number of generations that run at once."""
        return self._core.n_parallel

    @property
    def n_ctx_total(self) -> int:
        """The number of tokens that all generations and kept texts may have in the cache."""
        return self._core.n_ctx_total

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
        """Empties the caches, so that all of the next prompt is read.

        Generations that are under way keep what they have in the cache.
        """
        with self._shared.use() as core:
            core.reset()

    def save_state(self) -> State:
        """Returns what the caches hold of a prompt and answer, as data that can be pickled.

        The generation is the one that ended last. `load_state` accepts the data in a Generator with
        the same models and the same cache types.
        """
        with self._shared.use() as core:
            return State(self._descriptions(), *core.save_state())

    def load_state(self, state: State) -> None:
        """Replaces what the caches hold. A prompt that begins with these tokens is not read again.

        Raises:
            ValueError: the state is of other models or cache types, or longer than the context. The
                caches are empty then.
            RuntimeError: generations are under way.
        """
        if state.models != self._descriptions():
            raise ValueError(
                f"the state is of the models {state.models}, "
                f"this Generator has {self._descriptions()}"
            )
        with self._shared.use() as core:
            core.load_state(state.tokens, state.data, state.draft_tokens, state.draft_data)

    def _descriptions(self) -> list[str]:
        """Describes the models, to recognise them in another process."""
        models = [self.target, self.draft] if self.draft else [self.target]
        found = [f"{m.description}, {m.n_params} parameters, {m.size} bytes" for m in models]
        if self._lora:
            found[0] += f", LoRA {self._lora}"
        return found


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
        **verdict.read(),
        **loading,
        **others,
    )
    verdict.write(width_that_differs=core.width_that_differs, padding=core.padding)
    return core


def _pair_key(
    model_path: _Path, draft_model_path: _Path | None, loading: dict[str, Any], n_threads: int
) -> PairKey:
    """Identifies the models and what their costs depend on."""
    loading = loading | {"n_threads": n_threads}
    return PairKey(model_path, draft_model_path, _device_names(), loading)


def _device_names() -> list[str]:
    return [name for name, _, _ in _core.devices()]
