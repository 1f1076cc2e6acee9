"""The options of a generation as flags of a command line, with llama.cpp's spellings."""

from __future__ import annotations

import argparse
import json
import re
from collections.abc import Callable, Collection
from pathlib import Path
from typing import Any, NamedTuple, cast

from ersd.engine.draft_texts import check_sources
from ersd.engine.options import TABLE, Options

__all__ = ["add_options", "add_sampling_options", "options_from", "sampling_options_from"]


def _nodes(text: str) -> int | str:
    if text != "auto" and not text.lstrip("-").isdecimal():
        raise argparse.ArgumentTypeError(f"expected a number or auto, got '{text}'")
    return text if text == "auto" else int(text)


def _bias(text: str) -> tuple[int, float]:
    found = re.fullmatch(r"(\d+)([+-].+)", text)
    try:
        if found:
            return int(found[1]), float(found[2])
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(
        f"expected a token and its bias, as 15043+1 or 15043-1, got '{text}'"
    )


def _breakers(texts: list[str]) -> list[str]:
    return [text for text in texts if text != "none"]


def _sources(text: str) -> tuple[str, ...]:
    try:
        return check_sources(() if text == "none" else text.split(","))
    except ValueError as error:
        raise argparse.ArgumentTypeError(str(error)) from error


class _Flag(NamedTuple):
    """The flag of an option. Everything else comes from `ersd.engine.options.TABLE`."""

    option: str
    spellings: str  # separated by spaces
    parse: Callable[[str], object] | None = None  # None: by the option's type
    # Makes the option of the values of a flag that may be repeated; None if it may not be.
    collect: Callable[[list[Any]], object] | None = None
    metavar: str | None = None
    note: str = ""


_FLAGS = (
    _Flag("max_tokens", "-n --predict --n-predict --max-tokens"),
    _Flag("temperature", "--temp --temperature"),
    _Flag("top_k", "--top-k"),
    _Flag("top_p", "--top-p"),
    _Flag("min_p", "--min-p"),
    _Flag("typical_p", "--typical --typical-p"),
    _Flag("xtc_probability", "--xtc-probability"),
    _Flag("xtc_threshold", "--xtc-threshold"),
    _Flag("repeat_penalty", "--repeat-penalty"),
    _Flag("presence_penalty", "--presence-penalty"),
    _Flag("frequency_penalty", "--frequency-penalty"),
    _Flag("penalty_last_n", "--repeat-last-n"),
    _Flag("penalize_prompt", "--no-penalize-prompt"),
    _Flag("dry_multiplier", "--dry-multiplier"),
    _Flag("dry_base", "--dry-base"),
    _Flag("dry_allowed_length", "--dry-allowed-length"),
    _Flag("dry_penalty_last_n", "--dry-penalty-last-n"),
    _Flag(
        "dry_sequence_breakers",
        "--dry-sequence-breaker",
        str,
        _breakers,
        "TEXT",
        "The word none stands for no breakers.",
    ),
    _Flag("logit_bias", "-l --logit-bias", _bias, dict, "TOKEN(+/-)BIAS", "For example 15043+1."),
    _Flag("ignore_eos", "--ignore-eos"),
    _Flag("seed", "-s --seed", note="Without it, a fresh seed is drawn."),
    _Flag("stop", "--stop", str, list, "TEXT"),
    _Flag("method", "--method"),
    _Flag("strategy", "--strategy", note="Without it, the method decides."),
    _Flag("draft_nodes", "-k --draft-nodes", _nodes),
    _Flag("draft_depth", "--draft-depth"),
    _Flag("adapt_draft", "--no-adapt-draft"),
    _Flag(
        "draft_sources",
        "--draft-sources",
        _sources,
        metavar="NAMES",
        note="Commas separate them; the word none stands for no drafts. Without it, all of them.",
    ),
)


def _help(flag: _Flag) -> str:
    option = TABLE[flag.option]
    parts = ["Turn this off:"] if option.default is True else []
    parts += [option.meaning, flag.note]
    if flag.collect:
        parts.append("May be repeated.")
    if flag.collect and option.default:
        parts.append(f"Default: {option.default!r}.")
    if option.range:
        parts.append(f"Allowed: {option.range}")
    return " ".join(filter(None, parts)).replace("%", "%%")


