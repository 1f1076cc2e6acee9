"""What the caches of a Generator hold, as plain data."""

from __future__ import annotations

from dataclasses import dataclass

__all__ = ["State"]


@dataclass(frozen=True)
class State:
    """Saved caches: see `Generator.save_state`.

    Attributes:
        models: what the target is, and the draft where there is one.
        tokens: the tokens in the target's cache.
        data: llama.cpp's bytes of it.
        draft_tokens, draft_data: the same of the draft; empty without one.
    """

    models: list[str]
    tokens: list[int]
    data: bytes
    draft_tokens: list[int]
    draft_data: bytes
