"""Text completions, whole and in chunks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ersd.api.logprobs import TextLogprobs
from ersd.results import TokenLogprob
from ersd.serve.openai.choices import ChoicesRequest
from ersd.serve.openai.chunks import ChunkedAnswer
from ersd.serve.openai.generations import Generations
from ersd.serve.server import Server

__all__ = ["CompletionAnswer"]


class CompletionAnswer(ChunkedAnswer):
    """Writes text completions. Whole ones and chunks have the same form."""

    prefix = "cmpl-"
    kind = chunk_kind = "text_completion"

    def __init__(
        self,
        server: Server,
        generations: Generations,
        asked: ChoicesRequest,
        prompts: Sequence[str],
        *,
        echo: bool,
    ) -> None:
        """Prepares an answer.

        Args:
            server: has the models.
            generations: the choices.
            asked: the request.
            prompts: the texts of the prompts.
            echo: whether each choice begins with its prompt.
        """
        super().__init__(server, generations, asked)
        texts = [prompt for prompt in prompts for _ in range(generations.n)]
        self._echoes = texts if echo else [""] * len(texts)
        self._writers = [TextLogprobs(self._generator, len(text)) for text in texts]

    def begin(self) -> Iterator[bytes]:
        """See `Answer`."""
        for i, text in enumerate(self._echoes):
            if text:
                yield self._chunk(i, text)

    def _whole_choice(self, i: int) -> dict[str, Any]:
        return {"text": self._echoes[i] + self._generations.streams[i].text}

    def _said(self, i: int, text: str, *, is_last: bool = False) -> Iterator[str | dict[str, Any]]:
        if text:
            yield text

    def _text(self, text: str) -> dict[str, Any]:
        return {"text": text}

    def _nothing(self) -> dict[str, Any]:
        return self._text("")

    def _finish_reason(self, i: int) -> str | None:
        return self._generations.streams[i].finish_reason

    def _logprobs(self, i: int, logprobs: Sequence[TokenLogprob]) -> dict[str, Any]:
        return self._writers[i].write(logprobs)
