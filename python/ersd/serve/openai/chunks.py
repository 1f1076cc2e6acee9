"""What chat completions and text completions have in common: whole answers and their chunks."""

from __future__ import annotations

import hashlib
import json
import time
import uuid
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from typing import Any

import ersd
from ersd import Generator
from ersd.engine.draft_texts import shown_sources
from ersd.results import Step, TokenLogprob
from ersd.serve.openai.accounts import record, timings, usage
from ersd.serve.openai.answer import Answer, event
from ersd.serve.openai.choices import ChoicesRequest
from ersd.serve.openai.generations import Generations
from ersd.serve.server import Server

__all__ = ["ChunkedAnswer"]

_MARK = f"text {uuid.uuid4().hex}"  # stands for a text


class ChunkedAnswer(Answer):
    """Writes answers whose events are chunks of the whole one."""

    prefix: str  # of the identifier
    kind: str  # the "object" of a whole answer
    chunk_kind: str  # that of a chunk

    def __init__(self, server: Server, generations: Generations, asked: ChoicesRequest) -> None:
        """Prepares an answer.

        Args:
            server: has the models.
            generations: the choices.
            asked: the request.
        """
        self._generator = server.generator
        self._generations = generations
        self._tells_usage = bool(asked.stream_options and asked.stream_options.include_usage)
        self._tells_drafts = bool(asked.draft_trees)
        self._tells_timings = bool(asked.timings_per_token)
        self._tells_logprobs = any(each.logprobs is not None for each in generations.streams)
        self._frames: dict[int, tuple[bytes, bytes]] = {}  # by choice, see _text_event
        # Steps that no chunk has told of, as when their text is held back.
        self._pending: list[list[Step]] = [[] for _ in generations.streams]
        self._head = {
            "id": f"{self.prefix}{uuid.uuid4().hex}",
            "created": int(time.time()),
            "model": server.model_name,
            "system_fingerprint": _fingerprint(self._generator),
        }

    @abstractmethod
    def _whole_choice(self, i: int) -> dict[str, Any]:
        """Returns what choice i says, in the form of a whole answer."""

    @abstractmethod
    def _said(self, i: int, text: str, *, is_last: bool = False) -> Iterator[str | dict[str, Any]]:
        """Yields what the next text of choice i says: text, or something in the form of chunks."""

    @abstractmethod
    def _text(self, text: str) -> dict[str, Any]:
        """Returns a text in the form of chunks."""

    @abstractmethod
    def _nothing(self) -> dict[str, Any]:
        """Returns what the chunk at the end of a choice says."""

    @abstractmethod
    def _finish_reason(self, i: int) -> str | None:
        """Returns why choice i has ended."""

    @abstractmethod
    def _logprobs(self, i: int, logprobs: Sequence[TokenLogprob]) -> dict[str, Any]:
        """Returns the log-probabilities that come next in choice i."""

    def whole(self) -> dict[str, Any]:
        """See `Answer`."""
        choices = []
        for i, stream in enumerate(self._generations.streams):
            said = self._whole_choice(i)  # which may decide the finish reason
            choices.append(self._choice(i, said, stream.logprobs, self._finish_reason(i)))
        head = {**self._head, "object": self.kind, "choices": choices}
        return {**head, "usage": usage(self._generations), **record(self._generations)}

    def step(self, i: int, step: Step) -> Iterator[bytes]:
        """See `Answer`."""
        self._pending[i].append(step)
        for said in self._said(i, step.text):
            yield self._chunk(i, said)

    def end_choice(self, i: int, *, is_last: bool) -> Iterator[bytes]:
        """See `Answer`."""
        for said in self._said(i, "", is_last=True):
            yield self._chunk(i, said)
        ending = record(self._generations) if is_last else {}
        yield self._chunk(i, self._nothing(), self._finish_reason(i), ending)
        if is_last and self._tells_usage:
            yield self._event({"choices": [], "usage": usage(self._generations), **ending})

    def _chunk(
        self,
        i: int,
        said: str | dict[str, Any],
        finish_reason: str | None = None,
        ending: dict[str, Any] | None = None,
    ) -> bytes:
        steps, self._pending[i] = self._pending[i], []
        if isinstance(said, str):
            if not (self._tells_drafts or self._tells_timings or self._tells_logprobs):
                return self._text_event(i, said)
            said = self._text(said)
        logprobs = [each for step in steps for each in step.logprobs or ()]
        choice = self._choice(i, said, logprobs, finish_reason)
        if self._tells_drafts:
            choice["draft"] = _draft_of(self._generator, steps)
        data: dict[str, Any] = {"choices": [choice]}
        if self._tells_usage:
            data["usage"] = None
        if self._tells_timings and steps:
            data["timings"] = timings(self._generations)
        return self._event({**data, **(ending or {})})

    def _text_event(self, i: int, text: str) -> bytes:
        """Returns the chunk of a text. All chunks of a choice are alike but for their texts.

        One is written for each token of each choice while the next call of the model waits for a
        core, so only the text is converted.
        """
        if i not in self._frames:
            whole = self._chunk(i, self._text(_MARK))
            before, _, after = whole.partition(json.dumps(_MARK).encode())
            self._frames[i] = before, after
        before, after = self._frames[i]
        return b"%b%b%b" % (before, json.dumps(text).encode(), after)

    def _choice(
        self,
        i: int,
        said: dict[str, Any],
        logprobs: Sequence[TokenLogprob] | None,
        finish_reason: str | None,
    ) -> dict[str, Any]:
        return {
            "index": i,
            **said,
            "logprobs": self._logprobs(i, logprobs) if logprobs else None,
            "finish_reason": finish_reason,
        }

    def _event(self, data: dict[str, Any]) -> bytes:
        return event({**self._head, "object": self.chunk_kind, **data})


def _fingerprint(generator: Generator) -> str:
    """Returns what the text of a seed depends on beside the request, as one word."""
    target = generator.target
    what = f"{target.description} {target.n_params} {target.size} {generator.exact.holds}"
    return f"ersd-{ersd.__version__}-{hashlib.sha256(what.encode()).hexdigest()[:10]}"


def _draft_of(generator: Generator, steps: Sequence[Step]) -> dict[str, Any]:
    """Returns what drafted the tokens of a chunk, and the tree of its last step.

    The first n_accepted tokens of a step were drafted. Node 0 of a tree is the token before the
    step, and nodes come after their parents. If several sources drafted a token, its "source" is
    the first of them, and a tree has all of them.
    """
    tokens = [
        {
            "id": token,
            "text": generator.detokenize([token]),
            "source": shown_sources(step.sources[i])[0] if i < step.n_accepted else None,
        }
        for step in steps
        for i, token in enumerate(step.tokens)
    ]
    last = steps[-1].tree if steps else None
    tree = last and {
        "tokens": [generator.detokenize([token]) for token in last.tokens],
        "parents": last.parents,
        "accepted": last.accepted,
        "sources": [shown_sources(sources) for sources in last.sources],
    }
    return {"tokens": tokens, "tree": tree}
