"""What a row of a table asks for: a prompt, or messages, and options of its own."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from ersd import Generator, Options
from ersd.engine.options import TABLE
from ersd.tables.seeds import row_seed

__all__ = ["Columns", "Request", "Row"]

Row = Mapping[str, Any]

# Options whose values may be lists or mappings.
_NESTED = {"draft_sources", "dry_sequence_breakers", "logit_bias", "references"}
_NESTED |= {"response_format", "stop"}


@dataclass(frozen=True)
class Columns:
    """Which columns of a table say what is asked for.

    Attributes:
        prompt: the column of prompts, each a text or a list of token ids.
        messages: the column of conversations, which are lists of messages or the JSON of such a
            list; None if the table has prompts.
        id: the column of row ids; None for the number of the row.
        options: the columns that hold an option of `ersd.Options` and have its name. A value that
            is null, NaN or an empty text leaves the option as it is for the whole table, and so
            does a seed of -1, since a fresh seed would not be the same after a stop.
    """

    prompt: str = "prompt"
    messages: str | None = None
    id: str | None = None
    options: tuple[str, ...] = ()

    def __post_init__(self) -> None:
        """Raises ValueError if there is no such option."""
        for name in self.options:
            if name not in TABLE:
                raise ValueError(f"a column of options must have the name of one, got {name!r}")

    @property
    def names(self) -> list[str]:
        """The names of all these columns."""
        used = (self.messages or self.prompt, self.id, *self.options)
        return list(dict.fromkeys(name for name in used if name is not None))

    def check(self, found: Sequence[str]) -> None:
        """Raises ValueError if a table with these columns lacks one."""
        for name in self.names:
            if name not in found:
                raise ValueError(f"there is no column {name!r}; there are {list(found)}")


@dataclass(frozen=True)
class Request:
    """What a row asks for.

    Attributes:
        prompt: text or token ids.
        options: all options that are given, the seed included.
    """

    prompt: str | list[int]
    options: Options

    @classmethod
    def of(
        cls,
        generator: Generator,
        row: Row,
        row_id: str | int,
        columns: Columns,
        defaults: Options,
        seed: int,
    ) -> Request:
        """Returns what a row asks for.

        Args:
            generator: has the chat template.
            row: the values by column.
            row_id: the row's id, which decides its seed unless a column does.
            columns: which columns are used.
            defaults: the options that hold for all rows.
            seed: the base seed.

        Raises:
            TypeError, ValueError: the row has no prompt, or a value is not valid.
        """
        own = {name: _option(name, row.get(name)) for name in columns.options}
        given = {name: value for name, value in own.items() if value is not None}
        options = cast(Options, {**defaults, "seed": row_seed(seed, row_id), **given})
        if columns.messages is None:
            return cls(_prompt(columns.prompt, row.get(columns.prompt)), options)
        messages = _messages(columns.messages, row.get(columns.messages))
        return cls(generator.apply_chat_template(messages), options)


def _prompt(name: str, value: Any) -> str | list[int]:
    if isinstance(value, str):
        return value
    if isinstance(value, Sequence) and all(isinstance(token, int) for token in value):
        return list(value)
    raise ValueError(f"the column {name!r} must have a text or a list of token ids, got {value!r}")


def _messages(name: str, value: Any) -> list[dict[str, Any]]:
    if isinstance(value, str):
        try:
            value = json.loads(value)
        except ValueError as error:
            raise ValueError(f"the column {name!r} must have messages as JSON: {error}") from error
    if not isinstance(value, list) or not all(isinstance(each, Mapping) for each in value):
        raise ValueError(f"the column {name!r} must have a list of messages, got {value!r}")
    # Columns of structures have null where a message lacks a key that another one has.
    return [{key: each[key] for key in each if each[key] is not None} for each in value]


def _option(name: str, value: Any) -> Any:
    """Returns the value of an option; None if there is none.

    Files of text have text for every type, and columns with gaps have floats for integers.
    """
    if value is None or value == "" or (isinstance(value, float) and math.isnan(value)):
        return None
    if name == "seed" and value in (-1, -1.0, "-1"):
        return None
    kind = TABLE[name].type
    if isinstance(value, str) and (kind in (int, float, bool) or name in _NESTED):
        try:
            parsed = json.loads(value)
        except ValueError:  # such as "auto" for draft_nodes
            return value
        if name not in _NESTED or isinstance(parsed, list | dict):
            value = parsed
    if kind is int and isinstance(value, float) and value.is_integer():
        return int(value)
    return value
