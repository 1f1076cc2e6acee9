"""Finds calls of tools in the text of a model, which writes them in its own form."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator
from typing import Any, NamedTuple

from ersd.api.message_parts import CallPart, Part, TextPart, new_call_id

__all__ = ["CallReader"]

_TAGS = ("<tool_call>", "</tool_call>", "[TOOL_CALLS]")
# What may stand before and between calls: tags, and the brackets and separators of a list.
_AROUND = re.compile("(?:" + "|".join(map(re.escape, _TAGS)) + r"|[\s\[\],;])*")
_OPENING = re.compile(r"<tool_call>|\[TOOL_CALLS\]")
_ARGUMENTS = re.compile(r"\s*(?:\[ARGS\])?\s*(?=\{)")  # what stands before them, after a name
# Keys with which an object begins that may be a call.
_FIRST_KEYS = ('{"arguments":', '{"parameters":', '{"function":', '{"type":"function"')
_DECODER = json.JSONDecoder()


class _Found(NamedTuple):
    """A call in a text.

    Attributes:
        name: the tool.
        arguments: the arguments, as JSON.
        end: where the text goes on.
    """

    name: str
    arguments: str
    end: int


_NO_CALL, _MAYBE = "no call", "more text decides"


class CallReader:
    """Reads a message in which the model may call tools.

    A call is a JSON object with the "name" of a tool and its "arguments" (or "parameters"). It may
    stand in a list, between ``<tool_call>`` and ``</tool_call>`` as Hermes and Qwen write it, after
    ``[TOOL_CALLS]`` as Mistral does, or at the beginning of the text as Llama 3 does, where the
    calls are separated by semicolons. Newer Mistral models write the tool's name before an object
    that holds only the arguments. Text that is no call of a known tool stays text. Text that may
    become a call is held back until that is certain.
    """

    def __init__(self, tools: Collection[str], *, at_most_one: bool) -> None:
        """Begins a message.

        Args:
            tools: the names of the tools.
            at_most_one: whether the message ends with the first call.
        """
        self._names = sorted(tools, key=len, reverse=True)  # some may begin with others
        self._openings = tuple(f'{{"name":{json.dumps(name)}' for name in tools) + _FIRST_KEYS
        self._at_most_one = at_most_one
        self._n_calls = 0
        self._held = ""
        self._may_call = True  # at the beginning of the text, at a tag, and after a call
        self._after_call = False

    def read(self, text: str) -> Iterator[Part]:
        """See `Reader`."""
        self._held += text
        yield from self._parts(is_last=False)

    def end(self) -> Iterator[Part]:
        """See `Reader`."""
        yield from self._parts(is_last=True)

    def _parts(self, *, is_last: bool) -> Iterator[Part]:
        n_certain = len(self._held) - (0 if is_last else _n_chars_of_tag(self._held))
        text, rest = self._held[:n_certain], self._held[n_certain:]
        while text:
            if self._at_most_one and self._n_calls:
                text = rest = ""
                break
            around = _AROUND.match(text) if self._may_call else None
            begin = around.end() if around else 0
            found = self._call_at(text[begin:]) if around else _NO_CALL
            if isinstance(found, _Found):
                yield CallPart(self._n_calls, new_call_id(), found.name, found.arguments)
                self._n_calls += 1
                self._after_call = True
                text = text[begin + found.end :]
            elif found is _MAYBE and not is_last:
                break
            else:
                # What surrounds calls is dropped only where there is one.
                dropped = begin if self._after_call else 0
                opening = _OPENING.search(text, begin)
                end = opening.start() if opening else len(text)
                if end > dropped:
                    yield TextPart(text[dropped:end])
                text = text[end:]
                self._may_call, self._after_call = opening is not None, False
        self._held = text + rest

    def _call_at(self, text: str) -> _Found | str:
        """Returns the call with which a text begins, _NO_CALL, or _MAYBE."""
        if not text:
            return _MAYBE
        if text[0] != "{":
            return self._named_call_at(text)
        compact = re.sub(r"\s", "", text[:400])
        if not any(o.startswith(compact) or compact.startswith(o) for o in self._openings):
            return _NO_CALL
        try:
            value, end = _DECODER.raw_decode(text)
        except (ValueError, RecursionError):
            return _MAYBE
        call = value.get("function") if isinstance(value.get("function"), dict) else value
        if call.get("name") not in self._names:
            return _NO_CALL
        return _Found(call["name"], _as_json(call.get("arguments", call.get("parameters"))), end)

    def _named_call_at(self, text: str) -> _Found | str:
        """Returns the call with which a text begins if it is a tool's name and its arguments."""
        for name in self._names:
            if name.startswith(text):
                return _MAYBE
            if not text.startswith(name):
                continue
            begin = _ARGUMENTS.match(text, len(name))
            if begin is None:
                compact = re.sub(r"\s", "", text[len(name) : len(name) + 40])
                if "[ARGS]".startswith(compact):
                    return _MAYBE
                continue
            try:
                value, end = _DECODER.raw_decode(text, begin.end())
            except (ValueError, RecursionError):
                return _MAYBE
            return _Found(name, _as_json(value), end)
        return _NO_CALL


def _as_json(arguments: Any) -> str:
    """Returns the arguments of a call as JSON. Some models write them as a text that is JSON."""
    if isinstance(arguments, str):
        return arguments
    return json.dumps({} if arguments is None else arguments, ensure_ascii=False)


def _n_chars_of_tag(text: str) -> int:
    """Returns how many characters at the end of a text may be the beginning of a tag."""
    longest = max(map(len, _TAGS)) - 1
    for n in range(min(longest, len(text)), 0, -1):
        if any(tag.startswith(text[-n:]) and len(tag) > n for tag in _TAGS):
            return n
    return 0
