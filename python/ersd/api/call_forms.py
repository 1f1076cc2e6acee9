"""The forms in which models write calls of tools, as grammars: Hermes', Llama 3's and Mistral's.

A model has learnt one of them, and its chat template shows which one.
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from ersd.grammars import Source, lark_source, schema_source
from ersd.grammars.source import BLANKS, embedded

__all__ = ["HERMES", "CallForm", "Function", "arguments_source", "form_in_template"]

Function = Mapping[str, Any]

_ANY = r"/(.|\n)*/"
# Text that does not begin as a call does where no mark stands before one.
_NO_CALL = _ANY + r' & ~/[ \t\n]*\{[ \t\n]*"name"(.|\n)*/'
# An identifier that some Mistral models write after the arguments of a call.
_ID = r'(ws "," ws "\"id\"" ws ":" ws /"[a-zA-Z0-9]{9}"/)?'


@dataclass(frozen=True)
class CallForm:
    """A form of calls. The same call stands in it in many texts, as in JSON.

    Attributes:
        opening: the mark before a call, or before a list of calls. Llama 3 may leave it out.
        closing: the mark after a call; empty if there is none.
        arguments: the key of the arguments; empty if a call is a name, a mark and the arguments.
        in_list: whether the calls are a list after one mark, instead of one after the other.
        control: the marks that are control tokens, with their ids. They are no text, so a call can
            be told from text only at the beginning of an answer then.
    """

    opening: str
    closing: str = ""
    arguments: str = "arguments"
    in_list: bool = False
    control: tuple[tuple[str, int], ...] = ()

    def calls(self, functions: Sequence[Function], *, several: bool) -> Source:
        """Returns the grammar of a call of one of these functions.

        Args:
            functions: each with its "name" and the JSON schema of its arguments as "parameters".
            several: whether there may be further calls.

        Raises:
            ValueError: an answer cannot be held to a schema.
        """
        return self._source(f"start: {self._one_or_more(several=several)}", functions, several)

    def text_or_calls(self, functions: Sequence[Function], *, several: bool) -> Source:
        """Returns the grammar of texts in which what begins as a call is a call.

        Args:
            functions: see `calls`.
            several: whether there may be further calls, and text after a call.

        Raises:
            ValueError: an answer cannot be held to a schema.
        """
        if self._is_found_in_text:
            tagged = "found body"
            start = f"({tagged})* text" if several and not self.in_list else f"{tagged} | text"
            rules = [f"start: {start}", f"found[lazy]: {_ANY} {_literal(self.opening)}"]
        else:
            rules = [f"start: {self._one_or_more(several=several)} | text"]
        text = _NO_CALL if self.opening == _PYTHON else _ANY
        rules += ["text: TEXT", f"TEXT: {text}"]
        return self._source("\n".join(rules), functions, several)

    @property
    def marks(self) -> tuple[str, ...]:
        """The marks of the form."""
        args = "" if self.arguments else _ARGS
        return tuple(filter(None, (self.opening, self.closing, args)))

    @property
    def _is_found_in_text(self) -> bool:
        return self.opening not in (_PYTHON, *dict(self.control))

    def _one_or_more(self, *, several: bool) -> str:
        opening = self._mark(self.opening)
        if self.opening == _PYTHON:
            opening = f"{opening}?" if _PYTHON in dict(self.control) else ""
            return f'{opening} body (ws ";" ws body)*' if several else f"{opening} body"
        more = f"(ws {opening} body)*" if several and not self.in_list else ""
        return f"{opening} body {more}"

    def _source(self, head: str, functions: Sequence[Function], several: bool) -> Source:
        """Returns a grammar whose first rules use the rules body and ws."""
        parts = [_schema(each) for each in functions]
        body = "call"
        if self.in_list:
            more = '(ws "," ws call)*' if several else ""
            body = f'ws "[" ws call {more} ws "]"'
        elif self.closing:
            body = f"ws call ws {self._mark(self.closing)}"
        rules = [head, f"body: {body}", f"ws: /{BLANKS}/?"]
        rules.append(f"call: {' | '.join(f'call_{i}' for i in range(len(parts)))}")
        rules += [f"call_{i}: {self._call(function)}" for i, function in enumerate(functions)]
        source = lark_source("\n".join(rules), "tools must have schemas that fit together")
        return source._replace(parts=tuple(parts))

    def _call(self, function: Function) -> str:
        arguments = f"%json {embedded(_parameters(function))}"
        name = function["name"]
        if not self.arguments:
            return f"{_literal(name)} {self._mark(_ARGS)} ws {arguments}"
        # The beginning is one terminal, so that it is told from other text by itself.
        begin = f'/\\{{{BLANKS}?"name"/ ws ":" ws {_literal(_json(name))}'
        key = _literal(_json(self.arguments))
        end = _ID if self.in_list else ""
        return f'{begin} ws "," ws {key} ws ":" ws {arguments} {end} ws "}}"'

    def _mark(self, mark: str) -> str:
        """Returns a mark as a terminal of a Lark grammar."""
        ids = dict(self.control)
        return f"<[{ids[mark]}]>" if mark in ids else _literal(mark)


_ARGS, _CALLS, _PYTHON = "[ARGS]", "[TOOL_CALLS]", "<|python_tag|>"
HERMES = CallForm("<tool_call>", "</tool_call>")  # also Qwen's
_LLAMA_3 = CallForm(_PYTHON, arguments="parameters")
_MISTRAL = CallForm(_CALLS, in_list=True)
_NAMED_MISTRAL = CallForm(_CALLS, arguments="")
# What a chat template contains if its model knows a form, the first one that is found.
_SIGNS = {
    HERMES.opening: HERMES,
    _ARGS: _NAMED_MISTRAL,
    _CALLS: _MISTRAL,
    _PYTHON: _LLAMA_3,
    '"parameters": dictionary': _LLAMA_3,
}


def form_in_template(template: str) -> CallForm:
    """Returns the form that a chat template shows; Hermes' form if it shows none that is known."""
    signs = _SIGNS.items() if "tools" in template else ()
    return next((form for sign, form in signs if sign in template), HERMES)


def arguments_source(function: Function) -> Source:
    """Returns the grammar of the arguments of a function.

    Raises:
        ValueError: an answer cannot be held to their schema.
    """
    return _schema(function)


def _schema(function: Function) -> Source:
    return schema_source(_parameters(function), f"the tool {function['name']!r}")


def _parameters(function: Function) -> Any:
    given = {"type": "object"} if function.get("strict") is False else function.get("parameters")
    return {"type": "object", "properties": {}} if given is None else given


def _json(text: str) -> str:
    return json.dumps(text, ensure_ascii=False)


def _literal(text: str) -> str:
    """Returns a terminal of a Lark grammar."""
    return _json(text)
