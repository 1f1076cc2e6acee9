"""The state of a server, its figures, tokens, and the OpenAPI description."""

from __future__ import annotations

import asyncio
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

pytest.importorskip("starlette")
pytest.importorskip("uvicorn")
import httpx
import jsonschema
from prometheus_client.parser import text_string_to_metric_families

from ersd import Generator
from ersd.serve import Settings
from ersd.serve.run import listen
from serving import Running, asking, load_tiny, running, until

pytestmark = pytest.mark.no_sanitizer


@pytest.fixture(scope="module")
def generator(folder: Path) -> Generator:
    """Models that never reach the end of their context."""
    return load_tiny(folder, n_parallel=2, context_shift=True)


@pytest.fixture(scope="module")
def server(generator: Generator) -> Iterator[Running]:
    """A server."""
    with running(lambda: generator, Settings(port=0, alias="tiny")) as server:
        yield server


@pytest.fixture(scope="module")
def client(server: Running) -> Iterator[httpx.Client]:
    """A client of the server."""
    with httpx.Client(base_url=server.url, timeout=60) as client:
        yield client


def figures(client: httpx.Client) -> dict[str, float]:
    """Returns the figures of a server by name, those of labels added up."""
    found: dict[str, float] = {}
    for family in text_string_to_metric_families(client.get("/metrics").text):
        for sample in family.samples:
            found[sample.name] = found.get(sample.name, 0) + sample.value
    return found


def test_health_while_the_models_are_loaded(generator: Generator) -> None:
    """It is 503 until they are there, as every other answer that needs them."""
    may_end = threading.Event()

    def load() -> Generator:
        may_end.wait(60)
        return generator

    with running(load, ready=False) as server, httpx.Client(base_url=server.url) as client:
        try:
            for path in ("/health", "/v1/health", "/v1/models", "/props", "/slots"):
                loading = client.get(path)
                assert loading.status_code == 503
                assert loading.json()["error"]["code"] == "loading"
            assert client.post("/v1/completions", json={"prompt": "a"}).status_code == 503
            assert client.get("/metrics").status_code == 200
        finally:
            may_end.set()
        until(lambda: client.get("/health").status_code == 200)
        assert client.get("/health").json() == {"status": "ok"}


def test_what_the_server_is(client: httpx.Client, generator: Generator) -> None:
    """/v1/models and /props."""
    (model,) = client.get("/v1/models").json()["data"]
    assert (model["id"], model["object"]) == ("tiny", "model")
    assert model["meta"]["n_vocab"] == 515
    props = client.get("/props").json()
    assert props["exact"] == {"holds": True, "reason": generator.exact.reason}
    assert (props["total_slots"], props["n_ctx_total"]) == (2, 2048)
    assert props["default_generation_settings"]["n_ctx"] == 512
    assert props["default_generation_settings"]["params"]["temperature"] == 0.8
    assert (props["bos_token"], props["eos_token"]) == ("<s>", "</s>")
    assert props["model_path"] == generator.target.path
    assert "add_generation_prompt" in props["chat_template"]


def test_slots(server: Running, client: httpx.Client) -> None:
    """They say what runs, but not its text."""
    idle = client.get("/slots").json()
    assert [slot["id"] for slot in idle] == [0, 1]
    assert not any(slot["is_processing"] for slot in idle)
    body = {"prompt": "the rain", "max_tokens": 100_000, "ignore_eos": True, "stream": True}
    with client.stream("POST", "/v1/completions", json=body) as answer:
        lines = answer.iter_lines()  # which closes the connection when it is dropped
        next(lines)
        busy, free = httpx.get(f"{server.url}/slots").json()
        assert (busy["is_processing"], free["is_processing"]) == (True, False)
        assert busy["next_token"][0]["n_decoded"] > 0
        assert busy["n_prompt_tokens"] > 2
        with httpx.Client(base_url=server.url) as other:
            assert figures(other)["llamacpp:requests_processing"] == 1
    until(lambda: not server.server.jobs.places.taken)


def test_metrics(client: httpx.Client, generator: Generator) -> None:
    """Counters count exactly what was asked for, and histograms have an entry for each."""
    generator.reset()
    n_prompt = len(generator.tokenize("of the rain"))
    before = figures(client)
    body: dict[str, Any] = {"prompt": "of the rain", "seed": 1, "max_tokens": 20}
    for _ in range(3):
        client.post("/v1/completions", json=body | {"draft_nodes": 4, "ignore_eos": True})
    after = figures(client)
    grown = {name: after[name] - before.get(name, 0) for name in after}
    assert grown["llamacpp:tokens_predicted_total"] == 60
    read, cached = (
        grown["llamacpp:prompt_tokens_total"],
        grown["llamacpp:prompt_tokens_cached_total"],
    )
    assert read + cached == 3 * n_prompt
    assert cached == 2 * (n_prompt - 1)  # the last token of a prompt is always read
    drafted = grown["llamacpp:spec_decode_num_draft_tokens_total"]
    accepted = grown["llamacpp:spec_decode_num_accepted_tokens_total"]
    assert 0 < accepted < drafted
    assert grown["llamacpp:spec_decode_num_accepted_tokens_per_pos_total"] == accepted
    assert grown["ersd:tokens_per_call_sum"] == 60
    assert grown["ersd:tokens_per_call_count"] < 60
    for name in ("request_queue_time", "time_to_first_token", "time_per_output_token"):
        assert grown[f"ersd:{name}_seconds_count"] == 3
    rate = (
        after["llamacpp:tokens_predicted_total"]
        / (after["llamacpp:tokens_predicted_seconds_total"])
    )
    assert after["llamacpp:predicted_tokens_seconds"] == pytest.approx(rate)
    n_calls, n_rows = grown["llamacpp:n_decode_total"], grown["ersd:target_rows_total"]
    assert 60 / 5 <= n_calls < 63
    assert grown["ersd:target_prompt_rows_total"] == n_prompt - 1
    assert n_rows == drafted + n_prompt - 1 + n_calls - 1  # the first call only reads
    assert grown["ersd:target_tokens_total"] >= 60
    assert grown["ersd:num_preemptions_total"] == 0
    assert after["ersd:kv_cache_cells"] == generator.n_ctx_total
    assert 60 < after["ersd:kv_cache_cells_used"] < generator.n_ctx_total


