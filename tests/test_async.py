"""agenerate and astream: many tasks, cancellation, errors, and the thread that makes the steps."""

from __future__ import annotations

import asyncio
import gc
import threading
import time
import weakref
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ersd import AsyncStream, Generator

PROMPTS = ["the", "the rain of", "日本語 ", "of the " * 20, "a"]
FULL: dict[str, Any] = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
OPTIONS = FULL | {"max_tokens": 40, "draft_nodes": 8}
# They never end: end tokens are never chosen, and a full context is shortened.
ENDLESS = FULL | {"max_tokens": None, "draft_nodes": 1, "ignore_eos": True}
N_REQUESTS = 20


@pytest.fixture(scope="module")
def shared(tiny_target: Path, tiny_draft: Path) -> Generator:
    """A Generator that runs four requests at once."""
    options: dict[str, Any] = {"n_ctx": 512, "n_ctx_total": 2048, "n_threads": 1}
    options |= {"exact": True, "context_shift": True}
    return Generator(tiny_target, tiny_draft, **options)


@pytest.fixture
def pair(shared: Generator) -> Iterable[Generator]:
    """The shared Generator. After the test nothing may be under way."""
    yield shared
    gc.collect()
    shared.generate("a", max_tokens=1, draft_nodes=1)  # cancelled ones leave before a step
    assert (shared._core.n_active, shared._core.n_waiting) == (0, 0)


@pytest.fixture(scope="module")
def expected(shared: Generator) -> list[list[int]]:
    """The tokens of each request alone."""
    return [shared.generate(PROMPTS[i % 5], seed=i, **OPTIONS).tokens for i in range(N_REQUESTS)]


async def answer(pair: Generator, i: int) -> list[int]:
    """Returns the tokens of a request."""
    return (await pair.agenerate(PROMPTS[i % 5], seed=i, **OPTIONS)).tokens


def test_many_tasks(pair: Generator, expected: list[list[int]]) -> None:
    """Results are those of the requests alone."""

    async def main() -> list[list[int]]:
        return await asyncio.gather(*(answer(pair, i) for i in range(N_REQUESTS)))

    assert asyncio.run(main()) == expected


def test_steps_join_to_the_answer(pair: Generator, expected: list[list[int]]) -> None:
    """A stream has the attributes of a Stream, which grow with the steps that were taken."""

    async def read(i: int) -> AsyncStream:
        stream, text, tokens = pair.astream(PROMPTS[i % 5], seed=i, **OPTIONS), "", []
        with pytest.raises(RuntimeError, match="the stream has not begun"):
            _ = stream.stats
        async for step in stream:
            text += step.text
            tokens += step.tokens
            assert (stream.text, stream.tokens) == (text, tokens)
        assert (stream.finish_reason, stream.seed) == ("length", i)
        assert stream.stats.generated == len(tokens)
        with pytest.raises(StopAsyncIteration):
            await anext(stream)
        return stream

    async def main() -> list[AsyncStream]:
        return await asyncio.gather(*(read(i) for i in range(8)))

    streams = asyncio.run(main())
    assert [each.tokens for each in streams] == expected[:8]
    assert [each.text for each in streams] == [pair.detokenize(each) for each in expected[:8]]


def test_cancelled_tasks_free_their_places(pair: Generator, expected: list[list[int]]) -> None:
    """Others go on with their texts."""

    async def main() -> list[list[int]]:
        endless = [asyncio.create_task(pair.agenerate("the", **ENDLESS)) for _ in range(8)]
        await asyncio.sleep(0.05)
        for task in endless:
            task.cancel()
        found = await asyncio.gather(*(answer(pair, i) for i in range(4)))
        assert all(isinstance(each, asyncio.CancelledError) for each in await settled(endless))
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(pair.agenerate("the" * 100, **ENDLESS | {"seed": 1}), 0.001)
        return found

    async def settled(tasks: list[asyncio.Task[Any]]) -> list[Any]:
        return await asyncio.gather(*tasks, return_exceptions=True)

    assert asyncio.run(main()) == expected[:4]


def test_streams_closed_early_free_their_places(pair: Generator, expected: list) -> None:
    """A stream ends by aclose(), at the end of a with block, and when it is garbage."""

    async def main() -> list[int]:
        for i in range(12):
            stream = pair.astream("the", **ENDLESS)
            await anext(stream)
            if i % 3 == 0:
                await stream.aclose()
                await stream.aclose()
                assert [step async for step in stream] == []
                assert stream.finish_reason is None
            elif i % 3 == 1:
                async with stream:
                    await anext(stream)
            del stream
        unused = pair.astream("the", **ENDLESS)
        unused.close()
        return await answer(pair, 3)

    assert asyncio.run(main()) == expected[3]


def test_closing_ends_the_wait_of_another_task(pair: Generator) -> None:
    """The task that iterates gets no more steps, and no error."""

    async def main() -> None:
        stream = pair.astream("the", **ENDLESS)

        async def iterate() -> None:
            async for _ in stream:
                pass

        tasks = [asyncio.create_task(iterate()) for _ in range(2)]
        while not stream.tokens:
            await asyncio.sleep(0.005)
        await stream.aclose()
        await asyncio.wait_for(asyncio.gather(*tasks), 60)

    asyncio.run(main())


