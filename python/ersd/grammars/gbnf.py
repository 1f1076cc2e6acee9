"""Reads GBNF, llama.cpp's notation of grammars."""

from __future__ import annotations

import re
from itertools import groupby
from typing import NamedTuple

__all__ = ["Item", "Rules", "read_gbnf"]

_LAST = 0x10FFFF
_MAX_SPELT_OUT = 16
_SURROGATES = (0xD800, 0xDFFF)
_BLANKS = re.compile(r"(?:[ \t]|#[^\r\n]*)*")
_BLANKS_AND_LINES = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*")
_NAME = re.compile(r"[A-Za-z0-9-]+")
_DEFINED = re.compile(r"[ \t]*::=")
_TIMES = re.compile(r"[*+?]|\{[ \t]*(\d+)[ \t]*(,[ \t]*(\d*)[ \t]*)?\}")
_CODES = {"x": 2, "u": 4, "U": 8}  # hexadecimal digits after a backslash and this letter
_ESCAPED = {"t": "\t", "r": "\r", "n": "\n", "\\": "\\", '"': '"', "[": "[", "]": "]"}


class Item(NamedTuple):
    """A part of an alternative.

    Attributes:
        what: a set of characters as ranges of codes, or the name of a rule or group.
        least: how often it comes at least.
        most: how often it comes at most; None for no limit.
    """

    what: tuple[tuple[int, int], ...] | str
    least: int = 1
    most: int | None = 1


Rules = dict[str, list[list[Item]]]  # the alternatives of each rule and group


def read_gbnf(text: str) -> Rules:
    """Returns the rules of a grammar.

    Groups are rules whose names begin with a bracket, and so are literals of several characters
    that are repeated.

    Raises:
        ValueError: the text is no GBNF, or its rules are not all defined. The message is a part of
            a sentence, with the place.
    """
    reader = _Reader(text)
    reader.read()
    return {
        name: [_joined(items) for items in alternatives]
        for name, alternatives in reader.rules.items()
    }


