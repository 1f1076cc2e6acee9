"""Draft sources: the text of plain decoding with every combination, and what is said of sources."""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from ersd import Generator, Result, Stream, _core
from parallel_requests import run_threads

SOURCES = ("lookup", "history", "prediction", "grammar", "model")
SUBSETS = [list(s) for n in range(6) for s in itertools.combinations(SOURCES, n)]
STRATEGIES = ["simple", "sequence", "batch", "tree", "adaptive"]
NODES = [1, 4, 16, "auto"]
FULL = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
PROMPT = "the rain of the rain in the rain of the"
REGEX = r"( (yes|no|perhaps), I (do|do not) (see|hear) the (rain|snow)\.){3}"
TEXTS: list[dict[str, Any]] = [
    {"temperature": 0.0, "max_tokens": 28},
    {**FULL, "seed": 3, "max_tokens": 28},
    {"temperature": 0.0, "regex": REGEX, "max_tokens": 80},
    {**FULL, "seed": 4, "regex": REGEX, "max_tokens": 80},
]
LOADING: dict[str, Any] = {"n_ctx": 512, "n_threads": 1, "exact": True, "profile": False}


def make_calls_cheap(generator: Generator) -> Generator:
    """Lets a Generator believe that more tokens cost a call little, so that "auto" drafts."""
    core = generator._core
    profile = core.profile()
    for cost, ms in ((profile.target, 10.0), (profile.draft, 0.1)):
        cost.set([[ms + 0.001 * n for n in _core.CostCurve.widths]] * 2)
    core.restore(profile)
    return generator


@pytest.fixture(scope="module")
def pair(tiny_target: Path, tiny_draft: Path) -> Generator:
    """A Generator with a draft model."""
    return make_calls_cheap(Generator(tiny_target, tiny_draft, **LOADING))


@pytest.fixture(scope="module")
def single(tiny_target: Path) -> Generator:
    """A Generator without a draft model."""
    return make_calls_cheap(Generator(tiny_target, **LOADING))


@pytest.fixture(scope="module")
def plain(single: Generator) -> list[Result]:
    """What plain decoding answers with each of TEXTS."""
    return [single.generate(PROMPT, method="ar", **text) for text in TEXTS]


class Forced:
    """A logits processor that leaves one text alone."""

    def __init__(self, prompt: Sequence[int], answer: Sequence[int]) -> None:
        """Takes the tokens of the prompt and of the answer."""
        self.tokens = [*prompt, *answer]

    def __call__(self, input_ids: np.ndarray, scores: np.ndarray) -> np.ndarray:
        """Leaves the next token of the answer."""
        scores[:] = -np.inf
        scores[self.tokens[len(input_ids)]] = 0
        return scores


def force(generator: Generator, prompt: Sequence[int], answer: Sequence[int], **options) -> Result:
    """Returns the result of a generation that answers with certain tokens."""
    options = {"max_tokens": len(answer), "draft_nodes": 8, **options}
    forced = Forced(prompt, answer)
    result = generator.generate(list(prompt), logits_processor=forced, **options)
    assert result.tokens == list(answer)
    return result


