"""The generations of a request: all of its choices, side by side."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncGenerator, Mapping
from dataclasses import dataclass, replace
from typing import Any, NamedTuple

from ersd.engine.seeds import check_seed, seeds_of_batch
from ersd.results import Step
from ersd.serve.errors import refused
from ersd.serve.job_stream import JobStream
from ersd.serve.jobs import Job

__all__ = ["ChoiceStep", "Generations", "Plan"]


class ChoiceStep(NamedTuple):
    """A step of a choice, or its end.

    Attributes:
        i: the choice.
        step: the step; None at the end of the choice.
        is_last: whether all choices have ended.
    """

    i: int
    step: Step | None
    is_last: bool


@dataclass(frozen=True)
class Plan:
    """What a request asks the engine for.

    Attributes:
        prompts: the token ids of each prompt.
        n: choices per prompt.
        seed: the seed of the first choice; each further choice has the next one. -1 draws it, and
            so does None unless there is a default.
        options: options of `Engine.stream` that all choices share.
    """

    prompts: list[list[int]]
    n: int
    seed: int | None
    options: dict[str, Any]

    def with_defaults(self, defaults: Mapping[str, Any]) -> Plan:
        """Returns the plan with options that hold where the request does not say otherwise."""
        options = {**defaults, **self.options}
        default_seed = options.pop("seed", None)
        seed = default_seed if self.seed is None else self.seed
        return replace(self, seed=seed, options=options)


class Generations:
    """All choices of a request. Choice ``i`` belongs to prompt ``i // n``.

    Attributes:
        n: choices per prompt.
        seed: the seed of the first choice.
        streams: one for each choice.
    """

    def __init__(self, job: Job, plan: Plan) -> None:
        """Prepares the generations, which begin when their steps are asked for.

        Raises:
            ApiError: 400 if an option or a prompt is not valid.
        """
        self.n = plan.n
        prompts = [prompt for prompt in plan.prompts for _ in range(plan.n)]
        try:
            self.seed = check_seed(None if plan.seed == -1 else plan.seed)
            seeds = seeds_of_batch(self.seed, len(prompts))
        except ValueError as error:
            raise refused(error) from error
        self.streams: list[JobStream] = [
            job.astream(prompt, **plan.options, seed=seed)
            for prompt, seed in zip(prompts, seeds, strict=True)
        ]

    async def steps(self) -> AsyncGenerator[ChoiceStep, None]:
        """Yields the steps and the ends of all choices as they come.

        Raises:
            ApiError: a generation failed. The others end, too.
        """
        if len(self.streams) == 1:  # without a task and a queue between
            async for step in self.streams[0]:
                yield ChoiceStep(0, step, False)
            yield ChoiceStep(0, None, True)
            return
        arrived: asyncio.Queue[tuple[int, Step | Exception | None]] = asyncio.Queue()
        tasks = [
            asyncio.create_task(_forward(i, stream, arrived))
            for i, stream in enumerate(self.streams)
        ]
        n_open = len(tasks)
        try:
            while n_open:
                i, found = await arrived.get()
                if isinstance(found, Exception):
                    raise found
                n_open -= found is None
                yield ChoiceStep(i, found, n_open == 0)
        finally:
            for task in tasks:
                task.cancel()


async def _forward(
    i: int, stream: JobStream, arrived: asyncio.Queue[tuple[int, Step | Exception | None]]
) -> None:
    try:
        async for step in stream:
            arrived.put_nowait((i, step))
        arrived.put_nowait((i, None))
    except Exception as error:
        arrived.put_nowait((i, error))
