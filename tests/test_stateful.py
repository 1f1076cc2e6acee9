"""Calls in any order give the texts of plain decoding: hypothesis chooses what comes next."""

from __future__ import annotations

import asyncio
import functools
import itertools
import os
import pickle
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule, run_state_machine_as_test

import tiny
from conftest import CHAT
from ersd import Generator, State, Stream

pytestmark = pytest.mark.no_sanitizer

# A context that answers fill, so that it is shifted.
LOADING: dict[str, Any] = {"n_ctx": 80, "n_ctx_total": 300, "n_threads": 1, "context_shift": True}
PROMPTS = ("the", "the rain of", "日本 the", "of " * 15, "the rain of the a in and to")
WAYS: tuple[dict[str, Any], ...] = (
    {"draft_nodes": 8},
    {"draft_nodes": 4, "strategy": "sequence"},
    {"draft_nodes": 16, "strategy": "tree"},
    {"draft_nodes": 3, "method": "match"},
    {"draft_nodes": 6, "references": ["the rain of the a in", [300, 301, 302]]},
    {"draft_nodes": 5, "prediction": "the rain of the a in and to"},
    {"method": "ar"},
    {},
)
WAY = st.sampled_from(WAYS)


class Call(NamedTuple):
    """A prompt and the options that its text depends on."""

    prompt: str
    options: tuple[tuple[str, Any], ...]


CALLS = st.builds(
    lambda prompt, **options: Call(prompt, tuple(options.items())),
    st.sampled_from(PROMPTS),
    seed=st.integers(0, 3),
    max_tokens=st.sampled_from([0, 1, 5, 90]),
    temperature=st.sampled_from([0.0, 1.0]),
    top_k=st.sampled_from([0, 3]),
    repeat_penalty=st.sampled_from([1.0, 1.3]),
    stop=st.sampled_from([(), ("a",), ("é", "the")]),
    regex=st.sampled_from([None, "[a-h ]*"]),
)


