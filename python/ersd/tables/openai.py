"""OpenAI's batch files: each line is a request to an endpoint, each answer a line with a response.

The requests go to the very app of `ersd serve`, without a network, so they have its answers.
"""

from __future__ import annotations

import asyncio
from collections import deque
from collections.abc import Generator as Steps
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from typing import Any
from uuid import uuid4

import httpx

from ersd import Generator, Options
from ersd.serve import Settings, create_app
from ersd.serve.server import Server
from ersd.tables.answers import Answer, Ended, NumberedRow, without_failures
from ersd.tables.seeds import row_seed

__all__ = ["Responses"]

_ENDPOINTS = ("/v1/chat/completions", "/v1/completions", "/v1/responses")
_KEYS = ("custom_id", "method", "url", "body")
# Requests under way, for each that runs at once. A long one holds up only the answers after it.
_WINDOW = 32
_MOST_CHOICES = 128


@dataclass(frozen=True)
class Responses:
    """Answers lines of OpenAI's batch files.

    A request without a seed gets the one that follows from the base seed and its custom_id.

    Attributes:
        options: options that hold where a request does not say otherwise.
        seed: the base seed of the table.
    """

    options: Options = field(default_factory=Options)
    seed: int = 0

    def __call__(self, generator: Generator, rows: Iterable[NumberedRow]) -> Iterator[Answer]:
        """See `Answers`."""
        return without_failures(self._ended(generator, rows))

    def _ended(self, generator: Generator, rows: Iterable[NumberedRow]) -> Steps[Ended, None, None]:
        window = _WINDOW * generator.n_parallel
        settings = Settings(
            queue_size=window * _MOST_CHOICES,
            timeout_s=None,
            max_body_bytes=1 << 40,
            page=False,
            options=self.options,
        )
        app = create_app(lambda: generator, settings)
        loop = asyncio.new_event_loop()
        under_way: deque[asyncio.Task[Ended]] = deque()
        try:
            loop.run_until_complete(_load(app.state.server))
            client = httpx.AsyncClient(
                transport=httpx.ASGITransport(app), base_url="http://ersd", timeout=None
            )
            for _, row in rows:
                under_way.append(loop.create_task(self._answer(client, row)))
                if len(under_way) == window:
                    yield loop.run_until_complete(under_way.popleft())
            while under_way:
                yield loop.run_until_complete(under_way.popleft())
            loop.run_until_complete(client.aclose())
        finally:
            for task in under_way:
                task.cancel()
            if under_way:
                loop.run_until_complete(asyncio.wait(under_way))
            loop.close()

    async def _answer(self, client: httpx.AsyncClient, line: Any) -> Ended:
        answer: Answer = {"id": f"batch_req_{uuid4().hex}", "custom_id": None}
        try:
            row = _checked(line)
        except ValueError as error:
            if isinstance(line, Mapping):
                answer["custom_id"] = line.get("custom_id")
            refusal = {"code": "invalid_request", "message": str(error)}
            return answer | {"response": None, "error": refusal}, False
        answer["custom_id"] = custom_id = row["custom_id"]
        body = dict(row["body"])
        if body.get("seed") in (None, -1):
            body["seed"] = row_seed(self.seed, custom_id)
        got = await client.post(row["url"], json=body)
        response = {
            "status_code": got.status_code,
            "request_id": got.headers.get("x-request-id"),
            "body": got.json(),
        }
        return answer | {"response": response, "error": None}, got.status_code >= 500


async def _load(server: Server) -> None:
    await server.load()
    if server.failure is not None:
        raise server.failure


def _checked(line: Any) -> Mapping[str, Any]:
    """Returns a line. Raises ValueError if it is no request that can be answered."""
    if isinstance(line, ValueError):
        raise line
    for key in _KEYS:
        if key not in line:
            raise ValueError(f"a line must have {', '.join(_KEYS)}; {key} is missing")
    if not isinstance(line["custom_id"], str):
        raise ValueError(f"custom_id must be a text, got {line['custom_id']!r}")
    if line["method"] != "POST" or line["url"] not in _ENDPOINTS:
        what = f"{line['method']} {line['url']}"
        raise ValueError(f"a line must POST to one of {', '.join(_ENDPOINTS)}, got {what}")
    if not isinstance(line["body"], Mapping):
        raise ValueError(f"body must be an object, got {line['body']!r}")
    if line["body"].get("stream"):
        raise ValueError("stream must be false in a batch, got true")
    checked: Mapping[str, Any] = line
    return checked
