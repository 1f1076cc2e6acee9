"""The models of an engine in memory: their options, their tokens and their caches."""

from __future__ import annotations

import os
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

from ersd import _core, arguments
from ersd.engine.async_driver import AsyncDriver
from ersd.engine.core_profile import CostFile, restore_file
from ersd.engine.draft_texts import DraftTexts
from ersd.engine.model_options import ModelOptions, load_core
from ersd.engine.shared_core import SharedCore
from ersd.grammars import Compiler
from ersd.results import Exactness
from ersd.state import State, check_state, checked_state

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
        prompt_share: float = 0.5,
        draft_sources: Sequence[str] | None = None,
        n_history: int = 32768,
        chat_template: str | None = None,
        profile: _Path | bool = True,
        llama_params: Mapping[str, Any] | None = None,
        verbose: bool = False,
    ) -> None:
        """Loads the models. The class `ersd.Generator` describes the arguments."""
        given = ModelOptions({k: v for k, v in locals().items() if k != "self"})
        _core.set_verbose(arguments.flag("verbose", verbose))
        known = profile if isinstance(profile, bool) else arguments.file_path("profile", profile)
        self.chat_template = chat_template and arguments.text("chat_template", chat_template)
        self._texts = DraftTexts(partial(self.tokenize, add_special=False), draft_sources)
        given.others["drafts"] = self._texts.drafts_without_model
        if not self._texts.keeps_history:
            given.others["n_history"] = 0
        self._core = load_core(given)
        self._begin(given, known)

    def _begin(self, given: ModelOptions, profile: str | bool) -> None:
        """Prepares what works on the loaded models."""
        lora, scale = given.loading["lora_path"], given.loading["lora_scale"]
        self._grammars = Compiler(self._core.target)
        self._lora = f"{os.path.basename(lora)} by {scale}" if lora else ""
        self._contents = given.contents()
        self._pair = given.pair_key(self._contents, self._core.n_threads)
        restore_file(self._core, self._pair, profile)
        kept = self._pair if profile is True else None
        self._shared = SharedCore(self._core, CostFile(self._core, kept))
        self._driver = AsyncDriver(self._shared, owner=self)
        self._context_options = given.context()

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
        return self._core.target.tokenize(
            arguments.text("text", text),
            arguments.flag("add_special", add_special),
            arguments.flag("parse_special", parse_special),
        )

    def detokenize(self, tokens: Sequence[int], *, special: bool = False) -> str:
        """Converts token ids to text. Bytes that are not UTF-8 become U+FFFD.

        Args:
            tokens: token ids.
            special: whether to show special tokens.

        Raises:
            ValueError: a token is not in the vocabulary.
        """
        found = arguments.token_ids("tokens", tokens, "a list of token ids")
        pieces = (self._core.target.piece(token, bool(special)) for token in found)
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
            return checked_state(self._descriptions(), *core.save_state())

    def load_state(self, state: State) -> None:
        """Replaces what the caches hold. A prompt that begins with these tokens is not read again.

        Raises:
            TypeError: it is no state.
            ValueError: the state is damaged, of other models or cache types, or longer than the
                context. The caches are empty then, unless it is of other models.
            RuntimeError: generations are under way.
        """
        check_state(state)
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
        found = [
            f"{model.description}, {model.n_params} parameters, {model.size} bytes, "
            f"contents {contents[:16]}"
            for model, contents in zip(models, self._contents, strict=True)
        ]
        if self._lora:
            found[0] += f", LoRA {self._lora}"
        return found
