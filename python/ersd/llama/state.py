"""What a Llama has read, as an object that a cache keeps."""

from __future__ import annotations

from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from ersd.state import State

__all__ = ["LlamaState"]


@dataclass
class LlamaState:
    """A saved text; see `Llama.save_state`. The names are those of llama_cpp.llama.LlamaState.

    Attributes:
        input_ids: the tokens; i32[n_ctx], of which the first n_tokens count.
        scores: the logits that were asked for; f32[n, n_vocab], none unless logits_all is set.
        n_tokens: the number of tokens.
        caches: what the Generator's caches hold of them.
        seed: the seed of the next call.
    """

    input_ids: npt.NDArray[np.intc]
    scores: npt.NDArray[np.single]
    n_tokens: int
    caches: State
    seed: int

    @property
    def llama_state(self) -> bytes:
        """The target's cache, in llama.cpp's own format."""
        return self.caches.data

    @property
    def llama_state_size(self) -> int:
        """The bytes of the caches."""
        return len(self.caches.data) + len(self.caches.draft_data)
