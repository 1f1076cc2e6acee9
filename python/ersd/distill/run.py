"""The whole distillation: texts, training, the draft's file, its figures and its card.

A run can be stopped at any moment. The same call then continues where it was.
"""

from __future__ import annotations

import json
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

import numpy as np
import torch

import ersd
from ersd import Generator
from ersd.distill import corpus, writing
from ersd.distill.batches import ROW, Batch, Batches
from ersd.distill.card import card
from ersd.distill.corpus import Corpus, Text
from ersd.distill.evaluation import OWN_TEXTS, Figures, evaluate_all
from ersd.distill.export import DraftFile, load, positions_of
from ersd.distill.settings import Distillation
from ersd.distill.student import Dimensions, Matrix, Student, begin
from ersd.distill.target import all_states, matrices, single_states
from ersd.distill.train import Trainer, keep_memory, measure, multiplies_bf16
from ersd.engine import Model, Teacher, devices, quantize
from ersd.files import fingerprint, replacing
from ersd.profile import processor
from ersd.progress import Progress, differences

__all__ = ["N_HELD", "distill"]

# Held-out texts, which the student never sees: one for each of so many positions, up to N_HELD.
N_HELD = 64
POSITIONS_PER_HELD = 1000
# How often the student is measured on them during training, with so many steps between at least: a
# measurement and its checkpoint take as long as some seven steps.
MEASUREMENTS, LEAST_STEPS = 32, 60
MAX_ROWS = 32  # rows of a batch at most
POSITIONS_PER_ROW = 4_000_000  # a batch gets another row for each of these
MIN_BATCHES = 8  # batches of an epoch at least, if there are enough texts
MAX_MEASURED_ROWS = 8  # rows of held-out text that a measurement reads at most
SINGLE_CTX = 16  # tokens of context for the states after single tokens
# The states of so many tokens are computed, or more with more texts; others are estimated.
MIN_STATES = 4096
POSITIONS_PER_STATE = 8

Curve = list[dict[str, float]]  # measures by training step