@pytest.mark.parametrize("strategy", STRATEGIES)
@pytest.mark.parametrize(
    "turn", [None, *(pytest.param(n, marks=pytest.mark.grid) for n in range(16))]
)
def test_every_combination_gives_the_text(
    pair: Generator, plain: list[Result], strategy: str, turn: int | None
) -> None:
    """Subsets of the sources, numbers of nodes, temperatures and grammars change no text."""
    accepted: Counter[str] = Counter()
    pair.forget()
    for i, sources in enumerate(SUBSETS):
        nodes, text = divmod((5 * i + i // 4) % 16 if turn is None else turn, 4)
        expected = plain[text]
        wrong_in_places = [t if i % 9 else 7 for i, t in enumerate(expected.tokens, start=1)]
        result = pair.generate(
            PROMPT,
            strategy=strategy,
            draft_sources=sources,
            draft_nodes=NODES[nodes],
            prediction=wrong_in_places,
            references=["of the snow", expected.tokens[9:]],
            **TEXTS[text],
        )
        assert (result.tokens, result.text) == (expected.tokens, expected.text)
        assert result.finish_reason == expected.finish_reason
        assert set(result.stats.drafted_by) <= set(sources)
        accepted.update(result.stats.accepted_by)
    if turn is None:
        assert set(accepted) == set(SOURCES)


@pytest.mark.parametrize("strategy", STRATEGIES)
def test_without_a_draft_model(single: Generator, plain: list[Result], strategy: str) -> None:
    """Texts and grammars draft alone, too, in every shape."""
    for expected, text in zip(plain, TEXTS, strict=True):
        for nodes in NODES:
            single.forget()
            result = single.generate(
                PROMPT, strategy=strategy, draft_nodes=nodes, prediction=expected.tokens, **text
            )
            assert result.tokens == expected.tokens
            assert result.stats.draft_calls == 0
            # "auto" follows the clock, and may find that nothing pays.
            assert nodes == "auto" or result.stats.accepted_by["prediction"] >= 10
            if strategy in ("simple", "batch"):
                assert len(result.stats.acceptance_histogram) <= 2
            n_most = 1 if strategy == "simple" else nodes
            if strategy != "adaptive" and n_most != "auto":
                assert len(result.stats.nodes_histogram) <= n_most + 1


@pytest.mark.parametrize("who", ["pair", "single"])
def test_predictions(who: str, request: pytest.FixtureRequest, plain: list[Result]) -> None:
    """A right one saves most calls, a half right one some; a wrong one changes nothing."""
    generator, truth = request.getfixturevalue(who), plain[1].tokens
    wrong = [3 + (token + 1) % 500 for token in truth]
    right_half = [*wrong[:9], *truth[9:19], *wrong[19:]]
    calls = []
    for prediction in (truth, right_half, wrong):
        generator.forget()
        result = generator.generate(
            PROMPT, prediction=prediction, draft_sources=["prediction"], draft_nodes=8, **TEXTS[1]
        )
        assert result.tokens == truth
        calls.append(result.stats.target_calls)
    assert calls[0] < 12
    assert calls[0] < calls[1] < calls[2] == len(truth)


def test_forms_of_a_prediction(single: Generator, plain: list[Result]) -> None:
    """A text, its tokens and OpenAI's dictionaries draft alike."""
    text, parts = plain[0].text, [{"type": "text", "text": plain[0].text}]
    calls = set()
    for prediction in (
        text,
        single.tokenize(text, add_special=False),
        {"type": "content", "content": text},
        {"type": "content", "content": parts},
    ):
        single.forget()
        options = {"draft_sources": ["prediction"], "draft_nodes": 4}
        result = single.generate(PROMPT, prediction=prediction, **options, **TEXTS[0])
        assert result.tokens == plain[0].tokens
        calls.add(result.stats.target_calls)
    assert len(calls) == 1
    assert calls.pop() < len(plain[0].tokens)


def test_stop_strings_and_schemas(pair: Generator) -> None:
    """They end drafted texts where they end plain ones, and counts leave out what comes after."""
    prompt, answer = pair.tokenize("the"), pair.tokenize("rain of the snow in " * 4)[1:]
    for stop in ("snow", "the snow in rain", "w in ra"):
        ends = [
            pair.generate(
                prompt,
                logits_processor=Forced(prompt, answer),
                max_tokens=len(answer),
                stop=stop,
                prediction=answer,
                draft_nodes=8,
                method=method,
            )
            for method in ("ar", "ersd", "match")
        ]
        for end in ends:
            assert (end.text, end.tokens) == (ends[0].text, ends[0].tokens)
            assert end.finish_reason == ends[0].finish_reason == "stop"
            assert end.stats.generated == len(end.tokens)
        assert sum(ends[1].stats.accepted_by.values()) >= ends[1].stats.accepted > 5
    schema = {
        "type": "object",
        "properties": {"name": {"enum": ["rain", "snow"]}, "wet": {"type": "boolean"}},
        "required": ["name", "wet"],
    }
    response_format = {"type": "json_object", "schema": schema}
    options = {"response_format": response_format, "seed": 2, "max_tokens": 60, **FULL}
    plain = pair.generate(PROMPT, method="ar", **options)
    drafted = pair.generate(PROMPT, draft_sources=["grammar"], draft_nodes=8, **options)
    assert drafted.tokens == plain.tokens
    assert drafted.stats.accepted_by["grammar"] > len(plain.tokens) / 2


def steps_of(stream: Stream) -> Iterator[tuple[Any, Any]]:
    """Yields each step with its tree."""
    for step in stream:
        assert step.tree is not None
        yield step, step.tree


@pytest.mark.parametrize(("text", "source"), [(1, "model"), (2, "grammar"), (3, "lookup")])
def test_sources_of_steps_trees_and_counts(
    pair: Generator, plain: list[Result], text: int, source: str
) -> None:
    """Each drafted node has a source, and steps, trees and statistics agree."""
    drafted: Counter[str] = Counter()
    accepted: Counter[str] = Counter()
    n_accepted, sources = 0, {"prediction", source}
    pair.forget()
    options = {"draft_trees": True, "draft_nodes": 16, "draft_sources": list(sources)}
    stream = pair.stream(PROMPT, prediction=plain[text].tokens[:15], **options, **TEXTS[text])
    for step, tree in steps_of(stream):
        assert len(tree.sources) == len(tree.tokens)
        assert tree.sources[0] == ()
        assert all(found and set(found) <= sources for found in tree.sources[1:])
        nodes = tree.accepted[1:][: step.n_accepted]
        assert step.sources == [tree.sources[node] for node in nodes]
        assert step.tokens[: step.n_accepted] == [tree.tokens[node] for node in nodes]
        drafted.update(itertools.chain(*tree.sources))
        accepted.update(itertools.chain(*step.sources))
        n_accepted += step.n_accepted
    assert stream.stats.drafted_by == dict(drafted)
    assert stream.stats.accepted_by == dict(accepted)
    assert stream.stats.accepted == n_accepted
    assert set(accepted) == sources


@pytest.mark.parametrize("method", ["gsd", "gsd_iid", "block"])
def test_rejection_sampling_drafts_by_the_model_alone(pair: Generator, method: str) -> None:
    """Its text depends on what is drafted, so no other text may have a part in that."""
    prompt = PROMPT * 3
    options = {"method": method, "draft_nodes": 6, "seed": 1, "max_tokens": 40}
    first = pair.generate(prompt, prediction=PROMPT, references=[PROMPT], **options)
    assert set(first.stats.drafted_by) == {"model"}
    assert pair.generate(prompt, **options).tokens == first.tokens


def test_no_source(pair: Generator, single: Generator, plain: list[Result]) -> None:
    """Without sources, and with sources that have nothing, each call gives one token."""
    for generator in (pair, single):
        for sources in ([], ["grammar"], ["prediction"]):
            result = generator.generate(PROMPT, draft_sources=sources, draft_nodes=8, **TEXTS[1])
            assert result.tokens == plain[1].tokens
            assert (result.stats.tokens_per_call, result.stats.drafted) == (1, 0)
            assert result.stats.drafted_by == result.stats.accepted_by == {}


def test_threads(pair: Generator, plain: list[Result]) -> None:
    """Requests that run together, and draft from each other's texts, have their own texts."""

    def send(i: int) -> None:
        expected, text = plain[i % 4], TEXTS[i % 4]
        sources = SUBSETS[5 * i % 32]
        for nodes in (6, "auto"):
            options = {"draft_sources": sources, "prediction": expected.text, "draft_nodes": nodes}
            assert pair.generate(PROMPT, **options, **text).tokens == expected.tokens

    run_threads([lambda i=i: send(i) for i in range(16)])


@pytest.mark.parametrize("sources", [["lookup"], ["history", "prediction"], list(SOURCES)])
def test_context_shift(tiny_target: Path, tiny_draft: Path, sources: list[str]) -> None:
    """Texts that lose their older half go on as without drafts."""
    loading = LOADING | {"n_ctx": 64, "context_shift": True, "n_keep": 3}
    plain = Generator(tiny_target, draft_sources=[], **loading)
    options = {"max_tokens": 150, "seed": 8, **FULL}
    expected = plain.generate(PROMPT, **options)
    for draft in (None, tiny_draft):
        ours = Generator(tiny_target, draft, draft_sources=sources, **loading)
        for nodes in (3, 12):
            result = ours.generate(PROMPT, prediction=expected.tokens, draft_nodes=nodes, **options)
            assert result.tokens == expected.tokens
        assert result.stats.drafted > 0
        assert result.stats.accepted > 20 or sources == ["lookup"]  # its text repeats little
