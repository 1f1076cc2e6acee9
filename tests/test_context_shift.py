"""Context shift: a full context drops the older half of its tokens, and the answer goes on."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

import oracles
from conftest import Drafting
from ersd import Generator
from test_prompt_cache import FULL, WAYS


def test_context_shift_drops_the_older_half(tiny_target: Path) -> None:
    """The tokens are those of NumPy's races over llama-cpp-python's logits of the shortened text.

    Positions keep counting after a shift, so no clock is used twice.
    """
    import llama_cpp

    ours = Generator(
        tiny_target,
        n_ctx=48,
        n_threads=1,
        type_k="f16",
        flash_attn=True,
        context_shift=True,
        n_keep=3,
    )
    prompt = ours.tokenize("the of and to")
    result = ours.generate(prompt, max_tokens=130, seed=5, **FULL)
    llama = llama_cpp.Llama(
        str(tiny_target),
        n_ctx=256,
        n_threads=1,
        n_threads_batch=1,
        logits_all=True,
        flash_attn=True,
        verbose=False,
    )
    tokens, position = list(prompt), len(prompt)
    for token in result.tokens:
        if len(tokens) == 48:
            del tokens[4 : 4 + 22]  # half of the 44 after BOS and n_keep
        llama.reset()
        llama.eval(tokens)
        logits = np.asarray(llama.scores[llama.n_tokens - 1], dtype=np.float32)
        assert token == oracles.winner(logits, oracles.clocks(5, position, len(logits)))
        tokens.append(token)
        position += 1
    assert (len(result.tokens), result.finish_reason) == (130, "length")


@pytest.mark.parametrize("way", WAYS[1:], ids=str)
@pytest.mark.parametrize("n_keep", [0, 5, -1])
def test_context_shift_is_the_same_for_every_draft(
    tiny_target: Path, tiny_draft: Path, way: dict, n_keep: int
) -> None:
    """A shift comes at the same token with every draft. Without max_tokens the answer goes on."""
    options = {"n_ctx": 64, "n_threads": 1, "context_shift": True, "n_keep": n_keep}
    plain, pair = (
        Generator(tiny_target, exact=True, **options),
        Drafting(tiny_target, tiny_draft, **options),
    )
    expected = plain.generate("the of", max_tokens=200, seed=8, **FULL)
    ours = pair.generate("the of", max_tokens=200, seed=8, **FULL, **way)
    assert ours.tokens == expected.tokens
    assert ours.stats.accepted > 0
    with pair.stream("the of", max_tokens=None, seed=8, **FULL) as endless:
        for _ in range(150):
            next(endless)


def test_a_full_context_ends_the_answer_unless_asked(tiny_target: Path) -> None:
    """Without context_shift a full context ends the answer. A prompt too long is refused."""
    for shift in (False, True):
        generator = Generator(tiny_target, n_ctx=32, n_threads=1, context_shift=shift)
        with pytest.raises(
            ValueError,
            match=r"the prompt has 40 tokens, the context of 32 \(n_ctx\) has room for 31",
        ):
            generator.generate([300] * 40)
        assert len(generator.generate([300] * 20, max_tokens=50, seed=1, **FULL).tokens) == (
            50 if shift else 12
        )
    with pytest.raises(
        ValueError, match="n_keep must be at least 0, or -1 for the whole prompt, got -2"
    ):
        Generator(tiny_target, n_keep=-2)
