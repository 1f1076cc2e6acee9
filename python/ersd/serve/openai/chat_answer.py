"""Chat completions: messages, whole and in chunks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any

from ersd.api.logprobs import message_logprobs
from ersd.api.message_parts import CallPart, Message, Part, Reader, TextPart
from ersd.results import TokenLogprob
from ersd.serve.openai.choices import ChoicesRequest
from ersd.serve.openai.chunks import ChunkedAnswer
from ersd.serve.openai.generations import Generations
from ersd.serve.server import Server

__all__ = ["ChatAnswer"]


class ChatAnswer(ChunkedAnswer):
    """Writes chat completions."""

    prefix = "chatcmpl-"
    kind, chunk_kind = "chat.completion", "chat.completion.chunk"

    def __init__(
        self,
        server: Server,
        generations: Generations,
        asked: ChoicesRequest,
        readers: Sequence[Reader],
        *,
        older_calls: bool,
    ) -> None:
        """Prepares an answer.

        Args:
            server: has the models.
            generations: the choices.
            asked: the request.
            readers: one for each choice.
            older_calls: whether a call is a "function_call" instead of one of "tool_calls".
        """
        super().__init__(server, generations, asked)
        self._readers = readers
        self._older_calls = older_calls
        self._have_calls: set[int] = set()  # choices

    def begin(self) -> Iterator[bytes]:
        """See `Answer`."""
        for i in range(len(self._readers)):
            yield self._chunk(i, {"delta": {"role": "assistant", "content": ""}})

    def _whole_choice(self, i: int) -> dict[str, Any]:
        message = Message()
        for part in self._parts(i, self._generations.streams[i].text, is_last=True):
            message.add(part)
        content = message.text or (None if message.calls else "")
        written: dict[str, Any] = {"role": "assistant", "content": content, "refusal": None}
        calls = [_new_call(call) for call in message.calls]
        if calls and self._older_calls:
            written["function_call"] = calls[0]["function"]
        elif calls:
            written["tool_calls"] = calls
        return {"message": written}

    def _said(self, i: int, text: str, *, is_last: bool = False) -> Iterator[str | dict[str, Any]]:
        for part in self._parts(i, text, is_last=is_last):
            yield part.text if isinstance(part, TextPart) else {"delta": self._call_delta(part)}

    def _text(self, text: str) -> dict[str, Any]:
        return {"delta": {"content": text}}

    def _nothing(self) -> dict[str, Any]:
        return {"delta": {}}

    def _finish_reason(self, i: int) -> str | None:
        reason = self._generations.streams[i].finish_reason
        if reason == "stop" and i in self._have_calls:
            return "function_call" if self._older_calls else "tool_calls"
        return reason

    def _logprobs(self, i: int, logprobs: Sequence[TokenLogprob]) -> dict[str, Any]:
        return {"content": message_logprobs(self._generator, logprobs), "refusal": None}

    def _parts(self, i: int, text: str, *, is_last: bool) -> Iterator[Part]:
        reader = self._readers[i]
        for part in (*reader.read(text), *(reader.end() if is_last else ())):
            if isinstance(part, CallPart):
                self._have_calls.add(i)
            yield part

    def _call_delta(self, part: CallPart) -> dict[str, Any]:
        call = _new_call(part) if part.is_new else {"function": {"arguments": part.arguments}}
        if self._older_calls:
            return {"function_call": call["function"]}
        return {"tool_calls": [{"index": part.index, **call}]}


def _new_call(call: CallPart) -> dict[str, Any]:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}
