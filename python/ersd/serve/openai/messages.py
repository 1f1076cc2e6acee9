"""The messages and tools of a request, and the forms in which chat templates expect them."""

from __future__ import annotations

import contextlib
import json
from typing import Annotated, Any, Literal

from pydantic import ConfigDict, Field, model_validator
from pydantic_core import PydanticCustomError

from ersd.serve.body import Body

__all__ = [
    "ChatMessage",
    "ChatTool",
    "Function",
    "FunctionName",
    "MessageCall",
    "NamedTool",
    "Parts",
    "ResponseFormat",
    "ToolChoice",
    "Tools",
]

_TEXT_PARTS = ("text", "input_text", "output_text", "summary_text")


class ContentPart(Body):
    """A part of a message. This server has text only."""

    type: str
    text: str | None = None
    refusal: str | None = None

    @model_validator(mode="after")
    def _check(self) -> ContentPart:
        if self.type in _TEXT_PARTS and self.text is None:
            raise PydanticCustomError("no_text", "a part of the type text should have a text")
        if self.type not in (*_TEXT_PARTS, "refusal"):
            raise PydanticCustomError("text_only", "this server has text only")
        return self

    @property
    def words(self) -> str:
        """The text of the part."""
        return self.text or self.refusal or ""


# Lists are bounded everywhere, because pydantic writes down the fault of every item.
Parts = Annotated[list[ContentPart], Field(max_length=4096, fail_fast=True)]


def joined(content: str | Parts | None) -> str:
    """Returns a content as one text, since most templates expect one."""
    if content is None or isinstance(content, str):
        return content or ""
    return "\n".join(part.words for part in content)


class CalledFunction(Body):
    """A function that the model called."""

    name: str
    arguments: str | dict[str, Any] | None = None

    def template_form(self) -> dict[str, Any]:
        """Returns the call with its arguments as an object, which is what templates expect."""
        arguments: Any = self.arguments or {}
        if isinstance(arguments, str):
            # Otherwise the template shows what the client wrote.
            with contextlib.suppress(ValueError, RecursionError):
                arguments = json.loads(arguments)
        return {"name": self.name, "arguments": arguments}


class MessageCall(Body):
    """A call of a tool in a message of the assistant."""

    id: str | None = None
    type: Literal["function"] | None = None
    function: CalledFunction


class ChatMessage(Body):
    """A message of a conversation. Templates also get the keys that are not named here."""

    model_config = ConfigDict(extra="allow")

    role: str = Field(min_length=1, max_length=64)
    content: str | Parts | None = None
    tool_calls: Annotated[list[MessageCall], Field(max_length=128)] | None = None
    function_call: CalledFunction | None = None

    def template_form(self) -> dict[str, Any]:
        """Returns the message as templates expect it."""
        calls = list(self.tool_calls or [])
        if self.function_call is not None:
            calls.append(MessageCall(function=self.function_call))
        form: dict[str, Any] = {
            **(self.model_extra or {}),
            "role": "system" if self.role == "developer" else self.role,
            "content": joined(self.content),
        }
        if calls:
            form["tool_calls"] = [
                {"id": call.id, "type": "function", "function": call.function.template_form()}
                for call in calls
            ]
        return form


FunctionName = Annotated[str, Field(min_length=1, max_length=128)]


class Function(Body):
    """A function that the model may call."""

    name: FunctionName
    description: str | None = None
    parameters: dict[str, Any] | None = Field(None, description="The JSON schema of the arguments.")
    strict: bool | None = Field(
        None, description="If false, the arguments may be any object, whatever the schema says."
    )

    def template_form(self) -> dict[str, Any]:
        """Returns the function as templates expect it."""
        return {
            "name": self.name,
            "description": self.description or "",
            "parameters": self.parameters or {"type": "object", "properties": {}},
        }

    def schema_form(self) -> dict[str, Any]:
        """Returns the function as grammars expect it: its name, and what the arguments may be."""
        return {"name": self.name, "parameters": self.parameters, "strict": self.strict}


class ChatTool(Body):
    """A tool, which is a function."""

    type: Literal["function"]
    function: Function


class FunctionReference(Body):
    """The name of a function."""

    name: FunctionName


class NamedTool(Body):
    """A tool that the model must call."""

    type: Literal["function"]
    function: FunctionReference


Tools = Annotated[list[ChatTool], Field(max_length=128)]
ToolChoice = Literal["none", "auto", "required"] | NamedTool


class JsonSchema(Body):
    """A named JSON schema."""

    name: str | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")


class ResponseFormat(Body):
    """Whether the answer is JSON. llama.cpp's "schema" beside the type is understood, too."""

    type: Literal["text", "json_object", "json_schema"]
    json_schema: JsonSchema | None = None
    schema_: dict[str, Any] | None = Field(None, alias="schema")

    @model_validator(mode="after")
    def _check(self) -> ResponseFormat:
        if self.type == "json_schema" and self._schema is None:
            raise PydanticCustomError("no_schema", "json_schema should have a schema")
        return self

    @property
    def _schema(self) -> dict[str, Any] | None:
        return self.json_schema.schema_ if self.json_schema else self.schema_

    def engine_form(self) -> dict[str, Any] | None:
        """Returns the engine's option `response_format`; None for any text."""
        if self.type == "text":
            return None
        schema = self._schema
        return {"type": "json_object"} | ({} if schema is None else {"schema": schema})
