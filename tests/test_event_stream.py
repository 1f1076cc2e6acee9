"""Answers of server-sent events: what is sent while nothing comes, and at the end."""

from __future__ import annotations

import asyncio
import re
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")
import httpx
from starlette.types import Message

from ersd import Generator
from ersd.serve import event_stream
from ersd.serve.event_stream import EventStream
from serving import load_tiny

pytestmark = pytest.mark.no_sanitizer

PING = {"type": "http.response.body", "body": b": ping\n\n", "more_body": True}


@pytest.fixture(scope="module")
def generator(folder: Path) -> Generator:
    """The models that the client's server has."""
    return load_tiny(folder)


def test_comments_come_while_no_event_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    """They stop before the end, which comes once."""
    monkeypatch.setattr(event_stream, "_PING_SECONDS", 0.001)
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def main() -> None:
        async with EventStream(send) as stream:
            await stream.write(b"data: 1\n\n")
            while sent[-2:] != [PING, PING]:
                await asyncio.sleep(0.001)
        n_sent = len(sent)
        await asyncio.sleep(0.01)
        assert len(sent) == n_sent

    asyncio.run(main())
    start, first, *_, last = sent
    assert (start["type"], start["status"]) == ("http.response.start", 200)
    assert first["body"] == b"data: 1\n\n"
    assert last == {"type": "http.response.body", "body": b"", "more_body": False}


def test_an_answer_that_is_cancelled_has_no_end() -> None:
    """The client sees that it was cut."""
    sent: list[Message] = []

    async def send(message: Message) -> None:
        sent.append(message)

    async def main() -> None:
        async with EventStream(send) as stream:
            await stream.write(b"data: 1\n\n")
            raise asyncio.CancelledError

    with pytest.raises(asyncio.CancelledError):
        asyncio.run(main())
    assert sent[-1]["more_body"]


def chunks(client: httpx.Client, path: str, **body: Any) -> list[str]:
    """Returns the bytes of an answer's chunks, without what differs from answer to answer."""
    answer = client.post(path, json={"stream": True, "seed": 3, "max_tokens": 40} | body)
    text = re.sub(r'"id":"[^"]*","created":\d+,', "", answer.text)
    return re.sub(r',"timings":\{[^}]*\}', "", text).split("\n\n")


@pytest.mark.parametrize("usage", [False, True])
@pytest.mark.parametrize("path", ["/v1/completions", "/v1/chat/completions"])
def test_chunks_of_texts(client: httpx.Client, path: str, usage: bool) -> None:
    """Those that are written around a text are those that are converted whole, byte for byte."""
    body: dict[str, Any] = {"n": 2, "ignore_eos": True, "method": "ar", "temperature": 1.0}
    if usage:
        body["stream_options"] = {"include_usage": True}
    if "chat" in path:
        body["messages"] = [{"role": "user", "content": 'the "rain"\n日本'}]
    else:
        body |= {"prompt": 'the "rain"\n日本', "echo": True}
    around = chunks(client, path, **body)
    whole = chunks(client, path, **body, timings_per_token=True)
    assert len(around) > 12
    assert sorted(around[:-4]) == sorted(whole[:-4])
