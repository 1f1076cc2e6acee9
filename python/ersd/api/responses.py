"""Answers as the dictionaries of OpenAI's interface, key for key as llama-cpp-python writes them.

Beside those keys each choice has "from_draft": how many of its tokens the draft model proposed.
"""

from __future__ import annotations

import codecs
import time
import uuid
from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING, Any, Protocol

from ersd.stream import Step, Stream, TokenLogprob

if TYPE_CHECKING:
    from ersd.generator import Generator

__all__ = ["Chat", "Choice", "Text", "ToolCall", "chunks", "usage"]

Response = dict[str, Any]


class Choice(Protocol):
    """How an answer is written: as text, as a message, as the call of a tool."""

    def head(self) -> Response:
        """The keys of a whole answer but "choices" and "usage"."""

    def chunk_head(self) -> Response:
        """The same of a part of it."""

    def whole(self, step: Step, finish_reason: str) -> Response:
        """The only choice, of an answer that is there at once: one long step."""

    def first(self) -> Response | None:
        """What a stream begins with, if with anything."""

    def part(self, step: Step) -> Response:
        """A part of it."""

    def last(self, step: Step, finish_reason: str) -> Response:
        """The end of a stream, with the tokens that gave no text."""


def chunks(choice: Choice, stream: Stream) -> Iterator[Response]:
    """A stream as it comes, in parts that have text, and a last one that says why it ended. Closing it closes the stream."""
    head = choice.chunk_head()
    first, held = choice.first(), Step("", [], 0)
    with stream:
        if first is not None:
            yield {**head, "choices": [first]}
        for step in stream:
            held = _join(held, step)
            if held.text:
                yield {**head, "choices": [choice.part(held)]}
                held = Step("", [], 0)
    assert stream.finish_reason is not None
    yield {**head, "choices": [choice.last(held, stream.finish_reason)]}


def usage(n_prompt: int, n_completion: int) -> Response:
    """Counts of tokens."""
    return {
        "prompt_tokens": n_prompt,
        "completion_tokens": n_completion,
        "total_tokens": n_prompt + n_completion,
    }


class Text:
    """The choice of a text completion."""

    def __init__(self, generator: Generator, model: str | None, prompt: str, echo: bool) -> None:
        """prompt: its text, which comes first in the answer if it is echoed."""
        self._generator, self._model = generator, model
        self._echo, self._offset = prompt if echo else "", len(prompt)
        self._characters = codecs.getincrementaldecoder("utf-8")("ignore")

    def head(self) -> Response:
        """See `Choice`."""
        return _head(self._generator, "cmpl-", "text_completion", self._model)

    chunk_head = head

    def whole(self, step: Step, finish_reason: str) -> Response:
        """See `Choice`."""
        return self._choice(self._echo + step.text, step, finish_reason)

    def first(self) -> Response | None:
        """See `Choice`."""
        return self._choice(self._echo, Step("", [], 0), None) if self._echo else None

    def part(self, step: Step) -> Response:
        """See `Choice`."""
        return self._choice(step.text, step, None)

    def last(self, step: Step, finish_reason: str) -> Response:
        """See `Choice`."""
        return self._choice("", step, finish_reason)

    def _choice(self, text: str, step: Step, finish_reason: str | None) -> Response:
        logprobs = self._logprobs(step.logprobs) if step.logprobs else None
        return {
            "text": text,
            "index": 0,
            "logprobs": logprobs,
            "finish_reason": finish_reason,
            "from_draft": step.n_accepted,
        }

    def _logprobs(self, logprobs: Sequence[TokenLogprob]) -> Response:
        tokens, offsets, top = [], [], []
        for each in logprobs:
            tokens.append(_piece(self._generator, each.token))
            offsets.append(self._offset)
            self._offset += len(self._characters.decode(self._generator.target.piece(each.token)))
            top.append(
                {_piece(self._generator, token): logprob for token, logprob in each.top}
                | {tokens[-1]: each.logprob}
            )
        return {
            "tokens": tokens,
            "text_offset": offsets,
            "token_logprobs": [each.logprob for each in logprobs],
            "top_logprobs": top,
        }


