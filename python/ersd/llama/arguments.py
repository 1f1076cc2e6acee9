"""The arguments of llama_cpp.Llama's constructor, and what they mean for a Generator."""

from __future__ import annotations

import difflib
import inspect
import os
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields
from typing import Any

from ersd.generator import Generator

__all__ = ["DEFAULT_SEED", "Arguments", "arguments_of", "constructor_signature"]

DEFAULT_SEED = 0xFFFFFFFF  # llama.cpp's seed that stands for a random one
UNSPECIFIED = -1  # llama.cpp's value of a type that the model itself decides

# llama.cpp's numbers of the types that a cache can have.
_TYPES = {0: "f32", 1: "f16", 2: "q4_0", 3: "q4_1", 6: "q5_0", 7: "q5_1", 8: "q8_0"}
_TYPES |= {20: "iq4_nl", 30: "bf16"}
# Arguments of earlier versions, which llama_cpp.Llama takes and ignores as well.
_IGNORED = frozenset(["f16_kv", "n_parts", "n_gqa", "rms_norm_eps", "low_vram", "mul_mat_q"])
_ROPE = [
    *("rope_scaling_type", "rope_freq_base", "rope_freq_scale", "yarn_ext_factor"),
    *("yarn_attn_factor", "yarn_beta_fast", "yarn_beta_slow", "yarn_orig_ctx"),
]


@dataclass(kw_only=True)
class Arguments:
    """The keyword arguments with the names and defaults that they have in llama_cpp.Llama.

    `ersd.Llama` describes them. `options` are those that only `ersd.Generator` has.
    """

    n_gpu_layers: int = 0
    split_mode: int = 1
    main_gpu: int = 0
    tensor_split: Sequence[float] | None = None
    vocab_only: bool = False
    use_mmap: bool = True
    use_mlock: bool = False
    kv_overrides: Mapping[str, bool | int | float | str] | None = None
    seed: int = DEFAULT_SEED
    n_ctx: int = 512
    n_batch: int = 512
    n_ubatch: int = 512
    n_threads: int | None = None
    n_threads_batch: int | None = None
    rope_scaling_type: int | None = UNSPECIFIED
    pooling_type: int = UNSPECIFIED
    attention_type: int = UNSPECIFIED
    rope_freq_base: float = 0.0
    rope_freq_scale: float = 0.0
    yarn_ext_factor: float = -1.0
    yarn_attn_factor: float = 1.0
    yarn_beta_fast: float = 32.0
    yarn_beta_slow: float = 1.0
    yarn_orig_ctx: int = 0
    logits_all: bool = False
    embedding: bool = False
    offload_kqv: bool = True
    flash_attn: bool = False
    op_offload: bool | None = None
    swa_full: bool | None = None
    no_perf: bool = False
    last_n_tokens_size: int = 64
    lora_base: str | None = None
    lora_scale: float = 1.0
    lora_path: str | None = None
    numa: bool | int = False
    chat_format: str | None = None
    chat_handler: Any = None
    draft_model: Any = None
    tokenizer: Any = None
    type_k: int | str | None = None
    type_v: int | str | None = None
    spm_infill: bool = False
    verbose: bool = True
    options: dict[str, Any] = field(default_factory=dict)

    def __post_init__(self) -> None:
        """Raises ValueError for a value that this class cannot honour."""
        causal = self.embedding or self.attention_type in (UNSPECIFIED, 0)
        self._refuse(not causal, "attention_type", "-1 or 0 without embedding=True: text is "
                     "generated from left to right")  # fmt: skip
        self._refuse(self.swa_full is False, "swa_full", "None or True: a cache that drops old "
                     "tokens cannot return to them")  # fmt: skip
        self._refuse(bool(self.numa), "numa", "False: ersd does not spread memory over nodes; run "
                     "the program under numactl instead")  # fmt: skip
        other = self.draft_model is not None and not hasattr(self.draft_model, "num_pred_tokens")
        self._refuse(other, "draft_model", "a LlamaPromptLookupDecoding or None: other drafts are "
                     "GGUF files, named by draft_model_path")  # fmt: skip
        multimodal = hasattr(self.chat_handler, "clip_model_path")
        self._refuse(multimodal, "chat_handler", "one for text: ersd reads no images")
        self._refuse(self.vocab_only and self.embedding, "embedding", "False with vocab_only=True: "
                     "embeddings need the weights")  # fmt: skip

    def _refuse(self, is_bad: bool, name: str, expected: str) -> None:
        if is_bad:
            raise ValueError(f"Llama: {name} must be {expected}, got {getattr(self, name)!r}")

    def llama_params(self) -> dict[str, Any]:
        """Returns the parameters of llama.cpp that are not left to the model."""
        found = {name: getattr(self, name) for name in _ROPE}
        params = {
            name: value
            for name, value in found.items()
            if value is not None and value != getattr(Arguments, name)
        }
        if self.op_offload is not None:
            params["op_offload"] = self.op_offload
        if self.kv_overrides:
            params["kv_overrides"] = self.overrides()
        return params

    def overrides(self) -> list[tuple[str, bool | int | float | str]]:
        """Returns the metadata that replace the file's."""
        return list((self.kv_overrides or {}).items())

    def model_options(self) -> dict[str, Any]:
        """Returns the options of loading the model, which the Generator has as well."""
        return {
            "n_gpu_layers": self.n_gpu_layers,
            "main_gpu": self.main_gpu,
            "split_mode": self.split_mode,
            "tensor_split": list(self.tensor_split or ()),
            "use_mmap": self.use_mmap,
            "use_mlock": self.use_mlock,
            "lora_path": "" if self.lora_path is None else os.fspath(self.lora_path),
            "lora_scale": self.lora_scale,
        }

    def context_options(self) -> dict[str, Any]:
        """Returns the options of a context of llama.cpp beside the Generator's."""
        params = {k: v for k, v in self.llama_params().items() if k != "kv_overrides"}
        return params | {
            "n_ctx": self.n_ctx,
            "n_batch": self.n_batch,
            "n_threads": self.n_threads or 0,
            "flash_attn": int(self.flash_attn),
            "offload_kqv": self.offload_kqv,
            "type_k": _type_name("type_k", self.type_k),
            "type_v": _type_name("type_v", self.type_v),
        }

    def generator_options(self) -> dict[str, Any]:
        """Returns the options of the Generator.

        Only what was asked for drafts. An exact text needs flash attention, so its absence is not
        asked for where something drafts.
        """
        sources = self._draft_sources()
        exact = sources is None or len(sources) > 0 or self.options.get("exact")
        context = self.context_options()
        shared = {name: context[name] for name in ("n_ctx", "n_batch", "offload_kqv")}
        shared |= {name: context[name] for name in ("type_k", "type_v")}
        return {
            **self.model_options(),
            **shared,
            "n_threads": self.n_threads,
            "flash_attn": None if exact else self.flash_attn,
            "lora_path": self.lora_path,
            "n_parallel": 1,
            "draft_sources": sources,
            "llama_params": self.llama_params() or None,
            "verbose": self.verbose,
            **self.options,
        }

    def _draft_sources(self) -> Sequence[str] | None:
        """Returns where drafts come from; None for all sources that a Generator has."""
        model = ["model"] if self.options.get("draft_model_path") is not None else []
        if "draft_sources" in self.options:
            found: Sequence[str] | None = self.options["draft_sources"]
            return found
        if self.draft_model is not None:
            return ["lookup", *model]
        return None if model else []


