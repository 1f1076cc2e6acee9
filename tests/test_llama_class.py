"""`ersd.Llama` reads and gives the tokens and the logits of llama_cpp.Llama."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import pytest

from llama_answers import GREEDY, same
from llama_pair import PROMPT, both, first

pytestmark = pytest.mark.no_sanitizer


@pytest.fixture
def pair(tiny_target: Path) -> tuple[Any, Any]:
    """The tiny model, which never ends."""
    return both(tiny_target)


@pytest.mark.parametrize("special", [False, True])
@pytest.mark.parametrize("add_bos", [False, True])
def test_tokens_of_odd_texts(pair: tuple[Any, Any], add_bos: bool, special: bool) -> None:
    """Text, special tokens, bytes that are not UTF-8, and nothing."""
    ours, theirs = pair
    texts = ["the rain", " two  spaces ", "<s>a</s>", "日本語 é 🙂\n", "", "\0a", "</s>" * 3]
    for text in [*(text.encode() for text in texts), b"\xff\xfe the", b"\xc3", bytes(range(256))]:
        tokens = ours.tokenize(text, add_bos, special)
        assert tokens == theirs.tokenize(text, add_bos, special)
        for shown in (False, True):
            assert ours.detokenize(tokens, special=shown) == theirs.detokenize(
                tokens, special=shown
            )
        tokenizers = ours.tokenizer(), theirs.tokenizer()
        decoded = [each.decode(tokens) for each in tokenizers]
        assert decoded[0] == decoded[1]
        assert len({tuple(each.encode(decoded[0])) for each in tokenizers}) == 1
    with pytest.raises(TypeError, match="text must be bytes, got 'the'"):
        ours.tokenize("the")


def test_generated_tokens_and_their_logits(pair: tuple[Any, Any]) -> None:
    """After each call the text is the same, and so are all logits, to the bit."""
    ours, theirs = pair
    prompt = ours.tokenize(PROMPT.encode())
    calls: list[dict[str, Any]] = [
        {"temp": 0.0},
        {"temp": 0.0, "reset": False},
        {"temp": 0.0, "repeat_penalty": 1.3, "frequency_penalty": 0.2, "presence_penalty": 0.1},
        {"temp": 0.0, "top_k": 1, "top_p": 0.5, "min_p": 0.2, "typical_p": 0.9},
    ]
    for options in calls:
        tokens = first(ours, 12, prompt, **options)
        assert tokens == first(theirs, 12, prompt, **options)
        assert ours.n_tokens == theirs.n_tokens
        assert list(ours.eval_tokens) == list(theirs.eval_tokens)
        np.testing.assert_array_equal(ours._scores, theirs._scores)
        prompt = [*prompt, *tokens[:4], 270]
    assert ours.scores.shape == theirs.scores.shape
    assert list(ours.eval_logits) == list(theirs.eval_logits)
    rows = ours._scores[:3]
    np.testing.assert_array_equal(ours.logits_to_logprobs(rows), theirs.logits_to_logprobs(rows))


def test_evaluated_tokens(pair: tuple[Any, Any]) -> None:
    """They are appended; sample follows any beginning, n_tokens cuts, and reset begins anew."""
    ours, theirs = pair
    for llama in pair:
        llama.eval([1, 300, 301, 302])
        llama.eval([303])
    np.testing.assert_array_equal(ours._scores, theirs._scores)
    assert ours.sample(temp=0.0) == theirs.sample(temp=0.0)
    for idx in range(5):
        greedy = ours.sample(temp=0.0, idx=idx)
        assert greedy == theirs._scores[idx].argmax()
        grammar = llama_cpp.LlamaGrammar.from_string('root ::= "a" | "t"')
        assert ours.detokenize([ours.sample(temp=0.0, idx=idx, grammar=grammar)]) in (b"a", b"t")
    for llama in pair:
        llama.n_tokens = 2
        llama.eval([310, 311])
    np.testing.assert_array_equal(ours._scores, theirs._scores)
    ours.reset()
    assert ours.n_tokens == 0
    with pytest.raises(ValueError, match="eval: tokens must be between 0 and 514, got 515"):
        ours.eval([515])
    with pytest.raises(ValueError, match="the text must have at most 256 tokens, got 257"):
        ours.eval([5] * 257)


def test_generation_goes_on_after_an_end_token(writer_path: Path) -> None:
    """The end token is yielded, as are the tokens after it; a completion ends there."""
    ours, theirs = both(writer_path)
    n_ends = 0
    for i in range(8):
        prompt = ours.tokenize(f"{PROMPT} {i}".encode())
        ends = {"logits_processor": llama_cpp.LogitsProcessorList([_every_fifth(ours.token_eos())])}
        tokens = first(ours, 20, prompt, temp=0.0, **ends)
        assert tokens == first(theirs, 20, prompt, temp=0.0, **ends)
        assert ours.n_tokens == theirs.n_tokens
        n_ends += tokens.count(ours.token_eos())
        options = {"max_tokens": 20, **GREEDY, **ends}
        same(ours(prompt, **options), theirs(prompt, **options))
        assert ours.n_tokens == theirs.n_tokens
    assert n_ends > 8


def _every_fifth(token: int) -> Any:
    """Returns a logits processor that wants a token where the text has a multiple of 5 tokens."""

    def process(ids: Any, scores: Any) -> Any:
        scores[token] = 1e6 if len(ids) % 5 == 0 else -1e6
        return scores

    return process


def test_generation_ends(pair: tuple[Any, Any]) -> None:
    """Stopping criteria end it without another token; so do a grammar and a full context."""
    ours, theirs = pair
    prompt = ours.tokenize(PROMPT.encode())
    n = len(prompt) + 7
    criteria = llama_cpp.StoppingCriteriaList([lambda ids, logits: len(ids) >= n])
    tokens = first(ours, 99, prompt, temp=0.0, stopping_criteria=criteria)
    assert tokens == first(theirs, 99, prompt, temp=0.0, stopping_criteria=criteria)
    assert len(tokens) == 7
    grammar = llama_cpp.LlamaGrammar.from_string('root ::= "a" "t"')
    found = first(ours, 99, prompt, temp=0.0, grammar=grammar)
    assert ours.detokenize(found) == b"at"
    assert found[-1] == ours.token_eos()
    assert len(first(ours, 999, prompt, temp=0.0)) == ours.n_ctx() - len(prompt)
