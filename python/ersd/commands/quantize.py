"""The command ``ersd quantize``: writes a model in another type of weights."""

from __future__ import annotations

import argparse
import sys
from pathlib import Path

__all__ = ["add_parser", "run"]


def add_parser(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    """Add the parser of ``ersd quantize`` to the commands of ``ersd``."""
    parser = commands.add_parser(
        "quantize",
        help="write a model in another type of weights, and report how far it is from the first",
        description=(
            "Writes a GGUF model again in another type of weights by llama.cpp's quantizer, from"
            " whatever type it has, and reports the divergence between both on texts of the first."
        ),
    )
    parser.set_defaults(run=run)
    add = parser.add_argument
    add("model", type=Path, metavar="IN", help="GGUF file to read")
    add("output", type=Path, metavar="OUT", help="GGUF file to write")
    add("type", metavar="TYPE", help="type of weights, like Q8_0, Q4_0 or Q4_K_M")
    add("-n", "--max-tokens", type=int, default=48, help="tokens per text that is compared (48)")
    add("-t", "--threads", type=int, default=None, help="CPU threads; without it, one per core")


def run(args: argparse.Namespace) -> None:
    """Write the file, all of it or nothing, and print what it is worth."""
    from ersd.divergence import mean_divergence
    from ersd.engine import quantize
    from ersd.files import replacing

    if args.output.exists() and args.model.exists() and args.output.samefile(args.model):
        raise ValueError(f"OUT must be another file than IN, got '{args.output}' for both")
    with replacing(args.output) as unfinished:
        quantize(str(args.model), str(unfinished), args.type.upper(), args.threads or 0)
    mean, error = mean_divergence(
        args.model, args.output, max_tokens=args.max_tokens, n_threads=args.threads
    )
    sizes = [path.stat().st_size / 1e6 for path in (args.model, args.output)]
    print(f"size {sizes[0]:.1f} MB -> {sizes[1]:.1f} MB")
    print(f"mean divergence {mean:.4f} +- {error:.4f} nats per token")
    print(f"ersd: {args.output}", file=sys.stderr)