def _type_name(name: str, value: int | str | None) -> str:
    """Returns the name of a type of cached keys or values; "" for the default."""
    if value is None or isinstance(value, str):
        return value or ""
    if value not in _TYPES:
        raise ValueError(f"Llama: {name} must be one of {_TYPES} or None, got {value!r}")
    return _TYPES[value]


_OWN = frozenset(each.name for each in fields(Arguments) if each.name != "options")
_FURTHER = {
    name: parameter
    for name, parameter in inspect.signature(Generator.__init__).parameters.items()
    if name not in _OWN and name not in ("self", "model_path", "llama_params")
}


def arguments_of(given: Mapping[str, Any]) -> Arguments:
    """Returns the arguments of the constructor. Unknown ones give a warning.

    Raises:
        ValueError: a value cannot be honoured.
    """
    own, further = {}, {}
    for name, value in given.items():
        if name in _OWN:
            own[name] = value
        elif name in _FURTHER:
            further[name] = value
        elif name not in _IGNORED:
            near = difflib.get_close_matches(name, [*_OWN, *_FURTHER], 1)
            hint = f"; did you mean {near[0]!r}?" if near else ""
            warnings.warn(f"Llama ignores the unknown argument {name!r}{hint}", stacklevel=5)
    return Arguments(**own, options=further)


def constructor_signature() -> inspect.Signature:
    """Returns the signature of the constructor: llama_cpp.Llama's, then what Generator adds."""
    kinds = inspect.Parameter
    own = [
        kinds(each.name, kinds.KEYWORD_ONLY, default=each.default, annotation=each.type)
        for each in fields(Arguments)
        if each.name != "options"
    ]
    further = [each.replace(kind=kinds.KEYWORD_ONLY) for each in _FURTHER.values()]
    first = [
        kinds("self", kinds.POSITIONAL_OR_KEYWORD),
        kinds("model_path", kinds.POSITIONAL_OR_KEYWORD, annotation="str"),
    ]
    return inspect.Signature([*first, *own, *further], return_annotation=None)
