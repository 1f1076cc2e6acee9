"""Errors that a client is told, in OpenAI's form."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from starlette.responses import JSONResponse

__all__ = ["ApiError", "client_left", "refused", "too_long"]


class ApiError(Exception):
    """An error that the client gets as an answer, or as an event of a stream.

    Attributes:
        status: the HTTP status.
        message: one sentence for the user.
        headers: further headers of the answer.
    """

    def __init__(
        self,
        status: int,
        message: str,
        *,
        kind: str = "invalid_request_error",
        param: str | None = None,
        code: str | None = None,
        headers: Mapping[str, str] | None = None,
        facts: Mapping[str, int] | None = None,
    ) -> None:
        """Describes an error.

        Args:
            status: the HTTP status.
            message: one sentence for the user.
            kind: the "type" of OpenAI's error object.
            param: the parameter of the request that is at fault.
            code: a word by which programs recognise the error.
            headers: further headers of the answer.
            facts: numbers that programs may want to know, by name.
        """
        super().__init__(message)
        self.status = status
        self.message = message
        self.headers = dict(headers or {})
        self._rest = {"type": kind, "param": param, "code": code, **(facts or {})}

    def body(self) -> dict[str, Any]:
        """Returns OpenAI's error object."""
        return {"error": {"message": self.message, **self._rest}}

    def response(self) -> JSONResponse:
        """Returns the answer that tells the client."""
        return JSONResponse(self.body(), self.status, self.headers)


def refused(error: Exception) -> ApiError:
    """Returns the error of a request whose options or prompt the engine refuses.

    Sentences about an option begin with its name, which is the parameter's.
    """
    option = re.match(r"(\w+) (?:must|needs) ", str(error))
    return ApiError(400, str(error), param=option[1] if option else None)


def too_long(error: Exception, *, n_prompt: int, n_ctx: int) -> ApiError:
    """Returns the error of a prompt that is too long for the context.

    Its type is llama-server's, and its code OpenAI's.
    """
    return ApiError(
        400,
        str(error),
        kind="exceed_context_size_error",
        code="context_length_exceeded",
        facts={"n_prompt_tokens": n_prompt, "n_ctx": n_ctx},
    )


def client_left() -> ApiError:
    """Returns the error of a request whose client has gone away. It is only logged."""
    return ApiError(499, "the client went away", code="client_closed_request")
