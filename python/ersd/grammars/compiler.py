"""Compiled grammars over a model's vocabulary, in the form that the core asks for."""

from __future__ import annotations

import re
import threading
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from functools import lru_cache, partial
from typing import Protocol

from llguidance import LLMatcher, LLParserLimits, LLTokenizer, TokenizerWrapper

from ersd.grammars.source import Source

__all__ = ["Compiler", "Grammar", "Vocabulary"]

_N_COMPILED = 16  # grammars that are kept
_MAX_REASON = 300  # characters
# How many ways to read a text may be followed at once, and for how many a mask is computed. GBNF,
# which is read character by character, needs more than llguidance's own defaults. With yet more, a
# token could take seconds.
_LIMITS = LLParserLimits(step_max_items=2_000_000, max_items_in_row=5_000)
_TOO_MANY = re.compile(r"Too many items|row has \d+ items")
# Room for `MAX_RULES` rules, each of which is in the one before.
_STACK_BYTES = 128 * 1024 * 1024
_STACK_LOCK = threading.Lock()  # the size is that of all threads that begin
# What llguidance says of these keywords of a schema without their names.
_UNNAMED = {
    "regex parse error": "pattern",
    "lookarounds not supported": "pattern",
    "Resource ": "$ref",
    "Pointer ": "$ref",
}


class Vocabulary(Protocol):
    """The tokens of a model."""

    @property
    def n_vocab(self) -> int:
        """The number of tokens."""

    def piece(self, token: int, special: bool = False) -> bytes:
        """Returns the bytes of a token; control tokens have some only if `special` is set."""

    def is_end(self, token: int) -> bool:
        """Whether the token ends a text or a turn."""


class Compiler:
    """Compiles grammars for one vocabulary. Any thread may use it."""

    def __init__(self, vocabulary: Vocabulary) -> None:
        """Does nothing until the first grammar is compiled, which reads the vocabulary."""
        self._vocabulary = vocabulary
        self._lock = threading.Lock()
        self._tokenizer: LLTokenizer | None = None
        self._ends: frozenset[int] = frozenset()
        self._compiled = lru_cache(maxsize=_N_COMPILED)(self._compile)

    def compile(self, source: Source) -> Grammar:
        """Returns a compiled grammar, which may have been compiled before.

        Raises:
            ValueError: llguidance does not understand the grammar, or no text matches it.
        """
        with self._lock:
            if self._tokenizer is None:
                self._tokenizer, self._ends = _tokenizer(self._vocabulary)
        return self._compiled(source)

    def _compile(self, source: Source) -> Grammar:
        assert self._tokenizer is not None
        for part in source.parts:
            self._compile(part)
        matcher = _on_large_stack(partial(_begun, self._tokenizer, source.text))
        if matcher.is_error():
            raise ValueError(f"{source.claim}: {_reason(matcher.get_error())}")
        return Grammar(matcher, self._ends)


class Grammar:
    """A compiled grammar. Any number of answers may follow it. The core calls its methods.

    Attributes:
        ends: the tokens that end an answer.
    """

    def __init__(self, matcher: LLMatcher, ends: frozenset[int]) -> None:
        """Use `Compiler.compile` to make a grammar."""
        self._matcher = matcher
        self.ends = sorted(ends)

    def start(self) -> LLMatcher:
        """Returns what follows an answer from its beginning."""
        return self._matcher.deep_copy()

    @staticmethod
    def reason(matcher: LLMatcher) -> str:
        """Returns why a matcher has no mask or does not take a token."""
        return _reason(matcher.get_error()) or "it does not allow one of the tokens"


class _Tokens:
    """A vocabulary as llguidance's tokenizers need it."""

    def __init__(self, vocabulary: Vocabulary, ends: Sequence[int]) -> None:
        self.eos_token_id = ends[0]
        self.bos_token_id = None
        # Control tokens, which stand for no text, begin with a byte that no text has.
        self.tokens = [
            vocabulary.piece(token) or b"\xff" + vocabulary.piece(token, True)
            for token in range(vocabulary.n_vocab)
        ]

    def __call__(self, text: bytes) -> list[int]:
        """Returns no tokens: masks need none, and an answer is not forced to any."""
        return []


def _begun(tokenizer: LLTokenizer, text: str) -> LLMatcher:
    """Returns the matcher of a grammar, with its first mask, which fails if no text matches."""
    matcher = LLMatcher(tokenizer, text, log_level=0, limits=_LIMITS)
    if not matcher.is_error():
        matcher.compute_bitmask()
    return matcher


def _on_large_stack(work: Callable[[], LLMatcher]) -> LLMatcher:
    """Does some work in a thread with a large stack, of which only the used part takes memory."""
    with ThreadPoolExecutor(1) as pool:
        with _STACK_LOCK:
            before = threading.stack_size(_STACK_BYTES)
            try:
                made = pool.submit(work)  # begins the thread
            finally:
                threading.stack_size(before)
        return made.result()


def _tokenizer(vocabulary: Vocabulary) -> tuple[LLTokenizer, frozenset[int]]:
    n = vocabulary.n_vocab
    ends = [token for token in range(n) if vocabulary.is_end(token)]
    if not ends:
        raise ValueError("a grammar needs a model with an end token: this one has none")
    wrapper = TokenizerWrapper(_Tokens(vocabulary, ends))
    return LLTokenizer(wrapper, n_vocab=n, eos_token=ends), frozenset(ends)


def _reason(message: str) -> str:
    """Returns llguidance's reason in one line, with the keyword of a schema that it is about."""
    if message.startswith("NoExtensionBias"):
        return "no text matches it"
    if _TOO_MANY.search(message):
        return "it can be read in too many ways"
    message = re.sub(r"^at \d+\(\d+\): failed to compile JSON schema: ", "", message)
    keyword = next((name for begin, name in _UNNAMED.items() if message.startswith(begin)), "")
    lines = [line.strip() for line in message.split("\n")]
    reasons = [line for line in lines if line.startswith("error:")]  # of regular expressions
    first = f"{keyword}: {lines[0]}" if keyword else lines[0]
    return " ".join([first[:_MAX_REASON], *reasons])[:_MAX_REASON]
