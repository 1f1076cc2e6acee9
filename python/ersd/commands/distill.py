"""The command ``ersd distill``: a draft made for a target."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path
from typing import Any

__all__ = ["add_parser", "run"]


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parser of ``ersd distill`` to the commands of ``ersd``."""
    parser = commands.add_parser(
        "distill",
        help="make a draft for a target",
        description=(
            "The target writes texts, and a small model learns the target's probabilities on them."
            " A stopped run continues when the same command is given again."
        ),
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.set_defaults(run=run)
    parser.add_argument("model", type=Path, metavar="TARGET", help="GGUF file of the target")
    parser.add_argument(
        "-o",
        "--output",
        required=True,
        type=Path,
        metavar="DRAFT",
        help="GGUF file of the draft; a card, .md, and a folder .work are written next to it",
    )
    _add_training_flags(parser)
    _add_evaluation_flags(parser)
    _add_machine_flags(parser)


def _add_training_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the draft's size and of what it learns from."""
    add = parser.add_argument
    add("--width", type=int, default=256, help="width of the draft, a multiple of 64")
    add("--layers", type=int, default=3, help="layers of the draft")
    add("--tokens", type=int, default=1_000_000, help="tokens of text that the target writes")
    add("--epochs", type=float, default=6, help="how often the draft sees each token")
    add(
        "--text",
        nargs="+",
        default=[],
        type=Path,
        metavar="FILE",
        help="files that the target reads before it writes; their tokens count too",
    )
    add(
        "--corpus",
        type=Path,
        metavar="FOLDER",
        help="folder of the texts, which drafts of other sizes can share; without it, .work",
    )
    add(
        "--from",
        dest="begin_from",
        type=Path,
        metavar="DRAFT",
        help="draft of the same width and layers that learns further, instead of a new one",
    )
    add("-c", "--ctx-size", type=int, default=320, help="longest text, in tokens")
    add("-s", "--seed", type=int, default=1, help="seed of texts and training")


def _add_evaluation_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of prompts that the draft is evaluated on, beside texts of the target."""
    for name, what in (("chat", "chat messages"), ("text", "texts that the target continues")):
        parser.add_argument(
            f"--held-out-{name}",
            nargs="+",
            default=[],
            type=Path,
            metavar="FILE",
            help=f"files of {what}, separated by lines of ---, to evaluate the draft on",
        )


def _add_machine_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say how the machine is used."""
    add = parser.add_argument
    add("-np", "--parallel", type=int, default=254, help="texts written in parallel, at most 254")
    add("-t", "--threads", type=int, default=0, help="CPU threads; 0: one per core")
    add(
        "-ngl",
        "--gpu-layers",
        type=int,
        default=-1,
        help="layers of the target on the GPU; -1: all; 0: everything on the CPU",
    )


def _settings(args: argparse.Namespace) -> dict[str, Any]:
    """Return the flags by the names that `Distillation` has for them."""
    return {
        "target": args.model,
        "draft": args.output,
        "width": args.width,
        "layers": args.layers,
        "n_positions": args.tokens,
        "epochs": args.epochs,
        "n_ctx": args.ctx_size,
        "n_texts": args.parallel,
        "text": tuple(args.text),
        "seed": args.seed,
        "n_threads": args.threads,
        "n_gpu_layers": args.gpu_layers,
        "corpus": args.corpus,
        "begin_from": args.begin_from,
        "held_out_chat": tuple(args.held_out_chat),
        "held_out_text": tuple(args.held_out_text),
    }


def run(args: argparse.Namespace) -> None:
    """Distil the draft, and print its figures and where its files are."""
    try:
        from ersd.distill.run import distill
        from ersd.distill.settings import Distillation
    except ImportError as error:
        raise ValueError(
            f'{error.name} is not installed: run `pip install "ersd[distill]"`'
        ) from error
    settings = Distillation(**_settings(args))
    try:
        figures = distill(settings)
    except KeyboardInterrupt:
        print("\nersd: stopped; the same command goes on from here", file=sys.stderr)
        raise
    for name, value in figures.items():
        if not name.endswith("_stderr"):
            print(f"{name} {value:.3f}")
    print(f"ersd: {settings.draft}, {settings.draft.with_suffix('.md')}", file=sys.stderr)
