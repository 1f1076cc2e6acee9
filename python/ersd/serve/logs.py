"""The log of a server: one line for each entry, as JSON or as text."""

from __future__ import annotations

import json
import logging
import sys
import time
import traceback
from typing import Any, Literal

__all__ = ["configure", "log"]

log = logging.getLogger("ersd.serve")


def configure(form: Literal["json", "text"]) -> None:
    """Sends the log to stderr, one line for each entry.

    Args:
        form: "json" for one object per line, or "text".
    """
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(_Lines(form))
    log.handlers = [handler]
    log.setLevel(logging.INFO)
    log.propagate = False
    # Their lines quote requests, or tell of clients that have gone away.
    for name in ("uvicorn.error", "asyncio"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


class _Lines(logging.Formatter):
    """Writes an entry as one line: what happened, and its fields by name.

    Of an error it writes the type and where it was raised. What the error says may quote a request.
    """

    def __init__(self, form: str) -> None:
        super().__init__()
        self._form = form

    def format(self, record: logging.LogRecord) -> str:
        fields: dict[str, Any] = getattr(record, "fields", {})
        if record.exc_info and record.exc_info[1]:
            fields = fields | _place_of(record.exc_info[1])
        when = time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(record.created))
        when += f".{int(record.msecs):03}Z"
        message = record.getMessage()
        if self._form == "json":
            head = {"time": when, "level": record.levelname.lower(), "message": message}
            return json.dumps(head | fields)
        parts = (f"{name}={json.dumps(value)}" for name, value in fields.items())
        return " ".join([when, record.levelname, message, *parts])


def _place_of(error: BaseException) -> dict[str, Any]:
    """Returns the type of an error and the calls that led to it, the last call first."""
    frames = reversed(traceback.extract_tb(error.__traceback__))
    calls = [f"{frame.filename}:{frame.lineno} {frame.name}" for frame in frames]
    return {"error": type(error).__name__, "calls": calls}
