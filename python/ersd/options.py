"""What a generation can be asked: every option with its type, default and meaning, declared once."""

from __future__ import annotations

import difflib
import inspect
import json
import secrets
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, Any, TypedDict, TypeVar

import numpy as np
import numpy.typing as npt

from ersd import _core
from ersd._loader import llama_cpp_module

if TYPE_CHECKING:
    from llama_cpp.llama_grammar import LlamaGrammar

__all__ = ["LogitsProcessor", "Options"]

LogitsProcessor = Callable[[npt.NDArray[np.intc], npt.NDArray[np.single]], npt.NDArray[np.single]]
_Function = TypeVar("_Function", bound=Callable[..., Any])


class Options(TypedDict, total=False):
    """The keyword arguments of `Generator.generate` and `Generator.stream`. Names and meaning are llama-cpp-python's where it has them.

    Whatever shapes the target's distribution does so before its race, in the order logits_processor, logit_bias and ignore_eos,
    penalties, DRY, grammar, top_k, typical_p, top_p, min_p, XTC, temperature. What looks back sees prompt and answer, along each path
    of a draft tree, so the answer is the same with every draft. At temperature 0 nothing from top_k on applies.

    Attributes:
        max_tokens: tokens to generate at most, 128 unless given; None or -1 until the context is full.
        temperature: 0 for the most probable token at every position.
        top_k: keep the k most probable tokens; 0 for all.
        top_p: keep the fewest tokens that sum to this probability; 1 for all.
        min_p: keep tokens at least this many times as probable as the most probable one; 0 for all.
        typical_p: keep the tokens whose surprise is nearest to the expected one, as many as sum to this probability; 1 for all.
        xtc_probability: how often XTC removes, of the tokens that reach xtc_threshold, all but the least probable one; 0 for never. The
            coin is a function of seed and position.
        xtc_threshold: a probability; above 0.5 XTC is off.
        repeat_penalty: logits of tokens that occurred are divided by it, negative ones multiplied; 1 for none.
        frequency_penalty: subtracted from the logits of tokens as often as they occurred.
        presence_penalty: subtracted once from the logits of tokens that occurred.
        penalty_last_n: how many tokens of prompt and answer these three look back; -1 for all. In llama-cpp-python it is an option of
            the constructor, ``last_n_tokens_size``.
        dry_multiplier: DRY ("don't repeat yourself") subtracts ``multiplier * base**(n - allowed_length)`` from the logits of tokens
            that would go on with a repetition of n tokens; 0 for off.
        dry_base: see dry_multiplier.
        dry_allowed_length: the shortest repetition that is penalised.
        dry_penalty_last_n: how many tokens DRY looks back; -1 for all.
        dry_sequence_breakers: strings at which repetitions end.
        logit_bias: what to add to the logits of tokens, by token; ``-math.inf`` for tokens that must not come.
        ignore_eos: never end by an end token.
        grammar: GBNF, text or a ``llama_cpp.LlamaGrammar``, that the answer must match by its rule "root".
        response_format: ``{"type": "json_object"}``, with a JSON schema under "schema" if wished, or ``{"type": "json_schema",
            "json_schema": {"schema": ...}}``: a grammar for it. ``{"type": "text"}`` for anything. A warning names the keywords of a schema
            that llama-cpp-python's grammar does not hold the answer to, like "minimum".
        logits_processor: callables ``(input_ids, scores) -> scores``, applied first, i32[n] and f32[n_vocab]. They see the target's
            verified positions, once each and in order, never drafts. Slow beside the options above.
        mirostat_mode: 0; others are refused.
        logprobs: None for none; n for the log-probability of every token of the answer and of the n most probable ones there, by the
            target's own logits at temperature 1, before any option shapes them.
        seed: 0 to 2**64 - 1; None draws a fresh one, to be read from the result.
        stop: strings that end the answer, before them.
        method: "ersd"; "ar" for the same races without a draft; "match", llama.cpp's rule: the draft's most probable tokens, accepted
            if the races choose them. These three give one text. "gsd" and "gsd_iid", greedy rejection sampling with distinct and with
            independent siblings, give as exact a sample, but another text, which depends on the draft.
        strategy: "simple" (one token), "sequence" (a chain), "batch" (children of the last token), "tree" (the optimal tree for the
            ranks seen so far) or "adaptive" (a tree that is wide where the realised race was close and deep where it was not; for races
            only). None for "adaptive" where the method allows it, else "tree".
        draft_nodes: k, drafted tokens per target call, 1 to 256; "auto" for as many as pay, none where plain decoding is faster, by
            what calls of both models cost here and how far the draft has been right. The first use measures costs for half a second.
            For rejection sampling, whose text depends on k, "auto" is 16.
        draft_depth: the longest path in the tree.
        adapt_draft: let the draft correct itself by what the target says of its proposals, from one answer to the next; for "ersd".
    """

    max_tokens: int | None
    temperature: float
    top_k: int
    top_p: float
    min_p: float
    typical_p: float
    xtc_probability: float
    xtc_threshold: float
    repeat_penalty: float
    frequency_penalty: float
    presence_penalty: float
    penalty_last_n: int
    dry_multiplier: float
    dry_base: float
    dry_allowed_length: int
    dry_penalty_last_n: int
    dry_sequence_breakers: Sequence[str]
    logit_bias: Mapping[int, float] | None
    ignore_eos: bool
    grammar: str | LlamaGrammar | None
    response_format: Mapping[str, Any] | None
    logits_processor: LogitsProcessor | Sequence[LogitsProcessor] | None
    mirostat_mode: int
    logprobs: int | None
    seed: int | None
    stop: str | Sequence[str] | None
    method: str
    strategy: str | None
    draft_nodes: int | str
    draft_depth: int
    adapt_draft: bool


