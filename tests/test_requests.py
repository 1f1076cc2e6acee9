"""Requests of many threads: they share steps, and each text is that of the request alone."""

from __future__ import annotations

import gc
import random
import signal
import sys
import threading
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
from ersd._core import GenerationOptions, Generator, Request

from conftest import ctrl_c

FULL = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
N_CTX = 256


def options(**given: Any) -> GenerationOptions:
    """Returns options without truncation."""
    return GenerationOptions(**{"max_tokens": 40, "draft_nodes": 8, **FULL, **given})


def rest(generator: Generator, request: Request) -> list[int]:
    """Returns the tokens of all further steps."""
    tokens = []
    while (step := generator.next(request)) is not None:
        tokens += step.tokens
    return tokens


def answer(generator: Generator, prompt: list[int], **given: Any) -> list[int]:
    """Returns the tokens of a whole generation."""
    return rest(generator, generator.submit(prompt, options(**given)))


def check_empty(generator: Generator) -> None:
    """No request is left, and all cells can be free."""
    generator.step_all(0)
    assert generator.n_active == generator.n_waiting == 0
    generator.reset()
    assert generator.n_free == generator.n_cells


@pytest.fixture(scope="module")
def many(tiny_target: Path, tiny_draft: Path) -> Generator:
    """A pair with three places and with fewer cells than three contexts have."""
    return Generator(
        str(tiny_target), str(tiny_draft), n_ctx=N_CTX, n_parallel=3, n_ctx_total=400, n_threads=1
    )


@pytest.fixture(scope="module")
def alone(tiny_target: Path) -> Generator:
    """The target alone with one place, which is reset before every use."""
    return Generator(str(tiny_target), "", n_ctx=N_CTX, n_parallel=1, exact=True, n_threads=1)


def prompts(draw: random.Random, n: int) -> list[list[int]]:
    """Returns random prompts, of which some begin as earlier ones."""
    made: list[list[int]] = []
    for _ in range(n):
        old = draw.choice(made)[: draw.randint(1, 60)] if made and draw.random() < 0.6 else []
        made.append([*old, *(draw.randrange(3, 515) for _ in range(draw.randint(1, 60)))])
    return made


def test_threads_get_the_texts_of_requests_alone(many: Generator, alone: Generator) -> None:
    """Eight threads generate through three places, and some leave early."""
    draw, truths = random.Random(1), []
    ways = [{"method": "ar"}, {}, {"strategy": "tree"}, {"draft_nodes": 3, "method": "match"}]
    asked = [
        (prompt, {"seed": i, **draw.choice(ways)}) for i, prompt in enumerate(prompts(draw, 60))
    ]
    for prompt, given in asked:
        alone.reset()
        truths.append(answer(alone, prompt, **given | {"method": "ar"}))

    def serve(i: int) -> bool:
        prompt, given = asked[i]
        request = many.submit(prompt, options(**given))
        if i % 5 == 0:
            tokens = []
            for _ in range(i % 3):
                step = many.next(request)
                tokens += step.tokens if step else []
            if i % 2:
                many.cancel(request)
            return tokens == truths[i][: len(tokens)]
        return rest(many, request) == truths[i]

    with ThreadPoolExecutor(8) as pool:
        assert all(pool.map(serve, range(len(asked))))
    gc.collect()
    check_empty(many)


def test_one_thread_may_hold_many_requests(many: Generator) -> None:
    """Requests that are not asked for their steps do not keep others from going on."""
    requests = [many.submit([5, 6, i], options(seed=i, max_tokens=60)) for i in range(3, 9)]
    expected = [answer(many, [5, 6, i], seed=i, max_tokens=60) for i in range(3, 9)]
    assert [rest(many, request) for request in reversed(requests)] == expected[::-1]
    assert all(request.done and request.take() is None for request in requests)
    check_empty(many)


def test_an_engine_thread_makes_all_steps(many: Generator) -> None:
    """Steps of step_all() can be taken without waiting."""
    expected = [answer(many, [9, i], seed=i) for i in range(3, 8)]
    stop = threading.Event()

    def run() -> None:
        while not stop.is_set():
            many.step_all(20)

    thread = threading.Thread(target=run)
    thread.start()
    requests = [many.submit([9, i], options(seed=i)) for i in range(3, 8)]
    tokens: list[list[int]] = [[] for _ in requests]
    while not all(request.done for request in requests):
        for request, so_far in zip(requests, tokens, strict=True):
            while (step := request.take()) is not None:
                so_far += step.tokens
        time.sleep(0.001)
    stop.set()
    thread.join()
    assert tokens == expected
    check_empty(many)


def test_a_processor_of_another_thread_fails_alone(many: Generator) -> None:
    """The error comes out of the request that caused it, whoever makes the step."""
    expected = answer(many, [4, 4, 4], seed=1, max_tokens=120)

    class Failing:
        def __call__(self, input_ids: Any, scores: Any) -> Any:
            if len(input_ids) > 20:
                raise ZeroDivisionError("mine")
            return scores

    failing = Failing()
    counts = sys.getrefcount(failing)

    def fail(i: int) -> str:
        try:
            answer(many, [4, 4, i + 3], seed=i, logits_processor=failing)
        except ZeroDivisionError as error:
            return str(error)
        return ""

    with ThreadPoolExecutor(4) as pool:
        good = pool.submit(answer, many, [4, 4, 4], seed=1, max_tokens=120)
        assert list(pool.map(fail, range(12))) == ["mine"] * 12
        assert good.result() == expected
    gc.collect()
    check_empty(many)
    assert sys.getrefcount(failing) == counts


def test_a_processor_must_not_wait_for_its_own_step(many: Generator) -> None:
    """A logits processor that uses the Generator gets an error instead of waiting for ever."""

    def recursive(input_ids: Any, scores: Any) -> Any:
        answer(many, [3, 3], seed=1)
        return scores

    with pytest.raises(RuntimeError, match="a logits processor must not use the Generator"):
        answer(many, [3], seed=1, logits_processor=recursive)
    gc.collect()
    check_empty(many)


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs POSIX timers")
def test_ctrl_c_ends_the_request_of_the_main_thread(many: Generator) -> None:
    """Ctrl-C ends the main thread's wait within a step; other threads go on."""
    expected = [answer(many, [7, i], seed=i, max_tokens=200) for i in range(3, 6)]
    n_stopped = 0
    for round_ in range(20):
        with ThreadPoolExecutor(3) as pool:
            others = [
                pool.submit(answer, many, [7, i], seed=i, max_tokens=200) for i in range(3, 6)
            ]
            seconds = [0.0005, 0.003, 0.02][round_ % 3]
            n_stopped += ctrl_c(seconds, answer, many, [8, 8], seed=1, max_tokens=240)
            assert [other.result() for other in others] == expected
    assert n_stopped > 3
    gc.collect()
    check_empty(many)