class _Reader:
    """Reads a grammar from its beginning to its end."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._place = 0
        self.rules: Rules = {}

    def read(self) -> None:
        self._skip(_BLANKS_AND_LINES)
        while self._place < len(self._text):
            name = self._match(_NAME, "the name of a rule")[0]
            if not self._take(_DEFINED):
                raise self._error("'::='")
            self._skip(_BLANKS_AND_LINES)
            self.rules[name] = self._alternatives()
            self._skip(_BLANKS_AND_LINES)
        used = {item.what for rule in self.rules.values() for items in rule for item in items}
        for name in ("root", *sorted(each for each in used if isinstance(each, str))):
            if name not in self.rules:
                raise ValueError(f"there is no rule {name!r}")

    def _alternatives(self) -> list[list[Item]]:
        """Reads the alternatives of a rule. Groups in it become rules of their own."""
        open_groups: list[list[list[Item]]] = [[[]]]
        while True:
            now, nested = open_groups[-1], len(open_groups) > 1
            character = self._text[self._place : self._place + 1]
            if character == "(":
                self._place += 1
                open_groups.append([[]])
                self._skip(_BLANKS_AND_LINES)
            elif character == ")" and nested:
                self._place += 1
                open_groups.pop()
                nested = len(open_groups) > 1
                self._add(open_groups[-1][-1], [Item(self._group(now))], nested=nested)
            elif character == "|":
                self._place += 1
                now.append([])
                self._skip(_BLANKS_AND_LINES)
            elif (items := self._items(character)) is not None:
                self._add(now[-1], items, nested=nested)
            elif nested:
                raise self._error("')'")
            else:
                self._end_line()
                return now

    def _group(self, alternatives: list[list[Item]]) -> str:
        name = f"({len(self.rules)}"
        self.rules[name] = alternatives
        return name

    def _end_line(self) -> None:
        if self._place < len(self._text) and self._text[self._place] not in "\r\n":
            raise self._error("a newline")

    def _add(self, to: list[Item], items: list[Item], *, nested: bool) -> None:
        """Adds what was read, with what says how often it comes."""
        blanks = _BLANKS_AND_LINES if nested else _BLANKS
        self._skip(blanks)
        while times := self._take(_TIMES):
            if len(items) != 1 or items[0][1:] != (1, 1):
                items = [Item(self._group([items]))]
            items = [Item(items[0].what, *_bounds(times))]
            self._skip(blanks)
        to += items

    def _items(self, character: str) -> list[Item] | None:
        """Reads a literal, a set of characters or the name of a rule; None if there is none."""
        if character == '"':
            return self._literal()
        if character == "[":
            return [Item(self._characters())]
        if character == ".":
            self._place += 1
            return [Item(((0, _LAST),))]
        found = self._take(_NAME)
        return None if found is None else [Item(found[0])]

    def _literal(self) -> list[Item]:
        self._place += 1
        items = []
        while self._peek() != '"':
            code = self._code()
            items.append(Item(((code, code),)))
        self._place += 1
        return items

    def _characters(self) -> tuple[tuple[int, int], ...]:
        self._place += 1
        is_excluded = self._peek() == "^"
        self._place += is_excluded
        ranges = []
        while self._peek() != "]":
            first = last = self._code()
            if self._peek() == "-" and self._text[self._place + 1 : self._place + 2] != "]":
                self._place += 1
                last = self._code()
            ranges.append((first, last))
        self._place += 1
        found = tuple(_others(ranges) if is_excluded else ranges)
        if not found:
            raise self._error("a set of some characters before")
        return found

    def _code(self) -> int:
        """Reads a character of a literal or a set, and returns its code."""
        character = self._peek()
        self._place += 1
        if character != "\\":
            return ord(character)
        kind = self._peek()
        self._place += 1
        if kind in _ESCAPED:
            return ord(_ESCAPED[kind])
        digits = self._text[self._place : self._place + _CODES.get(kind, 0)]
        if not re.fullmatch(r"[0-9a-fA-F]{2}|[0-9a-fA-F]{4}|[0-9a-fA-F]{8}", digits):
            raise self._error("an escape sequence of GBNF")
        self._place += len(digits)
        code = int(digits, 16)
        if code > _LAST or _SURROGATES[0] <= code <= _SURROGATES[1]:
            raise self._error("the code of a character")
        return code

    def _peek(self) -> str:
        if self._place >= len(self._text):
            raise self._error("more text")
        return self._text[self._place]

    def _skip(self, pattern: re.Pattern[str]) -> None:
        self._take(pattern)

    def _take(self, pattern: re.Pattern[str]) -> re.Match[str] | None:
        found = pattern.match(self._text, self._place)
        self._place = found.end() if found else self._place
        return found

    def _match(self, pattern: re.Pattern[str], expected: str) -> re.Match[str]:
        found = self._take(pattern)
        if found is None:
            raise self._error(expected)
        return found

    def _error(self, expected: str) -> ValueError:
        line = self._text.count("\n", 0, self._place) + 1
        got = self._text[self._place : self._place + 20].split("\n")[0]
        return ValueError(f"line {line} must have {expected} at {got!r}")


def _others(ranges: list[tuple[int, int]]) -> list[tuple[int, int]]:
    """Returns the ranges of all characters that are in none of these."""
    others, begin = [], 0
    for first, last in sorted(ranges):
        if first > begin:
            others.append((begin, first - 1))
        begin = max(begin, last + 1)
    return [*others, (begin, _LAST)] if begin <= _LAST else others


def _bounds(times: re.Match[str]) -> tuple[int, int | None]:
    """Returns how often something comes, at least and at most."""
    if times[0] in "*+?":
        return (1 if times[0] == "+" else 0), (1 if times[0] == "?" else None)
    least = int(times[1])
    if times[2] is None:
        return least, least
    return least, int(times[3]) if times[3] else None


def _joined(items: list[Item]) -> list[Item]:
    """Returns items in which equal sets that follow each other are one run.

    There is one way to read ``"b"*`` then, but many ways to read ``"b"* "b"*``.
    """
    joined: list[Item] = []
    for what, group in groupby(items, lambda item: item.what):
        if isinstance(what, str):
            joined += group
            continue
        run = list(group)
        bounds = [item.most for item in run if item.most is not None]
        most = sum(bounds) if len(bounds) == len(run) else None
        joined += _spelt_out(Item(what, sum(item.least for item in run), most))
    return joined


def _spelt_out(item: Item) -> list[Item]:
    """Returns an item that comes at least a few times as so many items and the rest."""
    what, least, most = item
    if isinstance(what, str) or not 1 < least <= _MAX_SPELT_OUT:
        return [item]
    rest = None if most is None else most - least
    return [Item(what)] * least + ([] if rest == 0 else [Item(what, 0, rest)])
