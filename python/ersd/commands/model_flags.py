"""What several commands share: the flags that choose models, and the Generator made from them."""

from __future__ import annotations

import argparse
from pathlib import Path
from typing import Any

from ersd import Generator, models
from ersd.commands.flags import add_options

__all__ = [
    "add_context_flags",
    "add_model_flags",
    "add_parallel_flags",
    "add_place_flags",
    "add_shift_flags",
    "add_text_flags",
    "draft_path",
    "generator_from",
    "parallel_options",
    "target_path",
    "text_generator_from",
]


def add_model_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that name both models and say where they run."""
    add = parser.add_argument
    add("-m", "--model", help="target GGUF; without it, the default pair")
    add("-md", "--model-draft", help="draft GGUF")
    add("-t", "--threads", type=int, default=None, help="CPU threads; without it, one per core")
    add(
        "-ngl",
        "--gpu-layers",
        type=int,
        default=-1,
        help="layers of the target on the GPU; -1: all",
    )
    add(
        "-ngld",
        "--gpu-layers-draft",
        type=int,
        default=-1,
        help="layers of the draft on the GPU; -1: all",
    )


def add_context_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of the context, of the adapter and of llama.cpp's log."""
    add = parser.add_argument
    add("-c", "--ctx-size", type=int, default=0, help="context; 0: the model's, at most 4096")
    add("-b", "--batch-size", type=int, default=512, help="prompt tokens per call")
    add(
        "--exact",
        action=argparse.BooleanOptionalAction,
        default=None,
        help="the same text to the bit whatever is drafted; without either, if there is a draft",
    )
    add(
        "--rpc",
        default="",
        metavar="HOST:PORT,...",
        help="servers of llama.cpp's RPC backend that take layers of the target (experimental, for"
        " trusted networks)",
    )
    add("--lora", help="LoRA adapter for the target, a GGUF file")
    add("-v", "--verbose", action="store_true", help="let llama.cpp log to stderr")


def add_place_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say how many generations run at once, and in how much memory."""
    add = parser.add_argument
    add("-np", "--parallel", type=int, default=4, metavar="N", help="generations that run at once")
    add(
        "--ctx-total",
        type=int,
        default=0,
        metavar="N",
        help="tokens in the cache, of all generations and kept prompts together; 0: as --ctx-size",
    )


def add_parallel_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags of commands that answer several requests at once."""
    add_place_flags(parser)
    parser.add_argument(
        "--chat-template-file",
        type=Path,
        metavar="FILE",
        help="Jinja template for conversations; without it, the model's own",
    )


def parallel_options(args: argparse.Namespace) -> dict[str, Any]:
    """Return the options of `generator_from` for the flags of context shift and parallelism.

    Raises:
        OSError: the file of the template cannot be read.
    """
    template = args.chat_template_file
    return {
        "n_parallel": args.parallel,
        "n_ctx_total": args.ctx_total,
        "context_shift": args.context_shift,
        "n_keep": args.keep,
        "chat_template": template.read_text(encoding="utf-8") if template else None,
    }


def add_text_flags(parser: argparse.ArgumentParser, *, max_tokens: int) -> None:
    """Add all flags that `text_generator_from` and `options_from` read.

    Args:
        parser: the parser of a command that writes text.
        max_tokens: default of ``--max-tokens``.
    """
    add_model_flags(parser)
    add_context_flags(parser)
    add_options(parser, max_tokens=max_tokens)
    add_shift_flags(parser)


def add_shift_flags(parser: argparse.ArgumentParser) -> None:
    """Add the flags that say what happens when the context is full."""
    add = parser.add_argument
    add(
        "--context-shift",
        action="store_true",
        help="when the context is full, drop its older half and continue",
    )
    add("--keep", type=int, default=0, help="prompt tokens that a context shift keeps; -1: all")


def target_path(args: argparse.Namespace) -> str | Path:
    """Return the target that ``-m`` names, or the default target."""
    return models.default_target() if args.model is None else args.model


def draft_path(args: argparse.Namespace) -> str | Path | None:
    """Return the draft that ``-md`` names, or the default draft without ``-m`` and ``-md``."""
    if args.model is None and args.model_draft is None:
        return models.default_draft()
    return args.model_draft or None


def generator_from(
    args: argparse.Namespace, *, default_draft: bool = True, **options: Any
) -> Generator:
    """Return the Generator that the flags of models and context ask for.

    Args:
        args: the parsed flags.
        default_draft: whether the default target gets the default draft.
        options: further options of `Generator`.
    """
    has_draft = default_draft or args.model_draft is not None
    return Generator(
        target_path(args),
        draft_path(args) if has_draft else None,
        n_ctx=args.ctx_size,
        n_batch=args.batch_size,
        n_threads=args.threads,
        n_gpu_layers=args.gpu_layers,
        draft_n_gpu_layers=args.gpu_layers_draft,
        rpc_servers=[server for server in args.rpc.split(",") if server],
        exact=args.exact,
        lora_path=args.lora,
        verbose=args.verbose,
        **options,
    )


def text_generator_from(args: argparse.Namespace) -> Generator:
    """Return the Generator that the flags of `add_text_flags` ask for."""
    drafts = args.method != "ar"
    return generator_from(
        args,
        default_draft=drafts,
        draft_sources=args.draft_sources if drafts else (),
        context_shift=args.context_shift,
        n_keep=args.keep,
    )
