"""The options of a generation as flags of a command line, with llama.cpp's names."""

from __future__ import annotations

import argparse
import json
import re
from pathlib import Path

from ersd.options import Options

__all__ = ["add_options", "options_from"]


def _nodes(text: str) -> int | str:
    if text != "auto" and not text.lstrip("-").isdecimal():
        raise argparse.ArgumentTypeError(f"expected a number or auto, got '{text}'")
    return text if text == "auto" else int(text)


def _bias(text: str) -> tuple[int, float]:
    found = re.fullmatch(r"(\d+)([+-].+)", text)
    try:
        if found:
            return int(found[1]), float(found[2])
    except ValueError:
        pass
    raise argparse.ArgumentTypeError(
        f"expected a token and its bias, as 15043+1 or 15043-1, got '{text}'"
    )


def add_options(parser: argparse.ArgumentParser, *, max_tokens: int) -> None:
    """Add the flags that `options_from` reads."""
    add = parser.add_argument
    add(
        "-n",
        "--max-tokens",
        type=int,
        default=max_tokens,
        help="tokens to generate; -1: until the context is full",
    )
    add(
        "--temp",
        "--temperature",
        type=float,
        default=0.8,
        help="temperature; 0: the most probable token",
    )
    add("--top-k", type=int, default=40, help="0: all tokens")
    add("--top-p", type=float, default=0.95, help="1: all tokens")
    add("--min-p", type=float, default=0.05, help="0: all tokens")
    add("--typical", "--typical-p", type=float, default=1.0, help="1: all tokens")
    add("--xtc-probability", type=float, default=0.0, help="0: never")
    add("--xtc-threshold", type=float, default=0.1, help="above 0.5: never")
    add("--repeat-penalty", type=float, default=1.0, help="1: none")
    add("--presence-penalty", type=float, default=0.0, help="0: none")
    add("--frequency-penalty", type=float, default=0.0, help="0: none")
    add("--repeat-last-n", type=int, default=64, help="tokens that penalties look back; -1: all")
    add("--dry-multiplier", type=float, default=0.0, help="penalty of repeated sequences; 0: none")
    add("--dry-base", type=float, default=1.75, help="its growth by each token")
    add("--dry-allowed-length", type=int, default=2, help="the shortest sequence that is penalised")
    add("--dry-penalty-last-n", type=int, default=-1, help="tokens that DRY looks back; -1: all")
    add(
        "--dry-sequence-breaker",
        action="append",
        metavar="TEXT",
        help='sequences end at it; may be repeated; none: no breakers; without it, \\n : " *',
    )
    add(
        "-l",
        "--logit-bias",
        action="append",
        type=_bias,
        default=[],
        metavar="TOKEN(+/-)BIAS",
        help="as 15043+1 or 15043-1; may be repeated",
    )
    add("--ignore-eos", action="store_true", help="never end by an end token")
    add("--grammar", help="GBNF that the answer must match")
    add("--grammar-file", type=Path, help="the same, read from a file")
    add(
        "-j",
        "--json-schema",
        metavar="SCHEMA",
        help="JSON schema that the answer must match; {} for any JSON object",
    )
    add("-s", "--seed", type=int, default=None, help="without it, a fresh one")
    add("--stop", action="append", default=[], help="end before this text; may be repeated")
    add("--method", default="ersd", help="ersd, ar (no draft), gsd, gsd_iid or match")
    add(
        "--strategy",
        help="simple, sequence, batch, tree or adaptive; without it, adaptive, or tree for gsd",
    )
    add(
        "-k",
        "--draft-nodes",
        type=_nodes,
        default="auto",
        help="drafted tokens per target call; auto: as many as pay",
    )
    add("--draft-depth", type=int, default=64, help="longest path of a draft tree")
    add(
        "--no-adapt-draft",
        action="store_true",
        help="the draft does not correct itself by what the target says",
    )


def options_from(args: argparse.Namespace) -> Options:
    """What the flags ask for. Raises ValueError for flags that exclude each other and for text that is not JSON."""
    if (args.grammar is not None) + (args.grammar_file is not None) + (
        args.json_schema is not None
    ) > 1:
        raise ValueError(
            "--grammar, --grammar-file and --json-schema exclude each other: give one of them"
        )
    options: Options = {
        "max_tokens": args.max_tokens,
        "temperature": args.temp,
        "top_k": args.top_k,
        "top_p": args.top_p,
        "min_p": args.min_p,
        "typical_p": args.typical,
        "xtc_probability": args.xtc_probability,
        "xtc_threshold": args.xtc_threshold,
        "repeat_penalty": args.repeat_penalty,
        "presence_penalty": args.presence_penalty,
        "frequency_penalty": args.frequency_penalty,
        "penalty_last_n": args.repeat_last_n,
        "dry_multiplier": args.dry_multiplier,
        "dry_base": args.dry_base,
        "dry_allowed_length": args.dry_allowed_length,
        "dry_penalty_last_n": args.dry_penalty_last_n,
        "logit_bias": dict(args.logit_bias),
        "ignore_eos": args.ignore_eos,
        "grammar": args.grammar
        if args.grammar_file is None
        else args.grammar_file.read_text(encoding="utf-8"),
        "seed": args.seed,
        "stop": args.stop,
        "method": args.method,
        "strategy": args.strategy,
        "draft_nodes": args.draft_nodes,
        "draft_depth": args.draft_depth,
        "adapt_draft": not args.no_adapt_draft,
    }
    if args.dry_sequence_breaker is not None:
        options["dry_sequence_breakers"] = [
            text for text in args.dry_sequence_breaker if text != "none"
        ]
    if args.json_schema is not None:
        try:
            schema = json.loads(args.json_schema)
        except json.JSONDecodeError as error:
            raise ValueError(
                f"--json-schema must be JSON, got {args.json_schema!r}: {error}"
            ) from error
        options["response_format"] = (
            {"type": "json_object", "schema": schema} if schema else {"type": "json_object"}
        )
    return options
