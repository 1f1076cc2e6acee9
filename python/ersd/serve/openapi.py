"""The OpenAPI description of the server, made from the models of requests and answers."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Any, Literal, NamedTuple

from pydantic import BaseModel
from pydantic.json_schema import models_json_schema
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

import ersd
from ersd.serve.security import PUBLIC

__all__ = ["Operation", "description", "route"]


class Operation(NamedTuple):
    """What an address does.

    Attributes:
        path: the path of the address.
        method: the method, "GET" or "POST".
        request: the model of the body; None if there is no body.
        answer: the model of the answer; None if it is not JSON.
        streams: whether the answer comes as events if the request asks for that.
    """

    path: str
    method: str
    request: type[BaseModel] | None
    answer: type[BaseModel] | None
    streams: bool = False


class ErrorObject(BaseModel):
    """What went wrong."""

    message: str
    type: str
    param: str | None
    code: str | None


class ErrorAnswer(BaseModel):
    """The answer to a request that is refused or fails."""

    error: ErrorObject


_ERRORS = {
    400: "The request is not valid.",
    401: "An API key is needed.",
    413: "The body is too large.",
    431: "The head is too large.",
    429: "The queue is full: try again after the seconds of Retry-After.",
    499: "The client went away.",
    500: "The server or a model failed.",
    503: "The model is being loaded, or the server ends.",
    504: "The request took too long.",
}


_Use = tuple[type[BaseModel], Literal["validation", "serialization"]]
_Schema = dict[str, Any]


def description(operations: Iterable[Operation], *, needs_key: bool) -> dict[str, Any]:
    """Returns the OpenAPI description of these operations.

    Args:
        operations: what the addresses do.
        needs_key: whether requests must bring a key, except where it is public.
    """
    operations = list(operations)
    uses: dict[_Use, None] = {_answer(ErrorAnswer): None}  # each once, in order
    for each in operations:
        if each.request is not None:
            uses[_request(each.request)] = None
        if each.answer is not None:
            uses[_answer(each.answer)] = None
    references, schemas = models_json_schema(
        list(uses), ref_template="#/components/schemas/{model}"
    )
    paths: dict[str, dict[str, Any]] = {}
    for each in operations:
        paths.setdefault(each.path, {})[each.method.lower()] = _operation(each, references)
    if needs_key:
        for path in PUBLIC & paths.keys():
            for operation in paths[path].values():
                operation["security"] = []
    key = {"type": "http", "scheme": "bearer"}
    return {
        "openapi": "3.1.0",
        "info": {"title": "ersd", "version": ersd.__version__},
        "paths": paths,
        "components": {"schemas": schemas["$defs"], "securitySchemes": {"key": key}},
        "security": [{"key": []}] if needs_key else [],
    }


def _request(model: type[BaseModel]) -> _Use:
    return model, "validation"


def _answer(model: type[BaseModel]) -> _Use:
    return model, "serialization"


def _operation(operation: Operation, references: Mapping[Any, _Schema]) -> dict[str, Any]:
    """Describes an operation by references to the schemas of its models."""
    error = _json(references[_answer(ErrorAnswer)])
    answers: dict[str, Any] = {"200": {"description": "The answer."}}
    if operation.answer is not None:
        answers["200"] |= _json(references[_answer(operation.answer)])
    if operation.streams:
        answers["200"]["content"]["text/event-stream"] = {}
    for status, meaning in _ERRORS.items():
        answers[str(status)] = {"description": meaning, **error}
    name = operation.method.lower() + operation.path.replace("/", "_")
    described: dict[str, Any] = {"operationId": name, "responses": answers}
    if operation.request is not None:
        body = _json(references[_request(operation.request)])
        described["requestBody"] = {"required": True, **body}
    return described


def _json(schema: _Schema) -> dict[str, Any]:
    return {"content": {"application/json": {"schema": schema}}}


def route(operations: Iterable[Operation], *, needs_key: bool) -> Route:
    """Returns the route of /openapi.json. The arguments are those of `description`."""
    described = description(operations, needs_key=needs_key)

    async def answer(request: Request) -> JSONResponse:
        return JSONResponse(described)

    return Route("/openapi.json", answer)
