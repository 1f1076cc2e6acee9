"""Caches between generations: the text is that of an empty cache, and no token is read twice."""

from __future__ import annotations

import itertools
import pickle
import random
import signal
from pathlib import Path

import numpy as np
import pytest
from ersd._core import GenerationOptions, TableModel

import oracles
import tiny
from conftest import Drafting, ctrl_c
from decoding import Decoder
from ersd import Generator, models

FULL = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
CUT = {"temperature": 0.7, "top_k": 40, "top_p": 0.95, "min_p": 0.05}
WAYS = [
    {"method": "ar"},
    *({"strategy": s} for s in ("simple", "sequence", "batch", "tree", "adaptive")),
    {"method": "match"},
]


def common(a: list[int], b: list[int]) -> int:
    """Returns the length of the common prefix of two lists of tokens."""
    return sum(
        1 for _ in itertools.takewhile(lambda pair: pair[0] == pair[1], zip(a, b, strict=False))
    )


def prompts(rng: random.Random, n: int, n_vocab: int, length: int = 60) -> list[list[int]]:
    """Returns random prompts that repeat, extend, cut or change earlier ones."""
    made = [[rng.randrange(n_vocab) for _ in range(length)]]
    while len(made) < n:
        old = rng.choice(made[-3:])
        cut = old[: rng.randint(1, len(old))]
        made.append(
            [*cut, *(rng.randrange(n_vocab) for _ in range(rng.choice([0, 0, 1, 2, 3, 40])))][
                : 3 * length
            ]
        )
    return made


def test_each_model_keeps_what_it_holds() -> None:
    """Each model decodes only the tokens after the prefix that its own cache holds.

    The tokens are the oracle's, also after calls that failed.
    """
    rng = np.random.default_rng(3)
    table = oracles.random_table(rng, 64, 70)
    failing = table.copy()
    failing[::9] = np.nan
    draft_table = table + oracles.random_table(rng, 64, 70, spread=0.8)
    target, draft = TableModel(failing), TableModel(draft_table)
    decoder, draw = Decoder(target, draft), random.Random(4)
    held: dict[str, list[int]] = {"target": [], "draft": []}
    n_failed = n_kept = 0
    for prompt in prompts(draw, 150, 70, 12):
        way = draw.choice(WAYS)
        options = GenerationOptions(**{"draft_nodes": 6, "seed": 1, **FULL, **way})
        before = target.n_decoded, draft.n_decoded
        decoder.start(prompt, options)
        kept = common(held["target"], prompt[:-1])
        assert decoder.stats.to_dict()["cached_tokens"] == kept
        n_kept += kept
        drafts = way.get("method") != "ar"
        if drafts:
            decoder.read()
            assert target.n_decoded - before[0] == len(prompt) - 1 - kept
            assert draft.n_decoded - before[1] == len(prompt) - 1 - common(
                held["draft"], prompt[:-1]
            )
        truth, tokens = oracles.decode(table, prompt, 20, 1, **FULL), []
        try:
            for _ in range(draw.choice([0, 1, 4])):
                tokens += decoder.step(5)
        except RuntimeError:
            n_failed += 1
        assert tokens == truth[: len(tokens)]
        seen = prompt + truth
        held["target"] = seen[: target.n_cached]
        held["draft"] = seen[: draft.n_cached]
    assert n_failed > 20
    assert n_kept > 400


@pytest.fixture(scope="module")
def pair(tiny_target: Path, tiny_draft: Path) -> Generator:
    """A pair that reads prompts in several calls and that no other module uses."""
    return Drafting(tiny_target, tiny_draft, n_ctx=512, n_batch=257, n_threads=1)


@pytest.fixture(scope="module")
def fresh(tiny_target: Path) -> Generator:
    """The target alone, which tests reset before every use."""
    return Generator(tiny_target, n_ctx=512, n_threads=1, exact=True)


