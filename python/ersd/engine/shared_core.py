"""The core as many threads use it: any thread submits, advances and cancels requests."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import TYPE_CHECKING

from ersd.engine.core_profile import CostFile

if TYPE_CHECKING:
    from ersd import _core

__all__ = ["WAIT_MS", "SharedCore"]

# How long `step_all` waits for something to do, in milliseconds. A step that another thread made
# just before the call is noticed after this time at the latest.
WAIT_MS = 50


class SharedCore:
    """Passes calls on to the core, and writes the costs of calls to a file when requests end.

    The thread that asks for a step makes it for all requests, unless another thread makes one. A
    logits processor runs inside a step. There it must not ask for another step, which would wait
    for itself for ever, so it gets an error.
    """

    def __init__(self, core: _core.Generator, costs: CostFile) -> None:
        """costs: the file of the costs of this core's calls."""
        self._core = core
        self._costs = costs
        self._thread = threading.local()  # is_in_core: whether the thread is inside use()

    @property
    def n_parallel(self) -> int:
        """The largest number of requests that run at once."""
        return self._core.n_parallel

    def submit(
        self, prompt: list[int], options: _core.GenerationOptions, *, wants_ranks: bool = False
    ) -> _core.Request:
        """Puts a request into the queue and returns at once.

        Raises:
            ValueError: the prompt cannot be one.
        """
        return self._core.submit(prompt, options, wants_ranks)

    def next(self, request: _core.Request) -> _core.GenerationStep | None:
        """Waits for the request's next step and returns it; None after the last one.

        Raises:
            RuntimeError: see `use`.
            Exception: the request ended by this error, such as one of its logits processor.
            KeyboardInterrupt: the main thread was interrupted. The request is cancelled.
        """
        with self.use() as core:
            step = core.next(request)
        if step is None or step.finish_reason:
            self.write_costs()
        return step

    def step_all(self) -> None:
        """Makes one step for all requests, or waits a moment for that of another thread.

        Raises:
            RuntimeError: see `use`.
        """
        with self.use() as core:
            core.step_all(WAIT_MS)

    def cancel(self, request: _core.Request) -> None:
        """Ends a request. It waits for nothing, and it does nothing if the request has ended."""
        self._core.cancel(request)

    def check_not_in_step(self) -> None:
        """Raises RuntimeError if the caller is a logits processor of this core."""
        if self._is_in_core():
            raise RuntimeError("a logits processor must not use the Generator that calls it")

    @contextlib.contextmanager
    def use(self) -> Iterator[_core.Generator]:
        """Yields the core for a call that makes a step or waits for one to end.

        Raises:
            RuntimeError: the caller is a logits processor of this core.
        """
        self.check_not_in_step()
        self._thread.is_in_core = True
        try:
            yield self._core
        finally:
            self._thread.is_in_core = False

    def write_costs(self) -> None:
        """Writes the costs of calls if they were measured since, but never during a step."""
        if not self._is_in_core():
            self._costs.write_if_measured()

    def _is_in_core(self) -> bool:
        return getattr(self._thread, "is_in_core", False)
