"""Checks of what callers pass: the message says which argument must be what, and what came.

A value of another type is refused, and not read as something else: bytes are no token ids, 5.9 is
no int, and True is no number. Integers of other libraries, such as NumPy's, are ints.
"""

from __future__ import annotations

import operator
import os
from collections.abc import Iterable, Mapping, Set
from typing import Any

import numpy as np

__all__ = ["file_path", "flag", "messages", "text", "texts", "token_ids", "whole"]

_INT32 = range(-(1 << 31), 1 << 31)


def _refuse(who: str, expected: str, got: object) -> TypeError:
    return TypeError(f"{who} must be {expected}, got {got!r:.200}")


def whole(who: str, value: Any, expected: str = "an int") -> int:
    """Returns an integer as an int.

    Raises:
        TypeError: it is none; a bool is none either.
    """
    if isinstance(value, bool):
        raise _refuse(who, expected, value)
    try:
        return operator.index(value)
    except TypeError as error:
        raise _refuse(who, expected, value) from error


def flag(who: str, value: Any) -> bool:
    """Returns a bool, NumPy's too, as a bool. Raises TypeError for anything else."""
    if not isinstance(value, bool | np.bool_):
        raise _refuse(who, "True or False", value)
    return bool(value)


def text(who: str, value: Any, expected: str = "a str") -> str:
    """Returns a text.

    Raises:
        TypeError: it is no str.
        ValueError: it has a lone surrogate, which no encoding of Unicode can write.
    """
    if not isinstance(value, str):
        raise _refuse(who, expected, value)
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise ValueError(
            f"{who} must be text that UTF-8 can write, got {value[error.start]!r} "
            f"at character {error.start}"
        ) from error
    return str(value)  # of a subclass, such as NumPy's


def texts(who: str, value: Any) -> list[str]:
    """Returns one text, or several, as a list; None as an empty one.

    Raises:
        TypeError: it is something else.
        ValueError: as `text`.
    """
    if isinstance(value, str) or value is None:
        return [] if value is None else [text(who, value)]
    expected = "a str or a sequence of str"
    if not _is_list(value):
        raise _refuse(who, expected, value)
    return [text(who, each, expected) for each in value]


def token_ids(who: str, value: Any, expected: str = "text or a list of token ids") -> list[int]:
    """Returns token ids as a list of int.

    Raises:
        TypeError: it is no list of integers.
        ValueError: an integer is too large for a token.
    """
    if not _is_list(value):
        raise _refuse(who, expected, value)
    found = list(value)
    if any(isinstance(each, str | list | tuple | np.ndarray) for each in found):
        several = f"one {expected} (generate_batch takes several)"
        raise _refuse(who, several if who == "prompt" else expected, value)
    is_plain = all(type(each) is int for each in found)
    tokens = found if is_plain else [whole(who, each, expected) for each in found]
    for token in tokens:
        if token not in _INT32:
            raise ValueError(f"{who} must have token ids of 32 bits, got {token}")
    return tokens


def messages(value: Any) -> list[Mapping[str, Any]]:
    """Returns the messages of a conversation as a list.

    Raises:
        TypeError: they are no list.
        ValueError: one of them is no mapping with a role.
    """
    if not _is_list(value):
        raise _refuse("messages", "a list of mappings with a 'role' and a 'content'", value)
    found = list(value)
    for message in found:
        if not isinstance(message, Mapping) or not isinstance(message.get("role"), str):
            raise ValueError(f"expected mappings with a 'role', got {message!r:.200}")
    return found


def file_path(who: str, value: Any) -> str:
    """Returns the name of a file.

    Raises:
        TypeError: it is neither a str nor a path.
        ValueError: it is empty, or no file can have this name.
    """
    expected = "a str or a path"
    name = os.fspath(value) if isinstance(value, str | os.PathLike) else value
    text(who, name, expected)
    if not name or "\0" in name:
        raise ValueError(f"{who} must be the name of a file, got {name!r}")
    return str(name)


def _is_list(value: Any) -> bool:
    """Whether a value is a list of things, and not a text, bytes, or a collection without order."""
    unordered = str, bytes, bytearray, memoryview, Mapping, Set
    return isinstance(value, Iterable) and not isinstance(value, unordered)
