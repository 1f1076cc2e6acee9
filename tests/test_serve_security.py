"""Who may use a server, how much a request may send, and how slow a client may be."""

from __future__ import annotations

import asyncio
import base64
import socket
import threading
import time
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
import httpx
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from ersd import Generator
from ersd.serve import Settings, create_app
from serving import Running, asking, load_tiny, running

pytestmark = pytest.mark.no_sanitizer


@pytest.fixture(scope="module")
def generator(folder: Path) -> Generator:
    """The models, of which these tests need little."""
    return load_tiny(folder)


@pytest.fixture(scope="module")
def server(generator: Generator) -> Iterator[Running]:
    """A server that takes small bodies and cuts connections after a second."""
    settings = Settings(port=0, max_body_bytes=10_000, connection_timeout_s=1)
    with running(lambda: generator, settings) as server:
        yield server


def answers(generator: Generator, settings: Settings, requests: list[dict[str, Any]]) -> list[Any]:
    """Returns what an app answers to requests, each given by the arguments of httpx's request."""

    async def main() -> list[httpx.Response]:
        async with asking(lambda: generator, settings) as client:
            return [await client.request(**{"method": "GET"} | each) for each in requests]

    return asyncio.run(main())


def basic(password: str) -> str:
    """Returns a header of basic authentication."""
    return "Basic " + base64.b64encode(f"me:{password}".encode()).decode()


@pytest.mark.parametrize(
    ("headers", "status"),
    [
        ({}, 401),
        ({"Authorization": "Bearer wrong"}, 401),
        ({"Authorization": "Bearer"}, 401),
        ({"Authorization": "Bearer fir"}, 401),
        ({"Authorization": "first"}, 401),
        ({"Authorization": "Basic ####"}, 401),
        ({"Authorization": basic("wrong")}, 401),
        ({"x-api-key": "wrong"}, 401),
        ({"Authorization": "Bearer first"}, 200),
        ({"Authorization": "bearer  sécond"}, 200),
        ({"Authorization": basic("first")}, 200),
        ({"x-api-key": "first"}, 200),
    ],
)
def test_keys(generator: Generator, headers: dict[str, str], status: int) -> None:
    """Everything but /health needs one of them, also what is not there."""
    paths = ["/", "/v1/models", "/props", "/slots", "/metrics", "/openapi.json", "/nothing"]
    paths += ["/health/", "//health"]
    sent = {name: value.encode() for name, value in headers.items()}
    asked = [{"url": f"http://server{path}", "headers": sent} for path in ["/health", *paths]]
    asked += [{"method": "POST", "url": "/tokenize", "headers": sent, "json": {"content": "a"}}]
    settings = Settings(api_keys=("first", "sécond"))
    health, *found = answers(generator, settings, asked)
    assert health.status_code == 200
    if status == 401:
        assert {each.status_code for each in found} == {401}
        assert found[0].json()["error"]["type"] == "authentication_error"
        assert {each.headers["www-authenticate"] for each in found} == {"Bearer"}
    else:
        assert 401 not in {each.status_code for each in found}
        assert (found[1].status_code, found[-1].status_code) == (200, 200)


def test_a_browser_asks_for_a_key(generator: Generator) -> None:
    """It does so only where basic authentication is the only scheme."""
    asked = [{"url": "http://server/", "headers": {"Accept": "text/html,*/*;q=0.8"}}]
    (found,) = answers(generator, Settings(api_keys=("first",)), asked)
    assert (found.status_code, found.headers["www-authenticate"]) == (401, 'Basic realm="ersd"')


def test_web_pages_of_other_origins(generator: Generator) -> None:
    """They are refused unless they are named. The server's own page is not."""
    foreign, named, own = "http://evil.example", "https://named.example", "http://server"

    def asked(origin: str, **headers: str) -> dict[str, Any]:
        return {"url": "/v1/models", "headers": {"Origin": origin} | headers}

    preflight = {
        "method": "OPTIONS",
        "url": "/v1/models",
        "headers": {"Origin": named, "Access-Control-Request-Method": "POST"},
    }
    proxied = asked("https://public.example", **{"Sec-Fetch-Site": "same-origin"})
    requests = [asked(foreign), asked(named), asked(own), asked("null"), proxied, preflight]
    off = answers(generator, Settings(), requests)
    assert [each.status_code for each in off] == [403, 403, 200, 403, 200, 403]
    assert not any("access-control-allow-origin" in each.headers for each in off)
    on = answers(generator, Settings(cors_origins=(named,), api_keys=("key",)), requests[-1:])
    assert [each.status_code for each in on] == [200]
    assert on[0].headers["access-control-allow-origin"] == named
    on = answers(generator, Settings(cors_origins=(named,)), requests)
    assert [each.status_code for each in on] == [403, 200, 200, 403, 200, 200]
    everybody = answers(generator, Settings(cors_origins=("*",)), requests)
    assert {each.status_code for each in everybody} == {200}


