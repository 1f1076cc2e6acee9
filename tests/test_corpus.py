"""The texts that a target writes for its draft, with the target's distributions."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from conftest import writing, written
from ersd import Generator, _core
from ersd.distill import corpus
from ersd.distill.writing import RAW_EVERY, write

pytestmark = pytest.mark.no_sanitizer


def test_texts_say_what_the_target_says(texts: list[corpus.Text], writer: Generator) -> None:
    """The distributions are those of plain decoding, one prompt at a time."""
    assert sum(map(len, texts)) >= 2000
    for text in texts[:6]:
        for i in (0, len(text) // 2, len(text) - 1):
            prompt = text.tokens[: text.first + i + 1].tolist()
            out = writer.generate(prompt, max_tokens=1, temperature=0, logprobs=corpus.N_TOP)
            assert out.logprobs is not None
            expected = dict(out.logprobs[0].top)
            found = dict(zip(text.top[i].tolist(), text.logprobs[i].tolist(), strict=True))
            assert len(expected.keys() & found.keys()) >= corpus.N_TOP - 1
            common = expected.keys() & found.keys()
            # The cache and the kept log-probabilities have half precision.
            assert max(abs(found[t] - expected[t]) for t in common) < 0.04


def test_texts_are_drawn_from_the_target(texts: list[corpus.Text]) -> None:
    """The mean log-probability of the drawn tokens is near minus the entropy.

    It would be equal if all texts were drawn at temperature 1.
    """
    drawn, entropies = [], []
    for text in texts:
        for i in range(len(text)):
            following = text.tokens[text.first + i + 1]
            place = np.flatnonzero(text.top[i] == following)
            logprobs = text.logprobs[i].astype(float)
            if len(place):
                drawn.append(logprobs[place[0]])
                p = np.exp(logprobs) / np.exp(logprobs).sum()
                entropies.append((p * logprobs).sum())
    assert len(drawn) > 1500
    # Temperatures are 0.6 to 1, so the drawn tokens are slightly more probable than at 1.
    assert 0 <= np.mean(drawn) - np.mean(entropies) < 0.6


def test_writing_goes_on_after_a_stop(
    tmp_path: Path, texts: list[corpus.Text], writer: Generator, writer_path: Path
) -> None:
    """A run that was stopped, even within a text, ends with the texts of an uninterrupted run."""
    path = tmp_path / "texts.bin"
    for i, _ in enumerate(writing(path, writer, writer_path, 2000)):
        if i == 90:
            break
    before = len(corpus.Corpus(path).texts)
    assert 3 < before < len(texts)
    with path.open("ab") as file:
        file.write((path.read_bytes())[:100])
    found = written(path, writer, writer_path, 2000)
    assert [text.index for text in found] == list(range(len(texts)))
    assert sum(
        np.array_equal(a.tokens, b.tokens) for a, b in zip(found, texts, strict=True)
    ) == len(texts)
    assert np.array_equal(found[0].logprobs, texts[0].logprobs)


def test_chats_follow_the_template(
    tmp_path: Path, writer: Generator, writer_path: Path, texts: list[corpus.Text]
) -> None:
    """A chat is a user's message in the template, then an answer.

    Every fourth text begins with a token and has no template. A text of 160 tokens has room for the
    longest message and an answer; the shorter texts may be cut within the message.
    """
    path = tmp_path / "long.bin"
    teacher = _core.Teacher(_core.Model(str(writer_path)), n_texts=5, n_ctx=160, n_threads=1)
    for _ in write(teacher, writer, path, 2000, n_ctx=160, seed=3):
        pass
    long_texts = corpus.Corpus(path).up_to(2000)
    assert sum(text.index % RAW_EVERY > 0 for text in long_texts) >= 6
    for text in [*texts, *long_texts]:
        is_chat = text.index % RAW_EVERY > 0
        words = writer.detokenize(text.tokens.tolist(), special=True)
        assert words.startswith("<s> user:") == is_chat, words
        n_answers = words.count("</s><s> assistant:")
        assert n_answers == is_chat or (len(text.tokens) == 48 and n_answers == 0), words


def test_given_texts_are_read_word_for_word(
    tmp_path: Path, writer: Generator, writer_path: Path
) -> None:
    """Given texts come first, cut to the longest length."""
    tokens = [300 + i % 200 for i in range(100)]
    found = written(tmp_path / "texts.bin", writer, writer_path, 120, given=[tokens])
    begin = writer.tokenize("")
    assert [t for text in found[:3] for t in text.tokens[len(begin) :].tolist()] == [*tokens]


def test_a_teacher_refuses_what_it_has_no_room_for(writer_path: Path) -> None:
    """A teacher refuses a call with wrong arguments as a whole: no text changes."""
    model = _core.Model(str(writer_path))
    with pytest.raises(ValueError, match="n_texts must be between 1 and 255, got 256"):
        _core.Teacher(model, n_texts=256)
    both = _core.Teacher(model, n_texts=2, n_ctx=3, n_threads=1)
    both.decode([0, 1], [5, 6])
    with pytest.raises(ValueError, match="a text must be between 0 and 1, got 2"):
        both.decode([0, 2], [5, 6])
    with pytest.raises(ValueError, match="a token must be between 0 and 514, got 515"):
        both.decode([0], [515])
    both.decode([0, 0], [7, 8])
    with pytest.raises(ValueError, match="text 0 is full: it has 3 tokens"):
        both.decode([1, 0], [5, 6])
    assert [both.length(text) for text in (0, 1)] == [3, 1]
    both.copy(0, 1)
    assert both.length(1) == 3