def test_paths_that_are_not_there_make_no_series(client: httpx.Client) -> None:
    """A scan of random paths does not fill the memory."""
    for i in range(20):
        assert client.get(f"/nothing/{i}").status_code == 404
    assert "/nothing" not in client.get("/metrics").text


def test_tokens(client: httpx.Client, generator: Generator) -> None:
    """They are those of the model, both ways."""
    text = "the rain, é 日 🙂"
    tokens = client.post("/tokenize", json={"content": text}).json()["tokens"]
    assert tokens == generator.tokenize(text, add_special=False)
    body = {"content": text, "add_special": True}
    assert client.post("/tokenize", json=body).json()["tokens"] == generator.tokenize(text)
    back = client.post("/detokenize", json={"tokens": tokens}).json()["content"]
    assert back.strip() == text
    body = {"content": "<s>", "parse_special": False}
    assert client.post("/tokenize", json=body).json()["tokens"] != [1]
    pieces = client.post("/tokenize", json={"content": "á日", "with_pieces": True}).json()["tokens"]
    assert [each["piece"] for each in pieces] == [" ", [0xC3], [0xA1], "日"]
    wrong = client.post("/detokenize", json={"tokens": [515]})
    assert (wrong.status_code, wrong.json()["error"]["message"]) == (
        400,
        "token must be between 0 and 514, got 515",
    )
    wrong = client.post("/detokenize", json={"tokens": ["a"] * 100_000})
    assert wrong.json()["error"]["param"] == "tokens[0]"
    wrong = client.post("/detokenize", json={"tokens": [1] * (1 << 21)})
    assert "at most 1048576 items" in wrong.json()["error"]["message"]


def test_apply_template(client: httpx.Client) -> None:
    """A conversation becomes a prompt; what the template refuses is 400."""
    body = {"messages": [{"role": "user", "content": "the"}]}
    prompt = client.post("/apply-template", json=body).json()["prompt"]
    assert prompt == "<s>user: the</s><s>assistant: "
    for messages in ([{"content": "the"}], [{"role": "user", "content": [{"type": "image"}]}]):
        assert client.post("/apply-template", json={"messages": messages}).status_code == 400


def test_errors_of_the_router(client: httpx.Client) -> None:
    """They have OpenAI's form, too."""
    nothing, wrong = client.get("/v1/nothing"), client.get("/tokenize")
    assert nothing.json()["error"]["message"] == "not found: GET /v1/nothing"
    assert (wrong.status_code, wrong.headers["allow"]) == (405, "POST")
    assert wrong.json()["error"]["message"] == "method not allowed: GET /tokenize"


def test_the_description(client: httpx.Client) -> None:
    """What the server answers is what its description says."""
    description = client.get("/openapi.json").json()
    asked = {"/tokenize": {"content": "a"}, "/detokenize": {"tokens": [300]}}
    asked["/apply-template"] = {"messages": [{"role": "user", "content": "the"}]}
    asked["/v1/chat/completions"] = asked["/apply-template"] | {"max_tokens": 2}
    asked["/v1/completions"] = {"prompt": "the", "max_tokens": 2}
    asked["/v1/responses"] = {"input": "the", "max_output_tokens": 2}
    for path in ("/v1/chat/completions", "/v1/responses"):
        asked[f"{path}/input_tokens"] = asked[path]
    for path, operations in description["paths"].items():
        (method, operation), *_ = operations.items()
        answer = client.request(method, path, json=asked.get(path))
        assert answer.status_code == 200
        if content := operation["responses"]["200"].get("content"):
            schema = content["application/json"]["schema"]
            jsonschema.validate(answer.json(), schema | {"components": description["components"]})


@pytest.mark.parametrize("keys", [(), ("secret",)], ids=["open", "keys"])
def test_the_description_says_what_needs_a_key(generator: Generator, keys: tuple[str, ...]) -> None:
    """All but /health, if the server has keys; and which answers may be events."""

    async def main() -> Any:
        async with asking(lambda: generator, Settings(api_keys=keys)) as client:
            return (await client.get("/openapi.json", headers={"x-api-key": "secret"})).json()

    description = asyncio.run(main())
    assert description["security"] == ([{"key": []}] if keys else [])
    public = [
        path for path, each in description["paths"].items() if "security" in each.get("get", {})
    ]
    assert public == (["/health"] if keys else [])
    events = [
        path for path, each in description["paths"].items() if "text/event-stream" in str(each)
    ]
    assert events == ["/v1/chat/completions", "/v1/completions", "/v1/responses"]


def test_answers_are_sent_at_once() -> None:
    """No part of an answer waits for the one before it (by Nagle's algorithm)."""
    with listen(Settings(port=0)) as listening, socket.create_connection(listening.getsockname()):
        accepted, _ = listening.accept()
        with accepted:
            assert accepted.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)


def test_no_page(generator: Generator) -> None:
    """There is nothing at / if the operator wants no page."""

    async def main() -> int:
        async with asking(lambda: generator, Settings(page=False)) as client:
            return (await client.get("/")).status_code

    assert asyncio.run(main()) == 404
