"""Requests in OpenAI's protocol. Answers are checked with the types of the package openai."""

from __future__ import annotations

import json
from collections.abc import Sequence
from typing import Any

import httpx
from openai.types import Completion
from openai.types.chat import ChatCompletion, ChatCompletionChunk
from openai.types.responses import Response, ResponseStreamEvent
from pydantic import TypeAdapter

from ersd.serve.openai import descriptions

__all__ = ["MESSAGES", "ask", "error_of", "events_of", "joined_text", "stream"]

MESSAGES = [{"role": "user", "content": "the and of"}]
WHOLE = {
    "/v1/chat/completions": (ChatCompletion, descriptions.ChatCompletion),
    "/v1/completions": (Completion, descriptions.Completion),
    "/v1/responses": (Response, descriptions.Response),
}
EVENT = {
    "/v1/chat/completions": TypeAdapter(ChatCompletionChunk),
    "/v1/completions": TypeAdapter(Completion),
    "/v1/responses": TypeAdapter(ResponseStreamEvent),
}


def ask(client: httpx.Client, path: str, **request: Any) -> Any:
    """Returns a whole answer, which OpenAI's types and our own description allow."""
    response = client.post(path, json=request)
    assert response.status_code == 200, response.text
    for model in WHOLE[path]:
        model.model_validate(response.json())
    return response.json()


def error_of(client: httpx.Client, path: str, request: dict[str, Any]) -> Any:
    """Returns the error with which a request is refused as not valid."""
    response = client.post(path, json=request)
    assert response.status_code == 400, response.text
    error = response.json()["error"]
    assert error.keys() == {"message", "type", "param", "code"}
    assert error["type"] == "invalid_request_error"
    return error


def events_of(client: httpx.Client, path: str, **request: Any) -> list[tuple[str, Any]]:
    """Returns the names and the data of an answer's events. The data of [DONE] is that text."""
    response = client.post(path, json={"stream": True, **request})
    assert response.status_code == 200, response.text
    assert response.headers["content-type"].startswith("text/event-stream")
    found = []
    for block in response.text.rstrip("\n").split("\n\n"):
        lines = dict(line.split(": ", 1) for line in block.split("\n"))
        assert lines.keys() <= {"event", "data"}
        data = lines["data"]
        found.append((lines.get("event", ""), data if data == "[DONE]" else json.loads(data)))
    return found


def stream(client: httpx.Client, path: str, **request: Any) -> list[Any]:
    """Returns the chunks of an answer, which OpenAI's types allow and [DONE] ends."""
    *events, last = events_of(client, path, **request)
    assert last == ("", "[DONE]")
    for _, data in events:
        EVENT[path].validate_python(_with_reasons(data))
    return [data for _, data in events]


def joined_text(chunks: Sequence[Any], index: int = 0) -> str:
    """Returns the text of a choice, joined from its chunks."""
    choices = [choice for chunk in chunks for choice in chunk["choices"]]
    said = [choice.get("delta", choice) for choice in choices if choice["index"] == index]
    return "".join(each.get("content") or each.get("text") or "" for each in said)


def _with_reasons(chunk: Any) -> Any:
    """Returns a chunk with a finish_reason, which OpenAI's type of completions always wants."""
    if chunk["object"] != "text_completion":
        return chunk
    choices = [
        {**each, "finish_reason": each["finish_reason"] or "stop"} for each in chunk["choices"]
    ]
    return {**chunk, "choices": choices}
