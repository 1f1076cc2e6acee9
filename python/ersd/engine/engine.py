"""Generation: whole answers, streams of steps, batches of prompts, and ranks."""

from __future__ import annotations

import contextlib
from collections.abc import Generator, Iterable, Iterator, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, Literal, cast, overload

import numpy as np

from ersd import _core
from ersd.arguments import text, token_ids
from ersd.engine.answer import result_of
from ersd.engine.async_stream import AsyncStream
from ersd.engine.batch import BatchItem, results_as_they_end
from ersd.engine.known_pair import KnownPair
from ersd.engine.options import Options, check_max_tokens, core_options, takes_options
from ersd.engine.seeds import check_seed, seeds_of_batch
from ersd.engine.stream import Stream, ranked_positions
from ersd.engine.traffic import Traffic
from ersd.grammars import parser_of
from ersd.progress import Progress
from ersd.results import Position, Result, TokenLogprob

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Engine"]

_LOGPROB_ROWS = 128  # tokens of a call whose logits are all kept


class Engine(KnownPair):
    """Generates with a target and perhaps a draft. All methods may be used from many threads.

    Up to n_parallel generations run at once. They share the calls of the target.
    """

    @takes_options
    def generate(self, prompt: str | Sequence[int], **options: Unpack[Options]) -> Result:
        """Generates an answer. The arguments and the errors are those of `stream`.

        Ctrl-C stops within one step and leaves the Generator usable.
        """
        with self.stream(prompt, **options) as stream:
            for _ in stream:
                pass
        return result_of(stream, parser_of(options.get("response_format")))

    @takes_options
    def stream(self, prompt: str | Sequence[int], **options: Unpack[Options]) -> Stream:
        """Generates step by step: returns an iterator over `Step`, one for each target call.

        Args:
            prompt: token ids, or text, in which special tokens like ``<|im_start|>`` are parsed.
            options: see `ersd.Options`.

        Raises:
            TypeError: an option is unknown or of the wrong type.
            ValueError: an option is out of range, the prompt is empty or does not fit the context,
                or an answer cannot be held to a grammar or a schema.
            RuntimeError: while the stream runs: a grammar and other options together leave no
                token, or a logits processor uses the Generator that calls it.
        """
        seed = check_seed(options.get("seed"))
        chosen = core_options(options, seed, self._grammars, self._texts)
        return Stream(self._shared, self._prompt(prompt), chosen, seed)

    @overload
    def generate_batch(
        self,
        prompts: Sequence[str | Sequence[int]],
        *,
        progress: bool = False,
        return_exceptions: Literal[False] = False,
        seed: int | Sequence[int] | None = None,
        **options: Any,
    ) -> list[Result]: ...

    @overload
    def generate_batch(
        self,
        prompts: Sequence[str | Sequence[int]],
        *,
        progress: bool = False,
        return_exceptions: bool,
        seed: int | Sequence[int] | None = None,
        **options: Any,
    ) -> list[Result | Exception]: ...

    @takes_options
    def generate_batch(
        self,
        prompts: Sequence[str | Sequence[int]],
        *,
        progress: bool = False,
        return_exceptions: bool = False,
        seed: int | Sequence[int] | None = None,
        **options: Any,
    ) -> list[Result] | list[Result | Exception]:
        """Generates an answer to each prompt, n_parallel at a time, and returns them in order.

        Args:
            prompts: texts or token ids. There may be many, because only a few are under way at a
                time.
            progress: whether stderr shows how many answers are finished.
            return_exceptions: whether the error of a prompt stands in place of its result, while
                the other prompts go on. Otherwise the first error is raised and ends all of them.
            seed: None or -1 draws a seed for each prompt. Another int is that of the first prompt,
                and prompt i has the seed ``seed + i``. A sequence holds one seed for each prompt.
            options: see `ersd.Options`. All prompts have the same ones, so the same logits
                processors are called for all of them, in turn.

        Raises:
            TypeError, ValueError, RuntimeError: as `stream`. Unless return_exceptions is true, all
                options and prompts are checked before the first one is read.
        """
        if isinstance(prompts, str):
            raise TypeError(f"prompts must be a sequence of prompts, got the text {prompts!r}")
        if not isinstance(prompts, Sequence | np.ndarray):
            raise TypeError(f"prompts must be a sequence of prompts, got {prompts!r}")
        seeds = seeds_of_batch(seed, len(prompts))
        core_options(cast(Options, options), 0, self._grammars, self._texts)
        for prompt in () if return_exceptions else prompts:
            self._prompt(prompt)
        bar = Progress("generate_batch", len(prompts)) if progress else None
        seeded = [cast(Options, {**options, "seed": each}) for each in seeds]
        given = list(zip(prompts, seeded, strict=True))
        results: dict[int, Result | Exception] = {}
        with contextlib.closing(self.generate_requests(given)) as ended:
            for i, result in ended:
                if isinstance(result, Exception) and not return_exceptions:
                    raise result
                results[i] = result
                if bar:
                    bar.step()
        return [results[i] for i in range(len(prompts))]

    def generate_requests(
        self, requests: Iterable[tuple[str | Sequence[int], Options]]
    ) -> Generator[tuple[int, Result | Exception], None, None]:
        """Generates an answer to each request, n_parallel at a time, and yields them as they end.

        >>> for i, result in gen.generate_requests([("One", {"seed": 1}), ("Two", {"top_k": 5})]):
        ...     print(i, result)

        Args:
            requests: prompts with their options, see `stream` and `ersd.Options`. They are taken as
                places become free, so there may be any number of them.

        Yields:
            The index of a request, from 0 on, and its result or the error by which it ended.
        """

        def submit(prompt: str | Sequence[int], options: Options) -> BatchItem:
            parse = parser_of(options.get("response_format"))
            seed = check_seed(options.get("seed"))
            chosen = core_options(options, seed, self._grammars, self._texts)
            return BatchItem(self._shared, self._prompt(prompt), chosen, seed, parse)

        submits = (partial(submit, *request) for request in requests)
        return results_as_they_end(self._shared, submits)

    @takes_options
    async def agenerate(self, prompt: str | Sequence[int], **options: Unpack[Options]) -> Result:
        """Generates an answer in an event loop. The arguments and the errors are those of `stream`.

        The event loop goes on meanwhile, because a thread makes the steps. Many tasks may wait, in
        several event loops, too. Cancelling a task ends its generation.
        """
        async with self._astream(prompt, options, at_once=False) as stream:
            async for _ in stream:
                pass
        return result_of(stream, parser_of(options.get("response_format")))

    @takes_options
    def astream(self, prompt: str | Sequence[int], **options: Unpack[Options]) -> AsyncStream:
        """Generates step by step in an event loop: returns an asynchronous iterator over `Step`.

        >>> async for step in gen.astream("Once upon a time"):
        ...     print(step.text, end="")

        The arguments and the errors are those of `stream`; see also `agenerate`.
        """
        return self._astream(prompt, options, at_once=True)

    def _astream(
        self, prompt: str | Sequence[int], options: Options, *, at_once: bool
    ) -> AsyncStream:
        seed = check_seed(options.get("seed"))
        chosen = core_options(options, seed, self._grammars, self._texts)
        return AsyncStream(self._driver, self._prompt(prompt), chosen, seed, at_once=at_once)

    def prompt_logprobs(self, prompt: str | Sequence[int], n: int = 0) -> list[TokenLogprob]:
        """Returns the log-probabilities of a prompt's tokens, except the first.

        The prompt is read for that, with a cache of its own, which is freed at the end.

        Args:
            prompt: text or token ids.
            n: how many of the most probable tokens each token has beside it.

        Raises:
            TypeError, ValueError: the prompt is none that `stream` takes, or n is out of range.
            RuntimeError: llama.cpp has no memory for another cache.
        """
        tokens = self._prompt(prompt)
        sizes = {"n_ctx": len(tokens), "n_batch": _LOGPROB_ROWS, "n_threads": self._core.n_threads}
        reader = _core.RowReader(self._core.target, **sizes, **self._context_options)
        found = reader.logprobs(tokens, n)
        return [TokenLogprob(each.token, each.logprob, each.top) for each in found]

    def ranks(
        self,
        prompt: str | Sequence[int],
        *,
        max_tokens: int | None = 128,
        temperature: float = 1.0,
        top_k: int = 0,
        top_p: float = 1.0,
        min_p: float = 0.0,
        seed: int | None = None,
        method: str = "ersd",
        logits: bool = False,
    ) -> Iterator[Position]:
        """Yields the rank of the target's token in the draft's order, position by position.

        Each position runs both models once. These ranks tell what any tree would have accepted; see
        `ersd.ranks`. With races the text is that of `generate`. With rejection sampling it is
        another sample of the same distribution. An end token is the last position.

        Args:
            prompt: text or token ids.
            max_tokens: the largest number of positions; None or -1 for the rest of the context.
            temperature: see `ersd.Options`, also for top_k, top_p and min_p. Unlike there, the
                defaults keep every token.
            top_k: 0 keeps all tokens.
            top_p: 1 keeps all tokens.
            min_p: 0 keeps all tokens.
            seed: None draws a random seed.
            method: any method except "ar" and "block".
            logits: whether positions carry the logits of both models.

        Raises:
            ValueError: as for `stream`; or there is no draft model; or the method is "ar", which
                does not use the draft, or "block", which decides on whole chains.
        """
        options = _core.GenerationOptions(
            max_tokens=check_max_tokens(max_tokens),
            temperature=temperature,
            top_k=top_k,
            top_p=top_p,
            min_p=min_p,
            seed=check_seed(seed),
            method=method,
            adapt_draft=False,
        )
        if self.draft is None or method in ("ar", "block"):
            raise ValueError(
                "ranks are places in a draft's order: "
                "they need a draft model and a method other than 'ar' and 'block'"
            )
        return ranked_positions(self._shared, self._prompt(prompt), options, logits)

    @property
    def traffic(self) -> Traffic:
        """How many generations run and wait, and the calls, rows and tokens so far."""
        return Traffic(**self._core.traffic())

    def _prompt(self, prompt: str | Sequence[int]) -> list[int]:
        """Returns the prompt as token ids. Raises TypeError or ValueError if it cannot be one."""
        if isinstance(prompt, str):
            tokens = self.tokenize(text("prompt", prompt))
        else:
            tokens = token_ids("prompt", prompt)
        self._core.check_prompt(tokens)
        return tokens
