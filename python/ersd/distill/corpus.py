"""What a target writes by itself, and what it says of every position: the texts that a draft learns from."""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import numpy as np
import numpy.typing as npt

from ersd import Generator, _core

__all__ = ["N_TOP", "Corpus", "Text", "write"]

N_TOP = 64  # tokens kept of each distribution
TEMPERATURES = (0.6, 0.8, 1.0, 1.0)  # in turn; users speak at 1
RAW_EVERY = 4  # every so many texts of a chat model begins with a token drawn at random instead of a user's turn
MAX_USER = 96  # tokens of a user's turn
_HEADER = struct.Struct("<4sIIII")
_MAGIC = b"text"

Ids = npt.NDArray[np.int32]


@dataclass(frozen=True)
class Text:
    """A text with the distributions of the token after each position from `first` to the last but one.

    Attributes:
        index: its number; a text is a function of the seed and this.
        tokens: i32[n].
        first: the first position with a distribution.
        top: the most probable tokens, the most probable first; i32[n - 1 - first, N_TOP].
        logprobs: their log-probabilities at temperature 1; f16, of the same shape.
    """

    index: int
    tokens: Ids
    first: int
    top: Ids
    logprobs: npt.NDArray[np.float16]

    def __len__(self) -> int:
        """Positions to learn from."""
        return len(self.top)

    def write(self, file: IO[bytes]) -> None:
        """Append it to a file."""
        file.write(
            _HEADER.pack(_MAGIC, self.index, len(self.tokens), self.first, self.top.shape[1])
        )
        for part, kind in ((self.tokens, "<i4"), (self.top, "<i4"), (self.logprobs, "<f2")):
            file.write(np.ascontiguousarray(part, kind).tobytes())
        file.flush()

    @classmethod
    def read(cls, data: memoryview, offset: int) -> tuple[Text, int] | None:
        """The text at an offset, and where the next one begins; None where it is cut short."""
        if offset + _HEADER.size > len(data):
            return None
        magic, index, n, first, k = _HEADER.unpack_from(data, offset)
        offset += _HEADER.size
        rows = n - 1 - first
        end = offset + 4 * n + 6 * rows * k
        if magic != _MAGIC or rows < 0 or end > len(data):
            return None
        tokens = np.frombuffer(data, "<i4", n, offset)
        top = np.frombuffer(data, "<i4", rows * k, offset + 4 * n).reshape(rows, k)
        logprobs = np.frombuffer(data, "<f2", rows * k, offset + 4 * n + 4 * rows * k).reshape(
            rows, k
        )
        return cls(index, tokens, first, top, logprobs), end


class Corpus:
    """The texts of a file, each a view into it, by index."""

    def __init__(self, path: Path) -> None:
        """Read what is whole; `end` is where that ends."""
        data = (
            memoryview(np.memmap(path, np.uint8, "r"))
            if path.exists() and path.stat().st_size
            else memoryview(b"")
        )  # type: ignore[arg-type]
        self.end, texts = 0, {}
        while found := Text.read(data, self.end):
            text, self.end = found
            texts[text.index] = text
        self.texts = [texts[index] for index in sorted(texts)]

    def up_to(self, n_positions: int) -> list[Text]:
        """The first texts that make up so many positions, without a gap; shorter where there are not enough."""
        chosen: list[Text] = []
        total = 0
        for text in self.texts:
            if total >= n_positions or text.index != len(chosen):
                break
            chosen.append(text)
            total += len(text)
        return chosen


@dataclass
class _Pen:
    """A text while it is written: its tokens, how many of them the teacher has seen, and what must follow before one is drawn."""

    index: int
    tokens: list[int]
    temperature: float
    first: int
    limit: int  # tokens at most
    forced: list[int] = field(default_factory=list)
    after_user: list[int] | None = (
        None  # what stands between a user's turn, if one is being written, and the answer
    )
    seen: int = 0
    top: list[Ids] = field(default_factory=list)
    logprobs: list[npt.NDArray[np.float16]] = field(default_factory=list)

    def drawing(self) -> float:
        """The temperature of the next draw."""
        return 1.0 if self.after_user is not None else self.temperature

    def go_on(self, drawn: int, is_end: bool) -> bool:
        """Add the next token once all are seen; whether there is more to come."""
        if self.seen < len(self.tokens):
            return True
        if (
            not self.forced
            and self.after_user is not None
            and (is_end or len(self.tokens) - self.first > MAX_USER)
        ):
            self.forced, self.after_user = self.after_user, None
        forced = bool(self.forced)
        self.tokens.append(self.forced.pop(0) if forced else drawn)
        return len(self.tokens) < self.limit and (forced or not is_end)

    def text(self) -> Text:
        return Text(
            self.index,
            np.array(self.tokens, np.int32),
            self.first,
            np.array(self.top),
            np.array(self.logprobs),
        )


