"""Which tokens may follow an answer and the paths of a draft tree, by its grammar."""

from __future__ import annotations

import numpy as np
import pytest

from ersd import Generator
from ersd.grammars import answer_source, lark_source, schema_source
from masks import BYTE, Allowed


def test_a_listed_name_has_one_spelling(generator: Generator) -> None:
    """A name with an escape does not get around the schema of its property."""
    schema = {"type": "object", "properties": {"a": {"const": 1}}, "additionalProperties": True}
    answer = Allowed(generator, schema_source(schema, "s"))
    assert answer.reads('{"')
    assert answer.after()[BYTE + ord("b")]
    assert answer.reads("\\")
    assert not answer.after()[BYTE + ord("u")]


def test_a_failure_is_of_its_own_path(generator: Generator) -> None:
    """After a path that the grammar does not allow, a matcher follows other paths as before."""
    a, b = BYTE + ord("a"), BYTE + ord("b")
    answer, fresh = (Allowed(generator, lark_source("start: /abc/")) for _ in range(2))
    for each in (answer, fresh):
        each.append([a])
    with pytest.raises(RuntimeError, match=r"the grammar cannot go on: .*allow"):
        answer.after([b, a])
    np.testing.assert_array_equal(answer.after([b]), fresh.after([b]))
    assert not np.array_equal(answer.after([b]), answer.after())


def tokens_of(text: str) -> list[int]:
    """Returns a token for each byte of a text."""
    return [BYTE + byte for byte in text.encode()]


def test_a_mask_is_of_its_own_path(generator: Generator) -> None:
    """The mask of a path is that of a new answer, whatever paths were asked for before it."""
    schema = {"type": "object", "properties": {"x": {"type": "integer"}}, "required": ["x"]}
    source = schema_source(schema, "s")
    texts = ['{"x" :\n', '{"x":5\n', '{ "x":\n', '{\n"x":12', '{"x":1}']
    answer = Allowed(generator, source)
    rng = np.random.default_rng(5)
    for committed in ("", "{"):
        answer.append(tokens_of(committed))
        for _ in range(100):
            text = texts[rng.integers(len(texts))]
            text = text[: rng.integers(1, len(text) + 1)]
            fresh = Allowed(generator, source)
            fresh.append(tokens_of(text))
            path = tokens_of(text.removeprefix(committed))
            np.testing.assert_array_equal(answer.after(path), fresh.after())


def test_a_text_that_can_be_read_in_many_ways(generator: Generator) -> None:
    """A run of one set has one reading, however it is written; too many readings are an error."""
    run = Allowed(generator, answer_source("root ::= " + '"b"* ' * 2500, None, None, None))
    assert run.reads("b" * 3000)
    assert run.may_end()
    nested = Allowed(generator, answer_source('root ::= "b" root | "a"', None, None, None))
    assert nested.reads("b" * 2000 + "a")
    assert nested.may_end()
    many = Allowed(generator, answer_source("root ::= " + '"b"* [bc]* ' * 1500, None, None, None))
    with pytest.raises(RuntimeError, match="cannot go on: it can be read in too many ways"):
        many.reads("bb")
