"""The contents of a Generator's caches, as plain data."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["State"]


@dataclass(frozen=True)
class State:
    """Saved caches; see `Generator.save_state`.

    Attributes:
        models: a description of the target and, if there is a draft, one of the draft.
        tokens: the tokens in the target's cache.
        data: the target's cache, in llama.cpp's own format.
        draft_tokens: the tokens in the draft's cache; empty without a draft.
        draft_data: the draft's cache, in llama.cpp's own format; empty without a draft.
    """

    models: list[str]
    tokens: list[int]
    data: bytes
    draft_tokens: list[int]
    draft_data: bytes