def test_errors(pair: Generator, expected: list[list[int]]) -> None:
    """Bad options are refused at once. A failing processor ends its request alone."""

    def fail(ids: np.ndarray, scores: np.ndarray) -> np.ndarray:
        if len(ids) > 20:
            raise LookupError("mine")
        return scores

    async def main() -> None:
        with pytest.raises(ValueError, match="temperature must be"):
            pair.astream("the", temperature=-1)
        with pytest.raises(ValueError, match="the prompt is empty"):
            await pair.agenerate([])
        with pytest.raises(TypeError, match="there is no option 'tok_k'"):
            await pair.agenerate("the", tok_k=3)
        failing = [pair.agenerate("the", logits_processor=fail, **OPTIONS) for _ in range(3)]
        *errors, first, second = await asyncio.gather(
            *failing, answer(pair, 1), answer(pair, 2), return_exceptions=True
        )
        assert [str(error) for error in errors] == ["mine"] * 3
        assert {type(error) for error in errors} == {LookupError}
        assert [first, second] == expected[1:3]
        stream = pair.astream("the", seed=4, logits_processor=fail, **OPTIONS)
        with pytest.raises(LookupError, match="mine"):
            async for _ in stream:
                pass
        assert len(stream.tokens) > 0
        assert [step async for step in stream] == []

    asyncio.run(main())


def test_the_event_loop_goes_on(pair: Generator) -> None:
    """Other tasks run while a text is generated."""

    async def main() -> int:
        task = asyncio.create_task(pair.agenerate("the " * 50, **FULL, max_tokens=150))
        ticks = 0
        while not task.done():
            await asyncio.sleep(0.001)
            ticks += 1
        await task
        return ticks

    assert asyncio.run(main()) > 3


def test_a_step_wakes_the_event_loop_once(pair: Generator, monkeypatch: pytest.MonkeyPatch) -> None:
    """However many streams it brought tokens to."""
    n_before, n_woken = pair.traffic.target_calls, 0

    async def read(seed: int) -> None:
        async for _ in pair.astream("the", seed=seed, method="ar", max_tokens=60, **FULL):
            pass

    async def main() -> None:
        loop = asyncio.get_running_loop()
        wake = loop.call_soon_threadsafe

        def count(*args: Any) -> Any:
            nonlocal n_woken
            n_woken += 1
            return wake(*args)

        monkeypatch.setattr(loop, "call_soon_threadsafe", count)
        await asyncio.gather(*map(read, range(4)))

    asyncio.run(main())
    n_calls = pair.traffic.target_calls - n_before
    assert n_calls < 4 * 60  # calls were shared, or the next line would say nothing
    assert 0 < n_woken <= n_calls


def test_event_loops_and_threads_together(pair: Generator, expected: list[list[int]]) -> None:
    """Several event loops in threads of their own, beside threads that use generate."""
    found: dict[int, list[int]] = {}

    async def main(i: int) -> None:
        found[i], found[i + 1] = await asyncio.gather(answer(pair, i), answer(pair, i + 1))

    def work(i: int) -> None:
        if i % 4 == 0:
            asyncio.run(main(i))
        else:
            for k in (i, i + 1):
                found[k] = pair.generate(PROMPTS[k % 5], seed=k, **OPTIONS).tokens

    threads = [threading.Thread(target=work, args=(i,)) for i in range(0, N_REQUESTS, 2)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()
    assert [found[i] for i in range(N_REQUESTS)] == expected


def test_a_closed_event_loop_does_no_harm(pair: Generator, expected: list[list[int]]) -> None:
    """What its streams still had to get is dropped."""
    loop = asyncio.new_event_loop()
    stream = pair.astream("the", **ENDLESS)
    loop.run_until_complete(anext(stream))
    loop.close()
    del stream
    assert asyncio.run(answer(pair, 2)) == expected[2]


def test_the_thread_ends_some_time_after_the_last_request(
    pair: Generator, expected: list[list[int]], monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is there while requests are under way, and comes back for later ones."""
    monkeypatch.setattr(pair._driver, "_linger", 0.05)
    before = threading.active_count()
    for _ in range(2):
        assert asyncio.run(answer(pair, 1)) == expected[1]
        deadline = time.monotonic() + 10
        while pair._driver._thread is not None and time.monotonic() < deadline:
            time.sleep(0.01)
        assert pair._driver._thread is None
    assert threading.active_count() <= before


def test_a_dropped_generator_lets_its_models_go(tiny_target: Path) -> None:
    """The thread does not keep them."""
    dropped = Generator(tiny_target, n_ctx=64, n_threads=1)
    asyncio.run(dropped.agenerate("a", max_tokens=2))
    gone, core, thread = weakref.ref(dropped), dropped._shared, dropped._driver._thread
    core_gone = weakref.ref(core)
    del dropped, core
    gc.collect()
    assert gone() is None
    if thread is not None:
        thread.join(5)
        assert not thread.is_alive()
    del thread
    gc.collect()
    assert core_gone() is None
