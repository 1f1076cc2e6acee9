"""The options of a generation: defaults, documentation, and conversion to the core's form.

The core declares its options in one table, cpp/ersd/decode/option_table.h. This module adds what
only Python has: further options, and the forms in which Python writes some values.
"""

from __future__ import annotations

import difflib
import inspect
import textwrap
from collections.abc import Callable, Iterable, Mapping, Sequence
from functools import partial
from typing import TYPE_CHECKING, Any, NamedTuple, TypedDict, TypeVar, cast

import numpy as np
import numpy.typing as npt

from ersd import _core
from ersd.arguments import texts, whole
from ersd.engine.draft_texts import DraftTexts
from ersd.engine.option_values import (
    bias_pairs,
    check_grammars,
    check_logprobs,
    check_mirostat,
)
from ersd.grammars import Compiler, Source, answer_source

if TYPE_CHECKING:
    from llama_cpp.llama_grammar import LlamaGrammar

__all__ = ["LogitsProcessor", "Options"]

LogitsProcessor = Callable[[npt.NDArray[np.intc], npt.NDArray[np.single]], npt.NDArray[np.single]]
_Function = TypeVar("_Function", bound=Callable[..., Any])


class Options(TypedDict, total=False):
    """The keyword arguments of `Generator.generate` and `Generator.stream`.

    The names and their meaning are llama-cpp-python's wherever it has the option.

    Options that change the target's distribution act in this order: logits_processor, logit_bias
    and ignore_eos, penalties, DRY, grammar, top_k, typical_p, top_p, min_p, XTC, temperature. Those
    that look back see the prompt and the answer, along each path of a draft tree, so the answer is
    the same with every draft. At temperature 0, the options from top_k on have no effect. Whether
    XTC acts at a position depends on the seed and the position alone.

    Three methods give the same text. "ersd" runs one race in draft and target and accepts the
    drafted tokens that win in both. "ar" runs the same race without a draft. "match" is llama.cpp's
    rule: it drafts the draft's most probable tokens and accepts those that win the target's race.
    The methods "gsd" and "gsd_iid" are greedy rejection sampling, with distinct and with
    independent siblings. "block" is block verification, which decides on a drafted chain as a
    whole. Their text is an exact sample, too, but it depends on the draft.

    The strategy "simple" drafts one token, "sequence" a chain, and "batch" several candidates for
    the next token. "tree" drafts the best tree for the ranks that were seen so far. "adaptive"
    drafts a tree that is wide where the race was close and deep where it was not. It needs a method
    of races, since rejection sampling is not exact with it. "block" needs "sequence" or "simple".

    If draft_nodes is "auto", the first generation measures for about a second what calls of both
    models cost on this machine. With rejection sampling and "block", whose text depends on the
    number of nodes, "auto" means 16.
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
    penalize_prompt: bool
    dry_multiplier: float
    dry_base: float
    dry_allowed_length: int
    dry_penalty_last_n: int
    dry_sequence_breakers: Sequence[str]
    logit_bias: Mapping[int, float] | None
    ignore_eos: bool
    grammar: str | LlamaGrammar | Source | None
    regex: str | None
    lark: str | None
    response_format: Mapping[str, Any] | type | None
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
    draft_trees: bool
    draft_sources: Sequence[str] | None
    prediction: str | Sequence[int] | Mapping[str, Any] | None
    references: Sequence[str | Sequence[int]]


class Option(NamedTuple):
    """One option of a generation.

    Attributes:
        name: the keyword argument.
        type: the type of a value in the core.
        default: the value that Python uses if none is given.
        range: the allowed values, in words that follow "must be"; empty if all are allowed.
        meaning: what the option does, in a sentence.
        note: what is special about its values in Python; may be empty.
    """

    name: str
    type: type
    default: object
    range: str
    meaning: str
    note: str = ""


class _Form(NamedTuple):
    """How Python writes an option, where this differs from the core's table."""

    note: str = ""
    to_core: Callable[[Any], object] | None = None  # from Python's value to the core's
    default: object = ...  # Ellipsis: the core's default


def check_max_tokens(max_tokens: int | None) -> int:
    """Returns max_tokens, or -1 if it is None. Raises TypeError for anything but an int."""
    return -1 if max_tokens is None else whole("max_tokens", max_tokens, "an int or None")


def _processor(
    processors: LogitsProcessor | Sequence[LogitsProcessor] | None,
) -> LogitsProcessor | None:
    """Returns one callable that applies all in turn. Raises TypeError if one is not callable."""
    if processors is None or callable(processors):
        return processors
    chain = tuple(processors) if isinstance(processors, Iterable) else (None,)
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


