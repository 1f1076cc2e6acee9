"""Stop strings of generations: they cut text, tokens and counts, and streams never show them."""

from __future__ import annotations

import random
from pathlib import Path

import pytest

from conftest import Drafting
from ersd import Generator, models

FULL = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}


def cut(pieces: list[bytes], stops: list[str]) -> tuple[str, int, str]:
    """Returns text, number of tokens and finish reason of an answer, found by brute force.

    The answer ends with the token that completes a stop string.
    """
    for n in range(1, len(pieces) + 1):
        data = b"".join(pieces[:n])
        found = [data.find(stop.encode()) for stop in stops if stop.encode() in data]
        if found:
            return data[: min(found)].decode("utf-8", "replace"), n, "stop"
    return b"".join(pieces).decode("utf-8", "replace"), len(pieces), "length"


def random_stops(draw: random.Random, text: str) -> list[str]:
    """Returns pieces of the text as stop strings.

    Some overlap, and some have a changed end, so that they do not occur in the text.
    """
    stops = []
    for _ in range(draw.randint(1, 4)):
        begin = draw.randrange(max(1, len(text) - 12))
        stop = text[begin : begin + draw.randint(1, 12)]
        kind = draw.randrange(4)
        if kind == 0:
            stop += draw.choice(
                "xé語🙂"
            )  # begins like a piece of the text but does not occur in it
        elif kind == 1:
            stops.append(text[begin + 1 : begin + 1 + draw.randint(1, 12)])  # overlaps with stop
        stops.append(stop)
    return [stop for stop in stops if stop and "\ufffd" not in stop] or ["nowhere"]


def check(
    generator: Generator, prompt: str, n_tokens: int, n_rounds: int, seed: int, **options: object
) -> int:
    """Tries random stop strings on one answer; returns how many cut it inside accepted tokens."""
    whole = generator.generate(prompt, max_tokens=n_tokens, seed=seed, **options)
    pieces = [generator.target.piece(token) for token in whole.tokens]
    assert whole.text == cut(pieces, [])[0]
    draw, inside = random.Random(seed), 0
    for _ in range(n_rounds):
        stops = random_stops(draw, whole.text)
        text, n, reason = cut(pieces, stops)
        way = draw.choice(
            [
                {"strategy": "sequence"},
                {"strategy": "tree"},
                {"strategy": "adaptive"},
                {"method": "ar"},
            ]
        )
        stream = generator.stream(
            prompt, max_tokens=n_tokens, seed=seed, stop=stops, **options, **way
        )
        shown = ""
        for step in stream:
            shown += step.text
            assert text.startswith(shown)
            last = step
        assert (shown, stream.tokens, stream.finish_reason) == (text, whole.tokens[:n], reason)
        stats = stream.stats
        assert (
            stats.generated
            == n
            == stats.accepted
            + sum(stats.acceptance_histogram)
            - (last.n_accepted == len(last.tokens))
        )
        inside += last.n_accepted == len(last.tokens) > 0
    return inside


@pytest.mark.parametrize("seed", range(4))
def test_stop_strings_amid_bytes_and_all_scripts(generator: Generator, seed: int) -> None:
    """The random model writes single bytes, Japanese and emoji."""
    assert check(generator, "the 日本", 80, 25, seed, **FULL) > 2


@pytest.mark.no_sanitizer
def test_stop_strings_on_the_default_pair(target: Path) -> None:
    """In English text, a call accepts several tokens and a word has several tokens."""
    pair = Drafting(target, models.twin(), n_ctx=512)
    assert check(pair, "Once upon a time", 40, 10, 1, temperature=0.7, draft_nodes=6) > 1