class Talk(RuleBasedStateMachine):
    """One Generator with a draft that everything happens to, and one that decodes plainly."""

    ours: Generator
    plain: Generator

    def __init__(self) -> None:
        """Begins with empty caches."""
        super().__init__()
        self.streams: list[tuple[Call, Stream]] = []
        self.states: list[State] = []
        self.ours.reset()

    @classmethod
    def load(cls, folder: Path) -> None:
        """Loads the models, once for all runs."""
        target, draft = (
            tiny.write_llama(
                folder / f"any{noise}.gguf", noise=noise, chat_template=CHAT, ends=True
            )
            for noise in (0, 0.15)
        )
        cls.ours = Generator(target, draft, **LOADING)
        cls.plain = Generator(target, exact=True, **LOADING)

    @classmethod
    @functools.cache
    def expected(cls, call: Call) -> tuple[list[int], str, str]:
        """Returns what plain decoding gives."""
        cls.plain.reset()
        result = cls.plain.generate(call.prompt, method="ar", **dict(call.options))
        return result.tokens, result.text, result.finish_reason

    def check(self, call: Call, answer: Any) -> None:
        """Compares an answer with plain decoding."""
        assert (answer.tokens, answer.text, answer.finish_reason) == self.expected(call)

    @rule(call=CALLS, way=WAY)
    def generate(self, call: Call, way: dict[str, Any]) -> None:
        """A whole answer."""
        self.check(call, self.ours.generate(call.prompt, **dict(call.options), **way))

    @rule(call=CALLS, wrong_end=st.booleans())
    def predict(self, call: Call, wrong_end: bool) -> None:
        """An answer that is expected, wholly or up to its middle."""
        tokens = list(self.expected(call)[0])
        if wrong_end:
            tokens[len(tokens) // 2 :] = [300, 5, 5]
        way = {"prediction": tokens, "draft_sources": ["prediction"], "draft_nodes": 8}
        self.check(call, self.ours.generate(call.prompt, **dict(call.options), **way))

    @rule(call=CALLS, prompts=st.lists(st.sampled_from(PROMPTS), max_size=6), way=WAY)
    def batch(self, call: Call, prompts: list[str], way: dict[str, Any]) -> None:
        """Several prompts with the same options."""
        options = dict(call.options)
        seeds = [options.pop("seed")] * len(prompts)
        results = self.ours.generate_batch(prompts, seed=seeds, **options, **way)
        for prompt, result in zip(prompts, results, strict=True):
            self.check(call._replace(prompt=prompt), result)

    @rule(calls=st.lists(CALLS, max_size=5), n_read=st.integers(0, 5))
    def requests(self, calls: list[Call], n_read: int) -> None:
        """Several prompts with options of their own, of which only the first results are read."""
        given: list[Any] = [(call.prompt, dict(call.options)) for call in calls]
        results = self.ours.generate_requests(given)
        for i, result in itertools.islice(results, n_read):
            self.check(calls[i], result)
        results.close()

    @rule(calls=st.lists(CALLS, min_size=2, max_size=3), way=WAY)
    def gather(self, calls: list[Call], way: dict[str, Any]) -> None:
        """Several answers in an event loop."""

        async def all_of_them() -> list[Any]:
            return await asyncio.gather(
                *(self.ours.agenerate(each.prompt, **dict(each.options), **way) for each in calls)
            )

        for call, answer in zip(calls, asyncio.run(all_of_them()), strict=True):
            self.check(call, answer)

    @rule(call=CALLS, way=WAY, n=st.integers(0, 3))
    def cancel(self, call: Call, way: dict[str, Any], n: int) -> None:
        """An answer in an event loop, whose task is cancelled after some steps."""

        async def begin() -> None:
            taken = asyncio.Event()

            async def take() -> None:
                try:
                    stream = self.ours.astream(call.prompt, **dict(call.options), **way)
                    async for _ in stream:
                        seen.append(stream.text)
                        if len(seen) >= n:
                            taken.set()
                finally:
                    taken.set()

            seen: list[str] = []
            task = asyncio.create_task(take())
            if n > 0:
                await taken.wait()
            task.cancel()
            await asyncio.wait([task])
            if not task.cancelled():
                task.result()
            assert all(self.expected(call)[1].startswith(text) for text in seen)

        asyncio.run(begin())

    @rule(call=CALLS)
    def chat(self, call: Call) -> None:
        """A message, whose prompt the template makes."""
        message = [{"role": "user", "content": call.prompt}]
        options = dict(call.options)
        prompt = self.ours.apply_chat_template(message)
        self.plain.reset()
        expected = self.plain.generate(prompt, method="ar", **options).tokens
        assert self.ours.chat(message, draft_nodes=6, **options).tokens == expected

    @precondition(lambda self: len(self.streams) < 6)
    @rule(call=CALLS, way=WAY)
    def begin(self, call: Call, way: dict[str, Any]) -> None:
        """A stream is made; more of them than run at once."""
        self.streams.append((call, self.ours.stream(call.prompt, **dict(call.options), **way)))

    @precondition(lambda self: self.streams)
    @rule(i=st.integers(0, 5), n=st.integers(1, 4))
    def step(self, i: int, n: int) -> None:
        """A stream goes on."""
        call, stream = self.streams[i % len(self.streams)]
        for _ in range(n):
            next(stream, None)
        text = self.expected(call)[1]
        assert text.startswith(stream.text)

    @precondition(lambda self: self.streams)
    @rule(i=st.integers(0, 5))
    def finish(self, i: int) -> None:
        """A stream is read to its end."""
        call, stream = self.streams.pop(i % len(self.streams))
        for _ in stream:
            pass
        self.check(call, stream)

    @precondition(lambda self: len(self.streams) > 1)
    @rule()
    def finish_all(self) -> None:
        """All streams are read to their ends, each by a thread of its own."""
        with ThreadPoolExecutor(len(self.streams)) as threads:
            list(threads.map(lambda each: list(each[1]), self.streams))
        for call, stream in self.streams:
            self.check(call, stream)
        self.streams = []

    @precondition(lambda self: self.streams)
    @rule(i=st.integers(0, 5), close=st.booleans())
    def leave(self, i: int, close: bool) -> None:
        """A stream is closed, or just dropped."""
        _, stream = self.streams.pop(i % len(self.streams))
        if close:
            stream.close()

    @rule()
    def reset(self) -> None:
        """The caches are emptied under running streams."""
        self.ours.reset()

    @rule()
    def save(self) -> None:
        """The state of the answer that ended last is kept, as bytes in between."""
        self.states = [pickle.loads(pickle.dumps(self.ours.save_state()))]

    @precondition(lambda self: self.states)
    @rule()
    def load_state(self) -> None:
        """A state is loaded, unless streams are under way."""
        if any(stream.tokens and not stream.finish_reason for _, stream in self.streams):
            with pytest.raises(RuntimeError, match="while requests are under way"):
                self.ours.load_state(self.states[-1])
        else:
            self.ours.load_state(self.states[-1])

    @rule(wrong=st.sampled_from([{"top_p": -1}, {"seed": 1.5}, {"stop": 5}, {"regex": "("}]))
    def mistake(self, wrong: dict[str, Any]) -> None:
        """A wrong option disturbs nothing."""
        with pytest.raises((ValueError, TypeError)):
            self.ours.generate("the", **wrong)

    @rule()
    def forget(self) -> None:
        """What is known of the draft is forgotten."""
        self.ours.forget()

    def teardown(self) -> None:
        """Ends what is under way."""
        for _, stream in self.streams:
            stream.close()


def test_any_order_of_calls(tmp_path_factory: pytest.TempPathFactory) -> None:
    """ERSD_FULL=1 tries many more orders."""
    Talk.load(tmp_path_factory.mktemp("stateful"))
    n = 200 if os.environ.get("ERSD_FULL") else 5
    run_state_machine_as_test(
        Talk,
        settings=settings(
            max_examples=n,
            stateful_step_count=20,
            deadline=None,
            derandomize=n == 5,
            database=None,
            suppress_health_check=list(HealthCheck),
        ),
    )