@pytest.mark.parametrize(
    ("origin", "status"),
    [
        ("http://localhost", 200),
        ("http://localhost:3000", 200),
        ("https://127.0.0.1:3000", 200),
        ("http://[::1]:3000", 200),
        ("http://localhost.evil.example", 403),
        ("http://notlocalhost", 403),
        ("http://127.0.0.1.evil.example:80", 403),
    ],
)
def test_all_pages_of_this_machine(generator: Generator, origin: str, status: int) -> None:
    """The origin "localhost" stands for them, on any port."""
    asked = {"url": "/v1/models", "headers": {"Origin": origin}}
    [answer] = answers(generator, Settings(cors_origins=("localhost",)), [asked])
    assert answer.status_code == status
    allowed = answer.headers.get("access-control-allow-origin")
    assert allowed == (origin if status == 200 else None)


def test_large_bodies(server: Running) -> None:
    """They are refused, whether they say how large they are or not."""
    for size, status in ((9_000, 200), (10_000, 413), (5_000_000, 413)):
        body = b'{"content": "' + b"a" * size + b'"}'
        declared = httpx.post(f"{server.url}/tokenize", content=body)
        chunked = httpx.post(f"{server.url}/tokenize", content=iter([body[:5], body[5:]]))
        assert (declared.status_code, chunked.status_code) == (status, status)
        if status == 413:
            assert declared.json() == chunked.json()
            assert declared.json()["error"]["message"] == "the body must have at most 10000 bytes"


def test_large_heads(server: Running) -> None:
    """They are refused, and the server serves on."""
    for size, status in ((20_000, 431), (5_000_000, 400)):
        big = httpx.get(f"{server.url}/health", headers={"x-big": "a" * size})
        assert big.status_code == status
    assert httpx.get(f"{server.url}/health").status_code == 200


def connect(server: Running) -> socket.socket:
    """Returns a connection to a server."""
    parts = urlsplit(server.url)
    return socket.create_connection((parts.hostname, parts.port), timeout=30)


@pytest.mark.parametrize(
    "sent",
    [
        b"",
        b"POST /tokenize HTTP/1.1\r\nHost: a\r\n",
        b"POST /tokenize HTTP/1.1\r\nHost: a\r\nContent-Length: 99\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: a\r\n\r\n",
        b"GET /health HTTP/1.1\r\nHost: a\r\n\r\nGET /health HTTP/1.1\r\n",
    ],
    ids=["nothing", "head", "body", "idle", "second"],
)
def test_slow_clients(server: Running, sent: bytes) -> None:
    """Whoever sends a byte now and then is cut off all the same."""
    with connect(server) as connection:
        connection.sendall(sent)
        connection.settimeout(0.2)
        began, is_open = time.monotonic(), True
        while is_open:
            assert time.monotonic() < began + 20
            try:
                is_open = connection.recv(65536) != b""
            except TimeoutError:
                connection.sendall(b"a" if sent and not sent.endswith(b"\r\n\r\n") else b"")
            except ConnectionError:
                is_open = False
        assert time.monotonic() > began + 0.8


def test_a_client_that_reads_nothing(generator: Generator) -> None:
    """It is cut off, although there is always more to send."""
    ended = threading.Event()

    async def chunks() -> AsyncIterator[bytes]:
        try:
            while True:
                yield bytes(1 << 16)
                await asyncio.sleep(0)  # as every generation waits now and then
        finally:
            ended.set()

    async def flood(request: Request) -> Response:
        return StreamingResponse(chunks())

    app = create_app(lambda: generator, Settings(port=0, connection_timeout_s=1))
    app.router.routes.append(Route("/flood", flood))
    server = Running(app)
    try:
        with connect(server) as connection:
            connection.sendall(b"GET /flood HTTP/1.1\r\nHost: a\r\n\r\n")
            assert ended.wait(30)
    finally:
        server.stop()


def test_many_connections(server: Running) -> None:
    """Hundreds of silent ones do not keep others from being served."""
    connections = [connect(server) for _ in range(300)]
    assert httpx.get(f"{server.url}/health").status_code == 200
    for each in connections:
        each.close()


BAD_BODIES = [
    b"",
    b"{",
    b"[]",
    b"null",
    b'"a"',
    b'{"content": NaN}',
    b'{"content": 1e999}',
    b'{"content": Infinity}',
    b'{"content": 1}',
    b'{"content": null}',
    b'{"content": ["a"]}',
    b'{"content": "\xff"}',
    b'{"content": "\\ud800"}',
    b'{"content": "a"',
    b'{"content": ' + b"9" * 5000 + b"}",
    b'{"content": ' + b"[" * 3000 + b"]" * 3000 + b"}",
    b'{"a":' * 1000 + b"1" + b"}" * 1000,
    b'{"content": "a", "add_special": 1}',
    b"\x00" * 100,
    b"\xef\xbb\xbf{}",
]


def test_bad_bodies(server: Running) -> None:
    """Each is 400 with one sentence."""
    with httpx.Client(base_url=server.url) as client:
        for body in BAD_BODIES:
            answer = client.post("/tokenize", content=body)
            assert answer.status_code == 400, body[:30]
            message = answer.json()["error"]["message"]
            assert 0 < len(message) < 200
            assert "\n" not in message
        typed = client.post("/detokenize", json={"tokens": [1, 2**40]}).json()["error"]
        assert (typed["param"], typed["type"]) == ("tokens[1]", "invalid_request_error")
        assert client.get("/health").status_code == 200
