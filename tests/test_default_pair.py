"""The default target writes the same tokens with every draft, strategy and number of nodes."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from pathlib import Path

import llama_cpp
import pytest

from ersd import Generator, models

pytestmark = pytest.mark.no_sanitizer

PROMPTS = Path(__file__).parent.parent / "bench" / "prompts"
SAMPLING = [
    {"temperature": 0.0},
    {"temperature": 0.7, "top_k": 40, "top_p": 0.95, "min_p": 0.0},
    {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0},
]
STRATEGIES = ["simple", "sequence", "batch", "tree", "adaptive"]


def prompts() -> list[str]:
    """Returns 23 chat and raw prompts, and one that fills more than 256 cells of the cache."""
    chat, prose, code = (
        (PROMPTS / f"{name}.txt").read_text().strip().split("\n---\n")
        for name in ("chat", "prose", "code")
    )
    turns = [f"<|im_start|>user\n{text}<|im_end|>\n<|im_start|>assistant\n" for text in chat]
    mixed = [text for triple in zip(turns, prose, code, strict=False) for text in triple]
    texts = [*mixed[:23], "\n".join(prose * 2)]
    assert len(texts) == 24
    return texts


@pytest.fixture(scope="module", params=["twin", "bad"])
def pair(request: pytest.FixtureRequest, target: Path) -> Generator:
    """A Generator of the default target and its twin, or a bad draft."""
    draft = models.twin() if request.param == "twin" else request.getfixturevalue("bad_draft")
    return Generator(target, draft, n_ctx=2048)


def check(
    pair: Generator, texts: list[str], nodes: Sequence[int], n_ways: int, length: int
) -> None:
    """Compares drafted with plain answers to each text by each sampling, in so many ways each.

    The ways are pairs of a number of nodes and a strategy, taken in turn.
    """
    ways = itertools.cycle(itertools.product(nodes, STRATEGIES))
    for seed, (prompt, sampling) in enumerate(itertools.product(texts, SAMPLING)):
        tokens = pair.tokenize(prompt)
        plain = pair.generate(tokens, max_tokens=length, seed=seed, method="ar", **sampling)
        for k, strategy in itertools.islice(ways, n_ways):
            ours = pair.generate(
                tokens, max_tokens=length, seed=seed, strategy=strategy, draft_nodes=k, **sampling
            )
            assert ours.tokens == plain.tokens, (prompt, sampling, strategy, k)
            assert ours.finish_reason == plain.finish_reason


def test_tokens_are_those_of_plain_sampling(pair: Generator) -> None:
    """Four prompts are enough to meet every strategy with each of four numbers of nodes."""
    check(pair, prompts()[::8] + prompts()[-1:], [1, 4, 16, 64], n_ways=2, length=14)


@pytest.mark.grid  # half an hour on 2 cores
def test_tokens_are_those_of_plain_sampling_for_all_prompts(pair: Generator) -> None:
    """All prompts, with twelve numbers of nodes."""
    check(pair, prompts(), [1, 2, 3, 4, 6, 8, 12, 16, 24, 32, 48, 64], n_ways=9, length=32)


def test_the_twin_is_accepted_and_the_answer_reads_well(target: Path) -> None:
    """At temperature 0 the answer is known, and a target call yields several tokens."""
    result = Generator(target, models.twin(), n_ctx=512).generate(
        "The capital of France is", max_tokens=12, temperature=0, draft_nodes=16
    )
    assert result.text.startswith(" Paris")
    assert result.stats.tokens_per_call > 2


@pytest.mark.parametrize(
    ("type_k", "type_v", "flash_attn"),
    [("f32", "f32", False), ("q8_0", "q8_0", True), ("f16", "f16", False)],
)
def test_types_of_cache_are_llama_cpps(
    target: Path, type_k: str, type_v: str, flash_attn: bool
) -> None:
    """Tokens are those of llama-cpp-python with the same types of cache and the same attention.

    A draft has these types too, and is accepted.
    """
    types = {
        "type_k": getattr(llama_cpp, f"GGML_TYPE_{type_k.upper()}"),
        "type_v": getattr(llama_cpp, f"GGML_TYPE_{type_v.upper()}"),
    }
    llama = llama_cpp.Llama(
        str(target),
        n_ctx=256,
        n_threads=1,
        n_threads_batch=1,
        flash_attn=flash_attn,
        verbose=False,
        **types,
    )
    generator = Generator(
        target,
        models.twin(),
        n_ctx=256,
        n_threads=1,
        type_k=type_k,
        type_v=type_v,
        flash_attn=flash_attn,
    )
    prompt = generator.tokenize("The capital of France is")
    # Without flash attention, llama.cpp's text depends on how many tokens a call has. As in ersd,
    # the last token of the prompt is in a call of its own.
    llama.eval(prompt[:-1])
    expected = list(itertools.islice(llama.generate(prompt, temp=0.0), 16))
    assert generator.generate(prompt, max_tokens=16, temperature=0, method="ar").tokens == expected
    drafted = generator.generate(prompt, max_tokens=16, temperature=0, draft_nodes=8)
    assert drafted.stats.tokens_per_call > 1.5
