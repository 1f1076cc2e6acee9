"""The commands ``ersd`` and ``ersd-bench``."""

from __future__ import annotations

import argparse
import importlib.util
import json
import os
import subprocess
import sys
from collections.abc import Callable, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from ersd import Generator, __version__, _core, _loader, models
from ersd.commands import terminal
from ersd.commands.flags import add_options, options_from

__all__ = ["bench", "main"]


def version() -> str:
    """What is installed and what it runs on, for ``ersd --version``."""
    devices = "\n".join(f"  {name}: {description}" for name, description, _ in _core.devices())
    return f"ersd {__version__}, {_loader.REQUIREMENT.replace('==', ' ')}\ndevices:\n{devices}"


def _add_models(add: Callable[..., Any]) -> None:
    """The models, and where they run."""
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


def _add_context(add: Callable[..., Any]) -> None:
    """How they are used."""
    add("-c", "--ctx-size", type=int, default=0, help="context; 0: the model's, at most 4096")
    add("-b", "--batch-size", type=int, default=512, help="prompt tokens per call")
    add("--lora", help="LoRA adapter for the target, a GGUF file")
    add("-v", "--verbose", action="store_true", help="let llama.cpp log to stderr")


def _add_writing(parser: argparse.ArgumentParser, *, max_tokens: int) -> None:
    """All that `_writer` and `options_from` read."""
    add = parser.add_argument
    _add_models(add)
    _add_context(add)
    add_options(parser, max_tokens=max_tokens)
    add(
        "--context-shift",
        action="store_true",
        help="go on when the context is full, with its newer half",
    )
    add("--keep", type=int, default=0, help="prompt tokens that a context shift keeps; -1: all")


