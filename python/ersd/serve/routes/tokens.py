"""Texts as tokens and back, and conversations as prompts."""

from __future__ import annotations

from typing import Annotated

from anyio import to_thread
from pydantic import BaseModel, Field
from starlette.requests import Request
from starlette.responses import JSONResponse
from starlette.routing import Route

from ersd import Generator
from ersd.serve.body import Body, read_body
from ersd.serve.openai.chat import ChatRequest
from ersd.serve.openapi import Operation
from ersd.serve.server import server_of

__all__ = ["OPERATIONS", "ROUTES"]


class Text(Body):
    """A text to convert to tokens."""

    content: str
    add_special: bool = False
    parse_special: bool = True
    with_pieces: bool = False


class Piece(BaseModel):
    """A token with its text, or with its bytes if they are not UTF-8."""

    id: int
    piece: str | list[int]


class Tokens(BaseModel):
    """The tokens of a text."""

    tokens: list[int] | list[Piece]


TokenId = Annotated[int, Field(ge=0, lt=1 << 31)]


class TokenIds(Body):
    """Tokens to convert to a text."""

    tokens: Annotated[list[TokenId], Field(max_length=1 << 20, fail_fast=True)]


class Content(BaseModel):
    """The text of tokens."""

    content: str


class Prompt(BaseModel):
    """The prompt of a conversation."""

    prompt: str


def _tokens(generator: Generator, text: Text) -> Tokens:
    tokens = generator.tokenize(
        text.content, add_special=text.add_special, parse_special=text.parse_special
    )
    return Tokens(
        tokens=[_piece(generator, token) for token in tokens] if text.with_pieces else tokens
    )


def _piece(generator: Generator, token: int) -> Piece:
    raw = generator.target.piece(token, True)
    try:
        return Piece(id=token, piece=raw.decode())
    except UnicodeDecodeError:
        return Piece(id=token, piece=list(raw))


def _prompt(generator: Generator, asked: ChatRequest) -> Prompt:
    return Prompt(prompt=asked.conversation().prompt_text(generator))


async def tokenize(request: Request) -> JSONResponse:
    """Answers with the tokens of a text."""
    text = await read_body(request, Text)
    tokens = await to_thread.run_sync(_tokens, server_of(request).generator, text)
    return JSONResponse(tokens.model_dump())


async def detokenize(request: Request) -> JSONResponse:
    """Answers with the text of tokens."""
    given = await read_body(request, TokenIds)
    text = await to_thread.run_sync(server_of(request).generator.detokenize, given.tokens)
    return JSONResponse(Content(content=text).model_dump())


async def apply_template(request: Request) -> JSONResponse:
    """Answers with the prompt of a conversation."""
    asked = await read_body(request, ChatRequest)
    prompt = await to_thread.run_sync(_prompt, server_of(request).generator, asked)
    return JSONResponse(prompt.model_dump())


ROUTES = [
    Route("/tokenize", tokenize, methods=["POST"]),
    Route("/detokenize", detokenize, methods=["POST"]),
    Route("/apply-template", apply_template, methods=["POST"]),
]
OPERATIONS = [
    Operation("/tokenize", "POST", Text, Tokens),
    Operation("/detokenize", "POST", TokenIds, Content),
    Operation("/apply-template", "POST", ChatRequest, Prompt),
]
