"""Who may use the server, and how much a request may send."""

from __future__ import annotations

import base64
import binascii
import hashlib
import hmac
import re
from collections.abc import Iterator, Sequence
from urllib.parse import urlsplit

from starlette.datastructures import Headers
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from ersd.serve.errors import ApiError

__all__ = ["LOCALHOST", "PUBLIC", "Access", "Limits"]

# What "localhost" stands for among origins.
LOCALHOST = r"https?://(localhost|127\.0\.0\.1|\[::1\])(:\d+)?"

PUBLIC = {"/health", "/v1/health"}  # paths that need no key


class Access:
    """Refuses requests without one of the API keys, and those of foreign web pages.

    A key comes as ``Authorization: Bearer KEY``, as ``x-api-key: KEY``, or as the password of basic
    authentication, for which a browser asks its user. /health needs no key.

    A browser sends some requests of any page to any address, even if it then hides the answer. The
    origins whose pages may use the server are its own and those that are named.
    """

    def __init__(self, app: ASGIApp, keys: Sequence[str], origins: Sequence[str]) -> None:
        """Stands before an app.

        Args:
            app: what answers the requests.
            keys: the API keys; none to serve everybody.
            origins: the foreign origins that may use the server; "localhost" for all of this
                machine, "*" for all.
        """
        self._app = app
        self._keys = [_digest(key.encode()) for key in keys]
        self._origins = origins

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or refuses it."""
        if scope["type"] == "http" and scope["path"] not in PUBLIC:
            headers = Headers(scope=scope)
            if self._keys and not self._has_key(headers):
                await _no_key(headers).response()(scope, receive, send)
                return
            if not self._is_own(headers):
                await _FOREIGN.response()(scope, receive, send)
                return
        await self._app(scope, receive, send)

    def _has_key(self, headers: Headers) -> bool:
        """Compares digests, all with all, so that the time says nothing of the keys."""
        found = False
        for given in _given_keys(headers):
            digest = _digest(given)
            for key in self._keys:
                found |= hmac.compare_digest(digest, key)
        return found

    def _is_own(self, headers: Headers) -> bool:
        """Returns whether the request is of no web page, of our own, or of a named origin."""
        origin = headers.get("origin")
        if origin is None or origin in self._origins or "*" in self._origins:
            return True
        if "localhost" in self._origins and re.fullmatch(LOCALHOST, origin):
            return True
        if headers.get("sec-fetch-site") == "same-origin":  # holds behind a proxy, too
            return True
        return urlsplit(origin).netloc == headers.get("host")


_FOREIGN = ApiError(
    403,
    "pages of this origin may not use the server: name it with --cors-origins",
    kind="permission_error",
    code="foreign_origin",
)


def _no_key(headers: Headers) -> ApiError:
    """Returns the error of a request without a key, which names the scheme to send it by.

    A browser that opens the page asks its user for a key, but only for "Basic" and if that is the
    only scheme. The page's own requests must not make it ask: the page does that itself.
    """
    opens_page = "text/html" in headers.get("accept", "")
    return ApiError(
        401,
        "an API key is needed: send 'Authorization: Bearer KEY' with one that this server knows",
        kind="authentication_error",
        code="invalid_api_key",
        headers={"WWW-Authenticate": 'Basic realm="ersd"' if opens_page else "Bearer"},
    )


def _digest(key: bytes) -> bytes:
    return hashlib.sha256(key).digest()


def _given_keys(headers: Headers) -> Iterator[bytes]:
    """Yields the keys that a request brings."""
    if "x-api-key" in headers:
        yield headers["x-api-key"].encode("latin-1")
    scheme, _, value = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer":
        yield value.strip().encode("latin-1")
    elif scheme.lower() == "basic":
        try:
            yield base64.b64decode(value).partition(b":")[2]
        except (binascii.Error, ValueError):
            return


class Limits:
    """Refuses heads and bodies that are too large, also bodies that do not say how large they are.

    The parser of uvicorn bounds a head that arrives in pieces, but not one that arrives at once.
    """

    def __init__(self, app: ASGIApp, max_head: int, max_body: int) -> None:
        """Stands before an app.

        Args:
            app: what answers the requests.
            max_head: the most bytes of a head.
            max_body: the most bytes of a body.
        """
        self._app = app
        self._max_head = max_head
        self._max_body = max_body

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answers a request, or refuses it as soon as it is too large."""
        error = self._error(scope) if scope["type"] == "http" else None
        if error is not None:
            await error.response()(scope, receive, send)
            return
        n_bytes = 0

        async def receive_within_limit() -> Message:
            nonlocal n_bytes
            message = await receive()
            n_bytes += len(message.get("body", b""))
            if n_bytes > self._max_body:
                raise self._too_large()
            return message

        await self._app(scope, receive_within_limit, send)

    def _error(self, scope: Scope) -> ApiError | None:
        """Returns what is wrong with the head of a request, or with the body that it announces."""
        if sum(len(name) + len(value) for name, value in scope["headers"]) > self._max_head:
            message = f"the head must have at most {self._max_head} bytes"
            return ApiError(431, message, code="head_too_large")
        declared = Headers(scope=scope).get("content-length", "")
        is_large = declared.isdecimal() and int(declared) > self._max_body
        return self._too_large() if is_large else None

    def _too_large(self) -> ApiError:
        message = f"the body must have at most {self._max_body} bytes"
        return ApiError(413, message, code="body_too_large")
