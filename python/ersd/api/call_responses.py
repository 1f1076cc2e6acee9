"""Chat completions with calls of tools, as dictionaries with llama-cpp-python's keys."""

from __future__ import annotations

import uuid
from collections.abc import Iterator

from ersd.api.message_parts import CallPart, Message, Part, Reader, TextPart
from ersd.api.responses import NO_STEP, Chat, Response, join
from ersd.engine import Engine
from ersd.results import Step

__all__ = ["Calls", "NamedCall"]

_NO_CALL: Response = {"content": None, "function_call": None, "tool_calls": None}


class Calls(Chat):
    """Writes a message of text and calls, which are read from the generated text."""

    def __init__(self, engine: Engine, model: str | None, reader: Reader) -> None:
        """Begins a message. For model see `Chat`; the reader finds the calls."""
        super().__init__(engine, model)
        self._reader = reader
        self._held = NO_STEP  # the tokens whose text the reader holds back
        self._has_calls = False

    def whole(self, step: Step, finish_reason: str) -> Response:
        """See `Choice`."""
        message = Message()
        for part in self._parts(step.text, is_last=True):
            message.add(part)
        choice = super().whole(step, self._finish(finish_reason))
        if message.calls:
            choice["message"]["content"] = message.text or None
            calls = [_new_call(call) for call in message.calls]
            if len(calls) == 1:  # the older name, which allows one
                choice["message"]["function_call"] = dict(calls[0]["function"])
            choice["message"]["tool_calls"] = calls
        return choice

    def part(self, step: Step) -> Response | None:
        """See `Choice`."""
        self._held = join(self._held, step)
        return self._said(self._parts(step.text, is_last=False))

    def last(self, step: Step, finish_reason: str) -> Iterator[Response]:
        """See `Choice`."""
        self._held = join(self._held, step)
        if (said := self._said(self._parts("", is_last=True))) is not None:
            yield said
        yield self._delta({}, self._held, self._finish(finish_reason))

    def _parts(self, text: str, *, is_last: bool) -> list[Part]:
        parts = [*self._reader.read(text), *(self._reader.end() if is_last else ())]
        self._has_calls |= any(isinstance(part, CallPart) for part in parts)
        return parts

    def _said(self, parts: list[Part]) -> Response | None:
        """Returns the choice of a chunk that has these parts; None if there are none."""
        if not parts:
            return None
        delta: Response = {}
        if text := "".join(part.text for part in parts if isinstance(part, TextPart)):
            delta["content"] = text
        if calls := [part for part in parts if isinstance(part, CallPart)]:
            delta["tool_calls"] = [{"index": call.index, **_new_call(call)} for call in calls]
        step, self._held = self._held, NO_STEP
        return self._delta(delta, step, None)

    def _finish(self, reason: str) -> str:
        return "tool_calls" if reason == "stop" and self._has_calls else reason


class NamedCall(Chat):
    """Writes a message that calls a chosen tool. The generated text is the call's arguments."""

    def __init__(self, engine: Engine, model: str | None, tool: str) -> None:
        """Prepares the call; tool is the name of the function."""
        super().__init__(engine, model)
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
        return self._delta({"role": "assistant", **_NO_CALL}, NO_STEP, None)

    def part(self, step: Step) -> Response | None:
        """See `Choice`."""
        function, call = self._call(step.text)
        delta = {
            "role": None,
            "content": None,
            "function_call": function,
            "tool_calls": [{"index": 0, **call}],
        }
        return self._delta(delta, step, None)

    def last(self, step: Step, finish_reason: str) -> Iterator[Response]:
        """See `Choice`."""
        yield self._delta({"role": None, **_NO_CALL}, step, self._finish(finish_reason))

    @staticmethod
    def _finish(reason: str) -> str:
        return "tool_calls" if reason == "stop" else reason

    def _call(self, arguments: str) -> tuple[Response, Response]:
        function = {"name": self._tool, "arguments": arguments}
        return function, {"id": self._id, "type": "function", "function": dict(function)}


def _new_call(call: CallPart) -> Response:
    function = {"name": call.name, "arguments": call.arguments}
    return {"id": call.id, "type": "function", "function": function}
