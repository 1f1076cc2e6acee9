"""The pictures of the report: one panel per temperature, drawn from the table."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ersd.files import replacing
from ersd.paper.table import Row, Table
from ersd.ranks import MAX_RANK

__all__ = ["CHAIN_NAMES", "METHOD_NAMES", "PICTURES", "STRATEGY_STYLE", "Picture", "draw"]

METHOD_NAMES = {
    "ersd": "ERSD",
    "gsd": "GSD, distinct siblings",
    "gsd_iid": "GSD, independent siblings",
    "match": "match",
}
# A colour and a marker of each method. The palette is that of Okabe and Ito, which colour-blind
# people can tell apart.
STYLE = {
    "ersd": ("#0072B2", "o"),
    "gsd": ("#D55E00", "s"),
    "gsd_iid": ("#E69F00", "^"),
    "match": ("#009E73", "D"),
}
# Chains: a label, and a colour with a marker. "joint" is the bound of all methods.
CHAIN_NAMES = {
    "ersd": "races",
    "gsd": "rejection, token by token",
    "block": "block verification",
    "joint": "the bound of every method",
}
CHAIN_STYLE = STYLE | {"block": ("#CC79A7", "v"), "joint": ("#000000", "")}
STRATEGY_STYLE = {
    "tree": ("#0072B2", "o"),
    "batch": ("#CC79A7", "s"),
    "sequence": ("#56B4E9", "^"),
    "simple": ("#000000", "D"),
}
LEGEND: dict[str, Any] = {"fontsize": 8, "frameon": False}
NODES, TOKENS = "drafted tokens per target call, k", "tokens per target call"


@dataclass(frozen=True)
class Picture:
    """A picture of the report.

    Attributes:
        name: the name of its file, without .png.
        x, y: labels of the axes.
        caption: the text below it, in which {k} stands for the table's k.
        panel: draws the panel of one temperature.
    """

    name: str
    x: str
    y: str
    caption: str
    panel: Callable[[Axes, Table, float], None]


def draw(picture: Picture, table: Table, folder: Path) -> None:
    """Draw a picture and write it to folder/name.png."""
    n = len(table.temperatures)
    figure = Figure(figsize=(5 * n, 3.8), layout="constrained")
    axes = figure.subplots(1, n, sharey=True, squeeze=False)[0]
    for ax, temperature in zip(axes, table.temperatures, strict=True):
        picture.panel(ax, table, temperature)
        ax.set_title(f"temperature {temperature:g}")
        ax.set_xlabel(picture.x)
        ax.grid(alpha=0.3)
        ax.legend(**LEGEND)
    axes[0].set_ylabel(picture.y)
    with replacing(folder / f"{picture.name}.png") as unfinished:
        figure.savefig(unfinished, dpi=110, format="png")


def _line(ax: Axes, rows: Sequence[Row], x: str, style: tuple[str, str], label: str) -> None:
    """Draw a line with a band of one standard error."""
    xs, ys = [getattr(r, x) for r in rows], np.array([r.value for r in rows])
    errors = np.nan_to_num(np.array([r.stderr for r in rows]))
    ax.plot(xs, ys, color=style[0], marker=style[1], markersize=4, linewidth=1.4, label=label)
    ax.fill_between(xs, ys - errors, ys + errors, color=style[0], alpha=0.2, linewidth=0)


def _dashed(ax: Axes, rows: Sequence[Row], x: str, style: tuple[str, str], label: str) -> None:
    """Draw a dashed line, for what theory says."""
    xs, ys = [getattr(r, x) for r in rows], [r.value for r in rows]
    ax.plot(xs, ys, color=style[0], linestyle="--", label=label)


def _nodes_axis(ax: Axes, table: Table) -> None:
    """Put each k on a logarithmic axis."""
    ax.set_xscale("log", base=2)
    ax.set_xticks(table.nodes, [str(k) for k in table.nodes])


def _plain_line(ax: Axes) -> None:
    """Draw a line at one token per call, which plain sampling gives."""
    ax.axhline(1, color="grey", linewidth=1, linestyle=":", label="plain sampling")


def _race_and_rejection(table: Table) -> list[str]:
    """Return the methods that the paper compares."""
    return [m for m in ("ersd", "gsd") if m in table.methods]


def _methods(ax: Axes, table: Table, t: float) -> None:
    """Draw trees of every method."""
    for m in table.methods:
        _line(ax, table.tokens(m, "tree", t), "draft_nodes", STYLE[m], METHOD_NAMES[m])
    _plain_line(ax)
    _nodes_axis(ax, table)


def _strategies(ax: Axes, table: Table, t: float) -> None:
    """Draw every strategy of ERSD."""
    for s, style in STRATEGY_STYLE.items():
        _line(ax, table.tokens("ersd", s, t), "draft_nodes", style, s)
    _plain_line(ax)
    _nodes_axis(ax, table)


def _chains(ax: Axes, table: Table, t: float) -> None:
    """Draw chains by every method, and their bound."""
    for chain, name in CHAIN_NAMES.items():
        rows = table.chain_tokens(chain, t)
        draw_line = _dashed if chain == "joint" else _line
        draw_line(ax, rows, "draft_nodes", CHAIN_STYLE[chain], name)
    _plain_line(ax)
    _nodes_axis(ax, table)


def _categories(ax: Axes, table: Table, t: float) -> None:
    """Draw trees of every method by category, the methods next to each other."""
    names = [c for c in table.categories if c != "all"]
    for i, m in enumerate(table.methods):
        rows = table.tree_tokens(m, t, names)
        color, marker = STYLE[m]
        ax.errorbar(
            np.arange(len(names)) + (i - (len(table.methods) - 1) / 2) * 0.15,
            [r.value for r in rows],
            np.nan_to_num([r.stderr for r in rows]),
            color=color,
            marker=marker,
            linestyle="none",
            capsize=2,
            label=METHOD_NAMES[m],
        )
    ax.set_xticks(range(len(names)), names)


def _bound(ax: Axes, table: Table, t: float) -> None:
    """Draw trees and the bound of their tokens per call."""
    for m in _race_and_rejection(table):
        _line(ax, table.tokens(m, "tree", t), "draft_nodes", STYLE[m], METHOD_NAMES[m])
        slope = table.one("slope_bound", method=m, temperature=t).value
        bounds = table.select("bound", method=m, temperature=t)
        label = f"its bound: {slope:.2f} per doubling of k + 1"
        _dashed(ax, bounds, "draft_nodes", STYLE[m], label)
    _nodes_axis(ax, table)
    ax.set_ylim(0)


def _ranks(ax: Axes, table: Table, t: float) -> None:
    """Draw the distribution of ranks, without the entry of all late ranks."""
    for m in table.methods:
        found = table.select("rank_probability", method=m, temperature=t, category="all")
        rows = [r for r in found if float(r.x) < MAX_RANK]
        color, marker = STYLE[m]
        ax.loglog(
            [float(r.x) + 1 for r in rows],
            [r.value for r in rows],
            color=color,
            marker=marker,
            markersize=3,
            linewidth=0.8,
            label=METHOD_NAMES[m],
        )


def _depth(ax: Axes, table: Table, t: float) -> None:
    """Draw acceptance by depth, as measured and as expected for independent ranks."""
    for m in _race_and_rejection(table):
        where = {"method": m, "strategy": "tree", "temperature": t}
        measured = table.select("acceptance_at_depth", **where)
        independent = table.select("iid_acceptance_at_depth", **where)
        _line(ax, measured, "x", STYLE[m], METHOD_NAMES[m])
        _dashed(ax, independent, "x", STYLE[m], "if its ranks were independent")
    ax.set_ylim(0, 1)


def _independence(ax: Axes, table: Table, t: float) -> None:
    """Draw measured tokens per call, divided by what independent ranks would give."""
    for m in table.methods:
        where = {"method": m, "strategy": "tree", "temperature": t}
        predicted = table.select("predicted_tokens_per_call", **where)
        measured = table.tokens(m, "tree", t)
        ratios = [a.value / b.value for a, b in zip(measured, predicted, strict=True)]
        color, marker = STYLE[m]
        ax.plot(
            table.nodes, ratios, color=color, marker=marker, markersize=4, label=METHOD_NAMES[m]
        )
    ax.axhline(1, color="grey", linewidth=1, linestyle=":")
    _nodes_axis(ax, table)


def _autocorrelation(ax: Axes, table: Table, t: float) -> None:
    """Draw the autocorrelation of "accepted first", by distance."""
    for m in table.methods:
        rows = table.select("rank_autocorrelation", method=m, temperature=t)
        _line(ax, rows, "x", STYLE[m], METHOD_NAMES[m])
    ax.axhline(0, color="grey", linewidth=1, linestyle=":")


PICTURES = (
    Picture("methods", NODES, TOKENS, "Trees by method. Bands show one standard error.", _methods),
    Picture("strategies", NODES, TOKENS, "ERSD by drafting strategy.", _strategies),
    Picture(
        "chains",
        NODES,
        TOKENS,
        "Chains by method: what is expected on ERSD's texts. Bands show one standard error.",
        _chains,
    ),
    Picture(
        "categories",
        "",
        TOKENS,
        "Trees by category of prompts, k = {k}. Bars show one standard error.",
        _categories,
    ),
    Picture(
        "bound",
        NODES,
        TOKENS,
        "The bound (log |vocabulary| + log(k + 1)) / H[R] holds for independent ranks. Only its"
        " slope is tight.",
        _bound,
    ),
    Picture(
        "ranks",
        "rank in the draft's order, 1 = tried first",
        "share of positions",
        "How often the emitted token had each rank in the draft's order.",
        _ranks,
    ),
    Picture(
        "depth",
        "depth in the tree",
        "share accepted of those that got there",
        "How often the next drafted token is accepted, by depth, k = {k}. Values above the dashed"
        " line show that easy tokens follow each other.",
        _depth,
    ),
    Picture(
        "independence",
        NODES,
        "measured / predicted tokens per call",
        "Tokens per call of trees, divided by what independent ranks would give.",
        _independence,
    ),
    Picture(
        "autocorrelation",
        "distance in tokens",
        "autocorrelation of being accepted first",
        "Whether a token that is accepted first makes it more likely that a later one is. Bands"
        " show the standard deviation for independent ranks.",
        _autocorrelation,
    ),
)
