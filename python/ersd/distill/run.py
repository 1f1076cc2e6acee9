"""From a target's file to a draft's: texts, training, the file, and what it is worth. Stopped at any moment, the same call goes on."""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch

import ersd
from ersd import Generator, _core, models
from ersd.distill import corpus, student
from ersd.distill.corpus import Corpus, Text
from ersd.distill.export import export
from ersd.distill.train import ROW, Batch, Batches, Trainer, keep_memory, measure, multiplies_bf16
from ersd.paper.experiment import Texts, ratio
from ersd.profile import processor
from ersd.progress import Progress, differences

__all__ = ["Distillation", "distill"]

N_HELD = 64  # texts that the student never sees
MEASUREMENTS = 32  # of the student on them, while it learns
NODES = (4, 8, 16)
TEMPERATURES = (1.0, 0.6)

Figures = dict[str, float]


@dataclass(frozen=True)
class Distillation:
    """What is distilled from what, and how.

    Attributes:
        target: a GGUF file.
        draft: the GGUF file to write; beside it come a card, ``.md``, and a folder ``.work`` with all that is needed to go on.
        width: of the student, a multiple of 64.
        layers: of the student.
        n_positions: positions of text that the target writes or reads.
        epochs: how often the student sees each.
        n_ctx: the longest text, in tokens.
        n_texts: texts written side by side.
        text: files of text that the target reads before it writes.
        seed: of texts and training.
        n_threads: CPU threads; 0 for one per core.
        n_gpu_layers: layers of the target on the GPU, where there is one; -1 for all.
        corpus: the folder of the texts, which drafts of other shapes can learn from too, and from the first of them; None for `work`.
    """

    target: Path
    draft: Path
    width: int = 256
    layers: int = 3
    n_positions: int = 1_000_000
    epochs: float = 6
    n_ctx: int = 320
    n_texts: int = 254
    text: tuple[Path, ...] = ()
    seed: int = 1
    n_threads: int = 0
    n_gpu_layers: int = -1
    corpus: Path | None = None

    def validate(self) -> None:
        """Raise ValueError or FileNotFoundError for what cannot be."""
        for name, least in {
            "n_positions": 1,
            "epochs": 0,
            "n_ctx": 16,
            "n_texts": 2,
            "seed": 0,
            "n_threads": 0,
        }.items():
            if not getattr(self, name) >= least:
                raise ValueError(f"{name} must be at least {least}, got {getattr(self, name)}")
        if self.n_texts > 254:
            raise ValueError(f"n_texts must be at most 254, got {self.n_texts}")
        for path in self.text:
            if not path.is_file():
                raise FileNotFoundError(f"no such text file: '{path}'")
        if self.draft.suffix != ".gguf":
            raise ValueError(f"the draft must be named with .gguf, got '{self.draft}'")
        student.Shape(1, self.width, self.layers)

    @property
    def work(self) -> Path:
        """The folder of what is made on the way."""
        return self.draft.with_suffix(".work")

    @property
    def texts(self) -> Path:
        """The folder of the texts."""
        return self.corpus or self.work


def distill(settings: Distillation) -> Figures:
    """Distil a draft, write it, and return its figures on held-out texts; see `evaluate`.

    Raises:
        FileNotFoundError, ValueError: settings that cannot be; a target that is not a language model like Llama; a folder of work or of
            texts with other settings.
        RuntimeError: llama.cpp could not load the target or make room.
    """
    settings.validate()
    if settings.n_threads:
        torch.set_num_threads(settings.n_threads)
    target = Generator(
        settings.target,
        n_ctx=settings.n_ctx,
        n_threads=settings.n_threads or None,
        n_gpu_layers=settings.n_gpu_layers,
    )
    output = student.output_matrix(settings.target)
    given = corpus.given_texts(target, settings.text)
    _open(settings, target, given)
    texts = _write_texts(settings, target, given)
    held, learnt = texts[: _n_held(texts)], texts[_n_held(texts) :]
    shape = student.Shape(target.target.n_vocab, settings.width, settings.layers)
    states = np.load(settings.texts / "states.npy")
    trainer, curve = _train(
        settings, student.begin(shape, output, states, settings.seed), learnt, held
    )
    facts = _facts(settings, target, learnt)
    unfinished = settings.work / "draft.gguf"
    export(trainer.student, settings.target, unfinished, facts)
    figures = evaluate(_pair(settings, unfinished), _prompts(held))
    export(trainer.student, settings.target, settings.draft, {**facts, **figures})
    settings.draft.with_suffix(".md").write_text(
        card(settings, facts, figures, curve), encoding="utf-8"
    )
    return figures


