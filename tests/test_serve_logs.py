"""The log of a server: what a line holds, and what it must not hold."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from ersd import Generator
from ersd.serve import Settings, create_app
from ersd.serve.logs import configure, log
from serving import asking, asking_app, load_tiny

pytestmark = pytest.mark.no_sanitizer

SECRET = "of the rain"
BODY = {"prompt": SECRET, "seed": 1, "max_tokens": 8, "ignore_eos": True}


@pytest.fixture(scope="module")
def generator(folder: Path) -> Generator:
    """The models."""
    return load_tiny(folder)


@pytest.fixture(autouse=True)
def log_as_before() -> Iterator[None]:
    """Takes away the handler that the test has set, whose stream ends with the test."""
    yield
    log.handlers, log.propagate = [], True


def asked(generator: Generator, settings: Settings, *requests: dict[str, Any]) -> list[Any]:
    """Returns what an app answers to requests to /v1/completions."""

    async def main() -> list[Any]:
        async with asking(lambda: generator, settings) as client:
            return [await client.post("/v1/completions", **each) for each in requests]

    configure("json")
    return asyncio.run(main())


def entries(capfd: pytest.CaptureFixture[str]) -> list[dict[str, Any]]:
    """Returns the lines of the log but the first one, which says that the server is ready."""
    lines = [line for line in capfd.readouterr().err.splitlines() if line[:1] == "{"]
    return [json.loads(line) for line in lines][1:]


def test_a_line_for_each_request(generator: Generator, capfd: pytest.CaptureFixture[str]) -> None:
    """It has an id, which the answer has, too, and counts, but no text."""
    bad = {"json": BODY | {"top_k": SECRET}}
    first, second = asked(generator, Settings(), {"json": BODY | {"n": 2}}, bad)
    log = capfd.readouterr().err
    ready, whole, refused = (json.loads(line) for line in log.splitlines())
    assert (ready["message"], ready["n_ctx"], ready["exact"]) == ("ready", 512, True)
    assert (whole["message"], whole["level"], whole["method"]) == ("request", "info", "POST")
    assert (whole["path"], whole["status"]) == ("/v1/completions", 200)
    assert whole["tokens"] == [8, 8]
    assert whole["prompt_tokens"] == [len(generator.tokenize(SECRET))] * 2
    assert whole["finish_reason"] == ["length", "length"]
    assert whole["ms"] > 0
    assert whole["id"] == first.headers["x-request-id"]
    assert refused["status"] == 400
    assert refused["id"] == second.headers["x-request-id"] != whole["id"]
    assert SECRET not in log
    assert first.json()["choices"][0]["text"] not in log


def test_ids_of_clients(generator: Generator, capfd: pytest.CaptureFixture[str]) -> None:
    """A plain word is kept. Anything else is replaced."""
    for given, is_kept in (("abc-1.2:3_4", True), ("a b", False), ("a" * 65, False), ("é", False)):
        sent = {"json": BODY, "headers": {"x-request-id": given.encode()}}
        (answer,) = asked(generator, Settings(), sent)
        (entry,) = entries(capfd)
        assert (answer.headers["x-request-id"] == given) is is_kept
        assert entry["id"] == answer.headers["x-request-id"]


def test_text_if_it_is_asked_for(generator: Generator, capfd: pytest.CaptureFixture[str]) -> None:
    """Prompts and answers stand in the line."""
    (answer,) = asked(generator, Settings(log_text=True), {"json": BODY})
    (entry,) = entries(capfd)
    assert entry["text"] == [answer.json()["choices"][0]["text"]]
    assert SECRET in entry["prompt"][0]


def test_faults(generator: Generator, capfd: pytest.CaptureFixture[str]) -> None:
    """A fault of the server is 500, and its line says where it is, but not what it says."""

    async def fail(request: Request) -> Response:
        raise KeyError(SECRET)

    async def fail_late(request: Request) -> Response:
        async def chunks() -> Any:
            yield b"a"
            raise KeyError(SECRET)

        return StreamingResponse(chunks())

    async def main() -> list[int]:
        app = create_app(lambda: generator)
        app.router.routes += [Route("/fail", fail), Route("/late", fail_late)]
        async with asking_app(app) as client:
            answers = [await client.get(path) for path in ("/fail", "/late")]
        assert answers[0].json()["error"]["code"] == "internal_error"
        return [each.status_code for each in answers]

    configure("json")
    assert asyncio.run(main()) == [500, 200]
    log = capfd.readouterr().err
    found = [json.loads(line) for line in log.splitlines() if line[:1] == "{"]
    faults = [entry for entry in found if entry["message"] == "fault"]
    assert [entry["error"] for entry in faults] == ["KeyError"] * 2
    assert "test_serve_logs.py" in faults[0]["calls"][0]
    assert faults[0]["calls"][0].endswith(" fail")
    assert SECRET not in log


def test_lines_of_text(generator: Generator, capfd: pytest.CaptureFixture[str]) -> None:
    """The other form has a time, a level and the fields by name."""

    async def main() -> None:
        async with asking(lambda: generator) as client:
            await client.get("/health")

    configure("text")
    asyncio.run(main())
    ready, line = capfd.readouterr().err.splitlines()
    assert ' INFO ready model="served.gguf" seconds=' in ready
    assert " INFO request id=" in line
    assert 'path="/health" status=200' in line