def distill(settings: Distillation) -> Figures:
    """Distil a draft and write it.

    Returns:
        Its figures on held-out texts; see `evaluate`.

    Raises:
        FileNotFoundError: no such target or text file.
        ValueError: wrong settings, a target that is not a language model like Llama, or a folder of
            work or of texts with other settings.
        RuntimeError: llama.cpp cannot load the target or has not enough memory.
    """
    settings.validate()
    if settings.n_threads:
        torch.set_num_threads(settings.n_threads)
    target = Generator(
        settings.target,
        n_ctx=settings.n_ctx,
        n_threads=settings.n_threads or None,
        n_gpu_layers=settings.n_gpu_layers,
        exact=False,  # it only cuts texts into tokens, and need not be tested
    )
    dimensions = Dimensions(target.target.n_vocab, settings.width, settings.layers)
    embedding, output = matrices(settings.target)
    begun = load(settings.begin_from, dimensions) if settings.begin_from else None
    given = writing.given_texts(target, settings.text)
    _open_folders(settings, given)
    texts = _write_texts(settings, target, given)
    n_held = max(1, min(N_HELD, len(texts) // 4, settings.n_positions // POSITIONS_PER_HELD))
    held, learnt = texts[:n_held], texts[n_held:]
    if begun is None:
        states = _states(settings, target, embedding)
        begun = begin(dimensions, output, states, settings.seed)
    trainer = _trainer(settings, begun, learnt)
    curve = _train(settings, trainer, _measured_rows(held))
    facts = _facts(settings, target, learnt)
    draft, unfinished = DraftFile(trainer.student, settings.target), settings.work / "draft.gguf"
    draft.write(unfinished, facts)
    results = evaluate_all(_pair(settings, unfinished), settings, held)
    figures = results[OWN_TEXTS]
    draft.write(settings.draft, {**facts, **figures})
    text = card(settings, facts, results, curve)
    with replacing(settings.draft.with_suffix(".md")) as unfinished:
        unfinished.write_text(text, encoding="utf-8")
    return figures


def _open_folders(settings: Distillation, given: Sequence[Sequence[int]]) -> None:
    """Make the folders of texts and of work. Those of an earlier run must have equal settings."""
    texts = {
        "target": fingerprint(settings.target),
        "given": corpus.fingerprint(given),
        **{name: getattr(settings, name) for name in ("n_ctx", "n_texts", "seed")},
        "version": ersd.__version__,
    }
    training = {
        name: getattr(settings, name) for name in ("width", "layers", "n_positions", "epochs")
    } | {"begin_from": settings.begin_from and fingerprint(settings.begin_from)}
    for path, wanted in (
        (settings.texts / "texts.json", texts),
        (settings.work / "settings.json", {**texts, **training}),
    ):
        path.parent.mkdir(parents=True, exist_ok=True)
        if not path.exists():
            with replacing(path) as unfinished:
                unfinished.write_text(json.dumps(wanted), encoding="utf-8")
        elif (found := json.loads(path.read_text(encoding="utf-8"))) != wanted:
            raise ValueError(
                f"'{path.parent}' holds another distillation: {differences(found, wanted)};"
                " remove it or name another draft or corpus"
            )


def _teacher(settings: Distillation, n_ctx: int) -> Teacher:
    """Return the target with room for all texts that are written in parallel, and one more."""
    path = settings.target
    if not any(is_gpu for _, _, is_gpu in devices()) or settings.n_gpu_layers == 0:
        # On a CPU, llama.cpp computes many tokens at once in F16 twice as fast as in Q4_1, and half
        # as fast again in BF16 if the processor multiplies bf16.
        path = settings.texts / "teacher.gguf"
        if not path.exists():
            kind = "BF16" if multiplies_bf16(torch.device("cpu")) else "F16"
            with replacing(path) as unfinished:
                quantize(str(settings.target), str(unfinished), kind, settings.n_threads)
    model = Model(str(path), n_gpu_layers=settings.n_gpu_layers)
    n_texts = settings.n_texts + 1
    return Teacher(model, n_texts=n_texts, n_ctx=n_ctx, n_threads=settings.n_threads)


def _write_texts(
    settings: Distillation, target: Generator, given: Sequence[Sequence[int]]
) -> list[Text]:
    """Return the texts to learn from. Writes what is missing."""
    path, n = settings.texts / "calls.bin", settings.n_positions
    if Corpus(path, n).n_positions < n:
        progress = Progress("distill: writing texts", n)
        for written in writing.write(
            _teacher(settings, settings.n_ctx),
            target,
            path,
            n,
            n_ctx=settings.n_ctx,
            seed=settings.seed,
            given=given,
        ):
            progress.step(written - progress.done, skipped=progress.done == 0)
    return Corpus(path, n).texts


def _states(settings: Distillation, target: Generator, embedding: Matrix) -> Matrix:
    """Return the target's states after single tokens, computed or estimated; f32[n_vocab, n_embd].

    The more texts there are, the more states are computed.
    """
    n = max(MIN_STATES, settings.n_positions // POSITIONS_PER_STATE)
    order = np.random.default_rng(settings.seed).permutation(len(embedding))
    tokens = np.sort(order[:n]).tolist()
    path = settings.texts / f"states-{len(tokens)}.npy"
    if not path.exists():
        found = single_states(_teacher(settings, SINGLE_CTX), target, tokens)
        with replacing(path) as unfinished, unfinished.open("wb") as file:
            np.save(file, found)
    return all_states(embedding, tokens, np.load(path))


def _trainer(settings: Distillation, student: Student, learnt: Sequence[Text]) -> Trainer:
    """Return the trainer of a student, on a GPU if there is one and the settings allow it."""
    is_gpu = torch.cuda.is_available() and settings.n_gpu_layers != 0
    n = sum(map(len, learnt))
    rows = max(1, min(MAX_ROWS, n // POSITIONS_PER_ROW + 1, n // (MIN_BATCHES * ROW)))
    batches = Batches(learnt, rows, settings.seed)
    n_steps = max(1, round(settings.epochs * batches.per_epoch))
    device = "cuda" if is_gpu else "cpu"
    return Trainer(student.to(device), batches, n_steps, further=settings.begin_from is not None)


def _train(settings: Distillation, trainer: Trainer, measured: Sequence[Batch]) -> Curve:
    """Train to the end.

    A checkpoint is written after each measurement and when training is stopped.

    Args:
        settings: the settings.
        trainer: the trainer, which continues from the checkpoint if there is one.
        measured: batches of held-out texts.

    Returns:
        What the student was worth on them, by step.
    """
    keep_memory()
    checkpoint, log = settings.work / "checkpoint.pt", settings.work / "curve.json"
    curve: Curve = []
    if checkpoint.exists():
        trainer.load(checkpoint)
        points = json.loads(log.read_text(encoding="utf-8"))
        curve = [point for point in points if point["step"] <= trainer.step]
    progress = Progress("distill: training", trainer.n_steps)
    progress.step(trainer.step, skipped=True)
    n_between = max(LEAST_STEPS, trainer.n_steps // MEASUREMENTS)

    def add_measures() -> None:
        if not curve or curve[-1]["step"] != trainer.step:
            seen = trainer.step * trainer.batches.rows * ROW
            measures = asdict(measure(trainer.student, measured))
            curve.append({"step": trainer.step, "tokens": seen, **measures})

    def save() -> None:
        with replacing(log) as unfinished:
            unfinished.write_text(json.dumps(curve), encoding="utf-8")
        trainer.save(checkpoint)

    try:
        while trainer.step < trainer.n_steps:
            if trainer.step % n_between == 0:
                add_measures()
                save()
            trainer.learn()
            progress.step()
    except KeyboardInterrupt:
        save()
        raise
    add_measures()
    save()
    return curve


def _measured_rows(held: Sequence[Text]) -> list[Batch]:
    """Return batches of one row of held-out text. Repeats a few texts until they fill a row."""
    n_tokens = sum(len(text.tokens) for text in held)
    n_rows = max(1, min(MAX_MEASURED_ROWS, n_tokens // ROW))
    batches = Batches([*held] * (1 + ROW // max(1, n_tokens)), 1, seed=0)
    return [batches(i) for i in range(min(n_rows, batches.per_epoch))]


def _pair(settings: Distillation, draft: Path) -> Generator:
    """Return the target with the draft, with nothing learnt from earlier uses."""
    return Generator(
        settings.target,
        draft,
        n_ctx=2 * settings.n_ctx,
        n_threads=settings.n_threads or None,
        n_gpu_layers=settings.n_gpu_layers,
        draft_n_gpu_layers=settings.n_gpu_layers,
        profile=False,
    )


def _facts(
    settings: Distillation, target: Generator, learnt: Sequence[Text]
) -> dict[str, str | int | float]:
    """Return how the draft was made, for its metadata and its card."""
    gpus = [description for _, description, is_gpu in devices() if is_gpu]
    began = settings.begin_from
    return {
        "target": target.target.description,
        "target_fingerprint": fingerprint(settings.target),
        "positions": sum(map(len, learnt)),
        "epochs": float(settings.epochs),
        "given_files": len(settings.text),
        "began_from": began.name if began else "",
        "positions_before": positions_of(began) if began else 0,
        "seed": settings.seed,
        "made_with": f"ersd {ersd.__version__}, torch {torch.__version__}",
        "made_on": ", ".join([processor(), *gpus]),
    }