def _parser() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser(
        prog="ersd", description="Exact speculative sampling by exponential races for GGUF models."
    )
    parser.add_argument(
        "--version", action="store_true", help="print the version, backends and devices"
    )
    commands = parser.add_subparsers(dest="command", metavar="COMMAND")
    generate = commands.add_parser(
        "generate",
        help="generate text from a prompt",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = generate.add_argument
    add("words", nargs="*", metavar="PROMPT", help="the prompt; - reads it from standard input")
    add("-p", "--prompt", help="the prompt")
    _add_writing(generate, max_tokens=128)
    add(
        "--logprobs",
        type=int,
        default=None,
        metavar="N",
        help="with --json: log-probabilities of tokens and of the N best",
    )
    add("--json", action="store_true", help="print one JSON object instead of text")
    chat = commands.add_parser(
        "chat",
        help="talk with a model in the terminal",
        description="Talk with a model by its own chat template. /help there lists its commands. In a pipe, a message a line.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = chat.add_argument
    add("--system", help="what the model is told before the conversation")
    add("--show-draft", action="store_true", help="colour drafted tokens")
    _add_writing(chat, max_tokens=-1)
    tune = commands.add_parser(
        "tune",
        help="what drafting is worth for a pair of models on this machine",
        description="Measures what calls cost, teaches the draft a few texts, and tells what speed to expect of each k.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = tune.add_argument
    _add_models(add)
    _add_context(add)
    add(
        "-f",
        "--file",
        type=Path,
        help="texts to learn from, set apart by lines of ---; without it, a few chat messages",
    )
    add("-n", "--max-tokens", type=int, default=64, help="tokens per text")
    add("--temp", "--temperature", type=float, default=0.8, help="temperature")
    add("--strategy", help="simple, sequence, batch, tree or adaptive; without it, adaptive")
    add("--plot", metavar="FILE", help="draw costs and speeds, a .png, .svg or .pdf")
    add(
        "--save",
        nargs="?",
        const="",
        metavar="FILE",
        help="keep the profile: for every later use on this machine, or in a file",
    )
    paper = commands.add_parser(
        "paper",
        help="tokens per target call of every method, strategy and k on a pair of models",
        description="Records ranks and writes table.csv and report.md with pictures. Stopped at any moment, the same command goes on.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = paper.add_argument
    _add_models(add)
    add("-o", "--output", required=True, help="folder of the results")
    add(
        "--chat",
        nargs="+",
        default=[],
        type=Path,
        metavar="FILE",
        help="prompts that are chat messages, set apart by lines of ---; a file is a category",
    )
    add(
        "--text",
        nargs="+",
        default=[],
        type=Path,
        metavar="FILE",
        help="prompts that are continued as they are",
    )
    add("-n", "--max-tokens", type=int, default=96, help="tokens per prompt")
    add("--temp", default="0.6,1.0", help="temperatures, separated by commas")
    add("-k", "--max-nodes", type=int, default=256, help="k doubles from 1 to this")
    add("--prompts", type=int, default=None, help="prompts per category; without it, all")
    add(
        "--checks", type=int, default=1, help="prompts per category that run through the engine too"
    )
    add("-s", "--seed", type=int, default=1, help="seed of the first prompt of a category")
    _add_distill(commands)
    return parser


def _add_distill(commands: argparse._SubParsersAction[argparse.ArgumentParser]) -> None:
    distill = commands.add_parser(
        "distill",
        help="make a draft for a target",
        description="The target writes texts, and a small model learns what it says. Stopped at any moment, the same command goes on.",
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )
    add = distill.add_argument
    add("model", type=Path, metavar="TARGET", help="GGUF file to make a draft for")
    add(
        "-o",
        "--output",
        required=True,
        type=Path,
        metavar="DRAFT",
        help="GGUF file to write; beside it a card, .md, and a folder .work",
    )
    add("--width", type=int, default=256, help="of the draft; a multiple of 64")
    add("--layers", type=int, default=3, help="of the draft")
    add("--tokens", type=int, default=1_000_000, help="tokens of text that the target writes")
    add("--epochs", type=float, default=6, help="how often the draft sees each")
    add(
        "--text",
        nargs="+",
        default=[],
        type=Path,
        metavar="FILE",
        help="texts that the target reads before it writes; they count as tokens",
    )
    add(
        "--corpus",
        type=Path,
        metavar="FOLDER",
        help="of the texts, which drafts of other shapes can learn from too, instead of .work",
    )
    add("-c", "--ctx-size", type=int, default=320, help="longest text, in tokens")
    add("-np", "--parallel", type=int, default=254, help="texts written side by side, at most 254")
    add("-s", "--seed", type=int, default=1, help="of texts and training")
    add("-t", "--threads", type=int, default=0, help="CPU threads; 0: one per core")
    add(
        "-ngl",
        "--gpu-layers",
        type=int,
        default=-1,
        help="layers of the target on the GPU; -1: all; 0: everything on the CPU",
    )


def _prompt(args: argparse.Namespace) -> str:
    given = ([args.prompt] if args.prompt is not None else []) + list(args.words)
    if given == ["-"] or (not given and not sys.stdin.isatty()):
        return sys.stdin.read().removesuffix("\n")
    if not given:
        raise ValueError("no prompt: give it as an argument, or - for standard input")
    return " ".join(given)


def _generator(args: argparse.Namespace, *, with_draft: bool = True, **options: Any) -> Generator:
    default = (
        models.default_draft()
        if with_draft and args.model is None and args.model_draft is None
        else None
    )
    return Generator(
        models.default_target() if args.model is None else args.model,
        args.model_draft or default,
        n_ctx=args.ctx_size,
        n_batch=args.batch_size,
        n_threads=args.threads,
        n_gpu_layers=args.gpu_layers,
        draft_n_gpu_layers=args.gpu_layers_draft,
        lora_path=args.lora,
        verbose=args.verbose,
        **options,
    )


def _writer(args: argparse.Namespace) -> Generator:
    """A Generator for commands that write text."""
    return _generator(
        args, with_draft=args.method != "ar", context_shift=args.context_shift, n_keep=args.keep
    )


def _chat(args: argparse.Namespace) -> None:
    terminal.talk(_writer(args), options_from(args), system=args.system, show_draft=args.show_draft)


def _generate(args: argparse.Namespace) -> None:
    prompt = _prompt(args)
    options = options_from(args)
    if args.logprobs is not None and not args.json:
        raise ValueError("--logprobs needs --json")
    options["logprobs"] = args.logprobs
    stream = _writer(args).stream(prompt, **options)
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
        print(json.dumps(result, ensure_ascii=False))
    else:
        print(flush=True)
        print(
            f"ersd: {stream.stats}, seed {stream.seed}" + (", interrupted" if interrupted else ""),
            file=sys.stderr,
        )
    if interrupted:
        raise KeyboardInterrupt


def _tune(args: argparse.Namespace) -> None:
    from ersd import tune
    from ersd.prompts import read_prompts

    if args.plot and importlib.util.find_spec("matplotlib") is None:
        raise ValueError(
            'matplotlib is not installed: run `pip install "ersd[paper]"`, or leave out --plot'
        )
    prompts = read_prompts(args.file) if args.file else ()
    generator = _generator(args)
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


def _paper(args: argparse.Namespace) -> None:
    try:
        from ersd.paper.experiment import Experiment, run
    except ImportError as error:
        raise ValueError(
            f'{error.name} is not installed: run `pip install "ersd[paper]"`'
        ) from error
    default = args.model is None
    if not default and args.model_draft is None:
        raise ValueError("-md is needed: the draft, a GGUF file")
    experiment = Experiment(
        model=models.default_target() if default else Path(args.model),
        draft=models.default_draft()
        if default and args.model_draft is None
        else Path(args.model_draft),
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


def _distill(args: argparse.Namespace) -> None:
    try:
        from ersd.distill.run import Distillation, distill
    except ImportError as error:
        raise ValueError(
            f'{error.name} is not installed: run `pip install "ersd[distill]"`'
        ) from error
    settings = Distillation(
        target=args.model,
        draft=args.output,
        width=args.width,
        layers=args.layers,
        n_positions=args.tokens,
        epochs=args.epochs,
        n_ctx=args.ctx_size,
        n_texts=args.parallel,
        text=tuple(args.text),
        seed=args.seed,
        n_threads=args.threads,
        n_gpu_layers=args.gpu_layers,
        corpus=args.corpus,
    )
    try:
        figures = distill(settings)
    except KeyboardInterrupt:
        print("\nersd: stopped; the same command goes on from here", file=sys.stderr)
        raise
    for name, value in figures.items():
        if not name.endswith("_stderr"):
            print(f"{name} {value:.3f}")
    print(f"ersd: {settings.draft}, {settings.draft.with_suffix('.md')}", file=sys.stderr)


def main(argv: Sequence[str] | None = None) -> int:
    """Run ``ersd``; returns the exit status: 0, 1 for an error, 2 for wrong usage, 130 after Ctrl-C."""
    parser = _parser()
    args = parser.parse_args(argv)
    if args.command is None and not args.version:
        parser.print_usage(sys.stderr)
        return 2
    for stream in (sys.stdin, sys.stdout):
        if hasattr(stream, "reconfigure"):
            stream.reconfigure(encoding="utf-8", errors="replace")
    try:
        if args.version:
            print(version(), flush=True)
            return 0
        {"generate": _generate, "chat": _chat, "paper": _paper, "tune": _tune, "distill": _distill}[
            args.command
        ](args)
    except KeyboardInterrupt:
        return 130
    except BrokenPipeError:
        # The reader has gone, as with `| head`: nothing more to say, also not when Python flushes at exit.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        return 141
    except (OSError, ValueError, TypeError, RuntimeError) as error:
        print(f"ersd: {error}", file=sys.stderr)
        return 1
    return 0


def bench() -> int:
    """Run the C++ program ``ersd-bench``; without -m, with the default pair."""
    program = (
        Path(_core.__file__).parent
        / "bin"
        / ("ersd-bench.exe" if sys.platform == "win32" else "ersd-bench")
    )
    args = sys.argv[1:]
    if args and "-m" not in args and not {"-h", "--help"} & set(args):
        args = [
            "-m",
            str(models.default_target()),
            *([] if "-md" in args else ["-md", str(models.default_draft())]),
            *args,
        ]
    if sys.platform == "win32":
        return subprocess.call([program, *args])
    os.execv(program, [str(program), *args])
