"""The table of options: defaults, documentation and errors come from it, and nothing is missing."""

from __future__ import annotations

import inspect
import math

import llama_cpp
import pytest

from ersd import Generator, Options, _core
from ersd.engine.options import TABLE

# The documented defaults, written out once more so that a change of the table is noticed.
DOCUMENTED = {
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
    "penalize_prompt": True,
    "dry_multiplier": 0.0,
    "dry_base": 1.75,
    "dry_allowed_length": 2,
    "dry_penalty_last_n": -1,
    "dry_sequence_breakers": ("\n", ":", '"', "*"),
    "logit_bias": None,
    "ignore_eos": False,
    "grammar": None,
    "regex": None,
    "lark": None,
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
    "draft_trees": False,
    "draft_sources": None,
    "prediction": None,
    "references": (),
}

# How Python annotates an option, by its type in the core; Python takes more for some options.
ANNOTATIONS = {float: "float", int: "int", bool: "bool", str: "str"}
WIDER = {
    "max_tokens": "int | None",
    "dry_sequence_breakers": "Sequence[str]",
    "logit_bias": "Mapping[int, float] | None",
    "grammar": "str | LlamaGrammar | Source | None",
    "regex": "str | None",
    "lark": "str | None",
    "response_format": "Mapping[str, Any] | type | None",
    "logits_processor": "LogitsProcessor | Sequence[LogitsProcessor] | None",
    "logprobs": "int | None",
    "seed": "int | None",
    "stop": "str | Sequence[str] | None",
    "strategy": "str | None",
    "draft_nodes": "int | str",
    "draft_sources": "Sequence[str] | None",
    "prediction": "str | Sequence[int] | Mapping[str, Any] | None",
    "references": "Sequence[str | Sequence[int]]",
}


@pytest.mark.parametrize(
    ("options", "error", "message"),
    [
        ({"typical_p": 0.0}, ValueError, "typical_p must be above 0"),
        ({"xtc_probability": 1.5}, ValueError, "xtc_probability must be between 0 and 1"),
        ({"xtc_threshold": -0.1}, ValueError, "xtc_threshold must be between 0 and 1"),
        ({"repeat_penalty": 0.0}, ValueError, "repeat_penalty must be a finite number above 0"),
        ({"presence_penalty": math.nan}, ValueError, "presence_penalty must be a finite number"),
        ({"penalty_last_n": -2}, ValueError, "penalty_last_n must be at least -1"),
        ({"dry_base": -1.0}, ValueError, "dry_base"),
        ({"dry_sequence_breakers": [""]}, ValueError, "dry_sequence_breakers must be non-empty"),
        (
            {"logit_bias": {9999: 1.0}},
            ValueError,
            "logit_bias must be of tokens between 0 and 514, got 9999",
        ),
        ({"logit_bias": {3: math.inf}}, ValueError, "logit_bias must be finite"),
        ({"grammar": "root ::= ["}, ValueError, "grammar must be GBNF text"),
        ({"grammar": 'other ::= "a"'}, ValueError, "grammar must be GBNF text"),
        ({"grammar": ""}, ValueError, "got an empty one"),
        ({"grammar": 3}, TypeError, "grammar must be GBNF text"),
        (
            {"grammar": 'root ::= "a"', "response_format": {"type": "json_object"}},
            ValueError,
            "grammar and response_format exclude each other",
        ),
        ({"regex": "a", "lark": 'start: "a"'}, ValueError, "regex and lark exclude each other"),
        ({"regex": "(?=a)"}, ValueError, "regex must be a regular expression .*look-around"),
        ({"regex": 3}, TypeError, "regex must be a str"),
        ({"lark": "start: b"}, ValueError, "lark must be a Lark grammar .* unknown name"),
        ({"lark": 3}, TypeError, "lark must be a str"),
        ({"response_format": 3}, TypeError, "response_format must be a mapping or a type"),
        ({"response_format": {"type": "xml"}}, ValueError, "response_format must have the type"),
        (
            {"response_format": {"type": "json_object", "schema": {"type": "nonsense"}}},
            ValueError,
            "response_format must have a JSON schema that an answer can be held to: Invalid type",
        ),
        ({"mirostat_mode": 2}, ValueError, "mirostat_mode must be 0: "),
        ({"logprobs": -1}, ValueError, "logprobs must be None or at least 0, got -1"),
        ({"logprobs": True}, TypeError, "logprobs must be an int or None"),
        ({"logits_processor": [3]}, TypeError, "logits_processor must be callables"),
        (
            {"temprature": 1.0},
            TypeError,
            "there is no option 'temprature', did you mean 'temperature'",
        ),
        ({"top_k": "many"}, TypeError, "top_k must be an int"),
        ({"draft_nodes": "many"}, ValueError, "draft_nodes must be between 1 and 256, or 'auto'"),
        ({"draft_nodes": -1}, ValueError, "draft_nodes must be between 1 and 256, or 'auto'"),
        ({"stop": ["a", ""]}, ValueError, "stop must be non-empty strings, got ''"),
        ({"top_k": 1 << 40}, TypeError, "top_k must be an int of 32 bits, got 1099511627776"),
        ({"ignore_eos": "yes"}, TypeError, "ignore_eos must be True or False, got 'yes'"),
        ({"temperature": "hot"}, TypeError, "temperature must be a number, got 'hot'"),
    ],
    ids=str,
)
def test_bad_options(generator: Generator, options: dict, error: type, message: str) -> None:
    """The error says who, what was expected and what came; the generator stays usable."""
    with pytest.raises(error, match=message):
        generator.generate("the", **options)
    assert len(generator.generate("the", max_tokens=2).tokens) == 2