def add_options(
    parser: argparse.ArgumentParser, *, max_tokens: int | None, without: Collection[str] = ()
) -> None:
    """Add the flags that `options_from` reads, as `add_sampling_options` does."""
    add_sampling_options(parser, max_tokens=max_tokens, without=without)
    add = parser.add_argument
    add("--grammar", help=TABLE["grammar"].meaning)
    add("--grammar-file", type=Path, help="The grammar is read from this file.")
    add("--regex", help=TABLE["regex"].meaning)
    add("--lark", help=TABLE["lark"].meaning)
    add(
        "-j",
        "--json-schema",
        metavar="SCHEMA",
        help="The answer matches this JSON schema; {} allows any JSON object.",
    )
    add(
        "--reference",
        action="append",
        metavar="FILE",
        help=f"{TABLE['references'].meaning} May be repeated.",
    )


def add_sampling_options(
    parser: argparse.ArgumentParser, *, max_tokens: int | None, without: Collection[str] = ()
) -> None:
    """Add the flags that `sampling_options_from` reads: all but those of forms and references.

    Args:
        parser: the parser of a command.
        max_tokens: the default of ``--max-tokens``.
        without: options for which the command has no flag, or one of its own.
    """
    for flag in _FLAGS:
        if flag.option in without:
            continue
        option = TABLE[flag.option]
        given: dict[str, Any] = {"dest": flag.option, "help": _help(flag)}
        if option.type is bool:
            given["action"] = "store_false" if option.default else "store_true"
        else:
            number = "N" if option.type in (int, float) else None
            given |= {"type": flag.parse or option.type, "metavar": flag.metavar or number}
        if flag.collect:
            given |= {"action": "append", "default": argparse.SUPPRESS}
        else:
            given["default"] = max_tokens if flag.option == "max_tokens" else option.default
        parser.add_argument(*flag.spellings.split(), **given)


def options_from(args: argparse.Namespace) -> Options:
    """Return the options that the flags ask for.

    Raises:
        OSError: the grammar file or a reference cannot be read.
        ValueError: a file is not UTF-8, flags exclude each other, or the JSON schema is not JSON.
    """
    options = {**sampling_options_from(args), **_answer_format(args)}
    if args.reference:
        options["references"] = [Path(path).read_text(encoding="utf-8") for path in args.reference]
    return cast(Options, options)


def sampling_options_from(args: argparse.Namespace) -> Options:
    """Return the options that the flags of `add_sampling_options` ask for."""
    options: dict[str, Any] = {}
    for flag in _FLAGS:
        if hasattr(args, flag.option):
            value = getattr(args, flag.option)
            options[flag.option] = flag.collect(value) if flag.collect else value
    return cast(Options, options)


def _spelling(name: str) -> str:
    return "--" + name.replace("_", "-")


def _answer_format(args: argparse.Namespace) -> dict[str, Any]:
    """Return the options for what the answer must match, of which one may be given."""
    names = ("grammar", "grammar_file", "regex", "lark", "json_schema")
    given = {name: getattr(args, name) for name in names}
    given = {name: value for name, value in given.items() if value is not None}
    if len(given) > 1:
        one, other = list(given)[:2]
        raise ValueError(f"{_spelling(one)} and {_spelling(other)} exclude each other")
    options: dict[str, Any] = {"grammar": None, "regex": None, "lark": None}
    if args.grammar_file is not None:
        return options | {"grammar": args.grammar_file.read_text(encoding="utf-8")}
    if args.json_schema is None:
        return options | given
    try:
        schema = json.loads(args.json_schema)
    except json.JSONDecodeError as error:
        raise ValueError(
            f"--json-schema must be JSON, got {args.json_schema!r}: {error}"
        ) from error
    wanted = {"type": "json_object"}
    return options | {"response_format": wanted | {"schema": schema} if schema else wanted}
