"""What a server withstands: many requests cut short, wrong bodies, slow clients, and its end.

Starts `ersd serve` with the default pair, or another one, and checks what it answers:

texts   requests of mixed kinds, a quarter of them cut by the client. Each finished text must be
        that of plain decoding, alone on a Generator, and nothing may be left over.
abuse   wrong bodies, slow clients, prompts of 10 MB, and a thousand connections at once. All are
        answered or refused, none by an error of the server.
stop    SIGTERM under load. Every answer ends whole or with an error, and a restart serves.

python bench/serve.py texts|abuse|stop [-m MODEL -md DRAFT] [-n 200] [-t 1] [--seed 0]
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import random
import signal
import time
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
from abuse import abuse
from served import Server

from ersd import Generator, models
from ersd.prompts import read_prompts

PROMPTS = Path(__file__).parent / "prompts"
SCHEMA = {"type": "object", "properties": {"name": {"type": "string", "maxLength": 12}}}
FORMAT = {"type": "json_schema", "json_schema": {"name": "a", "schema": SCHEMA}}
WAYS: list[dict[str, Any]] = [
    {},
    {"temperature": 0},
    {"temperature": 1.0, "top_p": 0.9, "logprobs": True},
    {"draft_nodes": 8},
    {"stop": ["\n", "."]},
    {"method": "ar", "top_k": 20},
    {"response_format": FORMAT},
    {"draft_nodes": 4, "frequency_penalty": 0.5, "min_p": 0.05},
]


@dataclass
class Asked:
    """A request, and what came of it.

    Attributes:
        path: the endpoint.
        body: the body.
        answers: the text, finish reason and log-probabilities of each choice; None without an end.
    """

    path: str
    body: dict[str, Any]
    answers: list[Any] | None = None


def mixed(count: int, rng: random.Random) -> list[Asked]:
    """Returns requests of all kinds in turn."""
    texts = [text for path in sorted(PROMPTS.glob("*.txt")) for text in read_prompts(path)]
    asked = []
    for i in range(count):
        body = {"seed": i, "max_tokens": rng.randint(4, 64), "stream": i % 3 == 0}
        body |= {"n": 1 + (i % 7 == 0)} | WAYS[i % len(WAYS)]
        text = rng.choice(texts)
        if i % 2:
            body["messages"] = [{"role": "user", "content": text}]
            asked.append(Asked("/v1/chat/completions", body))
        else:
            if "logprobs" in body:
                body["logprobs"] = 0
            asked.append(Asked("/v1/completions", body | {"prompt": text}))
    return asked


async def events(client: httpx.AsyncClient, each: Asked) -> AsyncIterator[Any]:
    """Yields the events of a streamed answer, the last one being [DONE]."""
    async with client.stream("POST", each.path, json=each.body) as answer:
        if answer.status_code != 200:
            await answer.aread()
        answer.raise_for_status()
        async for line in answer.aiter_lines():
            if line.startswith("data: "):
                data = line.removeprefix("data: ")
                yield data if data == "[DONE]" else json.loads(data)


async def answer(client: httpx.AsyncClient, each: Asked) -> None:
    """Sends a request and keeps its answer."""
    n = each.body["n"]
    found: list[list[Any]] = [["", None, []] for _ in range(n)]
    if each.body["stream"]:
        chunks = [event async for event in events(client, each)]
        assert chunks.pop() == "[DONE]"
    else:
        whole = await client.post(each.path, json=each.body)
        assert whole.status_code == 200, whole.text
        chunks = [whole.json()]
    for choice in (choice for chunk in chunks for choice in chunk["choices"]):
        kept = found[choice["index"]]
        said = choice.get("delta", choice.get("message", choice))
        kept[0] += said.get("content") or said.get("text") or ""
        kept[1] = choice["finish_reason"] or kept[1]
        logprobs = choice.get("logprobs") or {}
        kept[2] += logprobs.get("token_logprobs") or [
            token["logprob"] for token in logprobs.get("content", ())
        ]
    each.answers = found


def expected(generator: Generator, each: Asked) -> list[Any]:
    """Returns what plain decoding answers."""
    keys = {"messages", "prompt", "n", "stream", "method", "draft_nodes"}
    options = {name: value for name, value in each.body.items() if name not in keys}
    if "logprobs" in options:
        options["logprobs"] = 0
    if "messages" in each.body:
        prompt: Any = generator.apply_chat_template(each.body["messages"])
    else:
        prompt = each.body["prompt"]
    found = []
    for i in range(each.body["n"]):
        options["seed"] = each.body["seed"] + i
        result = generator.generate(prompt, method="ar", **options)
        logprobs = [token.logprob for token in result.logprobs or ()]
        found.append([result.text, result.finish_reason, logprobs])
    return found


def generator_of(args: argparse.Namespace) -> Generator:
    """Returns a Generator of the same models that runs one request at a time."""
    target = args.model or models.default_target()
    draft = args.draft or models.default_draft()
    return Generator(target, draft, exact=True, n_threads=args.threads, n_ctx=2048, profile=False)


def texts(args: argparse.Namespace) -> None:
    """Compares the texts of many requests at once with those alone."""
    rng = random.Random(args.seed)
    asked = mixed(args.count, rng)
    server = Server(args, "--exact", "--parallel", "4", "-c", "2048", "--ctx-total", "4096")
    print("before:", server.memory())
    cut = set(rng.sample(range(len(asked)), len(asked) // 4))

    async def main() -> None:
        free = asyncio.Semaphore(16)
        async with server.client() as client:

            async def one(i: int) -> None:
                async with free:
                    # Some are cut while they wait, some while they run, and some end before.
                    seconds = rng.uniform(0, 12) if i in cut else None
                    with contextlib.suppress(asyncio.TimeoutError):
                        await asyncio.wait_for(answer(client, asked[i]), seconds)

            await asyncio.gather(*map(one, range(len(asked))))

    asyncio.run(main())
    print("after:", server.memory())
    print("left over:", server.idle())
    assert server.stop() == 0
    alone = generator_of(args)
    finished = [each for each in asked if each.answers is not None]
    equal = sum(each.answers == expected(alone, each) for each in finished)
    n_texts = sum(each.body["n"] for each in finished)
    print(f"{len(asked)} requests, {len(asked) - len(finished)} cut, {n_texts} texts finished")
    print(f"{equal} of {len(finished)} finished answers equal those alone")
    assert equal == len(finished)


def stop(args: argparse.Namespace) -> None:
    """Ends a server under load, and starts it again."""
    server = Server(args, "--exact", "--parallel", "8", "-c", "2048", "--drain", "10")
    ends: list[str] = []

    async def streamed(client: httpx.AsyncClient, each: Asked) -> str:
        last: Any = None
        async for event in events(client, each):
            if event == "[DONE]":
                return f"stream with {last['error']['code']}" if "error" in last else "whole stream"
            last = event
        return "cut"

    async def whole(client: httpx.AsyncClient, each: Asked) -> str:
        answer = await client.post(each.path, json=each.body)
        answer.raise_for_status()
        assert all(choice["finish_reason"] for choice in answer.json()["choices"])
        return "whole answer"

    async def one(client: httpx.AsyncClient, each: Asked) -> None:
        try:
            ends.append(await (streamed if each.body["stream"] else whole)(client, each))
        except httpx.HTTPStatusError as refused:
            code = refused.response.json()["error"]["code"]
            ends.append(f"status {refused.response.status_code}, {code}")

    async def main() -> None:
        asked = mixed(40, random.Random(args.seed))
        for i, each in enumerate(asked):
            if i % 8 == 0:  # these last longer than the drain
                each.body |= {"max_tokens": 1500, "ignore_eos": True, "stop": None}
        async with server.client() as client:
            tasks = [asyncio.create_task(one(client, each)) for each in asked]
            while len(ends) < 8:
                await asyncio.sleep(0.1)
            server.process.send_signal(signal.SIGTERM)
            await asyncio.sleep(0.5)
            late = await client.post("/v1/completions", json={"prompt": "late"})
            print("a request after SIGTERM: status", late.status_code)
            await asyncio.gather(*tasks)

    asyncio.run(main())
    print("ends:", dict(Counter(ends)), "exit status", server.process.wait(30))
    assert "cut" not in ends
    began = time.perf_counter()
    generator_of(args)
    print(f"loading a Generator: {time.perf_counter() - began:.1f} s")
    again = Server(args, "--exact", "--parallel", "4", "-c", "2048")
    print(f"the restarted server serves after {again.seconds:.1f} s")
    print(httpx.post(f"{again.url}/v1/completions", json={"prompt": "a"}, timeout=60).status_code)
    assert again.stop() == 0


def main() -> None:
    """Runs one of the parts."""
    parts = {"texts": texts, "abuse": abuse, "stop": stop}
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("part", choices=parts)
    add("-m", "--model", default=None)
    add("-md", "--draft", default=None)
    add("-n", "--count", type=int, default=200, help="requests of texts")
    add("-t", "--threads", type=int, default=1)
    add("--seed", type=int, default=0)
    args = parser.parse_args()
    parts[args.part](args)


if __name__ == "__main__":
    main()
