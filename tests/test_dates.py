"""Patterns of dates and times, beside Python's own dates."""

from __future__ import annotations

import datetime
import re
from itertools import product
from typing import Any

import pytest

from ersd import Generator
from ersd.grammars import schema_source
from ersd.grammars.dates import PATTERNS
from masks import Allowed

YEARS = [0, 1, 4, 99, 100, 400, 1900, 1996, 1999, 2000, 2023, 2024, 2100, 9999]


def test_every_day_of_some_years() -> None:
    """Exactly the dates that exist match."""
    for year, month, day in product(YEARS, range(14), range(33)):
        try:
            datetime.date(year, month, day)
            exists = True
        except ValueError:
            exists = False
        text = f"{year:04}-{month:02}-{day:02}"
        assert bool(re.fullmatch(PATTERNS["date"], text)) is exists, text


@pytest.mark.parametrize("zone", ["Z", "+00:00", "-23:59"])
def test_every_time(zone: str) -> None:
    """Exactly the hours, minutes and seconds that exist match."""
    for hour, minute, second in product(range(26), range(0, 62, 7), range(62)):
        text = f"{hour:02}:{minute:02}:{second:02}{zone}"
        exists = hour < 24 and minute < 60 and second < 60
        assert bool(re.fullmatch(PATTERNS["time"], text)) is exists, text
        assert bool(re.fullmatch(PATTERNS["date-time"], f"2024-02-29T{text}")) is exists


@pytest.mark.parametrize(
    ("schema", "text", "allowed"),
    [
        ({"format": "date-time"}, "2016-12-31T12:59:59.5Z", True),
        ({"format": "date-time"}, "2016-12-31T12:59:60Z", False),
        ({"format": "date"}, "2023-02-29", False),
        ({"format": "date", "pattern": "^202"}, "2024-02-29", True),
        ({"format": "date", "pattern": "^202"}, "1924-02-29", False),
        ({"format": "time", "pattern": "Z$", "allOf": [{"minLength": 10}]}, "10:10:10Z", False),
        ({"format": "time", "pattern": "Z$", "allOf": [{"minLength": 9}]}, "10:10:10Z", True),
    ],
    ids=str,
)
def test_formats_of_a_schema(
    generator: Generator, schema: dict[str, Any], text: str, allowed: bool
) -> None:
    """They hold with and without a pattern."""
    answer = Allowed(generator, schema_source({"type": "string", **schema}, "s"))
    assert (answer.reads(f'"{text}"') and answer.may_end()) is allowed
