"""The model, in OpenAI's list of models."""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from ersd.serve.errors import ApiError
from ersd.serve.openapi import Operation
from ersd.serve.server import Server, server_of

__all__ = ["OPERATIONS", "ROUTES"]


class ModelFacts(BaseModel):
    """Facts of a model under the names that llama-server gives them."""

    n_vocab: int
    n_ctx: int
    n_ctx_train: int
    n_params: int
    size: int


class Model(BaseModel):
    """A model."""

    id: str
    object: Literal["model"] = "model"
    created: int
    owned_by: Literal["ersd"] = "ersd"
    meta: ModelFacts


class Models(BaseModel):
    """A list of models."""

    object: Literal["list"] = "list"
    data: list[Model]


def _model(server: Server) -> Model:
    target = server.generator.target
    facts = ModelFacts(
        n_vocab=target.n_vocab,
        n_ctx=server.generator.n_ctx,
        n_ctx_train=target.n_ctx_train,
        n_params=target.n_params,
        size=target.size,
    )
    return Model(id=server.model_name, created=server.created, meta=facts)


async def models(request: Request) -> JSONResponse:
    """Answers with the one model of this server."""
    return JSONResponse(Models(data=[_model(server_of(request))]).model_dump())


async def model(request: Request) -> JSONResponse:
    """Answers with the model of this name."""
    server, name = server_of(request), request.path_params["name"]
    if name != server.model_name:
        message = f"this server has the model {server.model_name!r}, got {name!r}"
        raise ApiError(404, message, param="model", code="model_not_found")
    return JSONResponse(_model(server).model_dump())


ROUTES = [
    Route("/v1/models", models),
    Route("/models", models),
    Route("/v1/models/{name:path}", model),
]
OPERATIONS = [Operation("/v1/models", "GET", None, Models)]
