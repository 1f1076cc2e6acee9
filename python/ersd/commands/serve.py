"""The command ``ersd serve``: its flags, as llama-server names them."""

from __future__ import annotations

import argparse
import os
from collections.abc import Iterable
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, cast

from ersd import models
from ersd.commands.flags import add_sampling_options, sampling_options_from
from ersd.commands.model_flags import (
    add_context_flags,
    add_model_flags,
    add_parallel_flags,
    add_shift_flags,
    draft_path,
    generator_from,
    parallel_options,
    target_path,
)
from ersd.engine.options import DEFAULTS, Options

if TYPE_CHECKING:
    from ersd.serve import Settings

__all__ = ["add_parser", "run"]

_KEY_VARIABLE = "LLAMA_API_KEY"


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parser of ``ersd serve`` to the commands of ``ersd``."""
    parser = commands.add_parser(
        "serve",
        help="serve a model over HTTP, with OpenAI's protocol",
        description=(
            "Serves a model over HTTP with OpenAI's protocol, and a page at /. Flags have the names"
            " that they have in llama-server. SIGTERM lets running answers end."
        ),
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.set_defaults(run=run)
    add_model_flags(parser)
    add_context_flags(parser)
    add_shift_flags(parser)
    add_parallel_flags(parser)
    add = parser.add_argument
    add("-a", "--alias", help="name of the model; without it, that of its file")
    add(
        "--share-history",
        action="store_true",
        help="let requests draft from the texts of earlier ones, whoever sent them; the trees of"
        " draft_trees can then show parts of those texts",
    )
    _add_address_flags(parser)
    _add_limit_flags(parser)
    add_sampling_options(parser, max_tokens=None)  # where a request does not say otherwise


def _add_address_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say where the server listens, and to whom."""
    add = parser.add_argument
    add("--host", default="127.0.0.1", help="address to listen on")
    add("--port", type=int, default=8080, help="port to listen on; 0: a free one")
    add(
        "--api-key",
        action="append",
        metavar="KEY",
        help=f"key that requests must bring, or several with commas; without it, {_KEY_VARIABLE}",
    )
    add(
        "--api-key-file",
        type=Path,
        metavar="FILE",
        help="file with a key on each line; lines that begin with # are comments",
    )
    add(
        "--cors-origins",
        default="",
        metavar="ORIGINS",
        help="origins whose pages may use the server, separated by commas; localhost: those of "
        "this machine; *: all",
    )
    add(
        "--no-page",
        "--no-ui",
        action="store_true",
        help="serve no page at /",
    )


def _add_limit_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of limits and of the log."""
    add = parser.add_argument
    add("--queue", type=int, default=64, metavar="N", help="generations that may wait")
    add(
        "-to",
        "--timeout",
        type=float,
        default=600.0,
        metavar="SECONDS",
        help="time for a request, its wait included; 0: no limit",
    )
    add(
        "--drain",
        type=float,
        default=30.0,
        metavar="SECONDS",
        help="time for running answers after SIGTERM",
    )
    add("--max-body", type=int, default=8 << 20, metavar="BYTES", help="largest body of a request")
    add("--log-format", choices=["text", "json"], default="text", help="form of the log's lines")
    add("--log-text", action="store_true", help="log prompts and answers, too")


def run(args: argparse.Namespace) -> None:
    """Serve until a signal comes."""
    try:
        from ersd.serve import run
    except ImportError as error:
        raise ValueError(
            f'{error.name} is not installed: run `pip install "ersd[serve]"`'
        ) from error
    settings = settings_from(args)
    # The default pair may be made now, so that a Ctrl-C meanwhile ends the process as usual.
    args.model, args.model_draft = target_path(args), draft_path(args)
    options = parallel_options(args) | {"draft_sources": args.draft_sources}
    if not args.share_history:
        options["n_history"] = 0
    run(partial(generator_from, args, **options), settings)


def settings_from(args: argparse.Namespace) -> Settings:
    """Return the settings that the flags ask for.

    Raises:
        OSError: the file of keys cannot be read.
        ValueError: a number is out of range, or the file has no key.
    """
    from ersd.serve import Settings

    return Settings(
        host=args.host,
        port=args.port,
        api_keys=tuple(_api_keys(args)),
        alias=args.alias or (None if args.model else models.DEFAULT_NAME),
        queue_size=args.queue,
        timeout_s=args.timeout or None,
        drain_s=args.drain,
        max_body_bytes=args.max_body,
        cors_origins=tuple(_words(args.cors_origins)),
        page=not args.no_page,
        log_format=args.log_format,
        log_text=args.log_text,
        options=_default_options(args),
    )


def _default_options(args: argparse.Namespace) -> Options:
    """Return the options of the flags that differ from those without flags."""
    given = {n: value for n, value in sampling_options_from(args).items() if value is not None}
    plain = {**DEFAULTS, "max_tokens": None}
    return cast(Options, {n: value for n, value in given.items() if value != plain[n]})


def _api_keys(args: argparse.Namespace) -> list[str]:
    """Return the keys of the flag, else of the environment, and those of the file."""
    given = args.api_key or [os.environ.get(_KEY_VARIABLE, "")]
    keys = [key for text in given for key in _words(text)]
    if args.api_key and not keys:
        raise ValueError("--api-key must be a key, got none")
    if args.api_key_file is not None:
        lines = args.api_key_file.read_text(encoding="utf-8").splitlines()
        found = [line.strip() for line in lines if line.strip() and not line.startswith("#")]
        if not found:  # an empty file must not open the server to everybody
            raise ValueError(f"--api-key-file must have a key, got none in {args.api_key_file}")
        keys += found
    return keys


def _words(text: str) -> Iterable[str]:
    """Return the parts of a text that commas separate."""
    return filter(None, (part.strip() for part in text.split(",")))
