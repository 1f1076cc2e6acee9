"""The command ``ersd generate``: text from a prompt."""

from __future__ import annotations

import argparse
import json
import os
import stat
import sys
from dataclasses import asdict
from pathlib import Path
from typing import TYPE_CHECKING, Any

from ersd.commands.colours import DraftColours, enable_colours
from ersd.commands.flags import options_from
from ersd.commands.model_flags import add_text_flags, text_generator_from
from ersd.engine.options import TABLE

if TYPE_CHECKING:
    from ersd.engine.stream import Stream

__all__ = ["add_parser", "run"]


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parser of ``ersd generate`` to the commands of ``ersd``."""
    parser = commands.add_parser(
        "generate",
        help="generate text from a prompt",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.set_defaults(run=run)
    add = parser.add_argument
    add(
        "words",
        nargs="*",
        metavar="PROMPT",
        help="the prompt; what a pipe brings is appended to it, and - reads standard input",
    )
    add("-p", "--prompt", help="the prompt")
    add("-f", "--file", type=Path, help="file whose text is appended to the prompt")
    add_text_flags(parser, max_tokens=128)
    add(
        "--logprobs",
        type=int,
        default=None,
        metavar="N",
        help="with --json: log-probabilities of the tokens and of the N most probable ones",
    )
    add("--json", action="store_true", help="print one JSON object instead of text")
    add(
        "--show-draft",
        action="store_true",
        help="colour drafted tokens by their sources, if standard output is a terminal",
    )
    add("--prediction", metavar="TEXT", help=TABLE["prediction"].meaning)
    add("--prediction-file", type=Path, metavar="FILE", help="The expected answer is in this file.")


def run(args: argparse.Namespace) -> None:
    """Generate, and print the text as it comes or one JSON object at the end.

    Raises:
        KeyboardInterrupt: after Ctrl-C, once what was generated is printed.
        OSError: a file cannot be read.
        ValueError: a wrong flag, or no prompt.
    """
    prompt = _prompt(args)
    options = options_from(args)
    if args.logprobs is not None and not args.json:
        raise ValueError("--logprobs needs --json")
    options["logprobs"] = args.logprobs
    options["prediction"] = _prediction(args)
    uses_colours = _uses_colours(args)
    generator = text_generator_from(args)
    colours = DraftColours(generator) if uses_colours else None
    stream = generator.stream(prompt, **options)
    interrupted = False
    try:
        for step in stream:
            if not args.json:
                sys.stdout.write(colours.paint(step) if colours else step.text)
                sys.stdout.flush()
    except KeyboardInterrupt:
        interrupted = True
    finally:
        stream.close()
    if args.json:
        print(json.dumps(_result(prompt, stream, interrupted), ensure_ascii=False))
    else:
        print(flush=True)
        if colours and (legend := colours.legend()):
            print(legend, file=sys.stderr)
        ending = ", interrupted" if interrupted else ""
        print(f"ersd: {stream.stats}, seed {stream.seed}{ending}", file=sys.stderr)
    if interrupted:
        raise KeyboardInterrupt


def _prompt(args: argparse.Namespace) -> str:
    """Return the prompt: the words, then the file, then what a pipe brings, on lines of their own.

    A - among the words stands for standard input. Standard input that is neither a pipe nor a file,
    such as a terminal, is read only then.
    """
    words = ([args.prompt] if args.prompt is not None else []) + list(args.words)
    texts = [" ".join(word for word in words if word != "-")] if words else []
    if args.file is not None:
        texts.append(args.file.read_text(encoding="utf-8").removesuffix("\n"))
    if "-" in words or _is_piped() or (not texts and not sys.stdin.isatty()):
        texts.append(sys.stdin.read().removesuffix("\n"))
    if not texts:
        raise ValueError("no prompt: give it as an argument, with -f, or - for standard input")
    return "\n".join(filter(None, texts))


def _is_piped() -> bool:
    """Return whether standard input is a pipe or a file."""
    try:
        mode = os.fstat(sys.stdin.fileno()).st_mode
    except (AttributeError, OSError, ValueError):  # there is none, or it is closed
        return False
    return stat.S_ISFIFO(mode) or stat.S_ISREG(mode)


def _prediction(args: argparse.Namespace) -> str | None:
    """Return the expected answer, from the command line or from a file."""
    if args.prediction_file is None:
        text: str | None = args.prediction
        return text
    if args.prediction is not None:
        raise ValueError("--prediction and --prediction-file exclude each other")
    read: str = args.prediction_file.read_text(encoding="utf-8")
    return read


def _uses_colours(args: argparse.Namespace) -> bool:
    """Return whether the answer has colours."""
    if args.show_draft and args.json:
        raise ValueError("--show-draft and --json exclude each other")
    if not args.show_draft or not sys.stdout.isatty():
        return False
    enable_colours()
    return True


def _result(prompt: str, stream: Stream, interrupted: bool) -> dict[str, Any]:
    """Return the object that ``--json`` prints."""
    result: dict[str, Any] = {
        "prompt": prompt,
        "text": stream.text,
        "tokens": stream.tokens,
        "finish_reason": "interrupted" if interrupted else stream.finish_reason,
        "seed": stream.seed,
        "stats": asdict(stream.stats),
    }
    if stream.logprobs is not None:
        result["logprobs"] = [asdict(each) for each in stream.logprobs]
    return result
