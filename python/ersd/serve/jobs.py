"""The requests that generate: a bounded queue, deadlines, and what is freed when they end."""

from __future__ import annotations

import asyncio
import math
from collections.abc import Coroutine
from itertools import count
from types import TracebackType
from typing import Any, TypeVar

import anyio
from starlette.requests import Request

from ersd import Generator
from ersd.engine.options import DEFAULTS, check_max_tokens
from ersd.serve.errors import ApiError, client_left, refused, too_long
from ersd.serve.job_stream import JobStream
from ersd.serve.lifetime import Lifetime
from ersd.serve.metrics import Metrics
from ersd.serve.places import Places
from ersd.serve.settings import Settings

__all__ = ["Job", "Jobs"]

T = TypeVar("T")

_SECONDS_TO_UNWIND = 5.0  # how long the answers that a drain ends may take to say so


class Jobs:
    """All requests that generate. Everything here happens in one event loop.

    Up to n_parallel generations run and queue_size more wait, first come first served.

    Attributes:
        generator: the models.
        settings: what the operator decided.
        metrics: what is counted.
        places: where generations run.
        is_draining: whether new requests are refused because the server ends.
    """

    def __init__(self, generator: Generator, settings: Settings, metrics: Metrics) -> None:
        """Begins without jobs."""
        self.generator = generator
        self.settings = settings
        self.metrics = metrics
        self.places: Places[JobStream] = Places(generator.n_parallel)
        self.is_draining = False
        self._open: set[Job] = set()
        self._numbers = count()
        self._all_closed = asyncio.Event()
        self._all_closed.set()
        metrics.running.set_function(lambda: len(self.places.taken))
        metrics.waiting.set_function(lambda: self.places.n_waiting)
        metrics.watch(lambda: generator.traffic)

    def open(self, request: Request, n_choices: int = 1) -> Job:
        """Lets a request generate. ``with`` closes the job at the end.

        Args:
            request: the request.
            n_choices: how many generations it makes.

        Raises:
            ApiError: 429 if the queue is full, 400 if it has never room for so many choices, 503
                while the server ends.
        """
        self.check_open()
        room = self.generator.n_parallel + self.settings.queue_size
        if n_choices > room:
            raise ApiError(400, f"a request may have at most {room} choices, got {n_choices}")
        if sum(job.n_choices for job in self._open) + n_choices > room:
            raise ApiError(
                429,
                f"the queue is full: at most {self.settings.queue_size} generations may wait",
                kind="rate_limit_error",
                code="queue_full",
                headers={"Retry-After": str(self._seconds_to_room())},
            )
        job = Job(self, next(self._numbers), request, n_choices)
        self._open.add(job)
        self._all_closed.clear()
        request.state.job = job
        return job

    def check_open(self) -> None:
        """Raises ApiError 503 while the server ends."""
        if self.is_draining:
            raise shutting_down()

    def forget(self, job: Job) -> None:
        """Makes room for another job. Only `Job.close` calls this."""
        self._open.discard(job)
        if not self._open:
            self._all_closed.set()

    def _seconds_to_room(self) -> int:
        """Returns after how many seconds a generation should end, at least 1."""
        return max(1, math.ceil(self.places.mean_seconds / self.generator.n_parallel))

    async def drain(self, seconds: float) -> None:
        """Refuses new jobs and returns when all have ended. After some seconds it ends them."""
        self.is_draining = True
        with anyio.move_on_after(seconds):
            await self._all_closed.wait()
        for job in list(self._open):
            job.end(shutting_down())
        with anyio.move_on_after(_SECONDS_TO_UNWIND):
            await self._all_closed.wait()


class Job:
    """A request that generates.

    Attributes:
        jobs: all of them.
        number: counts the jobs of a server from 0.
        n_choices: how many generations it may make.
        streams: its generations.
    """

    def __init__(self, jobs: Jobs, number: int, request: Request, n_choices: int) -> None:
        """Use `Jobs.open` to make a job."""
        self.jobs = jobs
        self.number = number
        self.n_choices = n_choices
        self.streams: list[JobStream] = []
        self._request = request
        self._lifetime = Lifetime()
        self._deadline: asyncio.TimerHandle | None = None
        if (seconds := jobs.settings.timeout_s) is not None:
            error = ApiError(
                504,
                f"the request took longer than {seconds:g} seconds",
                kind="timeout_error",
                code="timeout",
            )
            self._deadline = asyncio.get_running_loop().call_later(seconds, self.end, error)

    def astream(self, prompt: list[int], **options: Any) -> JobStream:
        """Returns a generation, which begins with its first step.

        Args:
            prompt: token ids.
            options: see `ersd.Options`.

        Raises:
            ApiError: 400 if an option or the prompt is not valid.
        """
        try:
            answer = self.jobs.generator.astream(prompt, **options)
        except (TypeError, ValueError) as error:
            n_ctx = self.jobs.generator.n_ctx
            if len(prompt) >= n_ctx and str(error).startswith("the prompt "):
                raise too_long(error, n_prompt=len(prompt), n_ctx=n_ctx) from error
            raise refused(error) from error
        stream = JobStream(
            answer,
            prompt,
            self._lifetime.began,
            self.jobs.places,
            self.jobs.metrics,
            self.number,
            check_max_tokens(options.get("max_tokens", DEFAULTS["max_tokens"])),
        )
        self.streams.append(stream)
        return stream

    async def until_disconnect(self, work: Coroutine[Any, Any, T]) -> T:
        """Awaits a coroutine, and cancels it when the client goes away or the job must end.

        Raises:
            ApiError: 499 if the client went away; else why the job had to end.
        """
        listener = asyncio.create_task(self._listen())
        try:
            return await self._lifetime.wait(work)
        finally:
            listener.cancel()

    async def _listen(self) -> None:
        """Waits until the client goes away. The body must have been read."""
        while (await self._request.receive())["type"] != "http.disconnect":
            pass
        self.end(client_left())

    def end(self, error: ApiError) -> None:
        """Lets everything that waits in this job, now or later, raise an error."""
        self._lifetime.end(error)

    def close(self) -> None:
        """Frees what the job holds. It does nothing on a closed job."""
        if self._deadline is not None:
            self._deadline.cancel()
        for stream in self.streams:
            stream.close()
        self.jobs.forget(self)

    def __enter__(self) -> Job:
        """Returns the job itself."""
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        """Closes the job."""
        self.close()


def shutting_down() -> ApiError:
    """Returns the error of requests that a server cannot answer because it ends."""
    return ApiError(
        503,
        "the server is shutting down",
        kind="unavailable_error",
        code="shutting_down",
        headers={"Retry-After": "5", "Connection": "close"},
    )
