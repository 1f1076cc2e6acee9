"""The suffix automaton, against brute force over all substrings of short texts."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from ersd._core import Match, SuffixAutomaton

Counts = dict[tuple[int, ...], dict[int, int]]
MANY = 1 << 20


def automaton(text: Sequence[int]) -> SuffixAutomaton:
    """Returns the automaton of a text."""
    made = SuffixAutomaton()
    for token in text:
        made.append(token)
    return made


def ends(text: Sequence[int], part: Sequence[int]) -> list[int]:
    """Returns the places after each occurrence of a substring."""
    n = len(part)
    return [i for i in range(n, len(text) + 1) if list(text[i - n : i]) == list(part)]


def longest_ending(text: Sequence[int], words: Sequence[int]) -> list[int]:
    """Returns the longest ending of some tokens that occurs in a text."""
    for first in range(len(words)):
        if ends(text, words[first:]):
            return list(words[first:])
    return []


def repeated(text: Sequence[int]) -> list[int]:
    """Returns the longest ending of a text that occurred before its end."""
    for first in range(1, len(text)):
        if len(ends(text, text[first:])) > 1:
            return list(text[first:])
    return []


def shorter(text: Sequence[int], part: Sequence[int]) -> list[int]:
    """Returns the longest ending of a substring that ends at more places."""
    for first in range(1, len(part) + 1):
        if len(ends(text, part[first:])) > len(ends(text, part)):
            return list(part[first:])
    return []


def counts(text: Sequence[int]) -> Counts:
    """Returns what followed each substring, and how often. The oldest continuation comes first.

    A token counts after the longest substring before it that had occurred, and all substrings that
    end at the same places. After the others it is noted when it comes for the first time.
    """
    seen: Counts = {}
    for i, token in enumerate(text):
        before = text[:i]
        longest = repeated(before)
        for first in range(i + 1):
            part = before[first:]
            followed = seen.setdefault(tuple(part), {})
            if token not in followed:
                followed[token] = 1
            elif len(ends(before, part)) == len(ends(before, longest)):
                followed[token] += 1
    return seen


def match_of(made: SuffixAutomaton, part: Sequence[int]) -> Match:
    """Returns the match of a substring."""
    match = Match()
    for token in part:
        match = made.follow(match, token)
    assert match.length == len(part)
    return match


def random_texts() -> list[list[int]]:
    """Returns texts over one to four tokens, some of them with separators."""
    rng = np.random.default_rng(0)
    texts = [rng.integers(n, size=m).tolist() for n in (1, 2, 3, 4) for m in (1, 2, 7, 20, 20)]
    separated = [rng.choice([-1, 0, 1, 2], size=24, p=[0.2, 0.4, 0.3, 0.1]) for _ in range(12)]
    return texts + [text.tolist() for text in separated]


@pytest.mark.parametrize("text", random_texts(), ids=lambda text: "".join(map(str, text)))
def test_substrings(text: list[int]) -> None:
    """Endings, continuations and counts are those of brute force, also while the text grows."""
    made = SuffixAutomaton()
    for i, token in enumerate(text):
        made.append(token)
        assert len(made) == i + 1
        assert made.repeated().length == len(repeated(text[: i + 1]))
        assert text[made.end(made.repeated()) - made.repeated().length :][
            : made.repeated().length
        ] == repeated(text[: i + 1])
    seen = counts(text)
    parts = {tuple(text[i:j]) for i in range(len(text)) for j in range(i, len(text) + 1)}
    for part in (list(part) for part in parts if -1 not in part):
        match = match_of(made, part)
        end = made.end(match)
        assert text[end - len(part) : end] == part
        assert made.shorter(match).length == len(shorter(text, part))
        expected = list(reversed(seen.get(tuple(part), {}).items()))
        found = [pair for pair in made.continuations(match, MANY) if pair[0] >= 0]
        assert sorted(found) == sorted(pair for pair in expected if pair[0] >= 0)
        if -1 not in text:
            for most in range(len(expected) + 1):
                assert made.continuations(match, most) == expected[:most]
        for token in range(5):
            followed = made.follow(match, token)
            assert followed.length == len(longest_ending(text, [*part, token]))


def test_endings_shrink_to_nothing() -> None:
    """The endings of a substring, each shorter than the one before, come to the empty one."""
    text = np.random.default_rng(1).integers(2, size=200).tolist()
    made = automaton(text)
    match = made.repeated()
    assert match.length > 3
    lengths = [match.length]
    while match.length > 0:
        match = made.shorter(match)
        lengths.append(match.length)
    assert lengths == sorted(set(lengths), reverse=True)
    assert made.shorter(match).length == 0


def test_a_match_stays_right_while_the_text_grows() -> None:
    """Whoever follows a text that grows meanwhile finds what brute force finds in it."""
    rng = np.random.default_rng(2)
    n_repeated = 0
    for _ in range(2000):
        n_tokens = int(rng.integers(2, 5))
        text, more, words = (rng.integers(n_tokens, size=n).tolist() for n in (6, 8, 2))
        made, words = automaton(text), longest_ending(text, words)
        match = match_of(made, words)
        for token in more:
            made.append(token)
        text += more
        assert made.shorter(match).length == len(shorter(text, words))
        assert text[made.end(match) - len(words) : made.end(match)] == words
        found = dict(made.continuations(match, MANY))
        for token in range(n_tokens):
            followed = longest_ending(text, [*words, token])
            assert made.follow(match, token).length == len(followed)
            assert (token in found) == (len(followed) == len(words) + 1)
        n_repeated += len(ends(more, words)) > 0
    assert n_repeated > 500


def fibonacci(n: int) -> list[int]:
    """Returns the beginning of the Fibonacci word, whose endings repeat as much as possible."""
    before, word = [1], [0]
    while len(word) < n:
        before, word = word, word + before
    return word[:n]


N = 5000
HARD = {
    "one token": [7] * N,
    "one token after another": [i // 10 for i in range(N)],
    "a b^n c": [0, *[1] * (N - 2), 2],
    "(a b^i c)": [t for i in range(100) for t in (0, *[1] * i, 2)][:N],
    "Fibonacci": fibonacci(N),
    "random": np.random.default_rng(3).integers(49152, size=N).tolist(),
    "random of two": np.random.default_rng(4).integers(2, size=N).tolist(),
    "random of 20": np.random.default_rng(5).integers(20, size=N).tolist(),
    "all pairs": [t for i in range(50) for j in range(50) for t in (i, 100 + j)],
    "a text twice": np.random.default_rng(6).integers(3, size=N // 2).tolist() * 2,
}


@pytest.mark.parametrize("text", HARD.values(), ids=HARD)
def test_memory(text: list[int]) -> None:
    """No text takes more than 64 KiB per 1,000 tokens, even one that is made to be hard."""
    made, empty = automaton(text), SuffixAutomaton().n_bytes
    assert len(made) == len(text)
    assert made.n_bytes - empty <= 64 * 1024 / 1000 * len(text)
    assert made.n_bytes - empty >= 16 * len(text)  # it counts what grows with the text


def test_states_with_many_continuations() -> None:
    """States with more continuations than are kept in a list have all of them."""
    rng = np.random.default_rng(7)
    text = rng.integers(60, size=1500).tolist()
    made = automaton(text)
    for part in ([], [3], [59], text[:1], text[700:702]):
        followed = {text[end] for end in ends(text, part) if end < len(text)}
        found = made.continuations(match_of(made, part), MANY)
        assert {token for token, _ in found} == followed
        assert len(found) == len(followed)
        assert all(made.follow(match_of(made, part), t).length == len(part) + 1 for t in followed)
    assert made.continuations(Match(), 8) == made.continuations(Match(), MANY)[:8]
