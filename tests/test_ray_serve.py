"""Replicas of the server behind Ray Serve: streams, a replica that dies, and its replacement."""

from __future__ import annotations

import contextlib
import os
import re
import signal
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("ray", reason="Ray is not installed")
pytest.importorskip("openai")
import httpx
import openai
import ray
from pydantic import ValidationError
from ray import serve

from ersd import Generator
from ersd.ray import build_app
from openai_protocol import MESSAGES
from serving import load_tiny, until

pytestmark = [pytest.mark.no_sanitizer, pytest.mark.ray]

KEY = {"x-api-key": "first"}
OPTIONS: dict[str, Any] = {"temperature": 1.0, "max_tokens": 24}


@pytest.fixture(scope="module")
def generator(folder: Path) -> Generator:
    """The models, one request at a time."""
    return load_tiny(folder, n_parallel=1, n_ctx=4096, n_ctx_total=0)


@pytest.fixture(scope="module")
def url(folder: Path, generator: Generator) -> Iterator[str]:
    """The address of two replicas."""
    ray.init(
        "local",
        num_cpus=3,
        object_store_memory=200 << 20,
        include_dashboard=False,
        log_to_driver=False,
        logging_level="warning",
    )
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    serve.start(http_options={"port": port, "host": "127.0.0.1"})
    args = {
        "model": str(folder / "served.gguf"),
        "draft": str(folder / "served-draft.gguf"),
        "n_ctx": "4096",
        "n_parallel": "8",
        "n_ctx_total": "32768",
        "exact": "true",
        "min_replicas": "2",
        "max_replicas": "2",
        "api_keys": "first,second",
    }
    serve.run(build_app(args), name="ersd")
    until(lambda: len(replicas()) == 2)
    yield f"http://127.0.0.1:{port}"
    serve.shutdown()
    ray.shutdown()


def replicas() -> set[int]:
    """Returns the ids of the processes of the replicas."""
    found = set()
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):  # the process has ended
            if b"ServeReplica" in path.read_bytes():
                found.add(int(path.parent.name))
    return found


@pytest.fixture
def client(url: str) -> Iterator[openai.OpenAI]:
    """A client of the package openai, which does not try again."""
    with openai.OpenAI(base_url=f"{url}/v1", api_key="second", max_retries=0) as client:
        yield client


def test_openai(client: openai.OpenAI, url: str, generator: Generator) -> None:
    """Whole and streamed answers have the text of the models alone; keys are asked for."""
    for seed in range(4):
        asked: Any = {"model": "any", "messages": MESSAGES, "seed": seed, **OPTIONS}
        text = generator.chat(MESSAGES, seed=seed, **OPTIONS).text
        # The whole answer comes second: a text that was written before can be drafted at once.
        chunks = list(client.chat.completions.create(**asked, stream=True))
        assert "".join(chunk.choices[0].delta.content or "" for chunk in chunks) == text
        assert len(chunks) > 3
        answer = client.chat.completions.create(**asked)
        assert answer.choices[0].message.content == text
    with pytest.raises(openai.BadRequestError, match="temperature must be"):
        client.chat.completions.create(**asked | {"temperature": -1})
    with pytest.raises(openai.AuthenticationError):
        client.with_options(api_key="wrong").models.list()
    assert httpx.get(f"{url}/health").json() == {"status": "ok"}
    assert "llamacpp:tokens_predicted_total" in httpx.get(f"{url}/metrics", headers=KEY).text


def test_a_stream_that_is_closed(client: openai.OpenAI, url: str) -> None:
    """Its generation ends on the replica, too."""
    endless: Any = {"model": "any", "messages": MESSAGES, "max_tokens": 3500}
    endless |= {"extra_body": {"ignore_eos": True}}
    with client.chat.completions.create(**endless, stream=True) as chunks:
        next(iter(chunks))
    until(lambda: n_running(url) == {0})
    pages = [httpx.get(f"{url}/metrics", headers=KEY).text for _ in range(9)]
    counted = re.findall(r"^llamacpp:tokens_predicted_total (\S+)$", "".join(pages), re.MULTILINE)
    assert len(counted) == 9
    assert max(map(float, counted)) < 3000


def n_running(url: str) -> set[int]:
    """Returns how many generations run in the replicas. Either may answer a request, by chance."""
    pages = [httpx.get(f"{url}/slots", headers=KEY).json() for _ in range(9)]
    return {sum(slot["is_processing"] for slot in page) for page in pages}


def test_a_replica_that_is_killed(client: openai.OpenAI, url: str, generator: Generator) -> None:
    """Only its own requests end, with errors. Others go on, and it is replaced."""
    # Long enough that none ends between the count of those that run and the kill.
    options: Any = {"temperature": 1.0, "max_tokens": 2000}
    asked: Any = {"model": "any", "prompt": "the", **options}
    asked |= {"stream": True, "extra_body": {"ignore_eos": True}}
    texts: dict[int, str] = {}
    errors: dict[int, Exception] = {}
    begun = [threading.Event() for _ in range(8)]

    def read(seed: int) -> None:
        parts = []
        try:
            for chunk in client.completions.create(**asked, seed=seed):
                parts.append(chunk.choices[0].text)
                begun[seed].set()
            texts[seed] = "".join(parts)
        except Exception as error:  # of the package openai, or of the HTTP client below it
            errors[seed] = error

    before = replicas()
    threads = [threading.Thread(target=read, args=(seed,)) for seed in range(8)]
    for thread in threads:
        thread.start()
    for each in begun:
        assert each.wait(60)
    # The one that runs fewer may answer alone. The other one then runs the rest.
    running = {part for n in n_running(url) for part in (n, 8 - n)}
    killed = min(before)
    os.kill(killed, signal.SIGKILL)
    for thread in threads:
        thread.join(120)
    assert len(texts) + len(errors) == 8
    assert texts
    assert len(errors) in running
    for seed, text in texts.items():
        assert text == generator.generate("the", seed=seed, ignore_eos=True, **options).text
    asked |= {"max_tokens": 5}
    for seed in range(8):  # while one replica is missing
        assert list(client.completions.create(**asked, seed=seed))
    until(lambda: len(replicas()) == 2 and killed not in replicas(), 60)


def test_wrong_arguments() -> None:
    """Each is told by its name, before anything is deployed."""
    for given, message in (
        ({"modle": "a.gguf"}, "modle"),
        ({"n_parallel": "0"}, "n_parallel"),
        ({"min_replicas": 3, "max_replicas": 2}, "max_replicas must be at least min_replicas, 3"),
        ({"queue": "-1"}, "queue"),
    ):
        with pytest.raises(ValidationError, match=message):
            build_app(given)
    with pytest.raises(ValueError, match="drain_s must be at least 0, got -1"):
        build_app({"drain_s": -1})