@pytest.mark.parametrize("round_", range(4))
def test_text_does_not_depend_on_the_cache(pair: Generator, fresh: Generator, round_: int) -> None:
    """Random prompts give the text of an empty cache with every method and strategy.

    Between them come streams closed early, recorded ranks and interruptions.
    """
    draw, n_cached = random.Random(round_), 0
    for seed, prompt in enumerate(prompts(draw, 40, 515, 90)):
        way, sampling = draw.choice(WAYS), draw.choice([FULL, CUT, {"temperature": 0.0}])
        fresh.reset()
        expected = fresh.generate(prompt, max_tokens=40, seed=seed, method="ar", **sampling)
        assert expected.stats.cached_tokens == 0
        ours = pair.generate(
            prompt, max_tokens=40, seed=seed, draft_nodes=draw.choice([1, 5, 30]), **sampling, **way
        )
        assert ours.tokens == expected.tokens
        n_cached += ours.stats.cached_tokens
        between = draw.randrange(6)
        if between == 0:
            with pair.stream(prompt[: len(prompt) // 2 + 1], seed=seed, **FULL) as stream:
                next(stream)
        elif between == 1:
            list(pair.ranks(prompt, max_tokens=5, seed=seed))
        elif between == 2 and hasattr(signal, "setitimer"):
            seconds = draw.choice([0.0005, 0.003, 0.02])
            ctrl_c(seconds, pair.generate, prompt, max_tokens=300, seed=1, **FULL)
        elif between == 3:
            pair.generate(prompt, max_tokens=9, seed=seed, method="gsd")
    assert n_cached > 50


@pytest.mark.skipif(not hasattr(signal, "setitimer"), reason="needs POSIX timers")
def test_a_stopped_answer_goes_on(tiny_target: Path, tiny_draft: Path, fresh: Generator) -> None:
    """After Ctrl-C within any step, the prompt and the answer so far can be the next prompt."""
    pair, draw = Drafting(tiny_target, tiny_draft, n_ctx=512, n_threads=1), random.Random(7)
    n_stopped = 0
    for seed in range(60):
        prompt = [1, *(draw.randrange(3, 515) for _ in range(20))]
        stream = pair.stream(
            prompt,
            max_tokens=300,
            seed=seed,
            draft_nodes=draw.choice([2, 8, 60]),
            strategy=draw.choice(["sequence", "tree"]),
            **FULL,
        )
        n_stopped += ctrl_c(draw.uniform(0.005, 0.08), list, stream)
        stream.close()  # the stream is still open if the interruption came between two steps
        text = prompt + stream.tokens
        fresh.reset()
        ours = pair.generate(
            text, max_tokens=20, seed=seed, draft_nodes=30, strategy="tree", **FULL
        )
        assert (
            ours.tokens
            == fresh.generate(text, max_tokens=20, seed=seed, method="ar", **FULL).tokens
        )
    assert n_stopped > 0


@pytest.mark.parametrize("method", ["gsd", "block"])
def test_rejection_sampling_reads_the_whole_prompt(
    tiny_target: Path, tiny_draft: Path, method: str
) -> None:
    """A seed gives the same text whatever ran before."""
    prompt = [1, *range(300, 360)]
    expected = (
        Drafting(tiny_target, tiny_draft, n_ctx=512, n_threads=1)
        .generate(prompt, max_tokens=60, seed=3, method=method, **FULL)
        .tokens
    )
    pair = Drafting(tiny_target, tiny_draft, n_ctx=512, n_threads=1)
    for way in ({"method": method}, {"method": "ar"}, {"method": "gsd_iid"}, {"strategy": "tree"}):
        pair.generate(prompt[: 20 + len(way)], max_tokens=30, seed=5, **FULL, **way)
        result = pair.generate(prompt, max_tokens=60, seed=3, method=method, **FULL)
        assert (result.tokens, result.stats.cached_tokens) == (expected, 0)


def test_cached_tokens_counts_what_was_not_read(pair: Generator) -> None:
    """cached_tokens is the length of the prefix in common with the last prompt and answer.

    The prompt's last token is always decoded, as the answer starts from it.
    """
    prompt = pair.tokenize("the rain of the " * 20)
    pair.reset()
    first = pair.generate(prompt, max_tokens=30, seed=1, **FULL)
    assert first.stats.cached_tokens == 0
    again = pair.generate(prompt, max_tokens=30, seed=1, **FULL)
    assert again.stats.cached_tokens == len(prompt) - 1
    assert again.tokens == first.tokens
    turn = [*prompt, *first.tokens, 300, 301, 302]
    assert pair.generate(turn, max_tokens=5, seed=1, **FULL).stats.cached_tokens == len(prompt) + 29
    stats = pair.generate([*prompt[:7], 400, 401], max_tokens=5, seed=1, **FULL).stats
    assert stats.cached_tokens == 7
    assert stats.target_tokens == 1 + stats.target_calls + stats.drafted


def test_recurrent_models_keep_their_state_or_begin_anew(folder: Path) -> None:
    """A recurrent state is kept if the prompt continues the text, and is dropped otherwise."""
    path = tiny.write_mamba(folder / "mamba-cache.gguf")
    kept, fresh = (Generator(path, n_ctx=256, n_threads=1) for _ in range(2))
    answer = kept.generate([1, 300, 301], max_tokens=10, seed=1, **FULL).tokens
    for prompt, cached in (([1, 300, 301, *answer, 302], 12), ([1, 300, 9], 0), ([1, 300, 9], 0)):
        ours = kept.generate(prompt, max_tokens=10, seed=2, **FULL)
        fresh.reset()
        assert ours.tokens == fresh.generate(prompt, max_tokens=10, seed=2, **FULL).tokens
        assert ours.stats.cached_tokens == cached


def test_state_goes_to_another_generator(
    tiny_target: Path, tiny_draft: Path, pair: Generator
) -> None:
    """A state that was pickled and loaded elsewhere replaces decoding the prompt in both models."""
    prompt = pair.tokenize("the rain of the " * 20)
    expected = pair.generate(prompt, max_tokens=40, seed=2, **FULL)
    state = pickle.loads(pickle.dumps(pair.save_state()))
    assert state.tokens == [*prompt, *expected.tokens[:-1]]
    other = Drafting(tiny_target, tiny_draft, n_ctx=512, n_threads=1)
    other.load_state(state)
    for way in WAYS:
        result = other.generate(prompt, max_tokens=40, seed=2, **FULL, **way)
        assert (result.tokens, result.stats.cached_tokens) == (expected.tokens, len(prompt) - 1)
    other.load_state(state)
    result = other.generate(prompt, max_tokens=40, seed=2, strategy="tree", **FULL)
    assert result.stats.draft_tokens <= 1 + result.stats.drafted + result.stats.target_calls


def test_states_that_do_not_fit_are_refused(
    folder: Path, tiny_target: Path, pair: Generator
) -> None:
    """States of other models or cache types and states that are too long are refused."""
    prompt = pair.tokenize("the rain of the " * 20)
    pair.generate(prompt, max_tokens=4, seed=2, **FULL)
    state = pair.save_state()
    with pytest.raises(ValueError, match="the state is of the models"):
        Generator(tiny_target, n_ctx=512).load_state(state)
    alone = Generator(tiny_target, n_ctx=512, n_threads=1, exact=True)
    alone.generate(prompt, max_tokens=4, seed=2)
    state = alone.save_state()
    with pytest.raises(
        ValueError, match=r"the state has \d+ tokens, the context has room for 64 \(n_ctx\)"
    ):
        Generator(tiny_target, n_ctx=64).load_state(state)
    other = Generator(tiny_target, n_ctx=512, n_threads=1, type_k="f32")
    with pytest.raises(
        ValueError, match="the state is not one of this model with these types of cache"
    ):
        other.load_state(state)
    assert other.generate(prompt, max_tokens=4, seed=2).stats.cached_tokens == 0


@pytest.mark.no_sanitizer
def test_default_pair_with_and_without_cache(target: Path) -> None:
    """In a conversation with real models, every turn has the text of empty caches."""
    pair, fresh = (
        Generator(target, models.twin(), n_ctx=1024),
        Generator(target, n_ctx=1024, exact=True),
    )
    text, n_cached = "<|im_start|>system\nYou are terse.<|im_end|>\n", 0
    for turn, question in enumerate(
        ["Name three colours.", "And three animals?", "Which of them is largest?"]
    ):
        text += f"<|im_start|>user\n{question}<|im_end|>\n<|im_start|>assistant\n"
        way = [
            {"strategy": "tree", "draft_nodes": 8},
            {"strategy": "adaptive", "draft_nodes": 16},
            {"method": "ar"},
        ][turn]
        ours = pair.generate(text, max_tokens=24, seed=turn, **way)
        fresh.reset()
        plain = fresh.generate(text, max_tokens=24, seed=turn, method="ar")
        assert ours.tokens == plain.tokens
        assert ours.stats.cached_tokens > n_cached or turn == 0
        n_cached = ours.stats.cached_tokens
        text += ours.text + "<|im_end|>\n"
