"""The text that a Llama has read: its tokens, their logits, and tokens that follow it."""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Generator, Iterator, Mapping, Sequence
from typing import Any, TypeAlias, cast

import numpy as np
import numpy.typing as npt

from ersd import arguments
from ersd.api.completion import with_criteria
from ersd.api.parameters import Parameters, engine_options
from ersd.api.stopping_criteria import StoppingCriteria
from ersd.engine import RowReader
from ersd.engine.options import LogitsProcessor
from ersd.llama.arguments import DEFAULT_SEED
from ersd.llama.criteria import Criteria
from ersd.llama.embedding import EmbeddingLlama
from ersd.llama.state import LlamaState

__all__ = ["EvaluatingLlama"]

Processors: TypeAlias = LogitsProcessor | Sequence[LogitsProcessor]

# Parameters with the names that they have in completions.
_SAMPLING = [
    *("top_k", "top_p", "min_p", "typical_p", "tfs_z", "mirostat_mode", "repeat_penalty"),
    *("frequency_penalty", "presence_penalty", "grammar", "logits_processor"),
]


class EvaluatingLlama(EmbeddingLlama):
    """Reads tokens, samples the next one, and keeps states. See `ersd.Llama`.

    The text is `input_ids[:n_tokens]`. What the caches hold of it only saves work: the model reads
    it when a token is sampled, or when logits are asked for.
    """

    def __init__(self, model_path: str | os.PathLike[str], **arguments: Any) -> None:
        """Loads the model; see `ersd.Llama`."""
        super().__init__(model_path, **arguments)
        self.n_tokens = 0
        self.input_ids: npt.NDArray[np.intc] = np.zeros(self.n_ctx(), np.intc)
        self._logits_all = self._arguments.logits_all
        self._table: npt.NDArray[np.single] | None = None  # f32[n, n_vocab], the rows of scores
        self._in_table: list[int] = []  # the tokens whose rows are in the table
        self._in_rows: list[int] = []  # the tokens in the cache of the reader of rows
        self._begins: list[int] = []  # at which tokens of the text a call of eval began

    @property
    def _input_ids(self) -> npt.NDArray[np.intc]:
        return self.input_ids[: self.n_tokens]

    @property
    def eval_tokens(self) -> deque[int]:
        """The tokens of the text."""
        return deque(self._input_ids.tolist(), maxlen=self.n_ctx())

    @property
    def scores(self) -> npt.NDArray[np.single]:
        """The logits of each token of the text; f32[n_ctx, n_vocab], zeros after the text.

        They are computed when they are asked for, if the constructor got logits_all=True. Otherwise
        all are zero, and there are n_batch rows, as in llama-cpp-python.
        """
        table, text = self._rows_of_scores(), self._input_ids.tolist()
        if self._logits_all and self._in_table[: len(text)] != text:
            known = self.longest_token_prefix(self._in_table, text)
            begin = min(known, self.longest_token_prefix(self._in_rows, text))
            # In the same calls as the text came: others give other last bits.
            for end in [*(end for end in self._begins if end > begin), len(text)]:
                table[begin:end] = self._reader().read(text[begin:end], begin)
                self._in_rows, begin = text[:end], end
            self._in_table = text
        return table

    def _rows_of_scores(self) -> npt.NDArray[np.single]:
        if self._table is None:
            n_rows = self.n_ctx() if self._logits_all else self.n_batch
            self._table = np.zeros((n_rows, self.n_vocab()), np.single)
        return self._table

    def _reader(self) -> RowReader:
        if self._rows is None:
            self._rows = RowReader(self.generator.target, **self._arguments.context_options())
        return self._rows

    @property
    def _scores(self) -> npt.NDArray[np.single]:
        return self.scores[: self.n_tokens]

    @property
    def eval_logits(self) -> deque[list[float]]:
        """The logits of the text's tokens, or of the last one without logits_all."""
        return deque(self._scores.tolist(), maxlen=self.n_ctx() if self._logits_all else 1)

    def reset(self) -> None:
        """Forgets the text, and what the caches hold of it."""
        self.n_tokens = 0
        self.generator.reset()

    def eval(self, tokens: Sequence[int]) -> None:
        """Appends tokens to the text.

        Raises:
            TypeError: they are no list of integers.
            ValueError: a token is not in the vocabulary, or the context has no room.
        """
        added = arguments.token_ids("tokens", tokens, "a list of token ids")
        n, n_vocab = self.n_tokens + len(added), self.n_vocab()
        if n > self.n_ctx():
            raise ValueError(f"eval: the text must have at most {self.n_ctx()} tokens, got {n}")
        for token in added:
            if not 0 <= token < n_vocab:
                raise ValueError(f"eval: tokens must be between 0 and {n_vocab - 1}, got {token}")
        self._begins = [*(begin for begin in self._begins if begin < self.n_tokens), self.n_tokens]
        self.input_ids[self.n_tokens : n] = added
        self.n_tokens = n

    def _set_text(self, tokens: Sequence[int], n_prompt: int | None = None) -> None:
        """Replaces the text. What follows the first n_prompt tokens was read one by one."""
        n = len(tokens)
        self.input_ids[:n] = tokens
        self.n_tokens = n
        self._begins = list(range(n if n_prompt is None else n_prompt, n))

    def sample(
        self,
        top_k: int = 40,
        top_p: float = 0.95,
        min_p: float = 0.05,
        typical_p: float = 1.0,
        temp: float = 0.80,
        repeat_penalty: float = 1.0,
        frequency_penalty: float = 0.0,
        presence_penalty: float = 0.0,
        tfs_z: float = 1.0,
        mirostat_mode: int = 0,
        mirostat_eta: float = 0.1,
        mirostat_tau: float = 5.0,
        penalize_nl: bool = True,
        logits_processor: Processors | None = None,
        grammar: Any = None,
        idx: int | None = None,
    ) -> int:
        """Returns a token that follows the text, or its first idx + 1 tokens.

        The token is a function of text, seed and options. For the options see `create_completion`.

        Raises:
            ValueError: there is no text, or an option cannot be honoured.
        """
        given = _parameters(locals())
        text = self._input_ids.tolist()[: None if idx is None else idx + 1]
        with self.generator.stream(text, **self._options(given, max_tokens=1)) as stream:
            for _ in stream:
                pass
        if stream.tokens:
            return stream.tokens[0]
        assert stream.end_token is not None  # an answer without tokens ends by one
        return stream.end_token

    def _options(self, given: Parameters, *, max_tokens: int | None) -> dict[str, Any]:
        given |= {"max_tokens": max_tokens, "seed": self._next_seed(), "stop": ()}
        return engine_options(given, self._penalties())

    def _penalties(self) -> dict[str, Any]:
        """Returns the options of penalties, which see answers alone in llama-cpp-python."""
        return {"penalty_last_n": self.last_n_tokens_size, "penalize_prompt": False}

    def _next_seed(self) -> int | None:
        """Returns the seed as llama.cpp takes it, in 32 bits; None for a random one."""
        seed = self._seed & 0xFFFFFFFF
        return None if seed == DEFAULT_SEED else seed

    def generate(
        self,
        tokens: Sequence[int],
        top_k: int = 40,
        top_p: float = 0.95,
        min_p: float = 0.05,
        typical_p: float = 1.0,
        temp: float = 0.80,
        repeat_penalty: float = 1.0,
        reset: bool = True,
        frequency_penalty: float = 0.0,
        presence_penalty: float = 0.0,
        tfs_z: float = 1.0,
        mirostat_mode: int = 0,
        mirostat_tau: float = 5.0,
        mirostat_eta: float = 0.1,
        penalize_nl: bool = True,
        logits_processor: Processors | None = None,
        stopping_criteria: StoppingCriteria | Sequence[StoppingCriteria] | None = None,
        grammar: Any = None,
    ) -> Iterator[int]:
        """Yields tokens that follow a prompt, end tokens included, until the context is full.

        After an end token it goes on, unless there is a grammar. The text grows with the tokens:
        it has those that were yielded, without the last one. The prompt replaces the text, or is
        appended to it if reset is false. Stopping criteria are callables
        ``(input_ids, logits) -> bool``. For the other options and the errors see
        `create_completion`.
        """
        given = _parameters(locals())
        criteria = Criteria(stopping_criteria)
        watched = None if stopping_criteria is None else criteria
        given["logits_processor"] = with_criteria(self.generator, watched, logits_processor)
        options = self._options(given, max_tokens=None)
        prompt = arguments.token_ids("tokens", tokens, "a list of token ids")
        text = prompt if reset else [*self._input_ids.tolist(), *prompt]
        while True:
            end = yield from self._tokens(text, options)
            if end is None or criteria.held:
                return
            text = [*self._input_ids.tolist(), end]
            yield end
            if grammar is not None or len(text) >= self.n_ctx():
                return

    def _tokens(self, text: list[int], options: dict[str, Any]) -> Generator[int, None, int | None]:
        """Yields tokens up to an end token, and returns the latter."""
        with self.generator.stream(text, **options) as stream:
            self._set_text(text)
            for step in stream:
                for token in step.tokens:
                    yield token
                    self.eval([token])
        return stream.end_token

    def save_state(self) -> LlamaState:
        """Returns the text with what the caches hold of it."""
        text = self._input_ids.tolist()
        caches = self.generator.save_state()
        if text and self.longest_token_prefix(caches.tokens, text) < len(text) - 1:
            with self.generator.stream(text[: self.n_ctx() - 1], max_tokens=1, temperature=0) as s:
                next(s)
            caches = self.generator.save_state()
        scores = self._scores.copy() if self._logits_all else np.zeros((0, self.n_vocab()), "f4")
        return LlamaState(self.input_ids.copy(), scores, self.n_tokens, caches, self._seed)

    def load_state(self, state: LlamaState) -> None:
        """Returns to a saved text.

        Raises:
            TypeError: the state is not of `save_state`.
            ValueError: the state is of another model, or longer than the context.
        """
        if not isinstance(state, LlamaState):
            raise TypeError(f"load_state: expected a state of ersd.Llama.save_state, got {state!r}")
        if state.n_tokens > self.n_ctx():
            raise ValueError(
                f"load_state: the state has {state.n_tokens} tokens, "
                f"the context has room for {self.n_ctx()}"
            )
        self.generator.load_state(state.caches)
        text = state.input_ids[: state.n_tokens].tolist()
        self._set_text(text)
        self._seed = state.seed
        if self._logits_all and len(state.scores) == len(text):
            self._rows_of_scores()[: len(text)] = state.scores
            self._in_table = text

    @staticmethod
    def logits_to_logprobs(
        logits: npt.NDArray[np.single] | Sequence[float], axis: int = -1
    ) -> npt.NDArray[np.single]:
        """Returns the logarithms of the probabilities that logits stand for."""
        rows = np.asarray(logits, np.single)
        highest = rows.max(axis, keepdims=True)
        shifted = rows - np.where(np.isfinite(highest), highest, np.single(0))
        with np.errstate(divide="ignore"):
            summed: npt.NDArray[np.single] = np.log(np.exp(shifted).sum(axis, keepdims=True))
        return shifted - summed

    @staticmethod
    def longest_token_prefix(a: Sequence[int], b: Sequence[int]) -> int:
        """Returns how many tokens at the beginning of both are the same."""
        n = min(len(a), len(b))
        return next((i for i in range(n) if a[i] != b[i]), n)


def _parameters(given: Mapping[str, Any]) -> Parameters:
    """Returns the sampling parameters among the arguments of `sample` or `generate`."""
    found = {name: given[name] for name in _SAMPLING}
    return cast("Parameters", found | {"temperature": given["temp"]})
