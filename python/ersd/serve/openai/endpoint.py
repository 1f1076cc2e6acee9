"""What OpenAI's endpoints have in common: from a request to an answer, whole or as events."""

from __future__ import annotations

import contextlib
import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator, Iterator
from dataclasses import replace
from typing import Generic, TypeVar

from anyio import to_thread
from sse_starlette import EventSourceResponse, ServerSentEvent
from starlette.requests import Request
from starlette.responses import JSONResponse, Response
from starlette.types import Receive, Scope, Send

from ersd import Generator
from ersd.serve.body import read_body
from ersd.serve.errors import ApiError
from ersd.serve.logs import log
from ersd.serve.openai.answer import Answer, Event
from ersd.serve.openai.generations import ChoiceStep, Generations, Plan
from ersd.serve.openai.sampling import Generation
from ersd.serve.openai.texts import with_tokens
from ersd.serve.server import Server, server_of

__all__ = ["Endpoint"]

Form = TypeVar("Form", bound=Generation)

_DONE = ServerSentEvent("[DONE]", sep="\n")


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
                    events = self._events(answer, first, steps)
                    response: Response = EventSourceResponse(events, sep="\n")
                else:
                    await job.until_disconnect(_finish(steps))
                    response = JSONResponse(answer.whole())
                await response(scope, receive, send)

    def _plan(self, generator: Generator, asked: Form) -> Plan:
        plan = self.plan(generator, asked)
        return replace(plan, options=with_tokens(generator, plan.options))

    async def _events(
        self, answer: Answer, first: ChoiceStep, further: AsyncIterator[ChoiceStep]
    ) -> AsyncIterator[ServerSentEvent]:
        try:
            for event in answer.begin():
                yield _sent(event)
            step: ChoiceStep | None = first
            while step is not None:
                for event in _events_of(answer, step):
                    yield _sent(event)
                step = await anext(further, None)
        except ApiError as error:
            yield _sent(answer.error(error))
        except Exception as error:
            log.error("an answer failed", exc_info=error)
            failure = ApiError(500, "the server failed", kind="server_error")
            yield _sent(answer.error(failure))
        if self.ends_with_done:
            yield _DONE


def _events_of(answer: Answer, step: ChoiceStep) -> Iterator[Event]:
    if step.step is None:
        return answer.end_choice(step.i, is_last=step.is_last)
    return answer.step(step.i, step.step)


def _sent(event: Event) -> ServerSentEvent:
    # As ASCII, because some clients take further characters of Unicode for ends of lines.
    data = json.dumps(event.data, separators=(",", ":"))
    return ServerSentEvent(data, event=event.name, sep="\n")


async def _next(steps: AsyncIterator[ChoiceStep]) -> ChoiceStep:
    return await anext(steps)


async def _finish(steps: AsyncIterator[ChoiceStep]) -> None:
    async for _ in steps:
        pass
