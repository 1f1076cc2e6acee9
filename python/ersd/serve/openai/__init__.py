"""OpenAI's protocol: chat completions, text completions and responses."""

from __future__ import annotations

from starlette.routing import Route

from ersd.serve.openai.chat import ChatEndpoint, ChatRequest
from ersd.serve.openai.completions import CompletionEndpoint, CompletionRequest
from ersd.serve.openai.descriptions import ChatCompletion, Completion, Response
from ersd.serve.openai.responses import ResponsesEndpoint
from ersd.serve.openai.responses_request import ResponsesRequest
from ersd.serve.openapi import Operation

__all__ = ["OPERATIONS", "ROUTES"]

ROUTES = [
    Route("/v1/chat/completions", ChatEndpoint(), methods=["POST"]),
    Route("/v1/completions", CompletionEndpoint(), methods=["POST"]),
    Route("/v1/responses", ResponsesEndpoint(), methods=["POST"]),
]
OPERATIONS = [
    Operation("/v1/chat/completions", "POST", ChatRequest, ChatCompletion),
    Operation("/v1/completions", "POST", CompletionRequest, Completion),
    Operation("/v1/responses", "POST", ResponsesRequest, Response),
]
