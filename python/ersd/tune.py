"""What drafting is worth for a pair of models on this machine: costs, what texts teach of the draft, and the speed to expect of each k."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ersd import _core
from ersd.generator import Generator

__all__ = ["PROMPTS", "Forecast", "Tuning", "plot", "report", "tune"]

# For those who bring none: some talk, some prose, some code.
PROMPTS = (
    "Explain in a few sentences how a rainbow forms.",
    "Write a short letter to a friend who has moved to another city.",
    "List five things to check before a long journey by car.",
    "Write a Python function that returns the n-th prime number.",
    "What is the difference between a novel and a short story?",
    "Tell me about a day in the life of a lighthouse keeper.",
    "How do I make a simple vegetable soup?",
    "Give me three arguments for and against school uniforms.",
)


@dataclass(frozen=True)
class Forecast:
    """What is expected of target calls that check k drafted tokens; k = 0 is plain decoding. Times in milliseconds."""

    draft_nodes: int
    tokens_per_call: float
    ms_per_call: float

    @property
    def tokens_per_second(self) -> float:
        """Tokens per second."""
        return 1000 * self.tokens_per_call / self.ms_per_call


@dataclass(frozen=True)
class Tuning:
    """What was found.

    Attributes:
        target_ms, draft_ms: milliseconds of a call by its width, ``_core.CostCurve.widths``.
        first_acceptance: share of positions where the draft's first choice was the target's, over the second half of the texts taught.
        coefficients: of the model of race margins, as learnt; see margins.h.
        n_corrections: entries of the draft's self-correction.
        forecasts: for k = 0 and each k that "auto" chooses from.
        plain, auto: tokens per second measured on the texts that were not taught, with method "ar" and with ``draft_nodes="auto"``.
        auto_nodes: mean k that "auto" chose there.
    """

    target_ms: list[float]
    draft_ms: list[float]
    first_acceptance: float
    coefficients: list[float]
    n_corrections: int
    forecasts: list[Forecast]
    plain: float
    auto: float
    auto_nodes: float

    @property
    def best(self) -> Forecast:
        """The fastest forecast."""
        return max(self.forecasts, key=lambda f: f.tokens_per_second)


def tune(
    generator: Generator, prompts: Sequence[str | Sequence[int]] = (), **options: Any
) -> Tuning:
    """Learn from texts, forecast, and measure.

    Half of the prompts teach, with 16 drafted tokens per call whether that pays or not; on the others plain and automatic drafting
    are timed in turn. What was learnt before is forgotten first; afterwards the generator knows what was learnt here.

    Args:
        generator: with a draft model.
        prompts: two or more, text or token ids; by default PROMPTS, as chat messages.
        options: of `Generator.generate`; by default 64 tokens and everything else as there.

    Raises:
        ValueError: no draft model, fewer than two prompts, or an option out of range.
    """
    if generator.draft is None:
        raise ValueError("tuning is for a pair: it needs a draft model")
    prompts = prompts or [_chat(generator, text) for text in PROMPTS]
    if len(prompts) < 2:
        raise ValueError("tuning needs at least 2 prompts, got 1")
    options = {"max_tokens": 64, "seed": 1} | options
    with generator._busy():
        generator._core.restore(_core.Profile())  # costs are measured anew
        generator._core.forget()
        generator._core.forecast()
    taught = [
        generator.generate(prompt, **options | {"draft_nodes": 16}).stats.rank_histogram
        for prompt in prompts[::2]
    ]
    ranks = np.sum(taught[len(taught) // 2 :], axis=0)
    with generator._busy():
        forecasts = [
            Forecast(plan.nodes, plan.tokens, plan.ms) for plan in generator._core.forecast()
        ]
        learnt = generator._core.profile()
    plain, auto, nodes = _measure(generator, prompts[1::2], options)
    return Tuning(
        learnt.target.points,
        learnt.draft.points,
        float(ranks[0] / max(ranks.sum(), 1)),
        learnt.margins.coefficients,
        len(learnt.correction.state()[0]),
        forecasts,
        plain,
        auto,
        nodes,
    )


def _chat(generator: Generator, text: str) -> str:
    """The text as a message, where the target is one for chats."""
    try:
        return generator.target.chat_prompt(text)
    except RuntimeError:
        return text


def _measure(
    generator: Generator, prompts: Sequence[str | Sequence[int]], options: dict[str, Any]
) -> tuple[float, float, float]:
    """Tokens per second, plain and automatic in turn, and the mean k of the latter."""
    tokens, ms, drafted, calls = np.zeros(2), np.zeros(2), 0, 0
    for prompt in prompts:
        for i, method in enumerate(({"method": "ar"}, {"draft_nodes": "auto"})):
            stats = generator.generate(prompt, **options | method).stats
            tokens[i] += stats.generated
            ms[i] += stats.total_ms - stats.prefill_ms
        drafted += stats.drafted
        calls += stats.target_calls
    plain, auto = 1000 * tokens / np.maximum(ms, 1e-9)
    return float(plain), float(auto), drafted / max(calls, 1)


def report(tuning: Tuning) -> str:
    """The tuning as Markdown."""
    plain, best = tuning.forecasts[0].tokens_per_second, tuning.best
    lines = ["| tokens in a call | target ms | draft ms |", "| ---: | ---: | ---: |"]
    costs = zip(_core.CostCurve.widths, tuning.target_ms, tuning.draft_ms, strict=True)
    lines += [f"| {width} | {target:.2f} | {draft:.2f} |" for width, target, draft in costs]
    names = ("score gap", "logit gap", "log rank", "first", "later")
    lines += [
        "",
        f"The draft's first choice was the target's at {tuning.first_acceptance:.1%} of positions, over the second half of the texts.",
        "Race margins: "
        + ", ".join(
            f"{name} {value:.2f}" for name, value in zip(names, tuning.coefficients, strict=True)
        )
        + ".",
        f"The draft corrects itself by {tuning.n_corrections} numbers.",
        "",
        "| k | expected tokens per call | ms | tokens/s | of plain | |",
        "| ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for f in tuning.forecasts:
        bar = "#" * round(20 * f.tokens_per_second / best.tokens_per_second)
        speed = f"{f.tokens_per_second:.1f} | {f.tokens_per_second / plain:.2f}"
        lines += [
            f"| {f.draft_nodes} | {f.tokens_per_call:.2f} | {f.ms_per_call:.2f} | {speed} | {bar} |"
        ]
    lines += [
        "",
        f"Measured: {tuning.plain:.1f} tokens/s plain, {tuning.auto:.1f} with draft_nodes='auto' ({tuning.auto / tuning.plain:.2f} times), "
        f"which drafted {tuning.auto_nodes:.1f} tokens per call.",
    ]
    return "\n".join(lines) + "\n"


def plot(tuning: Tuning, path: str | os.PathLike[str]) -> None:
    """Costs by width, and the speed to expect of each k, as a picture. Needs matplotlib."""
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    widths = _core.CostCurve.widths
    left.plot(widths, tuning.target_ms, "o-", color="#0072B2", label="target")
    left.plot(widths, tuning.draft_ms, "s-", color="#D55E00", label="draft")
    left.set(
        xlabel="tokens in a call",
        ylabel="ms",
        xscale="log",
        yscale="log",
        title="What a call costs",
    )
    left.set_xticks(widths, labels=[str(width) for width in widths])
    left.minorticks_off()
    nodes = [f.draft_nodes for f in tuning.forecasts[1:]]
    right.plot(
        nodes,
        [f.tokens_per_second for f in tuning.forecasts[1:]],
        "o-",
        color="#0072B2",
        label="expected",
    )
    right.axhline(
        tuning.forecasts[0].tokens_per_second,
        color="#000000",
        linestyle="--",
        label="expected of plain decoding",
    )
    right.plot(tuning.auto_nodes, tuning.auto, "D", color="#009E73", label="auto, measured")
    right.set(
        xlabel="drafted tokens per target call, k",
        ylabel="tokens per second",
        ylim=(0, None),
        title="What drafting brings",
    )
    for axes in (left, right):
        axes.legend(fontsize=8, frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
