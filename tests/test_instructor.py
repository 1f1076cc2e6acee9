"""The package instructor gets objects from a server, and from a Generator without one."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any, Literal

import pytest

pytest.importorskip("openai")
pytest.importorskip("starlette")
pytest.importorskip("instructor", reason="instructor is not installed")
import instructor
import openai
from pydantic import BaseModel, Field

from ersd import Generator
from openai_protocol import MESSAGES
from serving import load_tiny, running

pytestmark = pytest.mark.no_sanitizer

OPTIONS: dict[str, Any] = {"model": "tiny", "seed": 6, "max_tokens": 400, "temperature": 1.0}
MODES = ["JSON", "JSON_SCHEMA", "TOOLS"]


class Weather(BaseModel):
    """The weather of a city."""

    city: Literal["Paris", "Rome"]
    degrees: int = Field(ge=0, le=40)
    is_sunny: bool


class Folder(BaseModel):
    """A folder with folders in it."""

    name: Literal["a", "b"]
    folders: list[Folder] = Field(max_length=1)


@pytest.fixture(scope="module")
def generator(folder: Path) -> Generator:
    """The models, with room for the prompts that instructor writes."""
    return load_tiny(folder, n_ctx=4096, n_ctx_total=8192)


@pytest.fixture(scope="module")
def url(generator: Generator) -> Iterator[str]:
    """The address of a server."""
    with running(lambda: generator) as server:
        yield f"{server.url}/v1"


@pytest.fixture(params=MODES)
def create(request: pytest.FixtureRequest, url: str) -> Any:
    """Asks the server once for an object, by a mode of instructor."""
    api = openai.OpenAI(base_url=url, api_key="none", max_retries=0)
    client = instructor.from_openai(api, mode=getattr(instructor.Mode, request.param))

    def create(kind: type[BaseModel], how: str = "create") -> Any:
        asked = OPTIONS | {"messages": MESSAGES, "response_model": kind, "max_retries": 0}
        if request.param == "JSON":
            # This mode names the schema in the prompt alone, which a random model does not follow.
            form = {"type": "json_object", "schema": kind.model_json_schema()}
            asked["extra_body"] = {"response_format": form}
        return getattr(client, how)(**asked)

    return create


@pytest.mark.parametrize("kind", [Weather, Folder])
def test_objects(create: Any, kind: type[BaseModel]) -> None:
    """The first answer is an object, also one of a recursive model."""
    assert isinstance(create(kind), kind)


def test_partial_objects(create: Any) -> None:
    """A streamed object grows to a whole one."""
    parts = [part.model_dump() for part in create(Weather, "create_partial")]
    assert len(parts) > 1
    whole = Weather.model_validate(parts[-1])
    cities = [part["city"] or "" for part in parts]
    assert all(whole.city.startswith(city) for city in cities)
    assert cities == sorted(cities)


@pytest.mark.parametrize("mode", MODES[1:])
def test_without_a_server(generator: Generator, mode: str) -> None:
    """A Generator's own call serves as well as that of `llama_cpp.Llama`."""
    create = instructor.patch(
        create=generator.create_chat_completion_openai_v1, mode=getattr(instructor.Mode, mode)
    )
    for kind in (Weather, Folder):
        found = create(messages=MESSAGES, response_model=kind, max_retries=0, **OPTIONS)
        assert isinstance(found, kind)
