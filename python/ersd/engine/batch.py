"""Many prompts, generated together: a part of them is under way at any time."""

from __future__ import annotations

from collections.abc import Callable
from itertools import islice
from typing import TYPE_CHECKING, Any

from ersd.engine.answer import Answer, result_of
from ersd.engine.shared_core import SharedCore
from ersd.results import Result

if TYPE_CHECKING:
    from ersd import _core

__all__ = ["BatchItem", "generate_all"]

# Prompts under way, for each that runs at once. Those that wait fill places as soon as they are
# free. Few wait, so that memory does not grow with the number of prompts.
WINDOW = 2


class BatchItem(Answer):
    """One prompt of a batch under way."""

    def __init__(
        self,
        core: SharedCore,
        prompt: list[int],
        options: _core.GenerationOptions,
        seed: int,
    ) -> None:
        """Submits the prompt. Raises as `SharedCore.submit`."""
        super().__init__(options, seed)
        self._core = core
        self._begun = self._request = core.submit(prompt, options)

    def collect(self) -> bool:
        """Takes the steps that are ready, and returns whether the answer is finished.

        Raises:
            Exception: the request ended by this error.
        """
        while (step := self._begun.take()) is not None:
            self._add(step)
        if not self._begun.done:
            return False
        self._core.next(self._begun)  # raises the error by which the request ended
        return True

    def cancel(self) -> None:
        """Ends the request."""
        self._core.cancel(self._begun)


def generate_all(
    core: SharedCore,
    n: int,
    submit: Callable[[int], BatchItem],
    *,
    on_end: Callable[[], object],
    parse: Callable[[str], Any] | None,
    return_exceptions: bool,
) -> list[Result | Exception]:
    """Generates n answers and returns them in order.

    Args:
        core: makes the steps.
        n: number of prompts.
        submit: submits a prompt, given its index.
        on_end: called when an answer is finished or has failed.
        parse: makes the objects of `Result.parsed`; may be None.
        return_exceptions: whether the error of a prompt stands in place of its result. Otherwise
            the first error is raised, and all other prompts are cancelled.
    """
    results: dict[int, Result | Exception] = {}
    under_way: dict[int, BatchItem] = {}
    rest, window = iter(range(n)), WINDOW * core.n_parallel

    def advance(i: int) -> None:
        try:
            if i not in under_way:
                under_way[i] = submit(i)
            elif under_way[i].collect():
                results[i] = result_of(under_way[i], parse)
        except Exception as error:
            if not return_exceptions:
                raise
            results[i] = error
        if i in results:
            under_way.pop(i, None)
            on_end()

    try:
        while len(results) < n:
            for i in islice(rest, window - len(under_way)):
                advance(i)
            if under_way:
                core.step_all()
            for i in list(under_way):
                advance(i)
    finally:
        for item in under_way.values():
            item.cancel()
    return [results[i] for i in range(n)]
