"""The parameters that requests of chat completions and of text completions have in common."""

from __future__ import annotations

from typing import Annotated, Any

from pydantic import Field

from ersd.serve.openai.messages import ResponseFormat
from ersd.serve.openai.sampling import MAX_CHOICES, Generation, TopLogprobs

__all__ = ["ChoicesRequest"]


class ChoicesRequest(Generation):
    """A request whose answer has choices. Some parameters have a second name, llama-server's."""

    n: Annotated[int, Field(ge=1, le=MAX_CHOICES)] | None = None
    n_predict: int | None = Field(None, description="llama-server's name of max_tokens.")
    n_probs: TopLogprobs | None = Field(
        None, description="llama-server's way to ask for this many alternatives per token."
    )
    response_format: ResponseFormat | None = None
    json_schema: dict[str, Any] | None = Field(
        None, description="llama-server's name of a schema in response_format."
    )
    timings_per_token: bool | None = Field(
        None, description="Whether each chunk has the timings so far."
    )

    def wanted_format(self) -> ResponseFormat | None:
        """Returns the form that the text has to have; None for any text."""
        if self.response_format is None and self.json_schema is not None:
            return ResponseFormat(type="json_object", schema=self.json_schema)
        return self.response_format
