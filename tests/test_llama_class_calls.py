"""`ersd.Llama` answers like llama_cpp.Llama: completions, chats, seeds, states and caches."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import llama_cpp
import numpy as np
import pytest

from conftest import CHAT
from ersd import Llama
from llama_answers import GREEDY, same, shapes
from llama_pair import OPTIONS, PROMPT, TALK, both, first, no_bytes

pytestmark = pytest.mark.no_sanitizer

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


@pytest.fixture
def pair(tiny_target: Path) -> tuple[Any, Any]:
    """The tiny model, which never ends."""
    return both(tiny_target)


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


def test_a_lookup_drafts(tiny_target: Path) -> None:
    """llama-cpp-python's class stands for drafts from prompt and answer, which change nothing."""
    from llama_cpp.llama_speculative import LlamaPromptLookupDecoding

    options: dict[str, Any] = {"n_ctx": 256, "n_threads": 1, "verbose": False}
    plain = Llama(str(tiny_target), exact=True, **options)
    looking = Llama(str(tiny_target), draft_model=LlamaPromptLookupDecoding(), **options)
    assert looking.generator.exact
    prompt = [1, *range(300, 320)] * 3
    bias = dict.fromkeys(range(300, 320), 8.0)
    answers = [
        llama(prompt, max_tokens=40, logit_bias=bias, draft_nodes=nodes, **GREEDY)["choices"][0]
        for llama, nodes in ((plain, "auto"), (looking, 4))
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
        chunks = [
            list(llama.create_chat_completion(TALK, stream=True, **given))
            for llama in (ours, theirs)
        ]
        assert shapes(chunks[0]) == shapes(chunks[1])
        assert list(ours.eval_tokens) == list(theirs.eval_tokens)
    assert Llama(str(writer_path), **OPTIONS).metadata["tokenizer.chat_template"] == CHAT


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
