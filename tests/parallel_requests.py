"""Requests that tests of many generations at once share, and threads that raise their errors."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable
from typing import Any

from ersd import Generator, Stream

N_PARALLEL = 4
N_REQUESTS = 24
PROMPTS = ["the", "the rain of", "日本語 ", "of the " * 30, "a", "in the " * 50]
SAMPLINGS: list[dict[str, Any]] = [
    {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0},
    {"temperature": 0.7, "repeat_penalty": 1.2},
    {"temperature": 0.0},
]
LENGTHS = [60, 7, 110]


def request(i: int) -> tuple[str, dict[str, Any]]:
    """Returns the prompt and the options of a request."""
    options = {"seed": i, "max_tokens": LENGTHS[i // 2 % 3], "draft_nodes": 1 + 5 * i % 16}
    return PROMPTS[i % len(PROMPTS)], options | SAMPLINGS[i % len(SAMPLINGS)]


def stream(generator: Generator, i: int) -> Stream:
    """Returns a stream of a request."""
    prompt, options = request(i)
    return generator.stream(prompt, **options)


def run_threads(functions: Iterable[Callable[[], object]]) -> None:
    """Runs functions in threads, and raises the first error of any."""
    errors: list[BaseException] = []

    def run(function: Callable[[], object]) -> None:
        try:
            function()
        except BaseException as error:
            errors.append(error)

    threads = [threading.Thread(target=run, args=(each,), daemon=True) for each in functions]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join(120)
        assert not thread.is_alive()
    if errors:
        raise errors[0]
