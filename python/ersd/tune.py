"""The worth of drafting for a pair of models on this machine: costs, ranks and expected speed."""

from __future__ import annotations

import os
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np

from ersd import kernels
from ersd.engine import COST_LENGTHS, COST_WIDTHS
from ersd.generator import Generator
from ersd.results import Exactness, Forecast

__all__ = ["PROMPTS", "Forecast", "Tuning", "chat_prompt", "plot", "report", "tune"]

# The default prompts: some talk, some prose, some code.
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
_TEACHING_NODES = 16  # drafted tokens per call while texts teach
_COEFFICIENTS = ("score gap", "logit gap", "log rank", "first", "later")  # of race margins
_NOISE = np.log(1.3)  # plain decoding may differ so far from what its cost says
_BAR = 20  # characters of the bar of the fastest forecast


@dataclass(frozen=True)
class Tuning:
    """What tuning found.

    Attributes:
        target_ms: milliseconds of a target call by the length of the cache and by its width,
            f64[2, 19]; the axes are `ersd.engine.COST_LENGTHS` and `ersd.engine.COST_WIDTHS`.
        draft_ms: milliseconds of a draft call in the same way.
        first_acceptance: the share of positions where the draft's first choice was the target's
            token, over the second half of the texts that teach.
        coefficients: learnt coefficients of the model of race margins, f64[5]; see
            learning/margins.h.
        n_corrections: the number of entries of the draft's self-correction.
        forecasts: one for plain decoding (k = 0), then one for each k that "auto" chooses from.
        plain: tokens per second with method "ar", measured on the other texts.
        auto: tokens per second with ``draft_nodes="auto"``, measured on the same texts.
        auto_nodes: drafted tokens per target call with ``draft_nodes="auto"``, there.
        kernels: a sentence on what several tokens in a call cost the target's type of weights.
        exactness: whether the text is the same to the bit whatever is drafted, and why.
        was_noisy: whether other processes disturbed the machine, so that costs are uncertain.
    """

    target_ms: list[list[float]]
    draft_ms: list[list[float]]
    first_acceptance: float
    coefficients: list[float]
    n_corrections: int
    forecasts: list[Forecast]
    plain: float
    auto: float
    auto_nodes: float
    kernels: str
    exactness: Exactness
    was_noisy: bool

    @property
    def best(self) -> Forecast:
        """The fastest forecast."""
        return max(self.forecasts, key=lambda f: f.tokens_per_second)


