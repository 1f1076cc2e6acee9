"""Finds the functions of C++ sources and counts their lines, for test_structure.py."""

from __future__ import annotations

import re
from collections.abc import Iterator


def code(text: str) -> str:
    """Returns C++ with blanks in place of comments, literals and preprocessor lines."""
    pattern = (
        r'R"(?P<end>[^(\s]*)\(.*?\)(?P=end)"'  # raw string
        r'|"(?:\\.|[^"\\\n])*"|(?<![0-9a-fA-F])\'(?:\\.|[^\'\\\n])+\''
        r"|//[^\n]*|/\*.*?\*/|^[ \t]*#(?:\\\n|[^\n])*"
    )
    blank = lambda match: re.sub(r"[^\n]", " ", match[0])  # noqa: E731
    return re.sub(pattern, blank, text, flags=re.DOTALL | re.MULTILINE)


def end_of_braces(text: str, begin: int) -> int:
    """Returns the place of the brace that closes the one at `begin`."""
    depth = 0
    for match in re.finditer(r"[{}]", text[begin:]):
        depth += 1 if match[0] == "{" else -1
        if depth == 0:
            return begin + match.start()
    raise ValueError(f"no brace closes that in line {text.count(chr(10), 0, begin) + 1}")


def opens_scope(header: str) -> bool:
    """Returns whether a brace after this header opens a namespace or a class."""
    header = re.sub(
        r"\balignas\([^)]*\)|^\s*template\s*<[^{]*?>(?=\s*(struct|class)\b)", "", header
    )
    scope = r"\s*((inline\s+)?namespace|extern|class|struct|union)\b[^(]*$"
    return re.match(scope, header) is not None


def opens_body(header: str) -> bool:
    """Returns whether a brace after this header opens the body of a function."""
    if "(" not in header or header.count("(") != header.count(")"):
        return False
    header = re.sub(r"\b(const|noexcept|override|final|mutable)\b", "", header).rstrip()
    in_initialisers = re.search(r"\)\s*:(?!:)", header) is not None
    return header[-1] in ")}" if in_initialisers else header[-1] not in "=,"


def cpp_functions(text: str) -> Iterator[tuple[int, int, str]]:
    """Yields first line, number of lines and head of each function outside other functions."""
    text = code(text)
    mark = re.compile(r"[{};]|\b(?:public|protected|private)\s*:(?!:)")
    begin = place = 0  # where the declaration begins, and where the search goes on
    while match := mark.search(text, place):
        place = match.end()
        header = text[begin : match.start()]
        if match[0] != "{" or opens_scope(header):
            begin = place
            continue
        place = end_of_braces(text, match.start()) + 1
        if opens_body(header):
            first = begin + len(header) - len(header.lstrip())
            n_lines = text.count("\n", first, place) + 1
            yield text.count("\n", 0, first) + 1, n_lines, " ".join(header.split())
            begin = place
