"""A model as llama_cpp.Llama loads it: its arguments, its vocabulary and its properties."""

from __future__ import annotations

import os
import weakref
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any, TypeVar

from ersd import arguments
from ersd.engine import Embedder, Model, ModelFacts, RowReader, model_facts, set_verbose
from ersd.llama.arguments import DEFAULT_SEED, Arguments, arguments_of
from ersd.llama.recorded import RecordedGenerator
from ersd.llama.tokenizer import LlamaTokenizer

__all__ = ["LoadedLlama"]

_Self = TypeVar("_Self", bound="LoadedLlama")


class LoadedLlama:
    """The constructor, and what needs no call of the model. See `ersd.Llama`."""

    def __init__(self, model_path: str | os.PathLike[str], **arguments: Any) -> None:
        """Loads the model; see `ersd.Llama`."""
        self._generator: RecordedGenerator | None = None
        self._embedder: Embedder | None = None
        self._rows: RowReader | None = None
        self._model_file: Model | None = None
        self._arguments = arguments_of(arguments)
        self._given = arguments
        self.model_path = os.fspath(model_path)
        if not os.path.exists(self.model_path):
            raise ValueError(f"Model path does not exist: {self.model_path}")
        self._take(self._arguments)
        self._load(self._arguments)
        facts = self._facts()
        self.metadata = facts.metadata
        self._is_recurrent, self._is_hybrid = facts.is_recurrent, facts.is_hybrid
        self.context_params = self._context_params(self._arguments)

    def _take(self, given: Arguments) -> None:
        """Sets the attributes that llama_cpp.Llama has for its arguments."""
        if given.n_ctx == 0:
            given.n_ctx = _trained_length(self.model_path)
        given.n_batch = min(given.n_ctx, given.n_batch)
        self.verbose, self.numa = given.verbose, given.numa
        self.n_batch, self.n_threads = given.n_batch, given.n_threads
        self.n_threads_batch = given.n_threads_batch
        self.tensor_split, self.kv_overrides = given.tensor_split, given.kv_overrides
        self.last_n_tokens_size = given.last_n_tokens_size
        self.lora_base, self.lora_path = given.lora_base, given.lora_path
        self.lora_scale = given.lora_scale
        self.chat_handler, self.draft_model = given.chat_handler, given.draft_model
        self.spm_infill = given.spm_infill
        self.cache: Any = None
        self.set_seed(given.seed or DEFAULT_SEED)

    def _load(self, given: Arguments) -> None:
        """Loads what the arguments ask for. With embedding=True, the Generator can wait."""
        if given.embedding or given.vocab_only:
            kind: dict[str, Any] = {"any_kind": True, "vocab_only": given.vocab_only}
            kind |= {"kv_overrides": given.overrides()}
            set_verbose(self.verbose)
            self._model_file = Model(self.model_path, **given.model_options(), **kind)
        else:
            _ = self.generator
        if given.embedding:
            self._embedder = Embedder(
                self._target(),
                **given.context_options(),
                n_ubatch=given.n_ubatch,
                pooling_type=given.pooling_type,
                attention_type=given.attention_type,
            )
        self.tokenizer_ = given.tokenizer or self.tokenizer()

    @property
    def generator(self) -> RecordedGenerator:
        """The Generator that generates.

        Raises:
            RuntimeError: the model was loaded with vocab_only=True, or closed.
        """
        if self._generator is None:
            self._check_open()
            if self._arguments.vocab_only:
                raise RuntimeError("Llama: with vocab_only=True the model only tokenises")
            options = self._arguments.generator_options()
            self._generator = RecordedGenerator(self.model_path, **options)
            restore = weakref.WeakMethod(self._restore)  # no circle of references
            self._generator.before = lambda prompt: _call(restore(), prompt)
        return self._generator

    def _restore(self, prompt: list[int]) -> None:
        """Is called before a prompt is read."""

    def _check_open(self) -> None:
        if self._closed:
            raise RuntimeError("Llama: the model is closed")

    _closed = False

    def _target(self) -> Model:
        self._check_open()
        return self._model_file or self.generator.target

    def _facts(self) -> ModelFacts:
        return model_facts(self._target())

    def _context_params(self, given: Arguments) -> SimpleNamespace:
        """Returns what llama_cpp.Llama keeps of its context, by llama.cpp's names."""
        names = [
            *("n_ctx", "n_batch", "n_threads", "n_threads_batch", "pooling_type"),
            *("rope_scaling_type", "rope_freq_base", "rope_freq_scale", "attention_type"),
            *("yarn_ext_factor", "yarn_attn_factor", "yarn_beta_fast", "yarn_beta_slow"),
            *("yarn_orig_ctx", "offload_kqv", "no_perf"),
        ]
        return SimpleNamespace(
            **{name: getattr(given, name) for name in names},
            n_ubatch=min(given.n_batch, given.n_ubatch),
            type_k=1 if given.type_k is None else given.type_k,  # f16
            type_v=1 if given.type_v is None else given.type_v,
            n_seq_max=self._embedder.n_texts if self._embedder else 1,
            embeddings=given.embedding,
            flash_attn_type=int(given.flash_attn),
            op_offload=given.op_offload is not False,
            swa_full=True,
        )

    @property
    def model(self) -> int:
        """The address of llama.cpp's model, as functions of llama_cpp take it."""
        return self._facts().address

    def tokenizer(self) -> LlamaTokenizer:
        """Returns the model's own tokenizer."""
        return LlamaTokenizer(self._target())

    def tokenize(self, text: bytes, add_bos: bool = True, special: bool = False) -> list[int]:
        """Returns the tokens of a text.

        Args:
            text: the text in UTF-8.
            add_bos: whether to add the tokens that the model expects around a text.
            special: whether special tokens like ``<|im_end|>`` in the text are parsed.
        """
        tokens: list[int] = self.tokenizer_.tokenize(text, add_bos, special)
        return tokens

    def detokenize(
        self,
        tokens: Sequence[int],
        prev_tokens: Sequence[int] | None = None,
        special: bool = False,
    ) -> bytes:
        """Returns the bytes of tokens.

        Args:
            tokens: token ids.
            prev_tokens: the tokens before; only a tokenizer that was given may depend on them.
            special: whether to show special tokens.
        """
        text: bytes = self.tokenizer_.detokenize(tokens, prev_tokens=prev_tokens, special=special)
        return text

    def n_ctx(self) -> int:
        """Returns the number of tokens that prompt and answer may have together."""
        return self._arguments.n_ctx

    def n_embd(self) -> int:
        """Returns the number of numbers in a hidden state."""
        return self._facts().n_embd

    def n_vocab(self) -> int:
        """Returns the number of tokens in the vocabulary."""
        return self._target().n_vocab

    def token_bos(self) -> int:
        """Returns the token of a beginning of sequence; -1 if there is none."""
        return self._target().bos

    def token_eos(self) -> int:
        """Returns the token of an end of sequence; -1 if there is none."""
        return self._target().eos

    def token_nl(self) -> int:
        """Returns the token of a line break; -1 if there is none."""
        return self._facts().nl

    def pooling_type(self) -> int:
        """Returns how embeddings are pooled: 0 none, 1 mean, 2 cls, 3 last, 4 rank."""
        return 0 if self._embedder is None else self._embedder.pooling_type

    def set_cache(self, cache: Any) -> None:
        """Sets where states are kept between calls, like a llama_cpp.LlamaRAMCache; None for none.

        Args:
            cache: a mapping from tokens to states, which returns the state of the longest common
                beginning and raises KeyError if there is none.
        """
        self.cache = cache

    def set_seed(self, seed: int) -> None:
        """Sets the seed of the next call; 0xFFFFFFFF or -1 draws a random one.

        Raises:
            TypeError: it is no int.
        """
        self._seed = arguments.whole("seed", seed)

    def close(self) -> None:
        """Frees the model. Every later call raises RuntimeError."""
        self._closed = True
        self._generator = self._embedder = self._rows = self._model_file = None

    def __del__(self) -> None:
        """Frees the model."""
        self.close()

    def __enter__(self: _Self) -> _Self:
        """Returns the object itself."""
        return self

    def __exit__(self, *error: object) -> None:
        """Closes the model."""
        self.close()

    def __getstate__(self) -> dict[str, Any]:
        """Returns the arguments of the constructor, by which a copy is loaded again."""
        return {"model_path": self.model_path, **self._given, "seed": self._seed}

    def __setstate__(self, state: dict[str, Any]) -> None:
        """Loads the model again."""
        self.__init__(**state)  # type: ignore[misc]


def _call(function: Any, prompt: list[int]) -> None:
    if function is not None:
        function(prompt)


def _trained_length(model_path: str) -> int:
    """Returns the number of tokens that the model was trained with."""
    metadata = model_facts(Model(model_path, vocab_only=True, any_kind=True)).metadata
    return int(metadata[f"{metadata['general.architecture']}.context_length"])
