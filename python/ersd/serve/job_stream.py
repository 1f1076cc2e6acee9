"""A generation of a request: it waits for a place, is measured, and ends with its job."""

from __future__ import annotations

import time
from collections.abc import AsyncIterator

from ersd import AsyncStream, Stats, Step, TokenLogprob
from ersd.serve.errors import ApiError, refused
from ersd.serve.logs import log
from ersd.serve.metrics import Metrics
from ersd.serve.places import Places

__all__ = ["JobStream"]


class JobStream:
    """A generation of a job: iterate with ``async for``, then read the rest from its attributes.

    It raises only ApiError: 400 for an option that is wrong, and 500 if a model fails. A task that
    waits for it is cancelled when the job must end, see `Job.until_disconnect`.

    Attributes:
        prompt: the token ids of the prompt.
        job: the number of the job.
    """

    def __init__(
        self,
        answer: AsyncStream,
        prompt: list[int],
        began: float,
        places: Places[JobStream],
        metrics: Metrics,
        job: int,
        max_tokens: int,
    ) -> None:
        """Use `Job.astream` to make a stream.

        Args:
            answer: the generation of the engine.
            prompt: the token ids of the prompt.
            began: when its request began, in seconds of time.perf_counter.
            places: where it runs.
            metrics: where it is counted.
            job: the number of its job.
            max_tokens: the largest number of tokens; -1 for no limit.
        """
        self.prompt = prompt
        self.job = job
        self._max_tokens = max_tokens
        self._answer = answer
        self._began = began
        self._places = places
        self._metrics = metrics
        self._place: int | None = None
        self._is_closed = False
        self._n_first = 0  # tokens of the first step
        self._first = self._last = 0.0  # when the first and the last step came; 0 before that

    @property
    def n_prompt(self) -> int:
        """The number of tokens of the prompt."""
        return len(self.prompt)

    @property
    def n_remaining(self) -> int:
        """The number of tokens that may follow; -1 for no limit."""
        return -1 if self._max_tokens < 0 else max(0, self._max_tokens - len(self.tokens))

    @property
    def seed(self) -> int:
        """The seed of this generation."""
        return self._answer.seed

    @property
    def text(self) -> str:
        """The text so far."""
        return self._answer.text

    @property
    def tokens(self) -> list[int]:
        """The tokens so far."""
        return self._answer.tokens

    @property
    def logprobs(self) -> list[TokenLogprob] | None:
        """One entry for each token so far; None unless the option `logprobs` is given."""
        return self._answer.logprobs

    @property
    def finish_reason(self) -> str | None:
        """None until the generation is finished."""
        return self._answer.finish_reason

    @property
    def stats(self) -> Stats:
        """Counts and times so far. Raises RuntimeError before the first step."""
        return self._answer.stats

    def __aiter__(self) -> AsyncIterator[Step]:
        """Returns the stream itself."""
        return self

    async def __anext__(self) -> Step:
        """Waits for a place and for the next step."""
        step = None
        try:
            if not self._is_closed:
                step = await self._next()
        finally:
            if step is None or self.finish_reason is not None:
                self.close()
        if step is None:
            raise StopAsyncIteration
        return step

    async def _next(self) -> Step | None:
        """Returns the next step; None after the last one."""
        try:
            if self._place is None:
                await self._take_place()
            step = await anext(self._answer, None)
        except ApiError:
            raise
        except (TypeError, ValueError) as error:
            raise refused(error) from error
        except Exception as error:
            log.error("the model failed: %s", error, exc_info=error)
            raise ApiError(
                500, f"the model failed: {error}", kind="server_error", code="model_failed"
            ) from error
        if step is not None:
            self._measure(step)
        return step

    async def _take_place(self) -> None:
        since = time.perf_counter()
        self._place = await self._places.take(self)
        self._metrics.queue_seconds.observe(time.perf_counter() - since)

    def _measure(self, step: Step) -> None:
        metrics = self._metrics
        self._last = time.perf_counter()
        if not self._first:
            self._first, self._n_first = self._last, len(step.tokens)
            metrics.first_token_seconds.observe(self._first - self._began)
        metrics.tokens_per_call.observe(len(step.tokens))

    def close(self) -> None:
        """Ends the generation and frees its place. It does nothing on a closed stream."""
        if self._is_closed:
            return
        self._is_closed = True
        self._answer.close()
        if self._place is not None:
            self._places.leave(self._place)
        if self._first:
            self._count()

    def _count(self) -> None:
        metrics = self._metrics
        metrics.add_generation(self.n_prompt, self.stats)
        if n_later := len(self.tokens) - self._n_first:
            metrics.token_seconds.observe((self._last - self._first) / n_later)