def test_defaults_are_the_documented_ones() -> None:
    """The signatures show them, also to `help`."""
    for function in (Generator.generate, Generator.stream):
        shown = inspect.signature(function).parameters
        options = {name: p.default for name, p in shown.items() if name not in ("self", "prompt")}
        assert options == DOCUMENTED


def test_defaults_are_llama_cpp_pythons() -> None:
    """An option that llama-cpp-python has, too, has its default, except for those named here."""
    other = {
        "create_completion": {"max_tokens": 16, "stop": []},
        "create_chat_completion": {"max_tokens": None, "stop": [], "temperature": 0.2},
    }
    compared = set()
    for name, differing in other.items():
        theirs = inspect.signature(getattr(llama_cpp.Llama, name)).parameters
        common = (set(theirs) & set(DOCUMENTED)) - {"logprobs"}  # a bool in a chat
        compared |= common
        assert {
            each: theirs[each].default
            for each in common
            if theirs[each].default != TABLE[each].default
        } == differing
    assert {"temperature", "top_k", "top_p", "min_p", "typical_p", "repeat_penalty"} <= compared
    window = inspect.signature(llama_cpp.Llama).parameters["last_n_tokens_size"]
    assert TABLE["penalty_last_n"].default == window.default


def test_the_table_is_complete() -> None:
    """The table of the core and the annotations of `ersd.Options` name the same options."""
    rows = [name for name, *_ in _core.option_table()]
    assert len(rows) == len(set(rows))
    of_python = {"lark", "mirostat_mode", "regex", "response_format"}
    assert set(rows) | of_python == set(Options.__annotations__)
    assert list(TABLE) == list(Options.__annotations__) == list(DOCUMENTED)


def test_annotations_are_the_types_of_the_table() -> None:
    """Type checkers read static annotations, so the table cannot make them."""
    annotations = {name: kind.__forward_arg__ for name, kind in Options.__annotations__.items()}
    assert annotations == {
        name: WIDER.get(name) or ANNOTATIONS[option.type] for name, option in TABLE.items()
    }


