"""Answers as dictionaries of OpenAI's interface, with the keys that llama-cpp-python writes.

Each choice also has the key "from_draft": how many of its tokens the draft model proposed.
"""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable, Iterator, Mapping
from typing import Any, Protocol

from ersd.api.logprobs import TextLogprobs, message_logprobs
from ersd.engine import Engine
from ersd.engine.stream import Stream
from ersd.results import Step, TokenLogprob

__all__ = ["NO_STEP", "Chat", "Choice", "Response", "Text", "answer", "join"]

Response = dict[str, Any]
NO_STEP = Step("", [], 0)


class Choice(Protocol):
    """Writes an answer as a text, as a message, or as the call of a tool."""

    def head(self) -> Response:
        """Returns the keys of a whole answer, except "choices" and "usage"."""

    def chunk_head(self) -> Response:
        """Returns the keys of a chunk, except "choices"."""

    def whole(self, step: Step, finish_reason: str) -> Response:
        """Returns the choice of a whole answer, given as one step."""

    def first(self) -> Response | None:
        """Returns the choice of the chunk before the first step; None for no such chunk."""

    def part(self, step: Step) -> Response | None:
        """Returns the choice of a chunk with text; None while more text decides what it is."""

    def last(self, step: Step, finish_reason: str) -> Iterator[Response]:
        """Yields the choices of the last chunks. The step has the tokens that gave no text."""


def answer(
    engine: Engine, prompt: list[int], options: Mapping[str, Any], choice: Choice, stream: bool
) -> Response | Iterator[Response]:
    """Generates an answer and writes it.

    Args:
        engine: generates the answer.
        prompt: token ids.
        options: options of `Engine.stream`.
        choice: writes the answer.
        stream: whether to return an iterator over chunks, which generates while it is read.
    """
    if stream:
        return _chunks(choice, engine.stream(prompt, **options))
    result = engine.generate(prompt, **options)
    step = Step(result.text, result.tokens, result.stats.accepted, result.logprobs)
    return {
        **choice.head(),
        "choices": [choice.whole(step, result.finish_reason)],
        "usage": {
            "prompt_tokens": len(prompt),
            "completion_tokens": len(result.tokens),
            "total_tokens": len(prompt) + len(result.tokens),
        },
    }


def _chunks(choice: Choice, stream: Stream) -> Iterator[Response]:
    """Yields chunks with text, then one with the finish reason. Closing it closes the stream."""
    head = choice.chunk_head()
    first, pending = choice.first(), NO_STEP
    with stream:
        if first is not None:
            yield {**head, "choices": [first]}
        for step in stream:
            pending = join(pending, step)
            if pending.text:
                if (part := choice.part(pending)) is not None:
                    yield {**head, "choices": [part]}
                pending = NO_STEP
    assert stream.finish_reason is not None
    for last in choice.last(pending, stream.finish_reason):
        yield {**head, "choices": [last]}


class Text:
    """Writes the choice of a text completion."""

    def __init__(
        self,
        engine: Engine,
        model: str | None,
        prompt: str,
        echo: bool,
        echoed: Callable[[], list[TokenLogprob]] | None = None,
    ) -> None:
        """Prepares the choice.

        Args:
            engine: generates the answer.
            model: the model's name in the answer; None for the target's path.
            prompt: the text of the prompt.
            echo: whether the answer begins with the prompt.
            echoed: computes the log-probabilities of an echoed prompt; None for none.
        """
        self._engine, self._model = engine, model
        self._echo, self._echoed = prompt if echo else "", echoed
        self._logprobs = TextLogprobs(
            engine, 0 if echoed else len(prompt), has_prompt=echoed is not None
        )

    def head(self) -> Response:
        """See `Choice`."""
        return _head(self._engine, "cmpl-", "text_completion", self._model)

    chunk_head = head

    def whole(self, step: Step, finish_reason: str) -> Response:
        """See `Choice`."""
        step = join(self._prompt(), step)
        return self._choice(step.text, step, finish_reason)

    def first(self) -> Response | None:
        """See `Choice`."""
        return self._choice(self._echo, self._prompt(), None) if self._echo else None

    def _prompt(self) -> Step:
        """Returns what is echoed of the prompt, as a step."""
        return Step(self._echo, [], 0, self._echoed() if self._echoed else None)

    def part(self, step: Step) -> Response:
        """See `Choice`."""
        return self._choice(step.text, step, None)

    def last(self, step: Step, finish_reason: str) -> Iterator[Response]:
        """See `Choice`."""
        yield self._choice("", step, finish_reason)

    def _choice(self, text: str, step: Step, finish_reason: str | None) -> Response:
        logprobs = self._logprobs.write(step.logprobs) if step.logprobs else None
        return {
            "text": text,
            "index": 0,
            "logprobs": logprobs,
            "finish_reason": finish_reason,
            "from_draft": step.n_accepted,
        }


class Chat:
    """Writes the choice of a chat completion, which is a message."""

    def __init__(self, engine: Engine, model: str | None) -> None:
        """model: the model's name in the answer; None for the target's path."""
        self._engine, self._model = engine, model

    def head(self) -> Response:
        """See `Choice`."""
        return _head(self._engine, "chatcmpl-", "chat.completion", self._model)

    def chunk_head(self) -> Response:
        """See `Choice`."""
        return _head(self._engine, "chatcmpl-", "chat.completion.chunk", self._model)

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
        return self._delta({"role": "assistant"}, NO_STEP, None)

    def part(self, step: Step) -> Response | None:
        """See `Choice`."""
        return self._delta({"content": step.text}, step, None)

    def last(self, step: Step, finish_reason: str) -> Iterator[Response]:
        """See `Choice`."""
        yield self._delta({}, step, finish_reason)

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
        return {"content": message_logprobs(self._engine, step.logprobs), "refusal": None}


def _head(engine: Engine, prefix: str, kind: str, model: str | None) -> Response:
    return {
        "id": f"{prefix}{uuid.uuid4()}",
        "object": kind,
        "created": int(time.time()),
        "model": engine.target.path if model is None else model,
    }


def join(a: Step, b: Step) -> Step:
    """Returns two steps that follow each other as one."""
    logprobs = None if b.logprobs is None else [*(a.logprobs or []), *b.logprobs]
    return Step(a.text + b.text, a.tokens + b.tokens, a.n_accepted + b.n_accepted, logprobs)
