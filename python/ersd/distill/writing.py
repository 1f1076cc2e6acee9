"""How the target writes the texts of a corpus: many at once, one token of each per call."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np

from ersd import Generator
from ersd.distill.beginnings import Beginnings, Message, Template
from ersd.distill.corpus import N_TOP, Call, Corpus
from ersd.engine import Teacher

__all__ = ["given_texts", "write"]

MESSAGE_TEMPERATURE = 0.8  # of a user's messages: they are sensible, and their openings differ
SENTENCE_ENDS = tuple(mark.encode() for mark in ".!?。！？؟।")
MIN_ROOM = 32  # tokens that a message and its answer need, or a chat does not go on


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
    """Let the target write until the texts of a file have n_positions.

    What each call of the target adds to the texts is appended to the file at once, so the work can
    be stopped at any moment. The same call goes on with further texts; those that were being
    written end where they were. Without a stop, the texts are a function of the seed, except for
    the last bits of their log-probabilities: on some backends they depend on the number of texts in
    a call.

    Args:
        teacher: the target with one slot per text, all empty. Slot 0 is for the tokens with which
            all chats begin.
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
    n = corpus.n_positions
    beginnings = Beginnings(target, seed, given, n_ctx)
    beginnings.skip(corpus.texts)
    following = corpus.texts[-1].index + 1 if corpus.texts else 0
    end = corpus.end
    del corpus  # the file is no longer mapped
    if path.exists():
        with path.open("r+b") as file:
            file.truncate(end)  # removes a record that was not written to its end
    writer = _Writer(teacher, target, beginnings, seed, following)
    with path.open("ab") as file:
        while n < n_positions:
            writer.begin()
            call = writer.advance()
            call.write(file)
            n += len(call.top)
            yield n


@dataclass
class _Unfinished:
    """A text that is being written. It is finished when the target has seen `limit` tokens.

    Attributes:
        index: the number of the text.
        tokens: its tokens so far.
        limit: greatest number of tokens.
        temperature: temperature of the answers.
        messages: the user's messages that are still to come.
        seen: number of tokens that the target has seen.
        message: the user's message that is being written, if any.
        message_begin: the position at which it began.
        forced: tokens that must follow before one is drawn.
    """

    index: int
    tokens: list[int]
    limit: int
    temperature: float
    messages: list[Message]
    seen: int = 0
    message: Message | None = None
    message_begin: int = 0
    forced: list[int] = field(default_factory=list)

    def drawing_temperature(self) -> float:
        """Return the temperature of the next draw."""
        return self.temperature if self.message is None else MESSAGE_TEMPERATURE

    def begin_message(self) -> None:
        """Let the next message of the user follow the forced tokens."""
        self.message = self.messages.pop(0)
        self.message_begin = len(self.tokens) + len(self.forced)
        self.forced += self.message.opening

    def extend(self, drawn: int, is_end: bool, ends_sentence: bool, template: Template) -> None:
        """Add the next token.

        Args:
            drawn: the token that was drawn. A forced token takes its place.
            is_end: whether the drawn token ends a text.
            ends_sentence: whether the last token ends a sentence.
            template: the tokens around messages.
        """
        if not self.forced and self.message is not None:
            n = len(self.tokens) - self.message_begin
            least = self.message.least if ends_sentence else self.message.most
            if is_end or n >= least:
                self.forced, self.message = list(template.after), None
        elif not self.forced and is_end:
            room = self.limit - len(self.tokens) - len(template.between)
            if self.messages and room >= MIN_ROOM:
                self.forced = list(template.between)
                self.begin_message()
            else:
                self.limit = len(self.tokens) + 1
        self.tokens.append(self.forced.pop(0) if self.forced else drawn)


class _Writer:
    """The texts that are being written, each in a slot of the teacher.

    Attributes:
        unfinished: the texts, by slot.
        following: the index of the next text to begin.
    """

    def __init__(
        self,
        teacher: Teacher,
        target: Generator,
        beginnings: Beginnings,
        seed: int,
        following: int,
    ) -> None:
        """Put the tokens with which all chats begin into slot 0. No text is begun."""
        self.teacher, self.beginnings, self.seed = teacher, beginnings, seed
        self.unfinished: dict[int, _Unfinished] = {}
        self.following = following
        self._free = list(range(1, teacher.n_texts))
        self._shared = beginnings.template.before[:-1]
        self._begun: list[int] = []  # indices of chats of which no call has a record yet
        for token in self._shared:
            teacher.decode([0], [token])
        vocabulary = range(target.target.n_vocab)
        self._ends = {token for token in vocabulary if target.target.is_end(token)}
        pieces = ((token, target.target.piece(token)) for token in vocabulary)
        self._sentence_ends = {token for token, piece in pieces if piece.endswith(SENTENCE_ENDS)}

    def begin(self) -> None:
        """Begin a text in each free slot."""
        while self._free:
            slot = self._free.pop()
            beginning = self.beginnings(self.following)
            text = self.unfinished[slot] = _Unfinished(
                self.following,
                beginning.tokens,
                beginning.limit,
                beginning.temperature,
                list(beginning.messages),
            )
            is_shared = bool(self._shared) and text.tokens[: len(self._shared)] == self._shared
            if text.messages:
                text.begin_message()
            if is_shared:
                self.teacher.copy(0, slot)
                text.seen = len(self._shared)
                self._begun.append(text.index)
            else:
                self.teacher.clear(slot)
            self.following += 1

    def advance(self) -> Call:
        """Let the target see a token of every text, in one call, and draw the next tokens.

        Returns:
            What the call adds to the texts. Slots of finished texts are free.
        """
        # llama.cpp computes neighbouring sequences at once if they come in order.
        slots = sorted(self.unfinished)
        texts = [self.unfinished[slot] for slot in slots]
        seen = [text.tokens[text.seen] for text in texts]
        self.teacher.decode(slots, seen)
        drawn = self.teacher.sample(
            [text.drawing_temperature() for text in texts],
            [(self.seed << 32) + text.index for text in texts],
        )
        for slot, text, token in zip(slots, texts, drawn, strict=True):
            text.seen += 1
            if text.seen == text.limit:
                self._free.append(slot)
                del self.unfinished[slot]
            elif text.seen == len(text.tokens):
                ends_sentence = text.tokens[-1] in self._sentence_ends
                text.extend(token, token in self._ends, ends_sentence, self.beginnings.template)
        top, logprobs = self.teacher.top(N_TOP)
        indices = [index for index in self._begun for _ in self._shared]
        tokens = self._shared * len(self._begun) + seen
        self._begun = []
        return Call(
            np.array(indices + [text.index for text in texts], np.int32),
            np.array(tokens, np.int32),
            top,
            logprobs.astype(np.float16),
        )
