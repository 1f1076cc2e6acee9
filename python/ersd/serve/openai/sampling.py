"""The parameters of a request that decide how its answer is sampled and drafted."""

from __future__ import annotations

from typing import Annotated, Any, Literal

from pydantic import AfterValidator, BeforeValidator, Field, create_model
from pydantic_core import PydanticCustomError

from ersd.engine.options import TABLE, Option
from ersd.serve.body import Body
from ersd.serve.openai.messages import Parts
from ersd.serve.openai.texts import MAX_REFERENCE_TOKENS

__all__ = ["MAX_CHOICES", "Generation", "TopLogprobs", "at_most"]

MAX_CHOICES = 128  # of one prompt
Source = Literal["lookup", "history", "prediction", "grammar", "model"]
TopLogprobs = Annotated[int, Field(ge=0, le=20)]

# These options have a type or a name of their own in requests.
_OWN = {"max_tokens", "logprobs", "response_format", "logits_processor", "stop", "logit_bias"}
_OWN |= {"dry_sequence_breakers", "draft_nodes", "grammar", "lark", "regex"}
_OWN |= {"draft_sources", "prediction", "references"}

_Grammar = Annotated[str, Field(max_length=1 << 18)]
_Strings = Annotated[list[Annotated[str, Field(max_length=1024)]], Field(max_length=64)]


def at_most(n: int) -> BeforeValidator:
    """Returns what limits a mapping to n entries before any of them is looked at."""

    def check(value: Any) -> Any:
        if isinstance(value, dict) and len(value) > n:
            raise PydanticCustomError("too_long", f"there should be at most {n} entries")
        return value

    return BeforeValidator(check)


def _token_ids(bias: dict[str, float]) -> dict[str, float]:
    for token in bias:
        if not token.isdecimal() or len(token) > 9:
            raise PydanticCustomError("token_id", "keys should be token ids")
    return bias


def _description(option: Option) -> str:
    allowed = f" Allowed: {option.range}." if option.range else ""
    return f"{option.meaning}{allowed} Default: {option.default!r}."


_FIELDS: dict[str, Any] = {
    option.name: (option.type | None, Field(None, description=_description(option)))
    for option in TABLE.values()
    if option.name not in _OWN
}
_FROM_TABLE: Any = create_model("_FromTable", __base__=Body, **_FIELDS)


class StreamOptions(Body):
    """Options of a streamed answer."""

    include_usage: bool | None = Field(
        None, description="Whether a last chunk without choices has the usage."
    )


class Prediction(Body):
    """A text that the answer is expected to resemble."""

    type: Literal["content"]
    content: str | Parts

    @property
    def text(self) -> str:
        """The text."""
        if isinstance(self.content, str):
            return self.content
        return "".join(part.words for part in self.content)


class Generation(_FROM_TABLE):  # type: ignore[misc]
    """The parameters that all endpoints have. A missing one or null has the default."""

    model: str | None = Field(None, description="Ignored: the server has one model.")
    stream: bool | None = Field(None, description="Whether the answer comes as events.")
    stream_options: StreamOptions | None = None
    stop: str | _Strings | None = Field(None, description="Strings that end the answer.")
    logit_bias: Annotated[dict[str, float], at_most(4096), AfterValidator(_token_ids)] | None = (
        Field(None, description="Token ids with what is added to their logits.")
    )
    dry_sequence_breakers: _Strings | None = Field(
        None, description=_description(TABLE["dry_sequence_breakers"])
    )
    draft_nodes: int | Literal["auto"] | None = Field(
        None, description=_description(TABLE["draft_nodes"])
    )
    grammar: _Grammar | None = Field(None, description=_description(TABLE["grammar"]))
    regex: _Grammar | None = Field(None, description=_description(TABLE["regex"]))
    lark: _Grammar | None = Field(None, description=_description(TABLE["lark"]))
    repeat_last_n: int | None = Field(None, description="llama-server's name of penalty_last_n.")
    draft_sources: list[Source] | None = Field(
        None, description=_description(TABLE["draft_sources"]), max_length=16
    )
    prediction: Prediction | None = Field(
        None, description=f"{TABLE['prediction'].meaning} It is no longer than the context."
    )
    references: Annotated[list[str], Field(max_length=64, fail_fast=True)] | None = Field(
        None,
        description=f"{TABLE['references'].meaning} They have at most {MAX_REFERENCE_TOKENS} "
        "tokens together.",
    )
    draft_trees: bool | None = Field(
        None, description="Whether each chunk has its drafted tokens and the tree they come from."
    )

    def options(self) -> dict[str, Any]:
        """Returns the options of `Engine.stream` that these parameters set, except the seed."""
        names = _FIELDS.keys() | _OWN & Generation.model_fields.keys()
        given: dict[str, Any] = {"penalty_last_n": self.repeat_last_n}
        given |= {n: value for n in names - {"seed"} if (value := getattr(self, n)) is not None}
        if self.prediction is not None:
            given["prediction"] = self.prediction.text
        return {name: value for name, value in given.items() if value is not None}
