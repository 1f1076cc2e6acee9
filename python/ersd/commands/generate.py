"""The command ``ersd generate``: text from a prompt."""

from __future__ import annotations

import argparse
import json
import sys
from dataclasses import asdict
from typing import TYPE_CHECKING, Any

from ersd.commands.flags import options_from
from ersd.commands.model_flags import add_text_flags, text_generator_from

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
    add("words", nargs="*", metavar="PROMPT", help="the prompt; - reads it from standard input")
    add("-p", "--prompt", help="the prompt")
    add_text_flags(parser, max_tokens=128)
    add(
        "--logprobs",
        type=int,
        default=None,
        metavar="N",
        help="with --json: log-probabilities of the tokens and of the N most probable ones",
    )
    add("--json", action="store_true", help="print one JSON object instead of text")


def run(args: argparse.Namespace) -> None:
    """Generate, and print the text as it comes or one JSON object at the end.

    Raises:
        KeyboardInterrupt: after Ctrl-C, once what was generated is printed.
        ValueError: a wrong flag, or no prompt.
    """
    prompt = _prompt(args)
    options = options_from(args)
    if args.logprobs is not None and not args.json:
        raise ValueError("--logprobs needs --json")
    options["logprobs"] = args.logprobs
    stream = text_generator_from(args).stream(prompt, **options)
    interrupted = False
    try:
        for step in stream:
            if not args.json:
                sys.stdout.write(step.text)
                sys.stdout.flush()
    except KeyboardInterrupt:
        interrupted = True
    finally:
        stream.close()
    if args.json:
        print(json.dumps(_result(prompt, stream, interrupted), ensure_ascii=False))
    else:
        print(flush=True)
        ending = ", interrupted" if interrupted else ""
        print(f"ersd: {stream.stats}, seed {stream.seed}{ending}", file=sys.stderr)
    if interrupted:
        raise KeyboardInterrupt


def _prompt(args: argparse.Namespace) -> str:
    """Return the prompt from the flags or, if they say so or have none, from standard input."""
    given = ([args.prompt] if args.prompt is not None else []) + list(args.words)
    if given == ["-"] or (not given and not sys.stdin.isatty()):
        return sys.stdin.read().removesuffix("\n")
    if not given:
        raise ValueError("no prompt: give it as an argument, or - for standard input")
    return " ".join(given)


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