def tune(
    generator: Generator, prompts: Sequence[str | Sequence[int]] = (), **options: Any
) -> Tuning:
    """Learns from texts, forecasts the speed, and measures it.

    The first, third, ... prompts teach, with 16 drafted tokens per call whether that pays or not.
    On the other prompts, plain decoding and automatic drafting are timed in turn. The generator
    first forgets what it knew of its pair. Afterwards it knows what was learnt here.

    Args:
        generator: has a draft model.
        prompts: two or more texts or token ids; PROMPTS, as chat messages, if there are none.
        options: options of `Generator.generate`. The default of max_tokens is 64, that of seed 1.

    Raises:
        ValueError: there is no draft model, there is only one prompt, or an option is out of range.
    """
    if generator.draft is None:
        raise ValueError("tuning is for a pair: it needs a draft model")
    prompts = prompts or [chat_prompt(generator, text) for text in PROMPTS]
    if len(prompts) < 2:
        raise ValueError("tuning needs at least 2 prompts, got 1")
    options = {"max_tokens": 64, "seed": 1} | options
    generator.forget()
    generator.measure_costs()
    teaching = options | {"draft_nodes": _TEACHING_NODES}
    histograms = [
        generator.generate(prompt, **teaching).stats.rank_histogram for prompt in prompts[::2]
    ]
    ranks = np.sum(histograms[len(histograms) // 2 :], axis=0)
    forecasts = generator.forecast()
    learnt = generator.profile()
    plain, auto, nodes = _measure(generator, prompts[1::2], options)
    return Tuning(
        learnt.target_ms,
        learnt.draft_ms,
        float(ranks[0] / max(ranks.sum(), 1)),
        learnt.margin_coefficients,
        len(learnt.correction_token),
        forecasts,
        plain,
        auto,
        nodes,
        kernels.advice(generator.target.description),
        generator.exact,
        abs(np.log(plain / forecasts[0].tokens_per_second)) > _NOISE,
    )


def chat_prompt(generator: Generator, text: str) -> str:
    """Returns the prompt for a chat message; the text itself if the target is no chat model."""
    try:
        return generator.target.chat_prompt(text)
    except RuntimeError:
        return text


def _measure(
    generator: Generator, prompts: Sequence[str | Sequence[int]], options: dict[str, Any]
) -> tuple[float, float, float]:
    """Returns tokens per second, plain and automatic, and the mean k of the latter."""
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
    """Returns the tuning as Markdown: costs, what was learnt, forecasts and measured speeds."""
    plain, best = tuning.forecasts[0].tokens_per_second, tuning.best
    costs = zip(COST_WIDTHS, *tuning.target_ms, *tuning.draft_ms, strict=True)
    names = [f"{who} ms" for who in ("target", "draft")]
    columns = [f"{name}, {n} cached" for name in names for n in COST_LENGTHS]
    margins = zip(_COEFFICIENTS, tuning.coefficients, strict=True)
    lines = [
        f"| tokens in a call | {' | '.join(columns)} |",
        "| ---: | ---: | ---: | ---: | ---: |",
        *(f"| {width} | {' | '.join(f'{x:.2f}' for x in row)} |" for width, *row in costs),
        "",
        f"The draft's first choice was the target's at {tuning.first_acceptance:.1%} of positions, "
        "over the second half of the texts.",
        f"Race margins: {', '.join(f'{name} {value:.2f}' for name, value in margins)}.",
        f"The draft corrects itself by {tuning.n_corrections} numbers.",
        "",
        "| k | expected tokens per call | ms | tokens/s | of plain | |",
        "| ---: | ---: | ---: | ---: | ---: | --- |",
    ]
    for f in tuning.forecasts:
        bar = "#" * round(_BAR * f.tokens_per_second / best.tokens_per_second)
        speed = f"{f.tokens_per_second:.1f} | {f.tokens_per_second / plain:.2f}"
        lines += [
            f"| {f.draft_nodes} | {f.tokens_per_call:.2f} | {f.ms_per_call:.2f} | {speed} | {bar} |"
        ]
    exact = tuning.exactness
    lines += [
        "",
        tuning.kernels,
        f"The text is {'' if exact else 'not '}the same to the bit whatever is drafted: "
        f"{exact.reason}.",
        "",
        f"Measured: {tuning.plain:.1f} tokens/s plain, {tuning.auto:.1f} with draft_nodes='auto' "
        f"({tuning.auto / tuning.plain:.2f} times), "
        f"which drafted {tuning.auto_nodes:.1f} tokens per call.",
    ]
    if tuning.was_noisy:
        lines += [
            "The machine was too busy: plain decoding took another time than the measured costs "
            "say. Tune again when it is idle."
        ]
    return "\n".join(lines) + "\n"


def plot(tuning: Tuning, path: str | os.PathLike[str]) -> None:
    """Draws costs by width and the expected speed of each k to an image file.

    Raises:
        ImportError: matplotlib is not installed.
    """
    from matplotlib.figure import Figure

    figure = Figure(figsize=(9, 3.6), layout="constrained")
    left, right = figure.subplots(1, 2)
    for length, line, target, draft in zip(
        COST_LENGTHS, ("-", ":"), tuning.target_ms, tuning.draft_ms, strict=True
    ):
        left.plot(COST_WIDTHS, target, "o" + line, color="#0072B2", label=f"target, {length}")
        left.plot(COST_WIDTHS, draft, "s" + line, color="#D55E00", label=f"draft, {length}")
    left.set(xlabel="tokens in a call", ylabel="ms", xscale="log", yscale="log")
    left.set_title("What a call costs")
    ticks = [1, 2, 4, 8, 16, 32, 48]
    left.set_xticks(ticks, labels=[str(width) for width in ticks])
    left.minorticks_off()
    plain, *drafting = tuning.forecasts
    nodes = [f.draft_nodes for f in drafting]
    speeds = [f.tokens_per_second for f in drafting]
    right.plot(nodes, speeds, "o-", color="#0072B2", label="expected")
    right.axhline(
        plain.tokens_per_second,
        color="#000000",
        linestyle="--",
        label="expected of plain decoding",
    )
    right.plot(tuning.auto_nodes, tuning.auto, "D", color="#009E73", label="auto, measured")
    right.set(xlabel="drafted tokens per target call, k", ylabel="tokens per second")
    right.set(ylim=(0, None), title="What drafting brings")
    for axes in (left, right):
        axes.legend(fontsize=8, frameon=False)
        axes.spines[["top", "right"]].set_visible(False)
    figure.savefig(path, dpi=120)
