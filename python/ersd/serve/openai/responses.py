"""/v1/responses: the endpoint."""

from __future__ import annotations

from ersd import Generator
from ersd.serve.openai.endpoint import Endpoint
from ersd.serve.openai.generations import Generations, Plan
from ersd.serve.openai.response_answer import ResponseAnswer
from ersd.serve.openai.responses_request import ResponsesRequest
from ersd.serve.server import Server

__all__ = ["ResponsesEndpoint"]


class ResponsesEndpoint(Endpoint[ResponsesRequest]):
    """Answers with responses, of which none is stored."""

    form = ResponsesRequest
    ends_with_done = False

    def n_choices(self, asked: ResponsesRequest) -> int:
        """See `Endpoint`."""
        asked.check()
        return 1

    def plan(self, generator: Generator, asked: ResponsesRequest) -> Plan:
        """See `Endpoint`."""
        conversation = asked.asks_of_model()
        options = asked.options() | {"logprobs": asked.n_top_logprobs()}
        options = conversation.answer_options(generator, options)
        if asked.max_output_tokens is not None:
            options["max_tokens"] = asked.max_output_tokens
        return Plan([conversation.prompt(generator)], 1, asked.seed, options)

    def answer(
        self, server: Server, asked: ResponsesRequest, generations: Generations
    ) -> ResponseAnswer:
        """See `Endpoint`."""
        return ResponseAnswer(server, generations, asked)
