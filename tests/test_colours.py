"""Drafted tokens in the colours of their sources, in a terminal."""

from __future__ import annotations

import codecs
import re
from pathlib import Path
from typing import Any

import pytest

from conftest import Drafting
from ersd import Generator, Step
from ersd.commands.colours import DraftColours

pytestmark = pytest.mark.no_sanitizer

# The codes of ECMA-48 for the colours, by the first source of a token in this order.
CODES = {"model": 36, "lookup": 32, "history": 33, "prediction": 35, "grammar": 34}
COLOURED = re.compile("(?:\x1b\\[(\\d+)m(.*?)\x1b\\[0m)|(.)", re.DOTALL)


@pytest.fixture(scope="module")
def drafting(tiny_target: Path, tiny_draft: Path) -> Generator:
    """A Generator that no other test teaches."""
    return Drafting(tiny_target, tiny_draft, n_ctx=1024, n_threads=1)


def characters(painted: str) -> list[tuple[str, int | None]]:
    """Returns the characters of a text, each with its colour."""
    found = []
    for code, text, plain in COLOURED.findall(painted):
        found += [(c, int(code)) for c in text] if code else [(plain, None)]
    return found


def test_colours_are_those_of_the_tokens(drafting: Generator) -> None:
    """Each character has the colour of its token, also where text comes later than its tokens.

    That happens with stop strings and with characters of several tokens.
    """
    seen: dict[int | None, int] = {}
    colours = DraftColours(drafting)
    for seed in range(30):
        colours.begin()
        painted, owners = "", []
        decoder = codecs.getincrementaldecoder("utf-8")("replace")
        options = {"max_tokens": 60, "seed": seed, "temperature": 1.0, "top_k": 0}
        drafts: dict[str, Any] = {}
        if seed % 2:  # the answer itself is expected
            drafts = {"draft_sources": ["prediction"]}
            drafts["prediction"] = drafting.generate("日本", **options).tokens
        with drafting.stream("日本", stop=["of", "日本"], **options, **drafts) as stream:
            for step in stream:
                painted += colours.paint(step)
                for i, token in enumerate(step.tokens):
                    sources = step.sources[i] if i < step.n_accepted else ()
                    code = next((CODES[name] for name in CODES if name in sources), None)
                    owners += [code] * len(decoder.decode(drafting.target.piece(token)))
        found = characters(painted)
        assert "".join(c for c, _ in found) == stream.text
        # A byte that is no character may be shown before it is known to be none.
        assert all(
            code == owner or c == "\ufffd" for (c, code), owner in zip(found, owners, strict=False)
        )
        for _, code in found:
            seen[code] = seen.get(code, 0) + 1
    assert min(seen[None], seen[CODES["model"]], seen[CODES["prediction"]]) > 100


def test_text_that_comes_after_its_token(drafting: Generator) -> None:
    """The colour stays that of the token that the text is of."""
    colours, tokens = DraftColours(drafting), drafting.tokenize("the in", add_special=False)
    first, rest = drafting.detokenize(tokens[:1]), drafting.detokenize(tokens[1:])
    assert colours.paint(Step("", tokens[:1], 1, sources=[("grammar", "lookup")])) == ""
    painted = colours.paint(Step(first + rest, tokens[1:], 0))
    assert painted == f"\x1b[32m{first}\x1b[0m{rest}"


def test_a_legend_names_each_source_once(drafting: Generator) -> None:
    """It has the sources whose colours were shown since the last one, in their colours."""
    colours, [token, *_] = DraftColours(drafting), drafting.tokenize("the", add_special=False)
    text = drafting.detokenize([token])
    assert colours.legend() == ""
    for sources in (("lookup", "model"), ("prediction",)):
        colours.paint(Step(text, [token], 1, sources=[sources]))
    model, prediction = (f"\x1b[{CODES[name]}m{name}\x1b[0m" for name in ("model", "prediction"))
    assert colours.legend() == f"drafted by {model} {prediction}"
    colours.paint(Step(text, [token], 1, sources=[("model",)]))
    assert colours.legend() == ""
    colours.paint(Step(text, [token], 1, sources=[("lookup",)]))
    assert colours.legend() == f"drafted by \x1b[{CODES['lookup']}mlookup\x1b[0m"
