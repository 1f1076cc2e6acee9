"""The command ``ersd``: the parser of all its commands, and its exit statuses."""

from __future__ import annotations

import argparse
import os
import signal
import sys
import threading
from collections.abc import Sequence

from ersd.commands import batch, chat, distill, generate, paper, quantize, serve, tune, version

__all__ = ["main"]

COMMANDS = (generate, chat, batch, serve, tune, quantize, paper, distill)

# Exit statuses, as shells and argparse use them.
SUCCESS, FAILURE, WRONG_USAGE = 0, 1, 2
CTRL_C = 128 + 2  # as if SIGINT had ended the process
BROKEN_PIPE = 128 + 13  # as if SIGPIPE had ended the process
TERMINATED = 128 + 15  # as if SIGTERM had ended the process


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``ersd``.

    Args:
        argv: the words of the command line; None for those of this process.

    Returns:
        The exit status: 0, 1 after an error, 2 for wrong usage, 130 after Ctrl-C, 141 if the
        reader of standard output is gone. SIGTERM ends the process with 143.
    """
    words = sys.argv[1:] if argv is None else list(argv)
    if words[:1] == ["--version"]:
        known = argparse.Namespace(command="version", run=version.run)
        args = version.parser().parse_args(words[1:], known)
    else:
        parser = _parser()
        args = parser.parse_args(words)
        if args.command is None:
            parser.print_usage(sys.stderr)
            return WRONG_USAGE
    for stream in (sys.stdin, sys.stdout):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="replace")
    is_main = threading.current_thread() is threading.main_thread()
    if is_main and args.command != "serve":  # which has its own answer to it
        signal.signal(signal.SIGTERM, _terminate)
    try:
        args.run(args)
    except KeyboardInterrupt:
        return CTRL_C
    except BrokenPipeError:
        # The reader is gone, as with `| head`. Python flushes stdout at exit, which must not fail.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return BROKEN_PIPE
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        # Up to Python 3.11, what a signal raises while a class is made comes as a RuntimeError.
        if isinstance(error.__cause__, SystemExit):
            raise error.__cause__ from None
        if isinstance(error.__cause__, KeyboardInterrupt):
            return CTRL_C
        print(f"ersd: {_sentence(error)}", file=sys.stderr)
        return FAILURE
    return SUCCESS


def _terminate(*_: object) -> None:
    """End by SIGTERM as by an error, so that unfinished files are removed."""
    raise SystemExit(TERMINATED)


def _sentence(error: Exception) -> str:
    """Return what an error says. Python's own errors of files begin with a number."""
    if isinstance(error, OSError) and error.strerror and error.filename is not None:
        return f"cannot open '{error.filename}': {error.strerror}"
    return str(error)


def _parser() -> argparse.ArgumentParser:
    """Return the parser of ``ersd``. Each command adds its own parser and sets ``run``."""
    parser = argparse.ArgumentParser(
        prog="ersd",
        description="Exact speculative sampling by exponential races for GGUF models.",
        allow_abbrev=False,
    )
    parser.add_argument(
        "--version",
        action="store_true",  # main() reads it and what follows it
        help="print the version and the devices; with -m MODEL, what the model takes on them",
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    for command in COMMANDS:
        command.add_parser(commands)
    return parser