class _Beginnings:
    """How each text begins: in turn a given text, or a user's turn that the model writes itself, or a token drawn at random."""

    def __init__(
        self, target: Generator, seed: int, given: Sequence[Sequence[int]], n_ctx: int
    ) -> None:
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

    def __call__(self, index: int) -> _Pen:
        if index < len(self.given):
            start, *rest = self.given[index]
            return _Pen(index, [start], 1.0, 0, 1 + len(rest), rest)
        temperature = TEMPERATURES[index // RAW_EVERY % len(TEMPERATURES)]
        if self.before and index % RAW_EVERY:
            return _Pen(
                index,
                list(self.before),
                temperature,
                len(self.before) - 1,
                self.n_ctx,
                after_user=list(self.after),
            )
        first = int(np.random.default_rng([self.seed, index]).choice(self.ordinary))
        tokens = [*self.start, first]
        return _Pen(index, tokens, temperature, len(tokens) - 1, self.n_ctx)


def _around_user(target: Generator) -> tuple[list[int], list[int]]:
    """What the chat template writes before and after a user's words; nothing where there is no template."""
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


def given_texts(target: Generator, paths: Sequence[Path]) -> list[list[int]]:
    """The tokens of text files."""
    return [
        target.tokenize(path.read_text(encoding="utf-8"), add_special=False, parse_special=False)
        for path in paths
    ]


def fingerprint(given: Sequence[Sequence[int]]) -> str:
    """A hash of given texts."""
    return hashlib.sha256(repr([list(tokens) for tokens in given]).encode()).hexdigest()[:16]


def write(
    teacher: _core.Teacher,
    target: Generator,
    path: Path,
    n_positions: int,
    *,
    n_ctx: int,
    seed: int,
    given: Sequence[Sequence[int]] = (),
) -> Iterator[int]:
    """Let the teacher write until the first texts of the file make up n_positions; yields the positions so far.

    A text is appended once it is whole, so that the work can be stopped at any moment: the same call goes on. A text is a function of the
    seed and its index, up to the last bits of logits, which on some backends depend on how many texts are written side by side.

    Args:
        teacher: has written nothing yet; its first slot is for the beginning that texts share.
        target: the same model, for its vocabulary and template.
        path: the file.
        n_positions: positions to learn from, at least.
        n_ctx: the longest text, in tokens.
        seed: of all texts.
        given: token ids of texts to read before any is written.
    """
    corpus = Corpus(path)
    done = {text.index: len(text) for text in corpus.texts}
    if path.exists():
        with path.open("r+b") as file:
            file.truncate(corpus.end)  # a text that was being appended when the work was stopped
    del corpus
    beginnings = _Beginnings(target, seed, given, n_ctx)
    shared = beginnings.before[:-1]
    for token in shared:
        teacher.decode([0], [token])
    pens: dict[int, _Pen] = {}
    free, following = list(range(1, teacher.n_texts)), 0
    with path.open("ab") as file:
        while True:
            enough = _positions(done) >= n_positions
            while free and not (
                enough
                or _positions(done, following) + sum(len(pen.top) for pen in pens.values())
                >= n_positions
            ):
                if following not in done:
                    pens[slot := free.pop()] = pen = beginnings(following)
                    if shared and pen.tokens[: len(shared)] == shared:
                        teacher.copy(0, slot)
                        pen.seen = len(shared)
                    else:
                        teacher.clear(slot)
                following += 1
            if not pens or enough:
                return
            for slot, pen in _advance(teacher, target, pens, seed):
                text = pen.text()
                text.write(file)
                done[pen.index] = len(text)
                free.append(slot)
                del pens[slot]
            yield sum(done.values()) + sum(len(pen.top) for pen in pens.values())


def _positions(done: dict[int, int], end: int | None = None) -> int:
    """Positions of the first texts: up to the first that is missing, or of all before `end`."""
    if end is not None:
        return sum(n for index, n in done.items() if index < end)
    total = index = 0
    while index in done:
        total, index = total + done[index], index + 1
    return total


def _advance(
    teacher: _core.Teacher, target: Generator, pens: dict[int, _Pen], seed: int
) -> list[tuple[int, _Pen]]:
    """One call: the next token of every text. Returns the texts that are whole."""
    slots = sorted(
        pens
    )  # llama.cpp computes neighbours in their order at once, others one after another
    teacher.decode(slots, [pens[slot].tokens[pens[slot].seen] for slot in slots])
    drawn = teacher.sample(
        [pens[slot].drawing() for slot in slots],
        [(seed << 32) + pens[slot].index for slot in slots],
    )
    top, logprobs = teacher.top(N_TOP)
    half = logprobs.astype(np.float16)
    whole = []
    for row, slot in enumerate(slots):
        pen = pens[slot]
        if pen.seen >= pen.first:
            pen.top.append(top[row])
            pen.logprobs.append(half[row])
        pen.seen += 1
        if not pen.go_on(drawn[row], target.target.is_end(drawn[row])):
            whole.append((slot, pen))
    return whole