_FORMS: Mapping[str, _Form] = {
    "max_tokens": _Form("None is the same as -1.", check_max_tokens),
    "penalty_last_n": _Form("llama-cpp-python's constructor calls it last_n_tokens_size."),
    "dry_sequence_breakers": _Form(to_core=partial(texts, "dry_sequence_breakers")),
    "logit_bias": _Form("It is a mapping from tokens to biases.", bias_pairs, default=None),
    "grammar": _Form("A llama_cpp.LlamaGrammar may stand for the text.", default=None),
    "logits_processor": _Form(
        "Several callables are applied in turn. They get i32[n] and f32[n_vocab], only at verified "
        "positions, once at each and in order. They are much slower than the other options.",
        _processor,
    ),
    "logprobs": _Form("None gives no log-probabilities.", check_logprobs),
    "seed": _Form("None or -1 draws a fresh seed, which is in the result.", default=None),
    "stop": _Form("A single string need not be in a sequence.", partial(texts, "stop")),
    "draft_sources": _Form("None stands for those of the Generator.", default=None),
    "prediction": _Form(
        'It is a text, tokens, or OpenAI\'s {"type": "content", "content": ...}.', default=None
    ),
    "references": _Form("Each is a text or tokens.", default=()),
    "strategy": _Form(
        "None chooses 'adaptive' if the method allows it, else 'tree'.", default=None
    ),
}

_PYTHON_ONLY = (
    Option("regex", str, None, "", "The whole answer matches this regular expression."),
    Option(
        "lark",
        str,
        None,
        "",
        "The answer matches the rule start of this grammar in llguidance's variant of Lark.",
    ),
    Option(
        "response_format",
        dict,
        None,
        "",
        "The answer is JSON, as OpenAI's parameter of this name asks for.",
        '{"type": "json_object"} allows any JSON object, or what the JSON schema under "schema" '
        'allows. {"type": "json_schema", "json_schema": {"schema": ...}} names a schema, too. '
        '{"type": "text"} allows any text. A class, such as a pydantic model or a dataclass, '
        "stands for its schema, and `Result.parsed` is its object. Keywords that an answer cannot "
        "be held to are refused by their names.",
    ),
    Option("mirostat_mode", int, 0, "0", "Mirostat is not supported."),
)


def _option(row: tuple[str, type, object, str, str]) -> Option:
    """Returns an option of the core in Python's form."""
    option = Option(*row)
    form = _FORMS.get(option.name, _Form())
    default = option.default if form.default is ... else form.default
    return option._replace(default=default, note=form.note)


# The options that say what the answer must match.
_GRAMMARS = ("grammar", "regex", "lark", "response_format")
_ROWS = {each.name: each for each in (*map(_option, _core.option_table()), *_PYTHON_ONLY)}
TABLE: Mapping[str, Option] = {name: _ROWS[name] for name in Options.__annotations__}
DEFAULTS: Options = cast(Options, {name: option.default for name, option in TABLE.items()})


def _attributes() -> str:
    """Returns the section Attributes of the documentation of `Options`."""
    lines = ["Attributes:"]
    for option in TABLE.values():
        parts = [f"{option.name}: {option.meaning}", option.note]
        if option.range:
            parts.append(f"Allowed: {option.range}.")
        parts.append(f"Default: {option.default!r}.")
        text = " ".join(filter(None, parts))
        lines += textwrap.wrap(text, 96, initial_indent=" " * 4, subsequent_indent=" " * 8)
    return "\n".join(lines)


Options.__doc__ = f"{inspect.cleandoc(Options.__doc__ or '')}\n\n{_attributes()}\n"


def takes_options(function: _Function) -> _Function:
    """Shows the names and defaults of all options in the signature of a function.

    The function takes ``**options: Unpack[Options]``, or some options by name and the others as
    ``**options``. Without this decorator, `help` and `inspect` would show just that.
    """
    signature = inspect.signature(function)
    own = [p for p in signature.parameters.values() if p.kind is not inspect.Parameter.VAR_KEYWORD]
    named = [
        inspect.Parameter(
            name,
            inspect.Parameter.KEYWORD_ONLY,
            default=TABLE[name].default,
            annotation=getattr(kind, "__forward_arg__", kind),
        )
        for name, kind in Options.__annotations__.items()
        if name not in signature.parameters
    ]
    shown = signature.replace(parameters=[*own, *named])
    function.__signature__ = shown  # type: ignore[attr-defined]
    return function


def _check_names(options: Options) -> None:
    for name in options:
        if name not in TABLE:
            near = difflib.get_close_matches(name, TABLE, 1)
            hint = f", did you mean {near[0]!r}?" if near else "; help(ersd.Options) has them all"
            raise TypeError(f"there is no option {name!r}{hint}")


def core_options(
    options: Options, seed: int, grammars: Compiler, texts: DraftTexts
) -> _core.GenerationOptions:
    """Returns the options in the form of the core, with this seed.

    Args:
        options: the options.
        seed: the seed.
        grammars: compiles the grammar of the answer.
        texts: reads the texts to draft from.

    Raises:
        TypeError: an option is unknown, or a value has a wrong type.
        ValueError: a value is out of its range.
    """
    _check_names(options)
    given: dict[str, Any] = {**DEFAULTS, **options, "seed": seed}
    check_mirostat(given.pop("mirostat_mode"))
    check_grammars(given)
    source = answer_source(*(given.pop(name) for name in _GRAMMARS))
    given["grammar"] = None if source is None else grammars.compile(source)
    for name in ("prediction", "references"):
        given[name] = getattr(texts, name)(given[name])
    given["draft_sources"] = texts.sources(given["draft_sources"])
    for name, form in _FORMS.items():
        if form.to_core is not None:
            given[name] = form.to_core(given[name])
    return _core.GenerationOptions(**given)
