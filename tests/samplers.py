"""llama.cpp's own samplers, called through llama_cpp; ours must give the same numbers."""

from __future__ import annotations

import ctypes
from pathlib import Path

import llama_cpp
import numpy as np

_DATA = np.dtype([("id", np.int32), ("logit", np.float32), ("p", np.float32)])


class Vocabulary:
    """The vocabulary of a GGUF file, as llama.cpp's samplers need it."""

    def __init__(self, path: Path) -> None:
        """Loads the file without its weights."""
        llama_cpp.llama_backend_init()
        llama_cpp.llama_log_set(_QUIET, None)
        params = llama_cpp.llama_model_default_params()
        params.vocab_only = True
        self.model = llama_cpp.llama_model_load_from_file(str(path).encode(), params)
        self.vocab = llama_cpp.llama_model_get_vocab(self.model)
        self.n_tokens = llama_cpp.llama_vocab_n_tokens(self.vocab)


_QUIET = llama_cpp.llama_log_callback(lambda level, text, data: None)


def apply(sampler: int, logits: np.ndarray, history: list[int] = ()) -> np.ndarray:
    """Returns a row of logits as a sampler leaves it after a history, and frees the sampler.

    The row is f32[n]; tokens that the sampler removes have -inf.
    """
    for token in history:
        llama_cpp.llama_sampler_accept(sampler, int(token))
    data = np.zeros(len(logits), _DATA)
    data["id"], data["logit"] = np.arange(len(logits)), logits
    kept = data[data["logit"] > -np.inf]
    pointer = ctypes.cast(kept.ctypes.data, ctypes.POINTER(llama_cpp.llama_token_data))
    array = llama_cpp.llama_token_data_array(
        data=pointer, size=len(kept), selected=-1, sorted=False
    )
    llama_cpp.llama_sampler_apply(sampler, ctypes.byref(array))
    address = ctypes.cast(array.data, ctypes.POINTER(ctypes.c_byte))
    left = np.ctypeslib.as_array(address, (array.size * _DATA.itemsize,)).view(_DATA)
    out = np.full(len(logits), -np.inf, np.float32)
    out[left["id"]] = left["logit"]
    llama_cpp.llama_sampler_free(sampler)
    return out


def penalties(n_vocab: int, last_n: int, repeat: float, frequency: float, presence: float) -> int:
    """Makes the sampler of the penalties for repetition."""
    return llama_cpp.llama_sampler_init_penalties(n_vocab, last_n, repeat, frequency, presence)


def dry(
    vocabulary: Vocabulary,
    multiplier: float,
    base: float,
    allowed_length: int,
    last_n: int,
    breakers: list[str],
) -> int:
    """Makes the sampler of DRY, which penalises repeated sequences."""
    pointers = (ctypes.c_char_p * len(breakers))(*(text.encode() for text in breakers))
    return llama_cpp.llama_sampler_init_dry(
        vocabulary.vocab, multiplier, base, allowed_length, last_n, pointers, len(breakers)
    )


def grammar(vocabulary: Vocabulary, gbnf: str) -> int:
    """Makes the sampler of a grammar in GBNF."""
    return llama_cpp.llama_sampler_init_grammar(vocabulary.vocab, gbnf.encode(), b"root")


def truncate(
    logits: np.ndarray,
    top_k: int = 0,
    typical_p: float = 1,
    top_p: float = 1,
    min_p: float = 0,
    xtc: float | None = None,
) -> np.ndarray:
    """Returns a row, f32[n], after llama.cpp's truncation, in llama.cpp's order.

    xtc is the threshold of XTC, or None where its coin leaves the row as it is.
    """
    logits = apply(llama_cpp.llama_sampler_init_top_k(top_k), logits)
    logits = apply(llama_cpp.llama_sampler_init_typical(typical_p, 1), logits)
    logits = apply(llama_cpp.llama_sampler_init_top_p(top_p, 1), logits)
    logits = apply(llama_cpp.llama_sampler_init_min_p(min_p, 1), logits)
    return (
        logits if xtc is None else apply(llama_cpp.llama_sampler_init_xtc(1.0, xtc, 1, 0), logits)
    )
