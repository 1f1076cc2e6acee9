"""The command ``ersd paper``: the paper's experiment on a pair of models."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

from ersd.commands.model_flags import add_model_flags, draft_path, target_path

__all__ = ["add_parser", "run"]


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parser of ``ersd paper`` to the commands of ``ersd``."""
    parser = commands.add_parser(
        "paper",
        help="measure tokens per target call of every method, strategy and k",
        description=(
            "Records the ranks of a pair of models and writes table.csv and report.md with"
            " pictures. A stopped run continues when the same command is given again."
        ),
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    parser.set_defaults(run=run)
    add_model_flags(parser)
    add = parser.add_argument
    add("-o", "--output", required=True, help="folder of the results")
    add(
        "--chat",
        nargs="+",
        default=[],
        type=Path,
        metavar="FILE",
        help="files of chat messages, separated by lines of ---; each file is a category",
    )
    add(
        "--text",
        nargs="+",
        default=[],
        type=Path,
        metavar="FILE",
        help="files of texts that the model continues, separated in the same way",
    )
    add("-n", "--max-tokens", type=int, default=96, help="tokens per prompt")
    add("--temp", default="0.6,1.0", help="temperatures, separated by commas")
    add("-k", "--max-nodes", type=int, default=256, help="k doubles from 1 to this")
    add("--prompts", type=int, default=None, help="prompts per category; without it, all")
    add("--checks", type=int, default=1, help="prompts per category that the engine also decodes")
    add("-s", "--seed", type=int, default=1, help="seed of the first prompt of a category")


def run(args: argparse.Namespace) -> None:
    """Run the experiment and print where its report is."""
    try:
        from ersd.paper.experiment import Experiment
        from ersd.paper.run import run
    except ImportError as error:
        raise ValueError(
            f'{error.name} is not installed: run `pip install "ersd[paper]"`'
        ) from error
    draft = draft_path(args)
    if draft is None:
        raise ValueError("-md is needed: the draft, a GGUF file")
    experiment = Experiment(
        model=Path(target_path(args)),
        draft=Path(draft),
        chat=tuple(args.chat),
        text=tuple(args.text),
        n=args.max_tokens,
        temperatures=tuple(float(t) for t in args.temp.split(",")),
        max_nodes=args.max_nodes,
        n_prompts=args.prompts,
        n_checks=args.checks,
        seed=args.seed,
    )
    try:
        run(
            experiment,
            args.output,
            n_threads=args.threads,
            n_gpu_layers=args.gpu_layers,
            draft_n_gpu_layers=args.gpu_layers_draft,
        )
    except KeyboardInterrupt:
        print("\nersd: stopped; the same command goes on from here", file=sys.stderr)
        raise
    print(f"ersd: {Path(args.output) / 'report.md'}", file=sys.stderr)