def test_every_option_is_documented() -> None:
    """The section Attributes holds a sentence, the range and the default of every option."""
    documented = Options.__doc__.split("Attributes:\n")[1]
    entries = " ".join(documented.split())
    for name, option in TABLE.items():
        assert f"    {name}: {option.meaning[:20]}" in documented
        assert f"Default: {DOCUMENTED[name]!r}." in entries
        assert option.meaning.endswith(".")
        assert not option.range or f"Allowed: {option.range}." in entries
    assert max(map(len, Options.__doc__.splitlines())) <= 100


@pytest.mark.parametrize(
    ("name", "outside"),
    [
        ("max_tokens", [-2]),
        ("temperature", [-0.1, 1e-7, math.nan, math.inf]),
        ("top_p", [0.0, -1.0, math.nan]),
        ("min_p", [-0.1, 1.1, math.nan]),
        ("typical_p", [0.0, math.nan]),
        ("xtc_probability", [-0.1, 1.1, math.nan]),
        ("xtc_threshold", [-0.1, 1.1, math.nan]),
        ("repeat_penalty", [0.0, -1.0, math.inf, math.nan]),
        ("frequency_penalty", [math.inf, math.nan]),
        ("presence_penalty", [math.inf, math.nan]),
        ("penalty_last_n", [-2]),
        ("dry_multiplier", [math.inf, math.nan]),
        ("dry_base", [0.0, math.inf, math.nan]),
        ("dry_allowed_length", [-1]),
        ("dry_penalty_last_n", [-2]),
        ("dry_sequence_breakers", [["a", ""]]),
        ("logit_bias", [[(3, math.inf)], [(1, 0.0), (3, math.nan)]]),
        ("logprobs", [-1]),
        ("stop", [[""]]),
        ("method", ["Ersd", ""]),
        ("strategy", ["forest"]),
        ("draft_nodes", [0, -1, 257, "Auto"]),
        ("draft_depth", [0, 257]),
        ("draft_sources", [["ngram"], ["lookup", "Model"]]),
    ],
)
def test_ranges(name: str, outside: list) -> None:
    """The core refuses values outside the range that the table states."""
    assert TABLE[name].range
    for value in outside:
        with pytest.raises(ValueError, match=rf"^{name} must be ") as refused:
            _core.GenerationOptions(**{name: value})
        assert TABLE[name].range in str(refused.value)
        assert ", got " in str(refused.value)


def test_edges_of_ranges_are_allowed() -> None:
    """The ends of each range belong to it."""
    edges = {
        "max_tokens": [-1, 0],
        "temperature": [0.0, 1e-6, 1e6],
        "top_k": [-5, 0],
        "top_p": [1e-9, 1.0, 2.0],
        "min_p": [0.0, 1.0],
        "xtc_probability": [0.0, 1.0],
        "penalty_last_n": [-1, 0],
        "dry_allowed_length": [0],
        "logit_bias": [[], [(3, -math.inf)]],
        "logprobs": [None, 0],
        "draft_nodes": ["auto", 1, 256],
        "draft_depth": [1, 256],
        "draft_sources": [[], ["lookup", "history", "prediction", "grammar", "model"]],
    }
    for name, values in edges.items():
        for value in values:
            _core.GenerationOptions(**{name: value})


def test_sampling_options_read_the_same_table() -> None:
    """SamplingOptions knows the options of sampling alone, and checks the same ranges."""
    with pytest.raises(ValueError, match="xtc_probability must be between 0 and 1, got 2"):
        _core.SamplingOptions(xtc_probability=2)
    with pytest.raises(TypeError, match="there is no option 'max_tokens'"):
        _core.SamplingOptions(max_tokens=3)
    with pytest.raises(TypeError, match="incompatible function arguments"):
        _core.SamplingOptions(1.0)


def test_an_answer_without_max_tokens_has_128(generator: Generator) -> None:
    """Python and the core have the same default."""
    assert len(generator.generate("the", seed=1, ignore_eos=True).tokens) == 128
    options = _core.GenerationOptions(seed=1, ignore_eos=True)
    request, n = generator._core.submit(generator.tokenize("the"), options), 0
    while step := generator._core.next(request):
        n += len(step.tokens)
    assert n == 128
