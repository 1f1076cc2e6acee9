"""A generation under way in an event loop of asyncio."""

from __future__ import annotations

from collections import deque
from collections.abc import AsyncIterator
from functools import partial
from types import TracebackType
from typing import TYPE_CHECKING

from ersd.engine.answer import Answer
from ersd.engine.async_driver import AsyncDriver, Delivery
from ersd.results import Step

if TYPE_CHECKING:
    from ersd import _core

__all__ = ["AsyncStream"]


class AsyncStream(Answer):
    """A generation under way in an event loop: iterate with ``async for``, then read the rest.

    It is an asynchronous iterator and context manager. It begins with its first step and belongs to
    the event loop that asks for that. Closing it, dropping it, or cancelling a task that waits for
    its next step ends the generation and frees its place.

    Attributes:
        seed: the seed of this generation.
        text: the text so far.
        tokens: the tokens so far.
        logprobs: one entry per token so far; None unless the option `logprobs` is given.
        finish_reason: None until the generation is finished.
        end_token: the token that ended the answer, which is not one of `tokens`; None if it ended
            otherwise, or has not ended.
    """

    def __init__(
        self,
        driver: AsyncDriver,
        prompt: list[int],
        options: _core.GenerationOptions,
        seed: int,
        *,
        at_once: bool = True,
    ) -> None:
        """Use `Generator.astream` to make a stream.

        Args:
            driver: the thread that makes the steps.
            prompt: token ids.
            options: options of the generation.
            seed: the seed of these options.
            at_once: whether steps arrive as they come, or all of them at the end.
        """
        super().__init__(options, seed)
        self._driver = driver
        self._submit: partial[Delivery] | None = partial(
            driver.submit, prompt, options, at_once=at_once
        )
        self._delivery: Delivery | None = None
        self._arrived: deque[_core.GenerationStep] = deque()
        self._has_ended = False  # no more steps arrive
        self._error: BaseException | None = None  # why not

    def __aiter__(self) -> AsyncIterator[Step]:
        """Returns the stream itself."""
        return self

    async def __anext__(self) -> Step:
        """Waits for the next step. If the waiting task is cancelled, the stream is closed."""
        while not self._arrived and not self._has_ended:
            await self._receive()
        if self._arrived:
            found = self._arrived.popleft()
            step = self._add(found)
            if step.text or step.tokens or not found.finish_reason:
                return step
        if self._error is not None:
            error, self._error = self._error, None
            raise error
        raise StopAsyncIteration

    async def _receive(self) -> None:
        """Waits for the next steps or the end."""
        try:
            parcel = await (self._delivery or self._begin()).receive()
        except BaseException:
            self.close()
            raise
        if not self._has_ended:  # another task may have closed the stream
            self._arrived += parcel.steps
            self._has_ended, self._error = parcel.is_last, parcel.error

    def _begin(self) -> Delivery:
        """Submits the request."""
        assert self._submit is not None
        delivery = self._delivery = self._submit()
        self._submit = None  # which holds the prompt and the logits processors
        self._request = delivery.request
        return delivery

    async def aclose(self) -> None:
        """Ends the generation, as `close`."""
        self.close()

    def close(self) -> None:
        """Ends the generation and frees its place. It waits for nothing.

        It does nothing on a finished stream.
        """
        self._has_ended = True
        self._arrived.clear()
        if self._request is not None:
            self._driver.cancel(self._request)

    async def __aenter__(self) -> AsyncStream:
        """Returns the stream itself."""
        return self

    async def __aexit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes the stream."""
        self.close()

    def __del__(self) -> None:
        """Frees the place. It waits for nothing, because it may run inside any other call."""
        self.close()