class Chat:
    """The choice of a chat completion: a message."""

    def __init__(self, generator: Generator, model: str | None) -> None:
        """model: its name in the answer; None for its path."""
        self._generator, self._model = generator, model

    def head(self) -> Response:
        """See `Choice`."""
        return _head(self._generator, "chatcmpl-", "chat.completion", self._model)

    def chunk_head(self) -> Response:
        """See `Choice`."""
        return _head(self._generator, "chatcmpl-", "chat.completion.chunk", self._model)

    def whole(self, step: Step, finish_reason: str) -> Response:
        """See `Choice`."""
        message = {"role": "assistant", "content": step.text}
        return {
            "index": 0,
            "message": message,
            "logprobs": self._logprobs(step),
            "finish_reason": finish_reason,
            "from_draft": step.n_accepted,
        }

    def first(self) -> Response | None:
        """See `Choice`."""
        return self._delta({"role": "assistant"}, Step("", [], 0), None)

    def part(self, step: Step) -> Response:
        """See `Choice`."""
        return self._delta({"content": step.text}, step, None)

    def last(self, step: Step, finish_reason: str) -> Response:
        """See `Choice`."""
        return self._delta({}, step, finish_reason)

    def _delta(self, delta: Response, step: Step, finish_reason: str | None) -> Response:
        return {
            "index": 0,
            "delta": delta,
            "logprobs": self._logprobs(step),
            "finish_reason": finish_reason,
            "from_draft": step.n_accepted,
        }

    def _logprobs(self, step: Step) -> Response | None:
        if not step.logprobs:
            return None
        content = []
        for each in step.logprobs:
            top = [self._logprob(token, logprob) for token, logprob in each.top]
            content.append({**self._logprob(each.token, each.logprob), "top_logprobs": top})
        return {"content": content, "refusal": None}

    def _logprob(self, token: int, logprob: float) -> Response:
        piece = self._generator.target.piece(token)
        return {"token": piece.decode("utf-8", "ignore"), "logprob": logprob, "bytes": list(piece)}


class ToolCall(Chat):
    """A message that is the call of the one tool that was asked for: the text is its arguments."""

    def __init__(self, generator: Generator, model: str | None, tool: str) -> None:
        """tool: the name of the function."""
        super().__init__(generator, model)
        self._tool, self._id = tool, f"call__0_{tool}_cmpl-{uuid.uuid4()}"

    def whole(self, step: Step, finish_reason: str) -> Response:
        """See `Choice`."""
        choice = super().whole(step, self._finish(finish_reason))
        function, call = self._call(step.text)
        choice["message"] = {
            "role": "assistant",
            "content": None,
            "function_call": function,
            "tool_calls": [call],
        }
        return choice

    def first(self) -> Response | None:
        """See `Choice`."""
        return self._delta({"role": "assistant", **self._NOTHING}, Step("", [], 0), None)

    def part(self, step: Step) -> Response:
        """See `Choice`."""
        function, call = self._call(step.text)
        delta = {
            "role": None,
            "content": None,
            "function_call": function,
            "tool_calls": [{"index": 0, **call}],
        }
        return self._delta(delta, step, None)

    def last(self, step: Step, finish_reason: str) -> Response:
        """See `Choice`."""
        return self._delta({"role": None, **self._NOTHING}, step, self._finish(finish_reason))

    _NOTHING = {"content": None, "function_call": None, "tool_calls": None}  # noqa: RUF012

    @staticmethod
    def _finish(reason: str) -> str:
        return "tool_calls" if reason == "stop" else reason

    def _call(self, arguments: str) -> tuple[Response, Response]:
        function = {"name": self._tool, "arguments": arguments}
        return function, {"id": self._id, "type": "function", "function": dict(function)}


def _head(generator: Generator, prefix: str, kind: str, model: str | None) -> Response:
    return {
        "id": f"{prefix}{uuid.uuid4()}",
        "object": kind,
        "created": int(time.time()),
        "model": generator.target.path if model is None else model,
    }


def _piece(generator: Generator, token: int) -> str:
    return generator.target.piece(token).decode("utf-8", "ignore")


def _join(a: Step, b: Step) -> Step:
    logprobs = None if b.logprobs is None else [*(a.logprobs or []), *b.logprobs]
    return Step(a.text + b.text, a.tokens + b.tokens, a.n_accepted + b.n_accepted, logprobs)
