"""How the target writes the texts of a corpus: many at once, one token of each per call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ersd import Generator
from ersd.distill.corpus import N_TOP, Corpus, Ids, Text
from ersd.engine import Teacher

__all__ = ["given_texts", "write"]

TEMPERATURES = (0.6, 0.8, 1.0, 1.0)  # of the answers, in turn; a user's message is drawn at 1
# With a chat model, every fourth text begins with a random token instead of a user's message.
RAW_EVERY = 4
MAX_USER = 96  # tokens of a user's message at most


def given_texts(target: Generator, paths: Sequence[Path]) -> list[list[int]]:
    """Return the tokens of text files."""
    return [
        target.tokenize(path.read_text(encoding="utf-8"), add_special=False, parse_special=False)
        for path in paths
    ]


def write(
    teacher: Teacher,
    target: Generator,
    path: Path,
    n_positions: int,
    *,
    n_ctx: int,
    seed: int,
    given: Sequence[Sequence[int]] = (),
) -> Iterator[int]:
    """Let the target write until the first texts of a file have n_positions.

    A text is appended when it is finished. So the work can be stopped at any moment, and the same
    call continues it. A text is a function of the seed and its index, except for the last bits of
    its log-probabilities: on some backends they depend on the number of texts in a call.

    Args:
        teacher: the target with one slot per text, all empty. Slot 0 is for the tokens with which
            all texts begin.
        target: the same model, for its vocabulary and its chat template.
        path: the file.
        n_positions: least number of positions to learn from.
        n_ctx: the longest text, in tokens.
        seed: the seed of all texts.
        given: token ids of texts that are read before any text is written.

    Yields:
        The number of positions so far.
    """
    corpus = Corpus(path)
    done = {text.index: len(text) for text in corpus.texts}
    if path.exists():
        with path.open("r+b") as file:
            file.truncate(corpus.end)  # removes a text that was not written to its end
    del corpus
    writer = _Writer(teacher, target, _Beginnings(target, seed, given, n_ctx), done)
    with path.open("ab") as file:
        while writer.fill(n_positions):
            for text in writer.advance():
                text.write(file)
            yield writer.n_positions()


@dataclass
class _Unfinished:
    """A text that is being written.

    Attributes:
        index: the number of the text.
        tokens: its tokens so far.
        temperature: temperature of the answer.
        first: the first position with a distribution.
        limit: greatest number of tokens.
        forced: tokens that must follow before one is drawn.
        after_user: while a user's message is written, what stands between it and the answer.
        seen: number of tokens that the teacher has in its cache.
        top, logprobs: rows of the distributions; see `Text`.
    """

    index: int
    tokens: list[int]
    temperature: float
    first: int
    limit: int
    forced: list[int] = field(default_factory=list)
    after_user: list[int] | None = None
    seen: int = 0
    top: list[Ids] = field(default_factory=list)
    logprobs: list[npt.NDArray[np.float16]] = field(default_factory=list)

    def drawing_temperature(self) -> float:
        """Return the temperature of the next draw."""
        return 1.0 if self.after_user is not None else self.temperature

    def extend(self, drawn: int, is_end: bool) -> bool:
        """Add the next token, if the teacher has seen all tokens.

        Args:
            drawn: the token that was drawn. A forced token takes its place.
            is_end: whether the drawn token ends a text.

        Returns:
            Whether the text goes on.
        """
        if self.seen < len(self.tokens):
            return True
        is_long = len(self.tokens) - self.first > MAX_USER
        if not self.forced and self.after_user is not None and (is_end or is_long):
            self.forced, self.after_user = self.after_user, None
        is_forced = bool(self.forced)
        self.tokens.append(self.forced.pop(0) if is_forced else drawn)
        return len(self.tokens) < self.limit and (is_forced or not is_end)

    def finished(self) -> Text:
        """Return the text, once it is finished."""
        return Text(
            self.index,
            np.array(self.tokens, np.int32),
            self.first,
            np.array(self.top),
            np.array(self.logprobs),
        )


class _Beginnings:
    """How each text begins.

    The given texts come first. After them, a text begins with a user's message that the model
    itself writes, or with a random token.
    """

    def __init__(
        self, target: Generator, seed: int, given: Sequence[Sequence[int]], n_ctx: int
    ) -> None:
        """Cut the given texts to the longest length, and find out what the chat template adds."""
        self.seed, self.n_ctx = seed, n_ctx
        self.start = target.tokenize("")
        self.ordinary = np.array(
            [t for t in range(target.target.n_vocab) if target.target.piece(t).strip()]
        )
        n = n_ctx - len(self.start)
        self.given = [
            [*self.start, *tokens[i : i + n]] for tokens in given for i in range(0, len(tokens), n)
        ]
        self.before, self.after = _around_user(target)

    def __call__(self, index: int) -> _Unfinished:
        """Return the beginning of the text with this index."""
        if index < len(self.given):
            start, *rest = self.given[index]
            return _Unfinished(index, [start], 1.0, 0, 1 + len(rest), rest)
        temperature = TEMPERATURES[index // RAW_EVERY % len(TEMPERATURES)]
        if self.before and index % RAW_EVERY:
            tokens = list(self.before)
            first = len(tokens) - 1
            after = list(self.after)
            return _Unfinished(index, tokens, temperature, first, self.n_ctx, after_user=after)
        token = int(np.random.default_rng([self.seed, index]).choice(self.ordinary))
        tokens = [*self.start, token]
        return _Unfinished(index, tokens, temperature, len(tokens) - 1, self.n_ctx)


def _around_user(target: Generator) -> tuple[list[int], list[int]]:
    """Return the tokens that the chat template puts before and after a user's message.

    Both are empty if the model has no chat template. They are what the conversations of two
    different messages have in common at their beginnings and ends.
    """
    try:
        one, other = (
            target.apply_chat_template([{"role": "user", "content": words}])
            for words in ("ersd 1", "What? Z")
        )
    except ValueError:
        return [], []
    n = next(i for i, (a, b) in enumerate(zip(one, other, strict=False)) if a != b)
    m = next(i for i, (a, b) in enumerate(zip(one[::-1], other[::-1], strict=False)) if a != b)
    return one[:n], one[len(one) - m :]


class _Writer:
    """The texts that are being written, each in a slot of the teacher.

    Attributes:
        done: the number of positions of each finished text, by index.
        unfinished: the other texts, by slot.
        following: the index of the next text to begin.
    """

    def __init__(
        self,
        teacher: Teacher,
        target: Generator,
        beginnings: _Beginnings,
        done: dict[int, int],
    ) -> None:
        """Put the tokens with which all chats begin into slot 0. No text is begun."""
        self.teacher, self.target, self.beginnings, self.done = teacher, target, beginnings, done
        self.unfinished: dict[int, _Unfinished] = {}
        self.following = 0
        self._free = list(range(1, teacher.n_texts))
        self._shared = beginnings.before[:-1]
        for token in self._shared:
            teacher.decode([0], [token])

    def fill(self, n_positions: int) -> bool:
        """Begin texts in free slots, as long as all begun texts have fewer positions together.

        Returns:
            Whether there is more to write: False if the first texts have n_positions.
        """
        if self._n_first() >= n_positions:
            return False
        while self._free and self._n_begun() < n_positions:
            if self.following not in self.done:
                self._begin(self._free.pop())
            self.following += 1
        return bool(self.unfinished)

    def _begin(self, slot: int) -> None:
        """Begin the next text in a slot."""
        text = self.unfinished[slot] = self.beginnings(self.following)
        if self._shared and text.tokens[: len(self._shared)] == self._shared:
            self.teacher.copy(0, slot)
            text.seen = len(self._shared)
        else:
            self.teacher.clear(slot)

    def advance(self) -> list[Text]:
        """Add a token to every text by one call of the target.

        Returns:
            The texts that are finished. Their slots are free.
        """
        # llama.cpp computes neighbouring sequences at once if they come in order.
        slots = sorted(self.unfinished)
        texts = [self.unfinished[slot] for slot in slots]
        self.teacher.decode(slots, [text.tokens[text.seen] for text in texts])
        drawn = self.teacher.sample(
            [text.drawing_temperature() for text in texts],
            [(self.beginnings.seed << 32) + text.index for text in texts],
        )
        top, logprobs = self.teacher.top(N_TOP)
        half = logprobs.astype(np.float16)
        finished = []
        for row, (slot, text) in enumerate(zip(slots, texts, strict=True)):
            if text.seen >= text.first:
                text.top.append(top[row])
                text.logprobs.append(half[row])
            text.seen += 1
            if not text.extend(drawn[row], self.target.target.is_end(drawn[row])):
                finished.append(text.finished())
                self.done[text.index] = len(finished[-1])
                self._free.append(slot)
                del self.unfinished[slot]
        return finished

    def n_positions(self) -> int:
        """Return the positions of all texts, finished or not."""
        return sum(self.done.values()) + self._n_unfinished()

    def _n_unfinished(self) -> int:
        """Return the positions of all unfinished texts."""
        return sum(len(text.top) for text in self.unfinished.values())

    def _n_begun(self) -> int:
        """Return the positions of unfinished texts and of finished ones before the next text."""
        finished = sum(n for index, n in self.done.items() if index < self.following)
        return finished + self._n_unfinished()

    def _n_first(self) -> int:
        """Return the positions of the first texts, up to the first one that is not finished."""
        total = index = 0
        while index in self.done:
            total, index = total + self.done[index], index + 1
        return total
