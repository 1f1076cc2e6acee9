"""Gives each request an id, and counts and logs it when it ends."""

from __future__ import annotations

import re
import time
import uuid
from typing import Any

from starlette.datastructures import Headers, MutableHeaders
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ersd.serve.errors import ApiError
from ersd.serve.jobs import Job
from ersd.serve.logs import log
from ersd.serve.server import Server

__all__ = ["RequestLog"]


class RequestLog:
    """Gives each request an id, counts it and logs it. It is the outermost layer.

    An id that comes in the header x-request-id is kept. The id goes back in the same header.
    """

    def __init__(self, app: ASGIApp, server: Server) -> None:
        """app: what answers the requests."""
        self._app = app
        self._server = server

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request."""
        if scope["type"] != "http":
            await self._app(scope, receive, send)
            return
        began = time.perf_counter()
        state = scope.setdefault("state", {})
        state["request_id"] = request_id = _request_id(scope)
        status: int | None = None  # before the answer begins

        async def send_with_id(message: Message) -> None:
            nonlocal status
            if message["type"] == "http.response.start":
                status = message["status"]
                MutableHeaders(scope=message)["x-request-id"] = request_id
            await send(message)

        try:
            await self._app(scope, receive, send_with_id)
        except Exception as error:
            log.error("fault", exc_info=error, extra={"fields": {"id": request_id}})
            if status is not None:  # too late for an error, so the connection is cut
                raise
            await _FAULT.response()(scope, receive, send_with_id)
        finally:
            # 499 is of a client that went away before it had an answer.
            self._record(scope, status or 499, time.perf_counter() - began, state.get("job"))

    def _record(self, scope: Scope, status: int, seconds: float, job: Job | None) -> None:
        """Counts and logs a request that has ended."""
        is_known = "endpoint" in scope and status != 404
        path = scope["path"] if is_known else "other"  # not a series for each path that is tried
        self._server.metrics.requests.labels(path, status).inc()
        if job is not None:
            self._server.metrics.request_seconds.observe(seconds)
        fields = {
            "id": scope["state"]["request_id"],
            "client": (scope.get("client") or ("",))[0],
            "method": scope["method"],
            "path": scope["path"],
            "status": status,
            "ms": round(seconds * 1e3, 1),
        }
        log.info("request", extra={"fields": fields | self._generations(job)})

    def _generations(self, job: Job | None) -> dict[str, Any]:
        """Returns what is logged of the generations of a request."""
        streams = job.streams if job is not None else []
        if not streams:
            return {}
        fields: dict[str, Any] = {
            "prompt_tokens": [stream.n_prompt for stream in streams],
            "tokens": [len(stream.tokens) for stream in streams],
            "finish_reason": [stream.finish_reason for stream in streams],
        }
        if self._server.settings.log_text:
            detokenize = self._server.generator.detokenize
            fields["prompt"] = [detokenize(stream.prompt, special=True) for stream in streams]
            fields["text"] = [stream.text for stream in streams]
        return fields


_FAULT = ApiError(
    500, "the server met an error; its log says where", kind="server_error", code="internal_error"
)


def _request_id(scope: Scope) -> str:
    """Returns the id that the client gave, if it is a plain word, or a new one."""
    given = Headers(scope=scope).get("x-request-id", "")
    return given if re.fullmatch(r"[\w.:-]{1,64}", given, re.ASCII) else uuid.uuid4().hex