DEFAULTS: Options = {
    "max_tokens": 128,
    "temperature": 0.8,
    "top_k": 40,
    "top_p": 0.95,
    "min_p": 0.05,
    "typical_p": 1.0,
    "xtc_probability": 0.0,
    "xtc_threshold": 0.1,
    "repeat_penalty": 1.0,
    "frequency_penalty": 0.0,
    "presence_penalty": 0.0,
    "penalty_last_n": 64,
    "dry_multiplier": 0.0,
    "dry_base": 1.75,
    "dry_allowed_length": 2,
    "dry_penalty_last_n": -1,
    "dry_sequence_breakers": ("\n", ":", '"', "*"),
    "logit_bias": None,
    "ignore_eos": False,
    "grammar": None,
    "response_format": None,
    "logits_processor": None,
    "mirostat_mode": 0,
    "logprobs": None,
    "seed": None,
    "stop": (),
    "method": "ersd",
    "strategy": None,
    "draft_nodes": "auto",
    "draft_depth": 64,
    "adapt_draft": True,
}


def takes_options(function: _Function) -> _Function:
    """Let a function that takes ``**options: Unpack[Options]`` show their names and defaults to `help` and `inspect`."""
    signature = inspect.signature(function)
    own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    given: Mapping[str, object] = DEFAULTS
    named = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=given[name],
            annotation=getattr(kind, "__forward_arg__", kind),
        )
        for name, kind in Options.__annotations__.items()
    ]
    function.__signature__ = signature.replace(parameters=[*own, *named])  # type: ignore[attr-defined]
    return function


def check_max_tokens(max_tokens: int | None) -> int:
    """-1 for None."""
    if not isinstance(max_tokens, int | None) or isinstance(max_tokens, bool):
        raise TypeError(f"max_tokens must be an int or None, got {max_tokens!r}")
    return -1 if max_tokens is None else max_tokens


def check_seed(seed: int | None) -> int:
    """A fresh one for None."""
    if seed is None:
        return secrets.randbits(32)
    if not isinstance(seed, int) or isinstance(seed, bool):
        raise TypeError(f"seed must be an int or None, got {seed!r}")
    if not 0 <= seed < 1 << 64:
        raise ValueError(f"seed must be between 0 and 2**64 - 1, got {seed}")
    return seed


def core_options(options: Options, seed: int) -> _core.GenerationOptions:
    """What the core takes. Raises TypeError for an unknown name or a wrong type, ValueError for a value out of range."""
    for name in options:
        if name not in DEFAULTS:
            near = difflib.get_close_matches(name, DEFAULTS, 1)
            raise TypeError(
                f"there is no option {name!r}"
                + (f", did you mean {near[0]!r}?" if near else "; help(ersd.Options) has them all")
            )
    given: dict[str, Any] = {**DEFAULTS, **options}
    if given.pop("mirostat_mode") != 0:
        raise ValueError(
            "mirostat_mode must be 0: mirostat sets its truncation by the surprise of every token before, a state of its own, "
            "where all sampling here is a function of the tokens before, the position and the seed"
        )
    if (logprobs := given["logprobs"]) is not None and (
        not isinstance(logprobs, int) or isinstance(logprobs, bool)
    ):
        raise TypeError(f"logprobs must be an int or None, got {logprobs!r}")
    if logprobs is not None and logprobs < 0:
        raise ValueError(f"logprobs must be None or at least 0, got {logprobs}")
    given |= {
        "max_tokens": check_max_tokens(given["max_tokens"]),
        "seed": seed,
        "stop": [given["stop"]] if isinstance(given["stop"], str) else list(given["stop"] or ()),
        "dry_sequence_breakers": list(given["dry_sequence_breakers"]),
        "logit_bias": [
            (int(token), float(bias)) for token, bias in (given["logit_bias"] or {}).items()
        ],
        "grammar": _grammar(given["grammar"], given.pop("response_format")),
        "logits_processor": _processor(given["logits_processor"]),
    }
    return _core.GenerationOptions(**given)


