"""Requests of a server: the queue, deadlines, clients that go away, and the end of the server."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
import httpx

from ersd import Generator
from ersd.serve import Settings
from serving import Running, load_tiny, running, until

pytestmark = pytest.mark.no_sanitizer

SHORT: dict[str, Any] = {"max_tokens": 30, "temperature": 1.0, "draft_nodes": 4}
ENDLESS: dict[str, Any] = {"prompt": "the rain", "max_tokens": 1_000_000, "ignore_eos": True}


@pytest.fixture(scope="module")
def models(folder: Path) -> Generator:
    """Models that run two generations at once, and never reach the end of their context."""
    return load_tiny(folder, n_parallel=2, context_shift=True)


@pytest.fixture
def generator(models: Generator) -> Iterator[Generator]:
    """The models. After the test nothing may run any more."""
    yield models
    models.generate("a", max_tokens=1)  # cancelled requests leave before a step
    assert (models._core.n_active, models._core.n_waiting) == (0, 0)


def post(server: Running, timeout: float = 60, **body: Any) -> httpx.Response:
    """Asks a server for texts."""
    return httpx.post(f"{server.url}/v1/completions", json=body, timeout=timeout)


def texts(answer: httpx.Response) -> list[str]:
    """Returns the texts of an answer."""
    return [choice["text"] for choice in answer.json()["choices"]]


def stream(server: Running, **body: Any) -> Any:
    """Asks a server for a stream; returns what enters a connection and leaves it."""
    body |= {"stream": True}
    return httpx.stream("POST", f"{server.url}/v1/completions", json=body, timeout=60)


def n_running(server: Running) -> int:
    """Returns how many generations run."""
    return len(server.server.jobs.places.taken)


def error_of(events: str) -> dict[str, Any]:
    """Returns the error in the events of a stream."""
    found = [line for line in events.splitlines() if '"error"' in line]
    return json.loads(found[0].removeprefix("data: "))["error"]


def test_many_requests_have_the_texts_that_they_have_alone(generator: Generator) -> None:
    """Also when some clients go away meanwhile. Nothing is left over."""
    alone = [generator.generate("of the", seed=i, **SHORT).text for i in range(24)]

    with running(lambda: generator) as server, ThreadPoolExecutor(12) as pool:

        def ask(i: int) -> list[str]:
            if i % 4 == 3:
                with stream(server, **ENDLESS) as answer:
                    next(answer.iter_lines())
                return []
            return texts(post(server, prompt="of the", seed=i, **SHORT))

        found = list(pool.map(ask, range(24)))
        until(lambda: n_running(server) == 0)
    assert found == [[] if i % 4 == 3 else [alone[i]] for i in range(24)]


def test_a_full_queue(generator: Generator) -> None:
    """It refuses with 429 and says when to come again; then it takes requests as before."""
    with running(lambda: generator, Settings(port=0, queue_size=1)) as server:
        with stream(server, **ENDLESS), stream(server, **ENDLESS):
            until(lambda: n_running(server) == 2)
            with ThreadPoolExecutor(1) as pool:
                waiting = pool.submit(post, server, prompt="a", seed=1, max_tokens=2)
                until(lambda: server.server.jobs.places.n_waiting == 1)
                refused = post(server, prompt="a", max_tokens=2)
                assert refused.status_code == 429
                assert refused.json()["error"]["code"] == "queue_full"
                assert int(refused.headers["retry-after"]) >= 1
                server.server.jobs.places.taken[0].close()
                assert waiting.result().status_code == 200
        until(lambda: n_running(server) == 0)
        assert post(server, prompt="a", max_tokens=2, n=3).status_code == 200
        never = post(server, prompt="a", n=4)
    assert never.status_code == 400
    assert "at most 3 choices, got 4" in never.json()["error"]["message"]


def test_the_deadline(generator: Generator) -> None:
    """Whole answers become 504, streams end with an error event, and those that wait end too."""
    with running(lambda: generator, Settings(port=0, timeout_s=0.3)) as server:
        whole = post(server, n=3, **ENDLESS)  # of which one waits
        with stream(server, **ENDLESS) as streamed:
            events = streamed.read().decode()
        assert n_running(server) == 0
    assert whole.status_code == 504
    assert whole.json()["error"]["message"] == "the request took longer than 0.3 seconds"
    assert error_of(events)["code"] == "timeout"
    assert events.rstrip().endswith("[DONE]")


def test_a_client_that_goes_away(generator: Generator) -> None:
    """Exactly its request ends, whether it is streamed, waits for a whole answer, or waits."""
    alone = generator.generate("of the", seed=5, **SHORT).text
    with running(lambda: generator) as server, stream(server, **ENDLESS) as stays:
        lines = stays.iter_lines()
        next(lines)
        for n_choices in (1, 3):  # with 3, two of them wait
            with pytest.raises(httpx.ReadTimeout):
                post(server, n=n_choices, **ENDLESS, timeout=0.3)
            until(lambda: n_running(server) == 1 and not server.server.jobs.places.n_waiting)
        with stream(server, **ENDLESS):
            until(lambda: n_running(server) == 2)
        until(lambda: n_running(server) == 1)
        assert texts(post(server, prompt="of the", seed=5, **SHORT)) == [alone]
        next(lines)
        assert n_running(server) == 1


def test_a_failing_model(generator: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """It is 500 with one sentence, and the server serves on."""

    def fail(ids: Any, scores: Any) -> Any:
        raise LookupError("a fault")

    def astream(prompt: Any, *, stop: Any = (), **options: Any) -> Any:
        if stop == "fail":
            options["logits_processor"] = fail
        return Generator.astream(generator, prompt, **options)

    monkeypatch.setattr(generator, "astream", astream)
    with running(lambda: generator) as server:
        whole = post(server, prompt="a", stop="fail")
        with stream(server, prompt="a", stop="fail") as streamed:
            events = streamed.read().decode()
        assert post(server, prompt="a", max_tokens=2).status_code == 200
    assert whole.status_code == 500
    assert whole.json()["error"]["message"] == "the model failed: a fault"
    assert error_of(events)["code"] == "model_failed"


def test_draining_lets_answers_end(generator: Generator) -> None:
    """Running answers and those that wait end whole. New requests and /health get 503."""
    with (
        running(lambda: generator) as server,
        ThreadPoolExecutor(4) as pool,
        stream(server, **ENDLESS) as endless,
    ):
        lines = endless.iter_lines()
        next(lines)
        body = {"prompt": "a", "seed": 1, "max_tokens": 300, "ignore_eos": True}
        answers = [pool.submit(post, server, **body) for _ in range(3)]
        until(lambda: n_running(server) + server.server.jobs.places.n_waiting == 4)
        server.drain()
        until(lambda: server.server.jobs.is_draining)
        refused = post(server, prompt="a")
        health = httpx.get(f"{server.url}/health")
        assert next(lines) is not None
        assert [each.result().status_code for each in answers] == [200] * 3
    assert refused.status_code == health.status_code == 503
    assert refused.json()["error"]["code"] == "shutting_down"
    with pytest.raises(httpx.ConnectError):
        post(server, prompt="a")


def test_draining_ends_answers_that_take_too_long(generator: Generator) -> None:
    """Streams end with an error event, and whole answers become 503."""
    with (
        running(lambda: generator, Settings(port=0, drain_s=0.2)) as server,
        ThreadPoolExecutor(2) as pool,
        stream(server, **ENDLESS) as streamed,
    ):
        whole = pool.submit(post, server, **ENDLESS)
        until(lambda: n_running(server) == 2)
        server.drain()
        assert error_of(streamed.read().decode())["code"] == "shutting_down"
        assert whole.result().status_code == 503
