"""Responses: an object with items of output, whole or as the events that build it."""

from __future__ import annotations

import time
import uuid
from collections.abc import Iterator
from typing import Any

from ersd.api.logprobs import message_logprobs
from ersd.api.message_parts import CallPart, Part, TextPart
from ersd.engine.options import DEFAULTS
from ersd.results import Step, TokenLogprob
from ersd.serve.errors import ApiError
from ersd.serve.openai.accounts import record, usage
from ersd.serve.openai.answer import Answer, event
from ersd.serve.openai.generations import Generations
from ersd.serve.openai.responses_request import ResponsesRequest
from ersd.serve.server import Server

__all__ = ["ResponseAnswer"]


class ResponseAnswer(Answer):
    """Writes responses. A whole one is what the events of a stream would build."""

    def __init__(self, server: Server, generations: Generations, asked: ResponsesRequest) -> None:
        """Prepares a response.

        Args:
            server: has the models.
            generations: has one choice.
            asked: the request.
        """
        self._generator = server.generator
        self._generations = generations
        self._reader = asked.asks_of_model().reader()
        self._untold: list[TokenLogprob] = []  # log-probabilities that no event has told of
        self._output: list[dict[str, Any]] = []  # the items; the last one may be under way
        self._n_events = 0
        self._response = _new_response(server.model_name, asked) | {"output": self._output}

    def whole(self) -> dict[str, Any]:
        """See `Answer`."""
        stream = self._generations.streams[0]
        for _ in self.step(0, Step(stream.text, stream.tokens, 0, stream.logprobs)):
            pass
        for _ in self.end_choice(0, is_last=True):
            pass
        return self._response

    def begin(self) -> Iterator[bytes]:
        """See `Answer`."""
        yield self._event("response.created", response=self._response)
        yield self._event("response.in_progress", response=self._response)

    def step(self, i: int, step: Step) -> Iterator[bytes]:
        """See `Answer`."""
        self._untold += step.logprobs or ()
        for part in self._reader.read(step.text):
            yield from self._add(part)

    def end_choice(self, i: int, *, is_last: bool) -> Iterator[bytes]:
        """See `Answer`."""
        for part in self._reader.end():
            yield from self._add(part)
        if not self._output:
            yield from self._open_message()
        stream = self._generations.streams[i]
        status = "completed" if stream.finish_reason == "stop" else "incomplete"
        yield from self._close(status)
        counts = usage(self._generations)
        self._response |= {
            "status": status,
            "usage": {
                "input_tokens": counts["prompt_tokens"],
                "input_tokens_details": counts["prompt_tokens_details"] | {"cache_write_tokens": 0},
                "output_tokens": counts["completion_tokens"],
                "output_tokens_details": {"reasoning_tokens": 0},
                "total_tokens": counts["total_tokens"],
            },
            **record(self._generations),
        }
        if status == "incomplete":
            self._response["incomplete_details"] = {"reason": "max_output_tokens"}
        else:
            self._response["completed_at"] = int(time.time())
        yield self._event(f"response.{status}", response=self._response)

    def error(self, error: ApiError) -> bytes:
        """See `Answer`."""
        told = error.body()["error"]
        return self._event("error", code=told["code"], message=told["message"], param=told["param"])

    def _event(self, kind: str, **data: Any) -> bytes:
        number, self._n_events = self._n_events, self._n_events + 1
        return event({"type": kind, "sequence_number": number, **data}, kind)

    def _add(self, part: Part) -> Iterator[bytes]:
        if isinstance(part, TextPart):
            yield from self._add_text(part.text)
        else:
            yield from self._add_call(part)

    def _add_text(self, text: str) -> Iterator[bytes]:
        if not self._is_open("message"):
            yield from self._close("completed")
            yield from self._open_message()
        content = self._output[-1]["content"][0]
        content["text"] += text
        logprobs = self._logprobs()
        content["logprobs"] += logprobs
        yield self._part_event("response.output_text.delta", delta=text, logprobs=logprobs)

    def _add_call(self, part: CallPart) -> Iterator[bytes]:
        if part.is_new:
            yield from self._close("completed")
            yield self._open(
                {
                    "id": f"fc_{uuid.uuid4().hex}",
                    "type": "function_call",
                    "call_id": part.id,
                    "name": part.name,
                    "arguments": "",
                }
            )
        self._output[-1]["arguments"] += part.arguments
        yield self._item_event("response.function_call_arguments.delta", delta=part.arguments)

    def _is_open(self, kind: str) -> bool:
        """Whether the last item is of this type and under way."""
        last = self._output[-1] if self._output else {}
        return last.get("type") == kind and last["status"] == "in_progress"

    def _open(self, item: dict[str, Any]) -> bytes:
        self._output.append(item | {"status": "in_progress"})
        return self._whole_item_event("response.output_item.added")

    def _open_message(self) -> Iterator[bytes]:
        message = {"id": f"msg_{uuid.uuid4().hex}", "type": "message", "role": "assistant"}
        yield self._open(message | {"content": []})
        part: dict[str, Any] = {"type": "output_text", "text": "", "annotations": []}
        self._output[-1]["content"].append(part | {"logprobs": []})
        yield self._part_event("response.content_part.added", part=self._output[-1]["content"][0])

    def _close(self, status: str) -> Iterator[bytes]:
        """Yields the events that end the last item."""
        if self._is_open("message"):
            part = self._output[-1]["content"][0]
            part["logprobs"] += self._logprobs()
            yield self._part_event(
                "response.output_text.done", text=part["text"], logprobs=part["logprobs"]
            )
            yield self._part_event("response.content_part.done", part=part)
        elif self._is_open("function_call"):
            item = self._output[-1]
            yield self._item_event(
                "response.function_call_arguments.done",
                name=item["name"],
                arguments=item["arguments"],
            )
        else:
            return
        self._output[-1]["status"] = status
        yield self._whole_item_event("response.output_item.done")

    def _whole_item_event(self, kind: str) -> bytes:
        return self._event(kind, output_index=len(self._output) - 1, item=self._output[-1])

    def _item_event(self, kind: str, **data: Any) -> bytes:
        place = {"item_id": self._output[-1]["id"], "output_index": len(self._output) - 1}
        return self._event(kind, **place, **data)

    def _part_event(self, kind: str, **data: Any) -> bytes:
        return self._item_event(kind, content_index=0, **data)

    def _logprobs(self) -> list[dict[str, Any]]:
        """Returns the log-probabilities that no event has told of."""
        untold, self._untold = self._untold, []
        return message_logprobs(self._generator, untold)


