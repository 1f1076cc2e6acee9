"""The contents of a Generator's caches, as plain data."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass

__all__ = ["State", "check_state", "checked_state"]


@dataclass(frozen=True)
class State:
    """Saved caches; see `Generator.save_state`.

    Attributes:
        models: a description of the target and, if there is a draft, one of the draft. Each ends
            with a hash of what is in the files, and that of the target names its adapter.
        tokens: the tokens in the target's cache.
        data: the target's cache, in llama.cpp's own format.
        draft_tokens: the tokens in the draft's cache; empty without a draft.
        draft_data: the draft's cache, in llama.cpp's own format; empty without a draft.
        checksum: of all the others, by which a damaged state is recognised.
    """

    models: list[str]
    tokens: list[int]
    data: bytes
    draft_tokens: list[int]
    draft_data: bytes
    checksum: str


def checked_state(
    models: list[str],
    tokens: list[int],
    data: bytes,
    draft_tokens: list[int],
    draft_data: bytes,
) -> State:
    """Returns a state with its checksum. The arguments are the attributes of `State`."""
    parts = models, tokens, data, draft_tokens, draft_data
    return State(*parts, checksum=_checksum(*parts))


def check_state(state: State) -> None:
    """Raises TypeError for anything but a state, and ValueError for a damaged one."""
    if not isinstance(state, State):
        raise TypeError(f"state must be one of save_state(), got {state!r:.80}")
    parts = state.models, state.tokens, state.data, state.draft_tokens, state.draft_data
    try:
        is_whole = state.checksum == _checksum(*parts)
    except (TypeError, AttributeError):
        is_whole = False
    if not is_whole:
        raise ValueError("the state is damaged: its checksum is that of other contents")


def _checksum(
    models: list[str],
    tokens: Sequence[int],
    data: bytes,
    draft_tokens: Sequence[int],
    draft_data: bytes,
) -> str:
    found = hashlib.sha256(repr((models, list(tokens), list(draft_tokens), len(data))).encode())
    found.update(data)
    found.update(draft_data)
    return found.hexdigest()
