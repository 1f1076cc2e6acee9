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

    def __init__(self, engine: Engine, offset: int) -> None:
        """Begins at an offset.

        Args:
            engine: has the target, whose tokens these are.
            offset: the number of characters before the answer.
        """
        self._engine, self._offset = engine, offset
        self._characters = codecs.getincrementaldecoder("utf-8")("ignore")

    def write(self, logprobs: Sequence[TokenLogprob]) -> dict[str, Any]:
        """Returns the log-probabilities of the tokens that come next."""
        tokens, offsets, top = [], [], []
        for each in logprobs:
            tokens.append(self._text(each.token))
            offsets.append(self._offset)
            self._offset += len(self._characters.decode(self._engine.target.piece(each.token)))
            top.append(
                {self._text(token): logprob for token, logprob in each.top}
                | {tokens[-1]: each.logprob}
            )
        return {
            "tokens": tokens,
            "text_offset": offsets,
            "token_logprobs": [each.logprob for each in logprobs],
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
