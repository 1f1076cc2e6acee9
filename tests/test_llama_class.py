"""`ersd.Llama` does what llama_cpp.Llama does: tokens, texts, logits, states and chats."""

from __future__ import annotations

import itertools
from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import pytest

from conftest import CHAT
from ersd import Llama
from llama_answers import GREEDY, same, shapes

pytestmark = pytest.mark.no_sanitizer

OPTIONS: dict[str, Any] = {
    "n_ctx": 256,
    "n_threads": 1,
    "n_threads_batch": 1,
    "logits_all": True,
    "verbose": False,
}
PROMPT = "the rain of the world"
TALK = [{"role": "user", "content": "the rain"}]


def both(path: Path, **options: Any) -> tuple[Any, Any]:
    """Returns the model as each class loads it."""
    options = {**OPTIONS, **options}
    return Llama(str(path), **options), llama_cpp.Llama(str(path), **options)


@pytest.fixture
def pair(tiny_target: Path) -> tuple[Any, Any]:
    """The tiny model, which never ends."""
    return both(tiny_target)


def first(llama: Any, n: int, prompt: list[int], **options: Any) -> list[int]:
    """Returns the first tokens that `generate` yields."""
    return list(itertools.islice(llama.generate(prompt, **options), n))


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
    np.testing.assert_array_equal(
        ours.logits_to_logprobs(rows), theirs.logits_to_logprobs(rows)
    )


def test_evaluated_tokens(pair: tuple[Any, Any]) -> None:
    """eval appends, sample follows any beginning, n_tokens cuts, and reset begins anew."""
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


def no_bytes(ids: Any, scores: Any) -> Any:
    """A logits processor that leaves only text in UTF-8: llama-cpp-python drops other bytes."""
    scores[3:259] = -np.inf
    return scores


TEXT = llama_cpp.LogitsProcessorList([no_bytes])
CALLS: dict[str, dict[str, Any]] = {
    "defaults": {},
    "penalties": {"repeat_penalty": 1.2, "presence_penalty": 0.3},
    "bias": {"logit_bias": {300: 3.0, **dict.fromkeys(range(3, 259), -1e3)}},
    "grammar": {"grammar": llama_cpp.LlamaGrammar.from_string("root ::= [a-e]+")},
    "min tokens": {
        "logits_processor": llama_cpp.LogitsProcessorList(
            [no_bytes, llama_cpp.MinTokensLogitsProcessor(5, 2)]
        )
    },
    "logprobs": {"logprobs": 2},
    "named": {"model": "name", "echo": True, "stop": ["zz"]},
}


@pytest.mark.parametrize("call", CALLS)
def test_completions(pair: tuple[Any, Any], call: str) -> None:
    """Whole and streamed, they have the dictionaries of llama-cpp-python."""
    ours, theirs = pair
    options = {"max_tokens": 12, **GREEDY, **CALLS[call]}
    if "logit_bias" not in options:  # llama-cpp-python drops processors beside biases
        options.setdefault("logits_processor", TEXT)
    answer, expected = ours(PROMPT, **options), theirs(PROMPT, **options)
    if call == "logprobs":
        for each in (answer, expected):
            each["choices"][0]["logprobs"]["token_logprobs"] = None
            each["choices"][0]["logprobs"]["top_logprobs"] = None
    same(answer, expected)
    assert ours.n_tokens == theirs.n_tokens
    assert list(ours.eval_tokens) == list(theirs.eval_tokens)
    if not options.get("echo"):
        chunks = [list(llama(PROMPT, stream=True, **options)) for llama in pair]
        assert shapes(chunks[0]) == shapes(chunks[1])
        texts = {"".join(chunk["choices"][0]["text"] for chunk in each) for each in chunks}
        assert texts == {answer["choices"][0]["text"]}


def test_seeds_follow_each_other(tiny_target: Path) -> None:
    """Calls without a seed differ, and repeat after set_seed. llama-cpp-python draws the seeds."""
    ours, theirs = both(tiny_target, seed=7)
    texts = [ours("the", max_tokens=8)["choices"][0]["text"] for _ in range(3)]
    for _ in range(3):
        theirs("the", max_tokens=1)
    assert ours._seed == theirs._seed
    assert len(set(texts)) == 3
    ours.set_seed(7)
    assert [ours("the", max_tokens=8)["choices"][0]["text"] for _ in range(3)] == texts
    ours.set_seed(-1)
    prompt = ours.tokenize(b"the")
    assert first(ours, 12, prompt) != first(ours, 12, prompt)


def test_states(pair: tuple[Any, Any], tiny_target: Path) -> None:
    """A text comes back with its logits, in another object, too, and without being read again."""
    ours, _ = pair
    prompt = ours.tokenize(PROMPT.encode())
    ours.eval(prompt)
    scores, state = ours._scores.copy(), ours.save_state()
    expected = first(ours, 8, prompt, temp=0.0)
    ours("of", max_tokens=3)
    other = Llama(str(tiny_target), **OPTIONS)
    for llama in (ours, other):
        llama.load_state(state)
        assert llama.n_tokens == len(prompt)
        np.testing.assert_array_equal(llama._scores, scores)
        with llama.generator.stream(prompt, max_tokens=2) as stream:
            next(stream)
            assert stream.stats.cached_tokens == len(prompt) - 1
        assert first(llama, 8, prompt, temp=0.0) == expected
    with pytest.raises(TypeError, match=r"expected a state of ersd\.Llama\.save_state, got None"):
        ours.load_state(None)
    short = Llama(str(tiny_target), **{**OPTIONS, "n_ctx": 4})
    with pytest.raises(ValueError, match="the context has room for 4"):
        short.load_state(state)


