"""How many tokens the prompt of a request has, without an answer."""

from __future__ import annotations

from typing import Literal

from anyio import to_thread
from pydantic import BaseModel
from starlette.requests import Request
from starlette.responses import JSONResponse

from ersd.serve.body import read_body
from ersd.serve.openai.chat import ChatRequest
from ersd.serve.openai.conversation import Conversation
from ersd.serve.openai.responses_request import ResponsesRequest
from ersd.serve.server import server_of

__all__ = ["InputTokens", "chat_input_tokens", "responses_input_tokens"]


class InputTokens(BaseModel):
    """The length of a prompt."""

    object: Literal["response.input_tokens"] = "response.input_tokens"
    input_tokens: int


async def chat_input_tokens(request: Request) -> JSONResponse:
    """Answers with the length of a chat's prompt."""
    asked = await read_body(request, ChatRequest)
    return await _answer(request, asked.conversation())


async def responses_input_tokens(request: Request) -> JSONResponse:
    """Answers with the length of the prompt of a response."""
    asked = await read_body(request, ResponsesRequest)
    asked.check()
    return await _answer(request, asked.asks_of_model())


async def _answer(request: Request, conversation: Conversation) -> JSONResponse:
    prompt = await to_thread.run_sync(conversation.prompt, server_of(request).generator)
    return JSONResponse(InputTokens(input_tokens=len(prompt)).model_dump())
