"""/v1/completions: the request and the endpoint."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Discriminator, Field, Tag

from ersd import Generator
from ersd.api.completion import prompt_to_complete
from ersd.serve.errors import ApiError
from ersd.serve.openai.choices import ChoicesRequest
from ersd.serve.openai.completion_answer import CompletionAnswer
from ersd.serve.openai.endpoint import Endpoint
from ersd.serve.openai.generations import Generations, Plan
from ersd.serve.openai.sampling import TopLogprobs
from ersd.serve.server import Server

__all__ = ["CompletionEndpoint", "CompletionRequest"]

MAX_PROMPTS = 1024
DEFAULT_LENGTH = 16  # OpenAI's

# One fault is enough: lists may have millions of wrong items.
TokenIds = Annotated[
    list[Annotated[int, Field(ge=0, lt=1 << 31)]], Field(min_length=1, fail_fast=True)
]
Prompts = Annotated[
    list[str | TokenIds], Field(min_length=1, max_length=MAX_PROMPTS, fail_fast=True)
]


def _kind(prompt: Any) -> str:
    """Returns which of the forms below a prompt has, so that its faults are told of this form."""
    if not isinstance(prompt, list):
        return "text"
    return "tokens" if prompt and not isinstance(prompt[0], str | list) else "prompts"


Prompt = Annotated[
    Annotated[str, Tag("text")]
    | Annotated[TokenIds, Tag("tokens")]
    | Annotated[Prompts, Tag("prompts")],
    Discriminator(_kind),
]


class CompletionRequest(ChoicesRequest):
    """A request to continue one text or more."""

    prompt: Prompt = Field(
        description="Texts or token ids. An empty text stands for the beginning of a text."
    )
    suffix: str | None = Field(
        None, description="The text after the answer, for models that fill in a middle."
    )
    best_of: int | None = Field(None, description="Must be n: all choices are returned.")
    max_tokens: int | None = Field(
        DEFAULT_LENGTH, description="The largest number of tokens; -1 for no limit."
    )
    logprobs: TopLogprobs | None = Field(None, description="The number of alternatives per token.")
    echo: bool | None = Field(None, description="Whether the answer begins with the prompt.")

    def prompts(self) -> list[str | list[int]]:
        """Returns the prompts, each a text or token ids."""
        given: Any = self.prompt
        return [given] if isinstance(given, str) or isinstance(given[0], int) else given

    def length(self) -> dict[str, int | None]:
        """Returns the option max_tokens if the request has it, under either of its names."""
        if self.n_predict is not None:
            return {"max_tokens": self.n_predict}
        return {"max_tokens": self.max_tokens} if "max_tokens" in self.model_fields_set else {}

    def n_top_logprobs(self) -> int | None:
        """Returns the number of alternatives of each token; None for no log-probabilities."""
        return self.n_probs if self.logprobs is None else self.logprobs


class CompletionEndpoint(Endpoint[CompletionRequest]):
    """Continues texts."""

    form = CompletionRequest
    default_length = DEFAULT_LENGTH

    def n_choices(self, asked: CompletionRequest) -> int:
        """See `Endpoint`."""
        n = asked.n or 1
        if asked.best_of is not None and asked.best_of != n:
            raise ApiError(400, f"best_of must be n, {n}, got {asked.best_of}", param="best_of")
        if asked.echo and asked.n_top_logprobs() is not None:
            raise ApiError(
                400, "echo and logprobs exclude each other: a prompt's tokens have none here"
            )
        return n * len(asked.prompts())

    def plan(self, generator: Generator, asked: CompletionRequest) -> Plan:
        """See `Endpoint`."""
        form = asked.wanted_format()
        options = asked.options() | {
            "logprobs": asked.n_top_logprobs(),
            "response_format": form.engine_form() if form else None,
            **asked.length(),
        }
        prompts = [
            prompt_to_complete(generator, prompt, asked.suffix) for prompt in asked.prompts()
        ]
        return Plan(prompts, asked.n or 1, asked.seed, options)

    def answer(
        self, server: Server, asked: CompletionRequest, generations: Generations
    ) -> CompletionAnswer:
        """See `Endpoint`."""
        texts = [
            prompt if isinstance(prompt, str) else server.generator.detokenize(prompt)
            for prompt in asked.prompts()
        ]
        return CompletionAnswer(server, generations, asked, texts, echo=bool(asked.echo))
