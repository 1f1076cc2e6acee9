"""Log-probabilities as OpenAI's interface writes them."""

from __future__ import annotations

import codecs
from collections.abc import Sequence
from typing import Any

from ersd.engine import Engine
from ersd.results import TokenLogprob

__all__ = ["TextLogprobs", "message_logprobs"]


class TextLogprobs:
    """Writes the log-probabilities of a text completion, in parts as they come."""

    def __init__(self, engine: Engine, offset: int, *, has_prompt: bool = False) -> None:
        """Begins at an offset.

        Args:
            engine: has the target, whose tokens these are.
            offset: the number of characters before the first token.
            has_prompt: whether the tokens of the prompt come first. The first token that is written
                has no log-probability then, as in OpenAI's interface.
        """
        self._engine, self._offset = engine, offset
        self._is_first = has_prompt
        self._characters = codecs.getincrementaldecoder("utf-8")("ignore")

    def write(self, logprobs: Sequence[TokenLogprob]) -> dict[str, Any]:
        """Returns the log-probabilities of the tokens that come next."""
        tokens, offsets = [], []
        top: list[dict[str, float] | None] = []
        for each in logprobs:
            tokens.append(self._text(each.token))
            offsets.append(self._offset)
            self._offset += len(self._characters.decode(self._engine.target.piece(each.token)))
            top.append(
                {self._text(token): logprob for token, logprob in each.top}
                | {tokens[-1]: each.logprob}
            )
        own: list[float | None] = [each.logprob for each in logprobs]
        if self._is_first and tokens:
            own[0] = top[0] = None
            self._is_first = False
        return {
            "tokens": tokens,
            "text_offset": offsets,
            "token_logprobs": own,
            "top_logprobs": top,
        }

    def _text(self, token: int) -> str:
        piece: bytes = self._engine.target.piece(token)
        return piece.decode("utf-8", "ignore")


def message_logprobs(engine: Engine, logprobs: Sequence[TokenLogprob]) -> list[dict[str, Any]]:
    """Returns the log-probabilities of a message's tokens, each with its alternatives."""

    def write(token: int, logprob: float) -> dict[str, Any]:
        piece = engine.target.piece(token)
        return {"token": piece.decode("utf-8", "ignore"), "logprob": logprob, "bytes": list(piece)}

    return [
        {
            **write(each.token, each.logprob),
            "top_logprobs": [write(token, logprob) for token, logprob in each.top],
        }
        for each in logprobs
    ]
