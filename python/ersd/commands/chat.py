"""The command ``ersd chat``: its flags. The conversation itself is in terminal.py."""

from __future__ import annotations

import argparse

from ersd.commands import terminal
from ersd.commands.flags import options_from
from ersd.commands.model_flags import add_text_flags, text_generator_from

__all__ = ["add_parser", "run"]


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parser of ``ersd chat`` to the commands of ``ersd``."""
    parser = commands.add_parser(
        "chat",
        help="talk with a model in the terminal",
        description=(
            "Talk with a model by its own chat template. In the conversation, /help lists the"
            " commands. In a pipe, each line is a message."
        ),
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.set_defaults(run=run)
    add = parser.add_argument
    add("--system", help="system prompt, which the model reads before the conversation")
    add("--show-draft", action="store_true", help="colour drafted tokens by their sources")
    add_text_flags(parser, max_tokens=-1)


def run(args: argparse.Namespace) -> None:
    """Talk until the input ends or the user leaves."""
    terminal.talk(
        text_generator_from(args),
        options_from(args),
        system=args.system,
        show_draft=args.show_draft,
    )