def _new_response(model: str, asked: ResponsesRequest) -> dict[str, Any]:
    """Returns a response without output and usage, which repeats what was asked for."""
    form = asked.text.format if asked.text else None
    choice = asked.tool_choice or "auto"
    return {
        "id": f"resp_{uuid.uuid4().hex}",
        "object": "response",
        "created_at": int(time.time()),
        "completed_at": None,
        "status": "in_progress",
        "error": None,
        "incomplete_details": None,
        "instructions": asked.instructions,
        "max_output_tokens": asked.max_output_tokens,
        "metadata": asked.metadata or {},
        "model": model,
        "parallel_tool_calls": asked.parallel_tool_calls is not False,
        "previous_response_id": None,
        "store": False,
        "temperature": _effective(asked, "temperature"),
        "text": {"format": form.model_dump(by_alias=True, exclude_none=True) if form else _TEXT},
        "tool_choice": choice if isinstance(choice, str) else choice.model_dump(),
        "tools": [tool.model_dump() for tool in asked.tools or ()],
        "top_logprobs": asked.top_logprobs or 0,
        "top_p": _effective(asked, "top_p"),
        "truncation": "disabled",
        "usage": None,
    }


_TEXT = {"type": "text"}


def _effective(asked: ResponsesRequest, name: str) -> Any:
    given = getattr(asked, name)
    return DEFAULTS[name] if given is None else given  # type: ignore[literal-required]