def _grammar(grammar: str | LlamaGrammar | None, response_format: Mapping[str, Any] | None) -> str:
    wanted = None if response_format is None else _format_grammar(response_format)
    if grammar is not None and wanted is not None:
        raise ValueError("grammar and response_format exclude each other: give one of them")
    text = getattr(grammar, "_grammar", grammar) if grammar is not None else wanted or ""
    if not isinstance(text, str):
        raise TypeError(f"grammar must be GBNF text or a llama_cpp.LlamaGrammar, got {grammar!r}")
    if grammar is not None and not text.strip():
        raise ValueError("grammar must be GBNF text with a rule 'root', got an empty one")
    return text


def _format_grammar(response_format: Mapping[str, Any]) -> str | None:
    kind = response_format.get("type")
    if kind not in ("text", "json_object", "json_schema"):
        raise ValueError(
            f"response_format must have the type 'text', 'json_object' or 'json_schema', got {kind!r}"
        )
    if kind == "text":
        return None
    grammars = llama_cpp_module("llama_grammar")
    schema = (
        response_format.get("schema")
        if kind == "json_object"
        else response_format.get("json_schema", {}).get("schema")
    )
    if schema is None and kind == "json_schema":
        raise ValueError(
            "response_format 'json_schema' must have its schema under ['json_schema']['schema']"
        )
    if schema is None:
        return str(grammars.JSON_GBNF)
    schema = json.loads(schema) if isinstance(schema, str) else schema
    if ignored := sorted(_NOT_HELD & set(_keywords(schema))):
        warnings.warn(
            f"the answer is not held to {', '.join(ignored)} of its schema: llama-cpp-python's grammars do not have it",
            stacklevel=6,
        )
    try:
        grammar = str(grammars.json_schema_to_gbnf(json.dumps(schema)))
    except Exception as error:
        raise ValueError(
            f"response_format has a schema that llama-cpp-python cannot turn into a grammar: {error}"
        ) from error
    # Its strings may hold control characters, which JSON's may not; llama.cpp's own grammars say it so.
    return grammar.replace(r'char ::= [^"\\] |', r'char ::= [^"\\\x7F\x00-\x1F] |')


# Keywords of JSON Schema that llama_cpp.llama_grammar passes over.
_NOT_HELD = frozenset(
    [
        "minimum",
        "maximum",
        "exclusiveMinimum",
        "exclusiveMaximum",
        "multipleOf",
        "uniqueItems",
        "contains",
        "minContains",
        "maxContains",
        "minProperties",
        "maxProperties",
        "patternProperties",
        "propertyNames",
        "dependentRequired",
        "dependentSchemas",
        "dependencies",
        "not",
        "if",
        "then",
        "else",
        "unevaluatedItems",
        "unevaluatedProperties",
    ]
)


def _keywords(schema: Any) -> Iterator[str]:
    """The keywords of a JSON schema and of the schemas in it; names of properties are none."""
    for key, value in schema.items() if isinstance(schema, Mapping) else ():
        yield key
        within = (
            value.values()
            if key in ("properties", "$defs", "definitions")
            else value
            if isinstance(value, list)
            else [value]
        )
        for each in within if key not in ("const", "enum", "default", "examples") else ():
            yield from _keywords(each)


def _processor(
    processors: LogitsProcessor | Sequence[LogitsProcessor] | None,
) -> LogitsProcessor | None:
    if processors is None or callable(processors):
        return processors
    chain = tuple(processors)
    if not all(callable(each) for each in chain):
        raise TypeError(
            f"logits_processor must be callables (input_ids, scores) -> scores, got {processors!r}"
        )

    def apply(
        input_ids: npt.NDArray[np.intc], scores: npt.NDArray[np.single]
    ) -> npt.NDArray[np.single]:
        for each in chain:
            scores = each(input_ids, scores)
        return scores

    return apply if chain else None
