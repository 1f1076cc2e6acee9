"""`Llama.create_completion` of llama-cpp-python, on the engine."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any

from ersd import arguments
from ersd.api.parameters import Parameters, engine_options
from ersd.api.responses import Response, Text, answer
from ersd.api.stopping_criteria import StoppingCriteria, stopping_processor
from ersd.engine import Engine
from ersd.engine.options import LogitsProcessor
from ersd.results import TokenLogprob

if TYPE_CHECKING:
    from llama_cpp.llama_grammar import LlamaGrammar

__all__ = ["create_completion", "prompt_to_complete", "with_criteria"]


def create_completion(
    self: Engine,
    prompt: str | Sequence[int],
    suffix: str | None = None,
    max_tokens: int | None = 16,
    temperature: float = 0.8,
    top_p: float = 0.95,
    min_p: float = 0.05,
    typical_p: float = 1.0,
    logprobs: int | None = None,
    echo: bool = False,
    stop: str | Sequence[str] | None = (),
    frequency_penalty: float = 0.0,
    presence_penalty: float = 0.0,
    repeat_penalty: float = 1.0,
    top_k: int = 40,
    stream: bool = False,
    seed: int | None = None,
    tfs_z: float = 1.0,
    mirostat_mode: int = 0,
    mirostat_tau: float = 5.0,
    mirostat_eta: float = 0.1,
    model: str | None = None,
    stopping_criteria: StoppingCriteria | Sequence[StoppingCriteria] | None = None,
    logits_processor: LogitsProcessor | Sequence[LogitsProcessor] | None = None,
    grammar: str | LlamaGrammar | None = None,
    logit_bias: Mapping[Any, float] | None = None,
    **options: Any,
) -> Response | Iterator[Response]:
    """Completes a prompt, like `Llama.create_completion`, with its parameters and dictionaries.

    Each choice also has "from_draft": how many of its tokens were drafted. A chunk of a stream
    comes from one target call or more, so it may have the logprobs of several tokens.

    Args:
        prompt: text or token ids.
        suffix: the text after the answer, for models with tokens for filling in a middle.
        logprobs: the number of alternatives per token; None for no logprobs.
        echo: whether the answer begins with the prompt, with logprobs too: see `prompt_logprobs`.
        stream: whether to return an iterator over chunks instead of a dictionary.
        model: the model's name in the answer; None for the target's path.
        stopping_criteria: see `ersd.api.stopping_criteria`.
        options: options of `Generator.stream`, among them `prediction` in OpenAI's form. For the
            others see `ersd.api.parameters`.

    Raises ValueError or TypeError as `Generator.stream`, or if a parameter cannot be honoured.
    """
    logits_processor = with_criteria(self, stopping_criteria, logits_processor)
    given: Parameters = {"max_tokens": max_tokens, "seed": seed, "stop": stop}
    given |= {"temperature": temperature, "top_k": top_k, "top_p": top_p, "min_p": min_p}
    given |= {"typical_p": typical_p, "tfs_z": tfs_z, "mirostat_mode": mirostat_mode}
    given |= {"repeat_penalty": repeat_penalty, "frequency_penalty": frequency_penalty}
    given |= {"presence_penalty": presence_penalty, "logit_bias": logit_bias, "grammar": grammar}
    given |= {"logits_processor": logits_processor, "logprobs": logprobs}
    tokens = prompt_to_complete(self, prompt, suffix)
    text = prompt if isinstance(prompt, str) else self.detokenize(prompt)
    asks_for_prompt = echo and logprobs is not None
    echoed = partial(_prompt_logprobs, self, tokens, logprobs) if asks_for_prompt else None
    choice = Text(self, model, text, echo, echoed)
    return answer(self, tokens, engine_options(given, options), choice, stream)


def _prompt_logprobs(engine: Engine, tokens: list[int], n: int | None) -> list[TokenLogprob]:
    """Returns the log-probabilities of a prompt, without its beginning of sequence."""
    unknown = TokenLogprob(tokens[0], math.nan, [])  # nothing stands before it
    every = [unknown, *engine.prompt_logprobs(tokens, n or 0)]
    return [each for each in every if each.token != engine.target.bos]


def prompt_to_complete(
    engine: Engine, prompt: str | Sequence[int], suffix: str | None
) -> list[int]:
    """Returns the token ids of a prompt, with the suffix after which the answer is to be filled in.

    The order of the tokens around a suffix is that of llama.cpp's server.

    Raises:
        ValueError: there is a suffix, and the model has no tokens for it.
    """
    is_text = isinstance(prompt, str)
    given = arguments.text("prompt", prompt) if is_text else arguments.token_ids("prompt", prompt)
    if suffix is None:
        return engine.tokenize(given) if isinstance(given, str) else given
    arguments.text("suffix", suffix, "a str or None")
    text = given if isinstance(given, str) else engine.detokenize(given)
    prefix_token, suffix_token, middle_token = engine.target.fim
    if min(prefix_token, suffix_token, middle_token) < 0:
        raise ValueError(
            "suffix needs a model with tokens for filling in a middle: "
            f"'{engine.target.path}' has none"
        )
    before, after = (
        engine.tokenize(part, add_special=False, parse_special=False) for part in (text, suffix)
    )
    begin = engine.tokenize("")
    return [*begin, prefix_token, *before, suffix_token, *after, middle_token]


def with_criteria(
    engine: Engine,
    criteria: StoppingCriteria | Sequence[StoppingCriteria] | None,
    processors: LogitsProcessor | Sequence[LogitsProcessor] | None,
) -> LogitsProcessor | Sequence[LogitsProcessor] | None:
    """Returns the logits processors, preceded by one for the stopping criteria, if given."""
    if criteria is None:
        return processors
    stopping = stopping_processor(engine.target, criteria)
    if processors is None:
        return stopping
    return [stopping, *([processors] if callable(processors) else processors)]
