"""The command ``ersd batch``: a file of requests in, a file of answers out."""

from __future__ import annotations

import argparse
import sys
from collections.abc import Callable, Iterator
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Any, cast

from ersd import Generator, Options
from ersd.commands.flags import add_options, options_from
from ersd.commands.model_flags import (
    add_context_flags,
    add_model_flags,
    add_parallel_flags,
    add_shift_flags,
    generator_from,
    parallel_options,
    target_path,
)
from ersd.engine.seeds import check_seed
from ersd.files import fingerprint
from ersd.tables.answers import Answer, Answers, NumberedRow, Texts
from ersd.tables.requests import Columns
from ersd.tables.rows import form_of, is_openai_form
from ersd.tables.run import Engine, Run

if TYPE_CHECKING:
    from ersd.ray import Workers

__all__ = ["add_parser", "run"]

# Flags that decide how fast the answers come, or how they are written, but not what they are.
_OTHER_FLAGS = {"command", "run", "version", "threads", "parallel", "ctx_total", "verbose", "out"}
_OTHER_FLAGS |= {"source", "prefix", "ray", "workers", "worker_gpus", "batch_size"}
_OTHER_FLAGS |= {"gpu_layers", "gpu_layers_draft", "model", "model_draft", "lora"}


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parser of ``ersd batch`` to the commands of ``ersd``."""
    parser = commands.add_parser(
        "batch",
        help="answer all requests in a file",
        description=(
            "Answers each row of a file: Parquet, CSV, JSON lines, or OpenAI's batch form. After a"
            " stop, the same command goes on where it was. A row's seed follows from --seed and the"
            " row's id alone. Without -n, a prompt gets at most 128 tokens, and a request in"
            " OpenAI's form as many as `ersd serve` gives it."
        ),
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.set_defaults(run=run)
    _add_table_flags(parser)
    add_model_flags(parser)
    add_context_flags(parser)
    add_shift_flags(parser)
    add_parallel_flags(parser)
    add_options(parser, max_tokens=None, without=("seed",))
    parser.set_defaults(exact=True)
    _add_ray_flags(parser)


def _add_table_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of both files."""
    add = parser.add_argument
    add("source", type=Path, metavar="IN", help="file of requests: .parquet, .csv or .jsonl")
    add("-o", "--out", type=Path, required=True, help="file of answers, of these endings, too")
    add("--prompt-column", default="prompt", metavar="NAME", help="column of prompts")
    add("--messages-column", metavar="NAME", help="column of conversations, in place of prompts")
    add("--id-column", metavar="NAME", help="column of row ids; without it, the row's number")
    add(
        "--option-columns",
        default="",
        metavar="NAMES",
        help="columns, separated by commas, that hold a sampling option and have its name, such as"
        " max_tokens,temperature",
    )
    add("--prefix", default="", help="what the names of the answers' columns begin with")
    add("-s", "--seed", type=int, default=0, help="base seed, from which each row's seed follows")


def _add_ray_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of a cluster."""
    add = parser.add_argument
    add(
        "--ray",
        metavar="ADDRESS",
        help="run on this cluster of Ray; auto: the running one; local: one on this machine",
    )
    add("--workers", type=int, default=1, metavar="N", help="with --ray: copies of the models")
    add("--worker-gpus", type=float, default=0, metavar="N", help="with --ray: GPUs of each copy")


def run(args: argparse.Namespace) -> None:
    """Answer all rows that are not answered yet.

    Raises:
        KeyboardInterrupt: after Ctrl-C. The same command goes on with the run.
        OSError, RuntimeError, ValueError: the run cannot begin, or cannot go on.
    """
    options = _options(args)
    answers = _answers(args, options)
    wanted = Run(args.source, args.out, answers, _settings(args), args.prefix)
    load = partial(_load, args, parallel_options(args), options)
    try:
        n_rows, n_errors = wanted(partial(_engine, args, load))
    except KeyboardInterrupt:
        print("\nersd batch: stopped; the same command goes on", file=sys.stderr)
        raise
    print(f"ersd batch: {n_rows} rows in {args.out}, {n_errors} with an error", file=sys.stderr)


def _options(args: argparse.Namespace) -> Options:
    """Return the options of all rows. Each row has a seed of its own."""
    options = options_from(args)
    del options["seed"]
    if options["max_tokens"] is None:
        del options["max_tokens"]
    return options


def _answers(args: argparse.Namespace, options: Options) -> Answers:
    """Return what answers the rows of the file."""
    form_of(args.out)
    if args.seed == -1:  # elsewhere a fresh seed, which the next run would not know
        raise ValueError("--seed must be a base seed from 0 on, got -1")
    seed = check_seed(args.seed)
    if not is_openai_form(args.source):
        names = tuple(filter(None, (name.strip() for name in args.option_columns.split(","))))
        columns = Columns(args.prompt_column, args.messages_column, args.id_column, names)
        return Texts(columns, options, seed)
    try:
        from ersd.tables.openai import Responses
    except ImportError as error:
        raise ValueError(
            f'{error.name} is not installed: run `pip install "ersd[batch]"`'
        ) from error
    return Responses(options, seed)


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    """Return what the answers depend on: the files and the flags."""
    flags = {name: value for name, value in vars(args).items() if name not in _OTHER_FLAGS}
    flags = {name: str(v) if isinstance(v, Path) else v for name, v in flags.items()}
    files = {"IN": args.source, "model": target_path(args), "lora": args.lora}
    prints = {name: fingerprint(Path(path)) for name, path in files.items() if path is not None}
    return {"version": 1, **prints, **flags}


def _load(
    args: argparse.Namespace, generator_options: dict[str, Any], options: Options
) -> Generator:
    """Load the models, and check the options that hold for all rows."""
    generator = generator_from(args, default_draft=args.method != "ar", **generator_options)
    generator.generate([0], **cast(Options, {**options, "max_tokens": 0}))
    return generator


def _engine(args: argparse.Namespace, load: Callable[[], Generator], n_rows: int) -> Engine:
    """Return what answers n_rows rows: a Generator here, or workers of a cluster."""
    if args.ray is not None:
        return _workers(args, load, n_rows)
    generator = load()

    def answer(answers: Answers, read: Callable[[], Iterator[NumberedRow]]) -> Iterator[Answer]:
        return answers(generator, read())

    return answer


def _workers(args: argparse.Namespace, load: Callable[[], Generator], n_rows: int) -> Workers:
    if args.threads is None or args.threads < 1:
        raise ValueError("--ray needs --threads, the number of CPUs of each copy of the models")
    if args.workers < 1:
        raise ValueError(f"--workers must be at least 1, got {args.workers}")
    try:
        from ersd.ray import Workers
    except ImportError as error:
        raise ValueError(f'{error.name} is not installed: run `pip install "ersd[ray]"`') from error
    return Workers(
        load,
        address=args.ray,
        n_workers=args.workers,
        num_cpus=args.threads,
        num_gpus=args.worker_gpus,
        # Enough for places to be filled, and few enough for every worker to have some.
        batch_size=max(1, min(32 * args.parallel, n_rows // (4 * args.workers))),
    )
