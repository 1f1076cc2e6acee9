"""What ``ersd --version`` prints."""

from __future__ import annotations

import argparse

from ersd import __version__, _loader
from ersd.commands.model_flags import (
    add_context_flags,
    add_model_flags,
    add_place_flags,
    generator_from,
)
from ersd.engine import devices

__all__ = ["parser", "run"]

# Every target is tested when it is loaded; this says what to expect.
EXACT = (
    "on the CPU with weights in Q4_0, Q4_1, Q5_0, Q5_1 and Q8_0; "
    "`ersd --version -m MODEL` says it of a model"
)


def parser() -> argparse.ArgumentParser:
    """Return the parser of what follows ``ersd --version``."""
    found = argparse.ArgumentParser(
        prog="ersd --version",
        description=(
            "Prints the versions of ersd and of llama-cpp-python, and the devices of llama.cpp."
            " With -m, prints what the models take on each device, before any token."
        ),
    )
    add_model_flags(found)
    add_context_flags(found)
    add_place_flags(found)
    return found


def run(args: argparse.Namespace) -> None:
    """Print the versions and the devices, and what the models take that the flags name."""
    print(f"ersd {__version__}, {_loader.REQUIREMENT.replace('==', ' ')}\ndevices:")
    for name, description, _ in devices():
        print(f"  {name}: {description}")
    if args.model is None and args.model_draft is None:
        print(f"exact text: {EXACT}", flush=True)
        return
    generator = generator_from(args, n_parallel=args.parallel, n_ctx_total=args.ctx_total)
    print(f"memory, with n_ctx={generator.n_ctx} and n_parallel={generator.n_parallel}:")
    for memory in generator.memory:
        print(f"  {memory}")
    exact = generator.exact
    print(f"exact text: {'yes' if exact else 'no'}, {exact.reason}", flush=True)
