"""Abuse of a server: wrong bodies, slow clients, large prompts, many connections."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from typing import Any
from urllib.parse import urlsplit

import httpx
from served import Server

__all__ = ["abuse"]

MB = 1 << 20
LIMIT_S = 75  # of a request to arrive, and of an answer to be read: Settings.connection_timeout_s
BODIES: dict[str, dict[str, Any]] = {
    "/v1/chat/completions": {"messages": [{"role": "user", "content": "a"}], "max_tokens": 1},
    "/v1/completions": {"prompt": "a", "max_tokens": 1},
    "/v1/responses": {"input": "a", "max_output_tokens": 1},
    "/tokenize": {"content": "a"},
    "/detokenize": {"tokens": [5]},
    "/apply-template": {"messages": [{"role": "user", "content": "a"}]},
}
WRONG: list[Any] = [
    None,
    True,
    -1,
    1 << 70,
    1e300,
    "",
    "a" * 999,
    "\ud800",
    [],
    [[]],
    {},
    {"a": {}},
]
WRONG += [[None] * 99, "\0", [{}], [{"role": 1}], [{"type": "function"}], "root ::= (", ["a", 1]]
NAMES = ["messages", "prompt", "input", "n", "max_tokens", "temperature", "stream", "tools", "stop"]
NAMES += [
    "tool_choice",
    "response_format",
    "grammar",
    "logit_bias",
    "seed",
    "logprobs",
    "top_logprobs",
]
NAMES += ["content", "tokens", "prediction", "draft_nodes", "strategy", "chat_template_kwargs"]


def wrong_body(rng: random.Random) -> tuple[str, bytes]:
    """Returns a path and a body that is damaged as JSON or in one of its values."""
    path = rng.choice(list(BODIES))
    kind = rng.randrange(4)
    body = dict(BODIES[path])
    if kind < 2:
        body[rng.choice(NAMES + list(body))] = rng.choice(WRONG)
        return path, json.dumps(body).encode()
    text = bytearray(json.dumps(body).encode())
    if kind == 2:
        return path, bytes(text[: rng.randrange(len(text))])
    for _ in range(rng.randint(1, 8)):
        text[rng.randrange(len(text))] = rng.randrange(256)
    return path, bytes(text)


async def together(n: int, at_once: int, one: Callable[[int], Awaitable[Any]]) -> Counter[Any]:
    """Runs n calls, some at once, and counts what they return."""
    free = asyncio.Semaphore(at_once)

    async def call(i: int) -> Any:
        async with free:
            return await one(i)

    return Counter(await asyncio.gather(*(call(i) for i in range(n))))


async def wrong_bodies(server: Server, rng: random.Random) -> None:
    """Sends 10,000 wrong bodies."""
    async with server.client() as client:

        async def one(_: int) -> int:
            path, body = wrong_body(rng)
            answer = await client.post(path, content=body)
            if answer.status_code >= 500:
                print("an error of the server:", path, body[:200], answer.text)
            return answer.status_code

        for n in (1000, 4000, 5000):
            found = await together(n, 16, one)
            print(f"{n} wrong bodies:", dict(found), server.memory(), flush=True)
            assert max(found) < 500


async def large_prompts(server: Server) -> None:
    """Sends prompts of 10 MB that the limit of bodies lets pass, and others that it does not."""
    async with server.client() as client:

        async def one(i: int) -> Any:
            text = "a word " * (10 * MB // 7) if i % 4 else "a" * (20 * MB)
            answer = await client.post("/v1/completions", json={"prompt": text, "max_tokens": 1})
            return answer.status_code, answer.json()["error"]["code"]

        for n in (4, 8):
            found = await together(n, 4, one)
            print(f"{n} large prompts:", dict(found), server.memory(), flush=True)
            assert max(status for status, _ in found) < 500


async def many_connections(server: Server) -> None:
    """Opens a thousand connections, and sends a request on each at the same moment."""
    body = json.dumps(BODIES["/v1/completions"]).encode()
    request = b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nConnection: close\r\nContent-Length: "
    where = urlsplit(server.url)
    opened: list[tuple[asyncio.StreamReader, asyncio.StreamWriter]] = []
    for _ in range(1000):
        opened.append(await asyncio.open_connection(where.hostname, where.port))
    print("1000 connections:", server.memory())

    async def one(i: int) -> int:
        reader, writer = opened[i]
        writer.write(request + str(len(body)).encode() + b"\r\n\r\n" + body)
        status = int((await reader.readline()).split()[1])
        writer.close()
        return status

    found = await together(1000, 1000, one)
    print("answers:", dict(found), server.memory(), flush=True)
    assert set(found) <= {200, 429}


async def slow_clients(server: Server) -> None:
    """Sends requests byte by byte and leaves answers unread; another client is served meanwhile."""
    where = urlsplit(server.url)
    began = time.perf_counter()
    head = b"POST /v1/completions HTTP/1.1\r\nHost: a\r\nContent-Length: 5000\r\n\r\n"
    endless = json.dumps({"prompt": "a", "stream": True, "max_tokens": 30, "ignore_eos": True})
    whole = head.replace(b"5000", str(len(endless)).encode() + b"\r\nConnection: close")
    whole += endless.encode()

    async def one(i: int) -> str:
        reader, writer = await asyncio.open_connection(where.hostname, where.port)
        if i % 3 == 2:  # sends a request, and reads nothing
            writer.write(whole)
            await asyncio.sleep(LIMIT_S)
        else:  # sends slowly: from the head on, or the body
            writer.write(head if i % 3 else b"")
            with contextlib.suppress(ConnectionError):
                for byte in head * 3:
                    writer.write(bytes([byte]))
                    await writer.drain()
                    await asyncio.sleep(1)
        with contextlib.suppress(ConnectionError):
            await asyncio.wait_for(reader.read(), 2 * LIMIT_S)
        writer.close()
        return (
            f"ended within {2 * LIMIT_S} s" if time.perf_counter() < began + 2 * LIMIT_S else "late"
        )

    slow = asyncio.create_task(together(60, 60, one))
    await asyncio.sleep(2)
    async with server.client() as client:
        n_served = 0
        while not slow.done():
            answer = await client.post("/v1/completions", json=BODIES["/v1/completions"])
            n_served += answer.status_code == 200
            await asyncio.sleep(0.2)
    print("60 slow clients:", dict(await slow), f"{n_served} others served", server.memory())
    assert set(await slow) == {f"ended within {2 * LIMIT_S} s"}


def abuse(args: argparse.Namespace) -> None:
    """Does all of this to one server."""
    flags = ("--parallel", "4", "-c", "256", "--max-body", str(12 * MB), "--log-format", "json")
    server = Server(args, *flags)
    httpx.post(f"{server.url}/v1/completions", json=BODIES["/v1/completions"], timeout=60)
    print("before:", server.memory())

    async def main() -> None:
        await wrong_bodies(server, random.Random(args.seed))
        await many_connections(server)
        await large_prompts(server)
        await slow_clients(server)

    asyncio.run(main())
    print("left over:", server.idle(), server.memory())
    assert server.stop() == 0
