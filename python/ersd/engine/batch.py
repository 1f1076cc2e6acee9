"""Many prompts, generated together: a part of them is under way at any time."""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterable
from itertools import islice
from typing import TYPE_CHECKING, Any

from ersd.engine.answer import Answer, result_of
from ersd.engine.shared_core import SharedCore
from ersd.results import Result

if TYPE_CHECKING:
    from ersd import _core

__all__ = ["BatchItem", "results_as_they_end"]

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
        parse: Callable[[str], Any] | None,
    ) -> None:
        """Submits the prompt. Raises as `SharedCore.submit`. parse: see `Result`."""
        super().__init__(options, seed)
        self._core = core
        self._parse = parse
        self._begun = self._request = core.submit(prompt, options)

    def collect(self) -> Result | None:
        """Takes the steps that are ready. Returns the result if the answer is finished.

        Raises:
            Exception: the request ended by this error.
        """
        while (step := self._begun.take()) is not None:
            self._add(step)
        if not self._begun.done:
            return None
        self._core.next(self._begun)  # raises the error by which the request ended
        return result_of(self, self._parse)

    def cancel(self) -> None:
        """Ends the request."""
        self._core.cancel(self._begun)


def results_as_they_end(
    core: SharedCore, submits: Iterable[Callable[[], BatchItem]]
) -> Generator[tuple[int, Result | Exception], None, None]:
    """Generates many answers, a part of them at a time, and yields them as they end.

    Closing the iterator ends those that are under way.

    Args:
        core: makes the steps.
        submits: each submits a request. They are taken one after the other, as places become free.

    Yields:
        The index of a request, and its result or the error by which it ended.
    """
    under_way: dict[int, BatchItem] = {}
    rest, window = enumerate(submits), WINDOW * core.n_parallel

    def advance(i: int, submit: Callable[[], BatchItem] | None) -> Result | Exception | None:
        try:
            if submit is not None:
                under_way[i] = submit()
                return None
            result: Result | Exception | None = under_way[i].collect()
        except Exception as error:
            result = error
        if result is not None:
            under_way.pop(i, None)
        return result

    try:
        while True:
            begun = dict(islice(rest, window - len(under_way)))
            if not begun and not under_way:
                return
            for i, submit in begun.items():
                if (error := advance(i, submit)) is not None:
                    yield i, error
            if under_way:
                core.step_all()
            for i in list(under_way):
                if (ended := advance(i, None)) is not None:
                    yield i, ended
    finally:
        for item in under_way.values():
            item.cancel()
