"""What OpenAI's endpoints have in common: from a request to an answer, whole or as events."""

from __future__ import annotations

import contextlib
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Generic, TypeVar

from anyio import to_thread
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.types import Receive, Scope, Send

from ersd import Generator
from ersd.serve.body import read_body
from ersd.serve.errors import ApiError
from ersd.serve.event_stream import EventStream
from ersd.serve.jobs import Job
from ersd.serve.logs import log
from ersd.serve.openai.answer import Answer
from ersd.serve.openai.generations import ChoiceStep, Generations, Plan
from ersd.serve.openai.sampling import Generation
from ersd.serve.openai.texts import with_tokens
from ersd.serve.server import Server, server_of

__all__ = ["Endpoint"]

Form = TypeVar("Form", bound=Generation)

_DONE = b"data: [DONE]\n\n"


class Endpoint(ABC, Generic[Form]):
    """An address at which a request generates. It is an ASGI app.

    Attributes:
        form: the model of the request.
        ends_with_done: whether the event [DONE] ends a stream.
        default_length: the largest number of tokens where neither the request nor the operator says
            it; None for as many as the context has room for.
    """

    form: type[Form]
    ends_with_done = True
    default_length: int | None = None

    @abstractmethod
    def n_choices(self, asked: Form) -> int:
        """Returns how many generations a request makes.

        Raises:
            ApiError, ValueError: the request asks for something that this server does not have.
        """

    @abstractmethod
    def plan(self, generator: Generator, asked: Form) -> Plan:
        """Returns what a request asks the engine for. This runs in a thread.

        Raises:
            ApiError, ValueError: the request is not valid.
        """

    @abstractmethod
    def answer(self, server: Server, asked: Form, generations: Generations) -> Answer:
        """Returns what writes the answer."""

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        request = Request(scope, receive)
        server = server_of(request)
        asked = await read_body(request, self.form)
        with server.jobs.open(request, self.n_choices(asked)) as job:
            plan = await to_thread.run_sync(self._plan, server.generator, asked)
            defaults = {"max_tokens": self.default_length, **server.settings.options}
            generations = Generations(job, plan.with_defaults(defaults))
            answer = self.answer(server, asked, generations)
            async with contextlib.aclosing(generations.steps()) as steps:
                if asked.stream:
                    # The engine refuses some requests only when they begin.
                    first = await job.until_disconnect(_next(steps))
                    await self._stream(job, answer, first, steps, send)
                else:
                    await job.until_disconnect(_finish(steps))
                    await JSONResponse(answer.whole())(scope, receive, send)

    def _plan(self, generator: Generator, asked: Form) -> Plan:
        plan = self.plan(generator, asked)
        return replace(plan, options=with_tokens(generator, plan.options))

    async def _stream(
        self,
        job: Job,
        answer: Answer,
        first: ChoiceStep,
        further: AsyncIterator[ChoiceStep],
        send: Send,
    ) -> None:
        """Sends an answer as events. An error that comes now is the last one of them."""
        async with EventStream(send) as stream:
            try:
                await job.until_disconnect(_write(answer, first, further, stream))
            except ApiError as error:
                await stream.write(answer.error(error))
            except Exception as error:
                log.error("an answer failed", exc_info=error)
                failure = ApiError(500, "the server failed", kind="server_error")
                await stream.write(answer.error(failure))
            if self.ends_with_done:
                await stream.write(_DONE)


async def _write(
    answer: Answer, first: ChoiceStep, further: AsyncIterator[ChoiceStep], stream: EventStream
) -> None:
    await stream.write(b"".join((*answer.begin(), *_events_of(answer, first))))
    async for step in further:
        if events := b"".join(_events_of(answer, step)):
            await stream.write(events)


def _events_of(answer: Answer, step: ChoiceStep) -> Iterator[bytes]:
    if step.step is None:
        return answer.end_choice(step.i, is_last=step.is_last)
    return answer.step(step.i, step.step)


async def _next(steps: AsyncIterator[ChoiceStep]) -> ChoiceStep:
    return await anext(steps)


async def _finish(steps: AsyncIterator[ChoiceStep]) -> None:
    async for _ in steps:
        pass
