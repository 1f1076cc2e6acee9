"""Reads the bodies of requests."""

from __future__ import annotations

import reprlib
from typing import Any, TypeVar

from pydantic import BaseModel, ConfigDict, ValidationError
from pydantic_core import ErrorDetails, from_json
from starlette.requests import Request

from ersd.serve.errors import ApiError

__all__ = ["Body", "read_body"]


class Body(BaseModel):
    """A body of a request. Unknown parameters are ignored, and no type is taken for another."""

    model_config = ConfigDict(extra="ignore", strict=True, allow_inf_nan=False)


AnyBody = TypeVar("AnyBody", bound=BaseModel)


async def read_body(request: Request, model: type[AnyBody]) -> AnyBody:
    """Returns the body of a request, checked.

    Raises:
        ApiError: 400 if the body is not JSON or not of this model. It names the parameter.
    """
    try:
        content = from_json(await request.body(), allow_inf_nan=False)
    except ValueError as error:
        raise ApiError(400, f"the body is not JSON: {error}") from error
    if not isinstance(content, dict):
        raise ApiError(400, f"the body must be a JSON object, got {reprlib.repr(content)}")
    try:
        return model.model_validate(content)
    except ValidationError as error:
        raise _api_error(error, content) from error


def _api_error(error: ValidationError, content: dict[str, Any]) -> ApiError:
    """Describes the fault that lies deepest, since a union has one for each of its types."""
    faults = error.errors(include_url=False, include_context=False)
    faults.sort(key=lambda fault: fault["type"] == "missing")  # may follow from another fault
    places = [_place(fault, content) for fault in faults]
    place = max(places, key=len)
    found = [fault for fault, other in zip(faults, places, strict=True) if other == place]
    param = "".join(f"[{key}]" if isinstance(key, int) else f".{key}" for key in place)[1:]
    if found[0]["type"] == "missing":
        return ApiError(400, f"{param} is missing", param=param, code="missing_required_parameter")
    messages = dict.fromkeys(fault["msg"][:1].lower() + fault["msg"][1:] for fault in found)
    got = reprlib.repr(found[0]["input"])
    message = f"{param or 'the body'}: {' or '.join(messages)}, got {got}"
    return ApiError(400, message, param=param or None)


def _place(fault: ErrorDetails, content: Any) -> tuple[int | str, ...]:
    """Returns the keys that lead to a fault, without pydantic's names of a union's types."""
    place = []
    for key in fault["loc"]:
        try:
            content = content[key]
        except (IndexError, KeyError, TypeError):
            if fault["type"] != "missing" or key != fault["loc"][-1]:
                continue
        place.append(key)
    return tuple(place)
