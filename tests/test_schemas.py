"""Two hundred JSON schemas: every finished answer validates, all others are refused by name."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import jsonschema
import pytest

import schemas
from ersd import Generator

SEEDS = 3
# A random model ends strings and lists too seldom.
CLOSING = {3 + ord(character): 4.0 for character in '"]}'}
OPTIONS: dict[str, Any] = {
    "temperature": 1.0,
    "top_k": 0,
    "top_p": 1.0,
    "min_p": 0.0,
    "max_tokens": 200,
    "draft_nodes": 8,
    "strategy": "tree",
    "logit_bias": CLOSING,
}
CHECKER = jsonschema.Draft202012Validator.FORMAT_CHECKER


def check(generator: Generator, schema: Any, seed: int) -> bool:
    """Returns whether an answer is finished; it must validate then."""
    form = {"type": "json_object", "schema": schema}
    answer = generator.generate("the", seed=seed, response_format=form, **OPTIONS)
    if answer.finish_reason != "stop":
        return False
    jsonschema.validate(json.loads(answer.text), schema, format_checker=CHECKER)
    return True


def test_there_are_many() -> None:
    """No schema comes twice."""
    texts = {json.dumps(schema) for schema in schemas.supported()}
    assert len(texts) == len(schemas.supported()) >= 200
    for schema in schemas.supported():
        jsonschema.Draft202012Validator.check_schema(schema)


@pytest.mark.no_sanitizer
def test_some_schemas(generator: Generator) -> None:
    """Each eighth schema is held to."""
    some = schemas.supported()[::8]
    finished = [check(generator, schema, seed) for seed, schema in enumerate(some)]
    assert sum(finished) > 0.7 * len(some)


@pytest.mark.grid
@pytest.mark.parametrize("seed", range(SEEDS))
def test_all_schemas(tiny_target: Path, tiny_draft: Path, seed: int) -> None:
    """Every schema is held to, with a draft tree of eight nodes."""
    generator = Generator(tiny_target, tiny_draft, n_ctx=512, n_threads=1)
    n_finished, faults = 0, []
    for schema in schemas.supported():
        try:
            n_finished += check(generator, schema, seed)
        except (ValueError, jsonschema.ValidationError) as error:
            faults.append(f"{json.dumps(schema)}: {error}")
    assert not faults
    print(
        f"\n{n_finished} of {len(schemas.supported())} answers are finished; all of them validate"
    )
    assert n_finished > 0.7 * len(schemas.supported())


@pytest.mark.parametrize(("keyword", "schema"), list(schemas.unsupported()))
def test_the_others_are_refused(generator: Generator, keyword: str, schema: Any) -> None:
    """The error names the keyword."""
    with pytest.raises(ValueError, match=rf"\b{re.escape(keyword)}\b"):
        check(generator, schema, 0)
