"""OpenAI's protocol: chat completions, text completions and responses."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from starlette.routing import Route

from ersd.serve.openai.chat import ChatEndpoint, ChatRequest
from ersd.serve.openai.completions import CompletionEndpoint, CompletionRequest
from ersd.serve.openai.descriptions import ChatCompletion, Completion, Response
from ersd.serve.openai.input_tokens import (
    InputTokens,
    chat_input_tokens,
    responses_input_tokens,
)
from ersd.serve.openai.responses import ResponsesEndpoint
from ersd.serve.openai.responses_request import ResponsesRequest
from ersd.serve.openapi import Operation

__all__ = ["OPERATIONS", "ROUTES"]

_ENDPOINTS: dict[str, Callable[..., Any]] = {
    "/chat/completions": ChatEndpoint(),
    "/completions": CompletionEndpoint(),
    "/responses": ResponsesEndpoint(),
    "/chat/completions/input_tokens": chat_input_tokens,
    "/responses/input_tokens": responses_input_tokens,
}
# Clients whose base URL does not end with /v1 are served, too.
ROUTES = [
    Route(prefix + path, endpoint, methods=["POST"])
    for path, endpoint in _ENDPOINTS.items()
    for prefix in ("/v1", "")
]
OPERATIONS = [
    Operation("/v1/chat/completions", "POST", ChatRequest, ChatCompletion, streams=True),
    Operation("/v1/completions", "POST", CompletionRequest, Completion, streams=True),
    Operation("/v1/responses", "POST", ResponsesRequest, Response, streams=True),
    Operation("/v1/chat/completions/input_tokens", "POST", ChatRequest, InputTokens),
    Operation("/v1/responses/input_tokens", "POST", ResponsesRequest, InputTokens),
]
