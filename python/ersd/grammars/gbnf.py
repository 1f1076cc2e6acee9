"""Turns GBNF, llama.cpp's notation of grammars, into a Lark grammar for llguidance.

Every terminal of the result is one character. llguidance takes the longest text that a terminal
matches, so that longer terminals would change what the grammar means.
"""

from __future__ import annotations

import json
import re

__all__ = ["gbnf_to_lark"]

_LAST = 0x10FFFF
_SURROGATES = (0xD800, 0xDFFF)
_BLANKS = re.compile(r"(?:[ \t]|#[^\r\n]*)*")
_BLANKS_AND_LINES = re.compile(r"(?:[ \t\r\n]|#[^\r\n]*)*")
_NAME = re.compile(r"[A-Za-z0-9-]+")
_DEFINED = re.compile(r"[ \t]*::=")
_TIMES = re.compile(r"[*+?]|\{[ \t]*(\d+)[ \t]*(,[ \t]*(\d*)[ \t]*)?\}")
_CODES = {"x": 2, "u": 4, "U": 8}  # hexadecimal digits after a backslash and this letter
_ESCAPED = {"t": "\t", "r": "\r", "n": "\n", "\\": "\\", '"': '"', "[": "[", "]": "]"}


def gbnf_to_lark(text: str) -> str:
    """Returns the Lark grammar of the same language.

    Raises:
        ValueError: the text is no GBNF, or its rules are not all defined. The message is a part of
            a sentence, with the place.
    """
    reader = _Reader(text)
    reader.read()
    return reader.lark()


class _Rule:
    """A rule, or a group in brackets, while it is read."""

    def __init__(self, name: str) -> None:
        self.name = name
        self.alternatives: list[list[str]] = [[]]

    def add(self, item: str) -> None:
        self.alternatives[-1].append(item)

    def lark(self) -> str:
        lines = (" ".join(each) or '""' for each in self.alternatives)
        return f"{self.name}: " + "\n | ".join(lines)


class _Reader:
    """Reads a grammar from its beginning to its end."""

    def __init__(self, text: str) -> None:
        self._text = text
        self._place = 0
        self._names: dict[str, str] = {}  # the names in Lark of the rules that were met
        self._defined: set[str] = set()
        self._rules: list[_Rule] = []

    def read(self) -> None:
        self._skip(_BLANKS_AND_LINES)
        while self._place < len(self._text):
            name = self._match(_NAME, "the name of a rule")[0]
            if not self._take(_DEFINED):
                raise self._error("'::='")
            self._defined.add(name)
            self._skip(_BLANKS_AND_LINES)
            self._read_rule(_Rule(self._rule(name)))
            self._skip(_BLANKS_AND_LINES)
        if "root" not in self._defined:
            raise ValueError("there is no rule 'root'")
        if missing := sorted(self._names.keys() - self._defined):
            raise ValueError(f"there is no rule {missing[0]!r}")

    def lark(self) -> str:
        return "\n".join([f"start: {self._names['root']}", *(rule.lark() for rule in self._rules)])

    def _read_rule(self, rule: _Rule) -> None:
        """Reads the alternatives of a rule. Groups in it become rules of their own."""
        open_rules = [rule]
        while True:
            now = open_rules[-1]
            nested = len(open_rules) > 1
            character = self._text[self._place : self._place + 1]
            if character == "(":
                self._place += 1
                open_rules.append(_Rule(f"group_{len(self._rules)}_{self._place}"))
                self._skip(_BLANKS_AND_LINES)
            elif character == ")" and nested:
                self._place += 1
                self._rules.append(open_rules.pop())
                self._add(open_rules[-1], now.name, nested=len(open_rules) > 1)
            elif character == "|":
                self._place += 1
                now.alternatives.append([])
                self._skip(_BLANKS_AND_LINES)
            elif (item := self._item(character)) is not None:
                self._add(now, item, nested=nested)
            elif nested:
                raise self._error("')'")
            else:
                self._rules.append(rule)
                return self._end_line()

    def _end_line(self) -> None:
        if self._place < len(self._text) and self._text[self._place] not in "\r\n":
            raise self._error("a newline")

    def _add(self, rule: _Rule, item: str, *, nested: bool) -> None:
        """Adds an item with what says how often it comes."""
        blanks = _BLANKS_AND_LINES if nested else _BLANKS
        self._skip(blanks)
        while times := self._take(_TIMES):
            item = f"({item})" if item[-1:] in "*+?}" else item
            if times[0] in "*+?":
                item += times[0]
            else:
                at_most = times[1] if times[2] is None else times[3]
                item += f"{{{times[1]},{at_most}}}"
            self._skip(blanks)
        rule.add(item)

    def _item(self, character: str) -> str | None:
        """Reads a literal, a set of characters or the name of a rule; None if there is none."""
        if character == '"':
            return self._literal()
        if character == "[":
            return self._characters()
        if character == ".":
            self._place += 1
            return _set_of([(0, _LAST)])
        found = self._take(_NAME)
        return None if found is None else self._rule(found[0])

    def _literal(self) -> str:
        self._place += 1
        characters = []
        while self._peek() != '"':
            characters.append(json.dumps(chr(self._code()), ensure_ascii=False))
        self._place += 1
        text = " ".join(characters) or '""'
        return f"({text})" if len(characters) > 1 else text

    def _characters(self) -> str:
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
        return _set_of(_others(ranges) if is_excluded else ranges)

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

    def _rule(self, name: str) -> str:
        return self._names.setdefault(name, f"rule_{len(self._names)}")

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


def _set_of(ranges: list[tuple[int, int]]) -> str:
    """Returns a terminal of one of these characters."""
    parts = []
    for first, last in ranges:
        for low, high in (
            (first, min(last, _SURROGATES[0] - 1)),
            (max(first, _SURROGATES[1] + 1), last),
        ):
            if low <= high:
                parts.append(f"\\u{{{low:x}}}-\\u{{{high:x}}}")
    if not parts:
        raise ValueError("a set of characters must not be empty")
    return f"/[{''.join(parts)}]/"
