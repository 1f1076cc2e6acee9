"""Logits processors written in Python: what they see, and what their errors do."""

from __future__ import annotations

import gc
import weakref

import pytest

from ersd import Generator

FULL = {"temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
STRATEGIES = ["simple", "sequence", "batch", "tree", "adaptive"]


def test_processors_see_each_position_once_and_in_order(generator: Generator) -> None:
    """A processor is called as in plain decoding, whatever is drafted, and several are chained."""
    seen = {}
    for method in ("ar", "ersd"):
        calls = seen.setdefault(method, [])

        def record(ids, scores, calls=calls):
            calls.append((ids.tolist(), scores.tobytes()))
            return scores

        chain = [record, lambda ids, scores: scores * 2]
        tokens = generator.generate(
            "the of", max_tokens=30, seed=4, method=method, logits_processor=chain, **FULL
        ).tokens
        assert (
            tokens
            == generator.generate(
                "the of", max_tokens=30, seed=4, **{**FULL, "temperature": 0.5}
            ).tokens
        )
    assert len(seen["ar"]) == 30
    assert seen["ar"] == seen["ersd"][: len(seen["ar"])]


def test_a_processor_fails_where_plain_decoding_meets_it(generator: Generator) -> None:
    """An error behind the end of the answer is not raised, although drafts looked further.

    An error before the end is raised by the step that reaches it.
    """
    given = {"max_tokens": 60, "seed": 9, **FULL}
    plain = generator.generate("the", method="ar", **given)
    stop = next(
        plain.text[i : i + 3]
        for i in range(20, len(plain.text))
        if plain.text.find(plain.text[i : i + 3]) == i
    )
    expected = generator.generate("the", method="ar", stop=stop, **given)
    reached = len(generator.tokenize("the")) + len(
        expected.tokens
    )  # tokens before the first position that plain decoding does not meet

    def fail(ids, scores, last: int):
        if len(ids) >= last:
            raise LookupError("too far")
        return scores

    for strategy in STRATEGIES:
        way = {"strategy": strategy, "draft_nodes": 20, "stop": stop, **given}
        ours = generator.generate(
            "the", logits_processor=lambda ids, scores: fail(ids, scores, reached), **way
        )
        assert (ours.tokens, ours.text) == (expected.tokens, expected.text)
        with generator.stream(
            "the", logits_processor=lambda ids, scores: fail(ids, scores, reached - 3), **way
        ) as stream:
            with pytest.raises(LookupError, match="too far"):
                list(stream)
            assert stream.tokens == expected.tokens[:-3]


def test_a_failing_processor_leaves_the_generator_usable(generator: Generator) -> None:
    """The caller gets the processor's own error."""

    def fail(ids, scores):
        raise LookupError("mine")

    with pytest.raises(LookupError, match="mine"):
        generator.generate("the", logits_processor=fail)
    with pytest.raises(TypeError, match="must return an array of 515"):
        generator.generate("the", logits_processor=lambda ids, scores: scores[:3])
    assert len(generator.generate("the", max_tokens=3).tokens) == 3


def test_a_finished_generation_lets_go_of_its_processor(generator: Generator) -> None:
    """The generator keeps no reference to it."""

    class Processor:
        def __call__(self, ids, scores):
            return scores

    processor = Processor()
    gone = weakref.ref(processor)
    generator.generate("the", max_tokens=3, logits_processor=processor)
    del processor
    gc.collect()
    assert gone() is None
