"""What the server is: its models, its sizes, and what it promises."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import ersd
from ersd.engine.options import DEFAULTS
from ersd.serve.openapi import Operation
from ersd.serve.server import Server, server_of

__all__ = ["OPERATIONS", "ROUTES"]


class Exact(BaseModel):
    """Whether a text is the same to the bit, whatever is drafted and whatever else runs."""

    holds: bool
    reason: str


class GenerationSettings(BaseModel):
    """What a request gets if it asks for nothing else."""

    n_ctx: int
    params: dict[str, Any]


class Props(BaseModel):
    """What the server is, under the names of llama-server where it has them."""

    default_generation_settings: GenerationSettings
    total_slots: int
    n_ctx_total: int
    queue_size: int
    model_alias: str
    model_path: str
    draft_model_path: str | None
    chat_template: str
    bos_token: str
    eos_token: str
    modalities: dict[str, bool]
    exact: Exact
    build_info: str


def _props(server: Server) -> Props:
    generator = server.generator
    target, draft, exact = generator.target, generator.draft, generator.exact

    def text(token: int) -> str:
        return generator.detokenize([token], special=True) if token >= 0 else ""

    return Props(
        default_generation_settings=GenerationSettings(
            n_ctx=generator.n_ctx, params={**DEFAULTS, "max_tokens": -1, **server.settings.options}
        ),
        total_slots=generator.n_parallel,
        n_ctx_total=generator.n_ctx_total,
        queue_size=server.settings.queue_size,
        model_alias=server.model_name,
        model_path=target.path,
        draft_model_path=draft.path if draft else None,
        chat_template=generator.chat_template or target.metadata("tokenizer.chat_template"),
        bos_token=text(target.bos),
        eos_token=text(target.eos),
        modalities={"vision": False, "audio": False},
        exact=Exact(holds=exact.holds, reason=exact.reason),
        build_info=f"ersd {ersd.__version__}",
    )


async def props(request: Request) -> JSONResponse:
    """Answers with what the server is."""
    return JSONResponse(_props(server_of(request)).model_dump())


ROUTES = [Route("/props", props)]
OPERATIONS = [Operation("/props", "GET", None, Props)]