def _open(settings: Distillation, target: Generator, given: Sequence[Sequence[int]]) -> None:
    """The folders of texts and of work, which must be new or of the same settings."""
    texts = {
        "target": models.fingerprint(settings.target),
        "given": corpus.fingerprint(given),
        **{name: getattr(settings, name) for name in ("n_ctx", "n_texts", "seed")},
        "version": ersd.__version__,
    }
    training = {
        name: getattr(settings, name) for name in ("width", "layers", "n_positions", "epochs")
    }
    for path, wanted in (
        (settings.texts / "texts.json", texts),
        (settings.work / "settings.json", {**texts, **training}),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        if path.exists():
            found = json.loads(path.read_text(encoding="utf-8"))
            if found != wanted:
                which = differences(found, wanted)
                raise ValueError(
                    f"'{path.parent}' holds another distillation: {which}; remove it or name another draft or corpus"
                )
        else:
            with models.replacing(path) as unfinished:
                unfinished.write_text(json.dumps(wanted), encoding="utf-8")


def _teacher(settings: Distillation, n_texts: int, n_ctx: int) -> _core.Teacher:
    path = settings.target
    if not any(is_gpu for _, _, is_gpu in _core.devices()) or settings.n_gpu_layers == 0:
        # On a CPU llama.cpp computes many tokens at once in F16 twice as fast as in Q4_1, and half as fast again in BF16 where the
        # processor multiplies that.
        path = settings.texts / "teacher.gguf"
        if not path.exists():
            kind = "BF16" if multiplies_bf16(torch.device("cpu")) else "F16"
            with models.replacing(path) as unfinished:
                _core.quantize(str(settings.target), str(unfinished), kind, settings.n_threads)
    model = _core.Model(str(path), settings.n_gpu_layers)
    return _core.Teacher(model, n_texts=n_texts, n_ctx=n_ctx, n_threads=settings.n_threads)


def _write_texts(
    settings: Distillation, target: Generator, given: Sequence[Sequence[int]]
) -> list[Text]:
    path, states = settings.texts / "texts.bin", settings.texts / "states.npy"
    if sum(map(len, Corpus(path).up_to(settings.n_positions))) < settings.n_positions:
        progress = Progress("distill: writing texts", settings.n_positions)
        teacher = _teacher(settings, settings.n_texts + 1, settings.n_ctx)
        for n in corpus.write(
            teacher,
            target,
            path,
            settings.n_positions,
            n_ctx=settings.n_ctx,
            seed=settings.seed,
            given=given,
        ):
            progress.step(
                min(n, settings.n_positions - 1) - progress.done, skipped=progress.done == 0
            )
        progress.step(settings.n_positions - progress.done)
        del teacher
    if not states.exists():
        with models.replacing(states) as unfinished, unfinished.open("wb") as file:
            np.save(
                file, student.single_states(_teacher(settings, settings.n_texts + 1, 16), target)
            )
    return Corpus(path).up_to(settings.n_positions)


def _n_held(texts: Sequence[Text]) -> int:
    return min(N_HELD, len(texts) // 4)


def _train(
    settings: Distillation, begun: student.Student, learnt: Sequence[Text], held: Sequence[Text]
) -> tuple[Trainer, list[dict[str, float]]]:
    """The trained student, and what it was worth on the way; kept now and then and whenever it is stopped."""
    keep_memory()
    device = torch.device(
        "cuda" if torch.cuda.is_available() and settings.n_gpu_layers != 0 else "cpu"
    )
    n = sum(map(len, learnt))
    batches = Batches(learnt, max(1, min(32, n // 4_000_000 + 1, n // (8 * ROW))), settings.seed)
    trainer = Trainer(begun.to(device), batches, max(1, round(settings.epochs * batches.per_epoch)))
    checkpoint, log = settings.work / "checkpoint.pt", settings.work / "curve.json"
    curve: list[dict[str, float]] = []
    if checkpoint.exists():
        trainer.load(checkpoint)
        curve = [
            point
            for point in json.loads(log.read_text(encoding="utf-8"))
            if point["step"] <= trainer.step
        ]
    watched = _rows(held)
    progress = Progress("distill: training", trainer.n_steps)
    progress.step(trainer.step, skipped=True)
    every = max(1, trainer.n_steps // MEASUREMENTS)

    def look() -> None:
        if curve and curve[-1]["step"] == trainer.step:
            return
        seen = trainer.step * batches.rows * ROW
        curve.append(
            {"step": trainer.step, "tokens": seen, **asdict(measure(trainer.student, watched))}
        )

    def keep() -> None:
        with models.replacing(log) as unfinished:
            unfinished.write_text(json.dumps(curve), encoding="utf-8")
        trainer.save(checkpoint)

    try:
        while trainer.step < trainer.n_steps:
            if trainer.step % every == 0:
                look()
                keep()
            trainer.learn()
            progress.step()
    except KeyboardInterrupt:
        keep()
        raise
    look()
    keep()
    return trainer, curve


def _rows(held: Sequence[Text]) -> list[Batch]:
    """Held-out texts in rows, a few at most."""
    n_rows = max(1, min(8, sum(len(text.tokens) for text in held) // ROW))
    padded = [*held] * (1 + ROW // max(1, sum(len(text.tokens) for text in held)))
    batches = Batches(padded, 1, 0)
    return [batches(i) for i in range(min(n_rows, batches.per_epoch))]


def _pair(settings: Distillation, draft: Path) -> Generator:
    return Generator(
        settings.target,
        draft,
        n_ctx=2 * settings.n_ctx,
        n_threads=settings.n_threads or None,
        n_gpu_layers=settings.n_gpu_layers,
        draft_n_gpu_layers=settings.n_gpu_layers,
        profile=False,
    )


def _prompts(texts: Sequence[Text]) -> list[list[int]]:
    """The first halves of texts, of which the target writes the second anew."""
    return [text.tokens[: max(text.first + 1, len(text.tokens) // 2)].tolist() for text in texts]


def evaluate(
    generator: Generator, prompts: Sequence[Sequence[int]], max_tokens: int = 64
) -> Figures:
    """What a draft is worth on answers to prompts, by ranks at every position of both models in llama.cpp, nothing corrected.

    Returns, for T = 1 and 0.6: ``first_tT``, the share of positions where both races have one winner, and ``tokens_per_call_K_tT``, of the
    optimal static tree of K nodes for the ranks of other prompts; each with its standard error over prompts. ``cost`` is a draft's call
    beside one of the target, one token each.
    """
    figures: Figures = {}
    for temperature in TEMPERATURES:
        records: list[dict[str, Any]] = []
        for i, prompt in enumerate(prompts):
            ranks = [
                p.rank
                for p in generator.ranks(
                    prompt, max_tokens=max_tokens, temperature=temperature, seed=i
                )
            ]
            records.append({"category": "", "prompt": i, "ranks": ranks})
        found = Texts(records)
        name = f"t{temperature:g}"
        hits = [(r["ranks"].count(0), len(r["ranks"])) for r in records]
        shares = {f"first_{name}": ratio(*zip(*hits, strict=True))}
        shares |= {
            f"tokens_per_call_{k}_{name}": found.tokens_per_call(found.trees("tree", k))
            for k in NODES
        }
        for key, (mean, stderr) in shares.items():
            figures |= {key: mean, f"{key}_stderr": stderr}
    generator._core.forecast()
    costs = generator._core.profile()
    figures["cost"] = costs.draft(1) / costs.target(1)
    return figures


def _facts(
    settings: Distillation, target: Generator, learnt: Sequence[Text]
) -> dict[str, str | int | float]:
    gpus = [description for _, description, is_gpu in _core.devices() if is_gpu]
    return {
        "target": target.target.description,
        "target_fingerprint": models.fingerprint(settings.target),
        "positions": sum(map(len, learnt)),
        "epochs": float(settings.epochs),
        "given_files": len(settings.text),
        "seed": settings.seed,
        "made_with": f"ersd {ersd.__version__}, torch {torch.__version__}",
        "made_on": ", ".join([processor(), *gpus]),
    }


def card(
    settings: Distillation,
    facts: dict[str, Any],
    figures: Figures,
    curve: Sequence[dict[str, float]],
) -> str:
    """The draft's card, in Markdown."""
    read = " and read" if settings.text else ""
    lines = [
        f"# {settings.draft.stem}",
        "",
        f"A draft for {settings.target.name}, distilled from it by `ersd distill`: a llama-architecture model of width",
        f"{settings.width} with {settings.layers} layers, its output matrix in Q4_0, its embedding in Q5_1 and its layers in Q8_0,",
        f"with the target's own tokenizer. It learnt from {facts['positions']:,}",
        f"positions of text that the target wrote{read}, each seen {settings.epochs:g} times",
        f"({facts['made_with']}, seed {settings.seed}; {facts['made_on']}).",
        "",
        "```sh",
        command(settings),
        "```",
        "",
        "On held-out texts, both models in llama.cpp (mean and standard error over texts). A call for one token costs",
        f"{figures['cost']:.3f} of one of the target there.",
        "",
        "| | T = 1 | T = 0.6 |",
        "| --- | ---: | ---: |",
    ]
    rows = [("first", "first acceptance of the race")]
    rows += [
        (f"tokens_per_call_{k}", f"tokens per target call, static tree, k = {k}") for k in NODES
    ]
    for key, title in rows:
        cells = (
            f"{figures[f'{key}_t{t:g}']:.3f} ± {figures[f'{key}_t{t:g}_stderr']:.3f}"
            for t in TEMPERATURES
        )
        lines.append(f"| {title} | {' | '.join(cells)} |")
    lines += [
        "",
        "While it learnt (the target's distributions; in the last quarter its races, with the output matrix in four bits), on rows of",
        "held-out text, in full precision but for that matrix (the target's 64 most probable tokens and the rest as one):",
        "",
        "| tokens seen | divergence, nats | 1 - TV | first acceptance, T = 1 | T = 0.6 |",
        "| ---: | ---: | ---: | ---: | ---: |",
    ]
    lines += [
        f"| {int(p['tokens']):,} | {p['divergence']:.3f} | {p['overlap']:.3f} | {p['first']:.3f} | {p['first_06']:.3f} |"
        for p in curve
    ]
    return "\n".join(lines) + "\n"


def command(settings: Distillation) -> str:
    """The command line of these settings."""
    words = ["ersd distill", settings.target.name, "-o", settings.draft.name]
    flags = {
        "width": "width",
        "layers": "layers",
        "n_positions": "tokens",
        "epochs": "epochs",
        "n_ctx": "ctx-size",
        "n_texts": "parallel",
        "seed": "seed",
    }
    for name, flag in flags.items():
        if getattr(settings, name) != getattr(Distillation, name):
            words += [
                f"--{flag}",
                f"{getattr(settings, name):g}"
                if name == "epochs"
                else str(getattr(settings, name)),
            ]
    return " ".join([*words, *(f"--text {path.name}" for path in settings.text)])
