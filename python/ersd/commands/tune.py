"""The command ``ersd tune``: what drafting gains for a pair of models on this machine."""

from __future__ import annotations

import argparse
import importlib.util
import sys
from pathlib import Path

from ersd.commands.model_flags import add_context_flags, add_model_flags, generator_from

__all__ = ["add_parser", "run"]


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parser of ``ersd tune`` to the commands of ``ersd``."""
    parser = commands.add_parser(
        "tune",
        help="measure what drafting gains for a pair of models on this machine",
        description=(
            "Measures what calls of both models cost, lets the draft learn from a few texts, and"
            " prints the speed to expect for each k."
        ),
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.set_defaults(run=run)
    add_model_flags(parser)
    add_context_flags(parser)
    add = parser.add_argument
    add(
        "-f",
        "--file",
        type=Path,
        help="file of texts to learn from, separated by lines of ---; without it, a few chat"
        " messages",
    )
    add("-n", "--max-tokens", type=int, default=64, help="tokens per text")
    add("--temp", "--temperature", type=float, default=0.8, help="temperature")
    add("--strategy", help="simple, sequence, batch, tree or adaptive; without it, adaptive")
    add("--plot", metavar="FILE", help="draw costs and speeds into a .png, .svg or .pdf file")
    add(
        "--save",
        nargs="?",
        const="",
        metavar="FILE",
        help="keep the profile for every later use on this machine, or in a file",
    )


def run(args: argparse.Namespace) -> None:
    """Tune, print the report, and draw or save what the flags ask for."""
    from ersd import tune
    from ersd.prompts import read_prompts

    if args.plot and importlib.util.find_spec("matplotlib") is None:
        raise ValueError(
            'matplotlib is not installed: run `pip install "ersd[paper]"`, or leave out --plot'
        )
    prompts = read_prompts(args.file) if args.file else ()
    generator = generator_from(args)
    for memory in generator.memory:
        print(f"ersd: {memory}", file=sys.stderr)
    tuning = tune.tune(
        generator,
        prompts,
        max_tokens=args.max_tokens,
        temperature=args.temp,
        strategy=args.strategy,
    )
    print(tune.report(tuning), end="")
    if args.plot:
        tune.plot(tuning, args.plot)
    if args.save is not None:
        print(f"ersd: {generator.save_profile(args.save or None)}", file=sys.stderr)
