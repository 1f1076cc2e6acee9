"""How each text of a corpus begins, and what its users say."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from functools import partial
from itertools import takewhile

import numpy as np

from ersd import Generator
from ersd.distill.corpus import Text
from ersd.distill.openings import Openings

__all__ = ["Beginning", "Beginnings", "Message", "Template"]

Ids = list[int]

# Temperatures of the answers, each equally often.
TEMPERATURES = (0.0, 0.4, 0.6, 0.7, 0.8, 1.0, 1.0, 1.0)
# With a chat model, every fourth text is not a chat.
RAW_EVERY = 4
N_LENGTHS = 5  # the longest text is this many times as long as the shortest one
# A user's first message ends with the first sentence that ends after a number of tokens. That
# number is drawn between these two, short ones more often.
MESSAGE_LENGTHS = (4, 96)
MESSAGE_SHARE = 3  # a first message takes about one part of this many of a text, at most
MAX_SENTENCE = 32  # tokens that the target adds to the opening of a message, or to its least number
MAX_FOLLOW_UPS = 2  # further messages in a chat, if there is room for them


@dataclass(frozen=True)
class Message:
    """A user's message, which the target completes.

    Attributes:
        opening: tokens with which it begins.
        least: tokens after which it ends with the sentence.
        most: tokens after which it ends, even within a sentence.
    """

    opening: Ids
    least: int
    most: int


@dataclass(frozen=True)
class Beginning:
    """What a text is, before the target writes it.

    Attributes:
        tokens: the tokens with which the text begins.
        limit: greatest number of tokens.
        temperature: temperature of what the target writes, other than a user's messages.
        messages: the user's messages, in turn. The first one follows `tokens` at once.
    """

    tokens: Ids
    limit: int
    temperature: float = 1.0
    messages: tuple[Message, ...] = ()


@dataclass(frozen=True)
class Template:
    """The tokens that a chat template puts around messages. All are empty if there is none.

    Attributes:
        before: what stands before the first message.
        after: what stands between a message and its answer.
        between: what stands between an answer and the next message; empty if the template leaves
            out what was said before.
    """

    before: Ids
    after: Ids
    between: Ids

    @classmethod
    def of(cls, target: Generator) -> Template:
        """Find out what the template of a model is, from conversations that have parts in common.

        Each part begins and ends with other tokens in the other conversation.
        """
        one, other = "ersd 1", "What? Z"
        try:
            short, unlike = (_conversation(target, [words]) for words in (one, other))
            long, unlike_end, unlike_middle = (
                _conversation(target, words)
                for words in ([one, one, one], [one, one, other], [one, other, one])
            )
        except ValueError:
            return cls([], [], [])
        n, m = _n_equal(short, unlike), _n_equal(short[::-1], unlike[::-1])
        before, after = short[:n], short[len(short) - m :]
        begin = len(long) - _n_equal(long[::-1], unlike_middle[::-1])
        if begin < len(short):  # the template has left out the first message
            return cls(before, after, [])
        return cls(before, after, long[begin : _n_equal(long, unlike_end)])


def _short_before(target: Generator) -> Ids:
    """Return what llama.cpp's own form of a model's template puts before a message.

    It may have no system message where the model's template has one. Empty if llama.cpp does not
    know the template.
    """
    try:
        one, other = (
            target.tokenize(target.target.chat_prompt(words)) for words in ("ersd 1", "What? Z")
        )
    except RuntimeError:
        return []
    return one[: _n_equal(one, other)]


def _conversation(target: Generator, messages: Sequence[str]) -> Ids:
    """Return the tokens of a conversation in which user and assistant take turns."""
    roles = ("user", "assistant")
    return target.apply_chat_template(
        [{"role": roles[i % 2], "content": words} for i, words in enumerate(messages)]
    )


def _n_equal(one: Ids, other: Ids) -> int:
    """Return how many tokens two texts have in common at their beginnings."""
    return sum(1 for _ in takewhile(lambda pair: pair[0] == pair[1], zip(one, other, strict=False)))


class Beginnings:
    """How texts begin. The given texts come first; a text begins after them as `__call__` says.

    Attributes:
        template: the tokens around messages.
    """

    def __init__(
        self, target: Generator, seed: int, given: Sequence[Sequence[int]], n_ctx: int
    ) -> None:
        """Cut the given texts to the longest length.

        Args:
            target: the model, for its vocabulary and its chat template.
            seed: seed of all that is drawn.
            given: token ids of the given texts.
            n_ctx: the longest text, in tokens.
        """
        self._seed, self._n_ctx = seed, n_ctx
        self._start = target.tokenize("")
        self._ordinary = [
            token for token in range(target.target.n_vocab) if target.target.piece(token).strip()
        ]
        self._openings = Openings(target)
        self._tokens_of: Callable[[str], Ids] = partial(
            target.tokenize, add_special=False, parse_special=False
        )
        self.template = Template.of(target)
        self._befores = [self.template.before, _short_before(target) or self.template.before]
        n = n_ctx - len(self._start)
        self._given = deque(
            [*self._start, *tokens[i : i + n]] for tokens in given for i in range(0, len(tokens), n)
        )

    def skip(self, texts: Iterable[Text]) -> None:
        """Leave out what given texts an earlier run has read. What it cut is read at the end.

        Args:
            texts: the texts of that run, in order.
        """
        for text in texts:
            n = len(text.tokens)
            if not self._given or self._given[0][:n] != text.tokens.tolist():
                continue
            if rest := self._given.popleft()[n:]:
                self._given.append([*self._start, *rest])

    def __call__(self, index: int) -> Beginning:
        """Return the beginning of the text with this index, the first one that was not begun.

        If no given text is left, it is a chat with some messages, or a text that begins with a
        token or some words.
        """
        if self._given:
            tokens = self._given.popleft()
            return Beginning(tokens, len(tokens))
        rng = np.random.default_rng([self._seed, index])
        temperature = float(rng.choice(TEMPERATURES))
        is_chat = bool(self.template.before) and index % RAW_EVERY > 0
        before = self._befores[rng.integers(2)] if is_chat else []
        room = self._n_ctx - len(before)
        limit = self._n_ctx - room + _between(max(1, room // N_LENGTHS), room, rng)
        if is_chat:
            messages = tuple(self._messages(limit, rng))
            return Beginning(list(before), limit, temperature, messages)
        if rng.integers(2):
            opening = [int(rng.choice(self._ordinary))]
        else:
            opening = self._tokens_of(self._openings.raw(rng))
        return Beginning([*self._start, *opening][:limit], limit, temperature)

    def _messages(self, limit: int, rng: np.random.Generator) -> Iterable[Message]:
        """Draw the messages of a chat of up to `limit` tokens."""
        shortest, longest = MESSAGE_LENGTHS
        words = self._openings.message(rng)
        opening = self._tokens_of(words) if words else []
        least = _between(shortest, max(shortest, min(longest, limit // MESSAGE_SHARE)), rng)
        yield Message(opening, least, max(len(opening), least) + MAX_SENTENCE)
        for _ in range(int(rng.integers(MAX_FOLLOW_UPS + 1)) * bool(self.template.between)):
            opening = self._tokens_of(self._openings.follow_up(rng))
            yield Message(opening, 1, len(opening) + MAX_SENTENCE)


def _between(least: int, most: int, rng: np.random.Generator) -> int:
    """Return a random number from `least` to `most`, whose logarithm is evenly distributed."""
    return round(float(np.exp(rng.uniform(np.log(least), np.log(most)))))
