"""Generation: whole answers, streams of steps, and ranks."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import TYPE_CHECKING

from ersd import _core
from ersd.engine.loaded_models import LoadedModels
from ersd.engine.options import Options, check_max_tokens, check_seed, core_options, takes_options
from ersd.engine.stream import Stream, ranked_positions
from ersd.results import Position, Result

if TYPE_CHECKING:
    from typing_extensions import Unpack

__all__ = ["Engine"]


class Engine(LoadedModels):
    """Generates with a target and perhaps a draft. One generation runs at a time."""

    @takes_options
    def generate(self, prompt: str | Sequence[int], **options: Unpack[Options]) -> Result:
        """Generates an answer. The arguments and the errors are those of `stream`.

        Ctrl-C stops within one step and leaves the Generator usable.
        """
        with self.stream(prompt, **options) as stream:
            for _ in stream:
                pass
        assert stream.finish_reason is not None
        return Result(
            stream.text,
            stream.tokens,
            stream.finish_reason,
            stream.seed,
            stream.stats,
            stream.logprobs,
        )

    @takes_options
    def stream(self, prompt: str | Sequence[int], **options: Unpack[Options]) -> Stream:
        """Generates step by step: returns an iterator over `Step`, one for each target call.

        Args:
            prompt: token ids, or text, in which special tokens like ``<|im_start|>`` are parsed.
            options: see `ersd.Options`.

        Raises:
            TypeError: an option is unknown or of the wrong type.
            ValueError: an option is out of range, the prompt is empty or does not fit the context,
                or llama.cpp does not understand a grammar or a schema.
            RuntimeError: this thread has an open stream of this Generator. While the stream runs:
                a grammar and other options together leave no token.
        """
        seed = check_seed(options.get("seed"))
        chosen = core_options(options, seed)
        return Stream(self._core, self._lock, self._prompt(prompt), chosen, seed)

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
            method: any method except "ar".
            logits: whether positions carry the logits of both models.

        Raises:
            ValueError: as for `stream`; or there is no draft model; or the method is "ar", which
                does not use the draft.
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
        if self.draft is None or method == "ar":
            raise ValueError(
                "ranks are places in a draft's order: "
                "they need a draft model and a method other than 'ar'"
            )
        return ranked_positions(self._core, self._lock, self._prompt(prompt), options, logits)

    def _prompt(self, prompt: str | Sequence[int]) -> list[int]:
        """Returns the prompt as token ids. Raises ValueError if it cannot be a prompt."""
        if isinstance(prompt, str):
            prompt = self.tokenize(prompt)
        tokens = [int(token) for token in prompt]
        self._core.check_prompt(tokens)
        return tokens
