"""Bias, penalties, DRY and grammar give the rows of llama.cpp's own samplers, run by llama_cpp."""

from __future__ import annotations

import math
from pathlib import Path

import numpy as np
import pytest
from ersd._core import GenerationOptions

import samplers
from ersd import Generator
from ersd.grammars import Compiler, answer_source

GBNF = {
    "pairs": r"""
root ::= "{" pair ("," pair)* "}"
pair ::= word ":" (word | [0-9]+) # numbers, too
word ::= "\"" [a-zé日]? "\""
""",
    # Here a lexer that takes the longest text would be wrong.
    "words": "root ::= word word\nword ::= [a-e]+",
    "literals": 'root ::= ("ab" | "a" | "a" "bc" | [a-b] "c" )* "." ',
    "classes": r'root ::= ([à-ü日] | [&~-] [a-c^-] | "\x41\u00e9" )+',
    "nested": """root ::= (
  ("a" | ("b" | "c"){2,3} ) ","
  | list
)
list ::= "[" (list ("," list)?)? "]" | "th" | "e"*""",
}


@pytest.fixture(scope="module")
def vocabulary(tiny_target: Path) -> samplers.Vocabulary:
    """The vocabulary of the tiny target, for llama.cpp's samplers."""
    return samplers.Vocabulary(tiny_target)


def random_history(rng: np.random.Generator, n_vocab: int) -> list[int]:
    """Returns random tokens with repetitions of several lengths."""
    words = [rng.integers(3, n_vocab, size=rng.integers(1, 6)).tolist() for _ in range(6)]
    return [token for i in rng.integers(len(words), size=rng.integers(1, 60)) for token in words[i]]


def rows(generator: Generator, options: dict, n: int = 60, seed: int = 0):
    """Yields random logits, a random history, and the logits that the options make of them."""
    rng = np.random.default_rng(seed)
    for _ in range(n):
        logits = (rng.normal(size=generator.target.n_vocab) * 3).astype(np.float32)
        history = random_history(rng, generator.target.n_vocab)
        yield (
            logits,
            history,
            generator.target.process_logits(
                GenerationOptions(**options), history, len(history), logits
            ),
        )


@pytest.mark.parametrize("last_n", [1, 7, 64, -1])
@pytest.mark.parametrize(
    "values", [(1.3, 0.0, 0.0), (1.0, 0.4, 0.0), (1.0, 0.0, -0.7), (0.8, 0.1, 0.5)], ids=str
)
def test_penalties(generator: Generator, last_n: int, values: tuple) -> None:
    """Every penalty works over windows that are shorter and longer than the history."""
    options = dict(
        zip(("repeat_penalty", "frequency_penalty", "presence_penalty"), values, strict=True),
        penalty_last_n=last_n,
    )
    changed = 0
    for logits, history, ours in rows(generator, options):
        window = len(history) if last_n < 0 else last_n
        theirs = samplers.apply(samplers.penalties(len(logits), window, *values), logits, history)
        np.testing.assert_array_equal(ours, theirs)
        changed += np.count_nonzero(ours != logits)
    assert changed > 50


@pytest.mark.parametrize("n_prompt", [0, 5, 1000])
def test_penalties_of_the_answer_alone(generator: Generator, n_prompt: int) -> None:
    """Without penalize_prompt, tokens of the prompt count for nothing, whatever the window."""
    options = {"repeat_penalty": 1.3, "presence_penalty": 0.2, "penalty_last_n": 20}
    changed = 0
    for logits, history, _ in rows(generator, {}):
        given = GenerationOptions(**options, penalize_prompt=False)
        n = min(n_prompt, len(history))
        ours = generator.target.process_logits(given, history, n, logits)
        window = samplers.penalties(len(logits), 20, 1.3, 0.0, 0.2)
        np.testing.assert_array_equal(ours, samplers.apply(window, logits, history[n:]))
        changed += np.count_nonzero(ours != logits)
    assert (changed > 50) == (n_prompt < 1000)


@pytest.mark.parametrize("last_n", [10, 64, -1])
@pytest.mark.parametrize("breakers", [[], ["a"], ["the", "\n", "é"]], ids=str)
def test_dry(
    generator: Generator, vocabulary: samplers.Vocabulary, last_n: int, breakers: list[str]
) -> None:
    """DRY penalises repetitions, with and without sequence breakers."""
    changed = 0
    options = {
        "dry_multiplier": 0.8,
        "dry_base": 1.5,
        "dry_penalty_last_n": last_n,
        "dry_sequence_breakers": breakers,
    }
    for logits, history, ours in rows(generator, options):
        window = len(history) if last_n < 0 else last_n
        theirs = samplers.apply(
            samplers.dry(vocabulary, 0.8, 1.5, 2, window, breakers), logits, history
        )
        np.testing.assert_array_equal(ours, theirs)
        changed += np.count_nonzero(ours != logits)
    assert changed > 10


def test_bias_and_end_tokens(generator: Generator) -> None:
    """A bias is added once, and ignore_eos removes end tokens."""
    bias = [(5, 2.5), (300, -1.5), (7, -math.inf)]
    for logits, _, ours in rows(generator, {"logit_bias": bias, "ignore_eos": True}, 5):
        expected = logits.copy()
        expected[[5, 300, 7, generator.target.eos]] += np.float32([2.5, -1.5, -np.inf, -np.inf])
        np.testing.assert_array_equal(ours, expected)


def test_order(generator: Generator, vocabulary: samplers.Vocabulary) -> None:
    """The order is processor, bias, penalties and DRY, as in llama.cpp's chain."""
    options = {
        "logits_processor": lambda ids, scores: scores * np.float32(0.5) + np.float32(len(ids) % 3),
        "logit_bias": [(token, 1.5) for token in range(3, 200)],
        "repeat_penalty": 1.4,
        "presence_penalty": 0.3,
        "dry_multiplier": 1.1,
        "dry_sequence_breakers": [],
    }
    for logits, history, ours in rows(generator, options):
        row = logits * np.float32(0.5) + np.float32(len(history) % 3)
        row[3:200] += np.float32(1.5)
        row = samplers.apply(samplers.penalties(len(logits), 64, 1.4, 0.0, 0.3), row, history)
        row = samplers.apply(samplers.dry(vocabulary, 1.1, 1.75, 2, len(history), []), row, history)
        np.testing.assert_array_equal(ours, row)


@pytest.mark.parametrize("gbnf", GBNF.values(), ids=GBNF.keys())
def test_grammar(generator: Generator, vocabulary: samplers.Vocabulary, gbnf: str) -> None:
    """At every position of random answers, the grammar allows the tokens that llama.cpp allows."""
    rng, ended = np.random.default_rng(2), 0
    grammar = Compiler(generator.target).compile(answer_source(gbnf, None, None, None))
    options, prompt = GenerationOptions(grammar=grammar), generator.tokenize("the of")
    for _ in range(12):
        answer: list[int] = []
        for _ in range(25):
            logits = rng.normal(size=vocabulary.n_tokens).astype(np.float32)
            ours = generator.target.process_logits(options, prompt + answer, len(prompt), logits)
            theirs = samplers.apply(samplers.grammar(vocabulary, gbnf), logits, answer)
            theirs[3 + 0xF5 : 3 + 0x100] = -np.inf  # bytes that begin no character
            np.testing.assert_array_equal(ours, theirs)
            token = int(
                np.argmax(np.where(np.arange(len(ours)) == generator.target.eos, ours + 2, ours))
            )
            if generator.target.is_end(token):
                ended += 1
                break
            answer.append(token)
    assert ended
