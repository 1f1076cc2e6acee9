"""What runs in each place."""

from __future__ import annotations

from pydantic import BaseModel, Field, RootModel
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from ersd.serve.job_stream import JobStream
from ersd.serve.openapi import Operation
from ersd.serve.server import server_of

__all__ = ["OPERATIONS", "ROUTES"]


class NextToken(BaseModel):
    """How far a generation is."""

    has_next_token: bool
    n_remain: int = Field(description="How many tokens may follow; -1 for no limit.")
    n_decoded: int


class Slot(BaseModel):
    """A place, under the names of llama-server. It shows no text."""

    id: int
    id_task: int
    n_ctx: int
    n_prompt_tokens: int
    speculative: bool
    is_processing: bool
    next_token: list[NextToken]  # of one, as in llama-server


class Slots(RootModel[list[Slot]]):
    """All places."""


async def slots(request: Request) -> JSONResponse:
    """Answers with what runs in each place."""
    server = server_of(request)
    generator, taken = server.generator, server.jobs.places.taken

    def slot(place: int, stream: JobStream | None) -> Slot:
        is_running = stream is not None
        return Slot(
            id=place,
            id_task=stream.job if stream else -1,
            n_ctx=generator.n_ctx,
            n_prompt_tokens=stream.n_prompt if stream else 0,
            speculative=generator.draft is not None,
            is_processing=is_running,
            next_token=[
                NextToken(
                    has_next_token=is_running,
                    n_remain=stream.n_remaining if stream else -1,
                    n_decoded=len(stream.tokens) if stream else 0,
                )
            ],
        )

    found = [slot(place, taken.get(place)) for place in range(generator.n_parallel)]
    return JSONResponse(Slots(found).model_dump())


ROUTES = [Route("/slots", slots)]
OPERATIONS = [Operation("/slots", "GET", None, Slots)]