@pytest.mark.parametrize("kind", ["ram", "disk"])
def test_caches_of_llama_cpp(tiny_target: Path, tmp_path: Path, kind: str) -> None:
    """One object writes, and another one need not read the prompt again."""
    cache = llama_cpp.LlamaRAMCache() if kind == "ram" else llama_cpp.LlamaDiskCache(str(tmp_path))
    first_one, second = (Llama(str(tiny_target), **OPTIONS) for _ in range(2))
    for llama in (first_one, second):
        llama.set_cache(cache)
    expected = first_one(PROMPT, max_tokens=6, **GREEDY)["choices"]
    seeds = second._seed
    answer = "".join(
        chunk["choices"][0]["text"]
        for chunk in second(PROMPT, max_tokens=6, stream=True, seed=seeds, **GREEDY)
    )
    assert answer == expected[0]["text"]
    n_prompt = len(second.tokenize(PROMPT.encode()))
    assert second.generator.last().stream.stats.cached_tokens == n_prompt - 1
    assert second._seed == seeds
    second.set_cache(None)
    assert second(PROMPT, max_tokens=6, **GREEDY)["choices"] == expected


def test_a_draft_changes_nothing(tiny_target: Path, tiny_draft: Path) -> None:
    """With a draft model tokens and texts are those without, and some were drafted."""
    options: dict[str, Any] = {"n_ctx": 256, "n_threads": 1, "verbose": False, "exact": True}
    plain = Llama(str(tiny_target), **options)
    drafting = Llama(str(tiny_target), draft_model_path=str(tiny_draft), **options)
    prompt = plain.tokenize(PROMPT.encode())
    for seed in range(3):
        for llama in (plain, drafting):
            llama.set_seed(seed)
        assert first(plain, 20, prompt) == first(drafting, 20, prompt)
        answers = [
            llama(PROMPT, max_tokens=20, seed=seed, draft_nodes=nodes)["choices"][0]
            for llama, nodes in ((plain, "auto"), (drafting, 8))
        ]
        assert answers[0]["text"] == answers[1]["text"]
        assert answers[1]["from_draft"] > 0 == answers[0]["from_draft"]


def test_chats(writer_path: Path, tiny_target: Path) -> None:
    """The file's template, formats by name, a handler, and a model without a template."""
    cases: list[tuple[Path, dict[str, Any]]] = [
        (writer_path, {}),
        (writer_path, {"chat_format": "chat_template.default"}),
        (writer_path, {"chat_format": "chatml"}),
        (tiny_target, {}),
        (tiny_target, {"chat_format": "alpaca"}),
    ]
    for path, options in cases:
        ours, theirs = both(path, **options)
        assert ours.chat_format == theirs.chat_format
        given = {"max_tokens": 10, "logits_processor": TEXT, **GREEDY}
        same(
            ours.create_chat_completion(TALK, **given), theirs.create_chat_completion(TALK, **given)
        )
        chunks = [list(x.create_chat_completion(TALK, stream=True, **given)) for x in (ours, theirs)]
        assert shapes(chunks[0]) == shapes(chunks[1])
        assert list(ours.eval_tokens) == list(theirs.eval_tokens)
    assert CHAT == Llama(str(writer_path), **OPTIONS).metadata["tokenizer.chat_template"]


def test_a_handler_of_chats_gets_the_object(tiny_target: Path) -> None:
    """A chat_handler is called as llama_cpp.Llama calls it."""
    seen: list[Any] = []

    def handler(*, llama: Any, messages: Any, **options: Any) -> Any:
        seen.append((llama, messages, options["stop"], options["temperature"]))
        return llama.create_completion("the", max_tokens=1)

    ours = Llama(str(tiny_target), chat_handler=handler, **OPTIONS)
    assert ours.chat_format is None
    assert ours.create_chat_completion(TALK, stop=["x"])["object"] == "text_completion"
    assert seen == [(ours, TALK, ["x"], 0.2)]


def test_a_tokenizer_that_is_given(tiny_target: Path) -> None:
    """It reads prompts, as in llama_cpp.Llama."""

    class Numbers:
        def tokenize(self, text: bytes, add_bos: bool = True, special: bool = True) -> list[int]:
            return [300 + byte for byte in text]

        def detokenize(self, tokens: Any, prev_tokens: Any = None, special: bool = False) -> bytes:
            return bytes(token - 300 for token in tokens)

    ours = Llama(str(tiny_target), tokenizer=Numbers(), **OPTIONS)
    assert ours.detokenize(ours.tokenize(b"ab")) == b"ab"
    assert ours("ab", max_tokens=1, **GREEDY)["usage"]["prompt_tokens"] == 2
    assert list(ours.eval_tokens) == [397, 398]
