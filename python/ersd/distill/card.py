"""The card of a draft: how it was made and what it is worth, in Markdown."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from ersd.distill.evaluation import NODES, OWN_TEXTS, TEMPERATURES, Figures
from ersd.distill.settings import Distillation, command

__all__ = ["card"]


def card(
    settings: Distillation,
    facts: dict[str, Any],
    results: Mapping[str, Figures],
    curve: Sequence[dict[str, float]],
) -> str:
    """Return the text of the card.

    Args:
        settings: the settings of the distillation.
        facts: how the draft was made: "positions", "began_from", "positions_before", "made_with"
            and "made_on".
        results: what `evaluate_all` returns.
        curve: what the student was worth at some steps of training; see `Measures`.
    """
    lines = [
        *_introduction(settings, facts),
        "",
        "```sh",
        command(settings),
        "```",
        "",
        *_evaluation(results),
        "",
        *_training(settings, curve),
    ]
    return "\n".join(lines) + "\n"


def _introduction(settings: Distillation, facts: dict[str, Any]) -> list[str]:
    """Return the lines that say what the draft is and how it was made."""
    text = "text that the target wrote or read" if settings.text else "text that the target wrote"
    began = []
    if facts["began_from"]:
        began = [
            f"It began as {facts['began_from']}, which had learnt from"
            f" {facts['positions_before']:,} positions."
        ]
    return [
        f"# {settings.draft.stem}",
        "",
        f"This is a draft model for {settings.target.name}.",
        "It was made from that target by `ersd distill`.",
        f"It has the llama architecture with width {settings.width} and {settings.layers} layers.",
        "The output matrix is in Q4_0, the embedding in Q5_1, and the layers are in Q8_0. The",
        f"tokenizer is the target's. The draft learnt from {facts['positions']:,} positions of",
        f"{text} and saw each of them {settings.epochs:g} times.",
        *began,
        f"It was made with {facts['made_with']} and seed {settings.seed}, on {facts['made_on']}:",
    ]


def _evaluation(results: Mapping[str, Figures]) -> list[str]:
    """Return the lines with the figures on held-out texts and prompts."""
    cost = f"{results[OWN_TEXTS]['cost']:.3f}"
    lines = [
        "The figures below are for what the draft did not learn from: texts of the target, whose",
        "second halves the target writes anew, and answers to the prompts of files, if any are",
        "named. Both models run in llama.cpp. ± is one standard error over texts. A call of the",
        f"draft for one token takes {cost} of the time of a call of the target.",
    ]
    rows = {"first": "first acceptance of the race"} | {
        f"tokens_per_call_{k}": f"tokens per target call, static tree, k = {k}" for k in NODES
    }
    for title, figures in results.items():
        lines += ["", f"| {title} | T = 1 | T = 0.6 |", "| --- | ---: | ---: |"]
        for key, row in rows.items():
            names = [f"{key}_t{t:g}" for t in TEMPERATURES]
            cells = [f"{figures[name]:.3f} ± {figures[f'{name}_stderr']:.3f}" for name in names]
            lines.append(f"| {row} | {' | '.join(cells)} |")
    return lines


def _training(settings: Distillation, curve: Sequence[dict[str, float]]) -> list[str]:
    """Return the lines with the student's worth while it was trained."""
    how = [
        "It learnt the target's distributions first and, in the last quarter, to win the target's",
        "races.",
    ]
    if settings.begin_from:
        how = ["It learnt to win the target's races, since it had learnt before."]
    return [
        "The next table was measured on held-out text while the draft learnt.",
        *how,
        "Then its output matrix was rounded to four bits; other matrices had full precision.",
        "Each distribution is taken as the target's 64 most probable tokens, and the rest as one",
        "token.",
        "",
        "| tokens seen | divergence, nats | 1 - TV | first acceptance, T = 1 | T = 0.6 |",
        "| ---: | ---: | ---: | ---: | ---: |",
        *(
            f"| {int(p['tokens']):,} | {p['divergence']:.3f} | {p['overlap']:.3f}"
            f" | {p['first']:.3f} | {p['first_06']:.3f} |"
            for p in curve
        ),
    ]
