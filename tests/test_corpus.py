"""The texts that a target writes for its draft, with the target's distributions."""

from __future__ import annotations

import re
import signal
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest

import tiny
from conftest import writing, written
from ersd import Generator, _core
from ersd.distill import corpus
from ersd.distill.beginnings import RAW_EVERY, TEMPERATURES, Beginnings, Template
from ersd.distill.writing import write

pytestmark = pytest.mark.no_sanitizer


def test_texts_say_what_the_target_says(texts: list[corpus.Text], writer: Generator) -> None:
    """The distributions are those of plain decoding, one prompt at a time."""
    assert sum(map(len, texts)) >= 2000
    for text in texts[:6]:
        top, logprobs = text.distributions()
        for i in (0, len(text) // 2, len(text) - 1):
            prompt = text.tokens[: text.first + i + 1].tolist()
            out = writer.generate(prompt, max_tokens=1, temperature=0, logprobs=corpus.N_TOP)
            assert out.logprobs is not None
            expected = dict(out.logprobs[0].top)
            found = dict(zip(top[i].tolist(), logprobs[i].tolist(), strict=True))
            assert len(expected.keys() & found.keys()) >= corpus.N_TOP - 1
            common = expected.keys() & found.keys()
            # The cache and the kept log-probabilities have half precision.
            assert max(abs(found[t] - expected[t]) for t in common) < 0.04


def test_texts_are_drawn_from_the_target(
    tmp_path: Path, writer: Generator, writer_path: Path
) -> None:
    """At temperature 1 the mean log-probability of drawn tokens is minus the mean entropy.

    At temperature 0 each token is the most probable one. Only texts that are no chats are looked
    at, after the tokens with which they begin.
    """
    beginnings = Beginnings(writer, 3, (), 48)
    differences, n_greedy = [], 0
    for text in written(tmp_path / "texts.bin", writer, writer_path, 6000):
        beginning = beginnings(text.index)
        if beginning.messages:
            continue
        n = len(beginning.tokens)
        assert text.tokens[:n].tolist() == beginning.tokens[: len(text.tokens)]
        following = text.tokens[n:]
        top, logprobs = (array[n - 1 : len(text) - 1] for array in text.distributions())
        if beginning.temperature == 0:
            assert np.array_equal(following, top[:, 0])
            n_greedy += len(following)
        if beginning.temperature == 1:
            for token, row, values in zip(following, top, logprobs.astype(float), strict=True):
                p = np.exp(values) / np.exp(values).sum()
                differences += [x + -(p * values).sum() for x in values[row == token]]
    assert n_greedy > 20
    assert len(differences) > 100
    assert abs(np.mean(differences)) < 4 * np.std(differences) / len(differences) ** 0.5


def test_writing_goes_on_after_a_stop(
    tmp_path: Path, texts: list[corpus.Text], writer: Generator, writer_path: Path
) -> None:
    """A stop loses nothing: what was written of each text is used, and further texts follow."""
    path = tmp_path / "texts.bin"
    n = next(n for n in writing(path, writer, writer_path, 2000) if n > 350)
    with path.open("ab") as file:
        file.write((path.read_bytes())[:100])  # a record that was not written to its end
    before = corpus.Corpus(path)
    assert before.n_positions == sum(map(len, before.texts)) == n
    for ours, theirs in zip(before.texts, texts, strict=False):
        assert np.array_equal(ours.tokens, theirs.tokens[: len(ours.tokens)])
    after = written(path, writer, writer_path, 2000)
    assert 2000 <= sum(map(len, after)) < 2004
    assert [text.index for text in after] == list(range(len(after)))
    for ours, theirs in zip(before.texts, after, strict=False):
        assert np.array_equal(ours.tokens, theirs.tokens)
        assert np.array_equal(ours.distributions()[1], theirs.distributions()[1])


KILLED = """
import sys
from pathlib import Path
from ersd import Generator, _core
from ersd.distill.writing import write

model, path = sys.argv[1:]
teacher = _core.Teacher(_core.Model(model), n_texts=5, n_ctx=48, n_threads=1)
target = Generator(model, n_ctx=64, n_threads=1)
for n in write(teacher, target, Path(path), 10**6, n_ctx=48, seed=3):
    if n > 100:
        print(n, flush=True)
        sys.stdin.read()  # until it is killed
"""


def test_a_killed_process_loses_nothing(tmp_path: Path, writer_path: Path) -> None:
    """After SIGKILL, the file has all positions that were written, also of unfinished texts."""
    path = tmp_path / "texts.bin"
    command = [sys.executable, "-c", KILLED, str(writer_path), str(path)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as process:
        assert process.stdout
        n = int(process.stdout.readline())
        process.send_signal(signal.SIGKILL)
    found = corpus.Corpus(path)
    assert found.n_positions == n
    assert [text.index for text in found.texts] == list(range(len(found.texts)))


def test_first_calls_are_those_of_a_shorter_run(
    tmp_path: Path, texts: list[corpus.Text], writer: Generator, writer_path: Path
) -> None:
    """The first calls of a long run are those of a run that writes less."""
    short = written(tmp_path / "texts.bin", writer, writer_path, 700)
    path = tmp_path / "long.bin"
    written(path, writer, writer_path, 1000)
    first = corpus.Corpus(path, 700).texts
    assert 700 <= sum(map(len, first)) < 704
    assert [text.tokens.tolist() for text in first] == [text.tokens.tolist() for text in short]
    assert len(first) < len(texts)


def test_chats_follow_the_template(
    tmp_path: Path, writer: Generator, writer_path: Path, texts: list[corpus.Text]
) -> None:
    """A chat is a user's message in the template, an answer, and perhaps further messages.

    Every fourth text is not a chat and has no template. Short texts may be cut anywhere.
    """
    path = tmp_path / "long.bin"
    teacher = _core.Teacher(_core.Model(str(writer_path)), n_texts=5, n_ctx=320, n_threads=1)
    for _ in write(teacher, writer, path, 8000, n_ctx=320, seed=3):
        pass
    turn, turns = r"<s> user:.*?(</s>|$)(<s> assistant:.*?(</s>|$))?", [0, 0, 0]
    for text in [*texts, *corpus.Corpus(path).texts]:
        words = writer.detokenize(text.tokens.tolist(), special=True)
        assert words.startswith("<s> user:") == (text.index % RAW_EVERY > 0), words
        if text.index % RAW_EVERY:
            assert re.fullmatch(f"({turn})+", words, re.DOTALL), words
            turns[words.count("<s> user:") - 1] += 1
    assert turns[0] > 0
    assert turns[1] > 0


def test_templates_are_found(tmp_path: Path, writer: Generator) -> None:
    """What stands around messages is what the template says.

    A template that shows the last message only has nothing that can follow an answer.
    """
    template = Template.of(writer)
    expected = ("<s> user:", "</s><s> assistant:", "</s><s> user:")
    for tokens, words in zip(
        (template.before, template.after, template.between), expected, strict=True
    ):
        assert writer.detokenize(tokens, special=True).strip() == words
    forgetful = tiny.write_llama(
        tmp_path / "forgetful.gguf", chat_template="<s>{{ messages[-1].content }}</s>"
    )
    assert Template.of(Generator(forgetful, n_ctx=64, n_threads=1)).between == []
    plain = tiny.write_llama(tmp_path / "plain.gguf")
    assert Template.of(Generator(plain, n_ctx=64, n_threads=1)) == Template([], [], [])


CHATML = (
    "{% if messages[0].role != 'system' %}<|im_start|>system\nHi<|im_end|>\n{% endif %}"
    "{% for m in messages %}<|im_start|>{{ m.role }}\n{{ m.content }}<|im_end|>\n{% endfor %}"
    "<|im_start|>assistant\n"
)


def test_chats_have_the_form_of_llama_cpp_too(tmp_path: Path) -> None:
    """Half of the chats begin as the model's template says, half as llama.cpp begins them."""
    model = tiny.write_llama(tmp_path / "chatml.gguf", chat_template=CHATML)
    target = Generator(model, n_ctx=64, n_threads=1)
    beginnings = Beginnings(target, 3, (), 320)
    chats = [beginning for i in range(100) if (beginning := beginnings(i)).messages]
    found = [target.detokenize(chat.tokens, special=True).strip() for chat in chats]
    short, long = "<|im_start|>user", "<|im_start|>system\nHi<|im_end|>\n<|im_start|>user"
    assert {words.removeprefix("<s>").strip() for words in found} == {short, long}
    assert 20 < sum(len(words) < len(long) for words in found) < 55


def test_texts_begin_differently(writer: Generator) -> None:
    """Openings, lengths and temperatures vary, and a beginning depends on seed and index alone."""
    ours, again, others = (Beginnings(writer, seed, (), 320) for seed in (3, 3, 4))
    found = [ours(i) for i in range(400)]
    assert [again(i) for i in range(399, -1, -1)] == found[::-1]
    assert sum(others(i) == found[i] for i in range(400)) < 20
    openings = [tuple(b.messages[0].opening if b.messages else b.tokens) for b in found]
    assert len(set(openings)) > 250
    assert {b.temperature for b in found} == set(TEMPERATURES)
    limits = [b.limit for b in found]
    assert min(limits) < 80
    assert 300 < max(limits) <= 320


def test_given_texts_are_read_word_for_word(
    tmp_path: Path, writer: Generator, writer_path: Path
) -> None:
    """Given texts come first, cut to the longest length. After a stop the rest of them is read."""
    tokens = [300 + i % 200 for i in range(100)]
    path, begin = tmp_path / "texts.bin", writer.tokenize("")

    def read(texts: list[corpus.Text]) -> list[int]:
        return [t for text in texts for t in text.tokens[len(begin) :].tolist()]

    found = written(path, writer, writer_path, 300, given=[tokens])
    assert read(found[:3]) == tokens
    path.unlink()
    next(n for n in writing(path, writer, writer_path, 300, given=[tokens]) if n > 80)
    n = len(corpus.Corpus(path).texts)
    found = written(path, writer, writer_path, 400, given=[tokens])
    assert sorted(read([*found[:3], *found[n : n + 2]])) == sorted(tokens)


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
