"""The grammar of an answer: what it may be, and which tokens may come next.

Everything here is held to by llguidance. What it cannot hold to is refused before the first token.
"""

from ersd.grammars.compiler import Compiler, Grammar
from ersd.grammars.forms import answer_source, parser_of, response_format_source
from ersd.grammars.source import Source, lark_source, schema_source

__all__ = [
    "Compiler",
    "Grammar",
    "Source",
    "answer_source",
    "lark_source",
    "parser_of",
    "response_format_source",
    "schema_source",
]
