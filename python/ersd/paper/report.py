"""The report of the paper's experiment: one Markdown page and its pictures, all from the rows of the tidy table."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from ersd.paper.experiment import METHODS, Row, compared_nodes

__all__ = ["write_report"]

NAMES = {
    "ersd": "ERSD",
    "gsd": "GSD, distinct siblings",
    "gsd_iid": "GSD, independent siblings",
    "match": "match",
}
# Okabe and Ito's colours, told apart also by those who do not see red and green, and a marker each.
STYLE = {
    "ersd": ("#0072B2", "o"),
    "gsd": ("#D55E00", "s"),
    "gsd_iid": ("#E69F00", "^"),
    "match": ("#009E73", "D"),
}
STRATEGY_STYLE = {
    "tree": ("#0072B2", "o"),
    "batch": ("#CC79A7", "s"),
    "sequence": ("#56B4E9", "^"),
    "simple": ("#000000", "D"),
}
SMALL: dict[str, Any] = {"fontsize": 8, "frameon": False}

INTRODUCTION = (
    "A *draft* model proposes k tokens; one call of the *target* model checks them all and yields at least one token. **ERSD** runs a "
    "seeded exponential race for each position in both models. **GSD** is greedy rejection sampling, its siblings drawn without "
    "replacement (distinct) or with it (independent). **match** tries the draft's most probable tokens and accepts what the target would "
    "have sampled anyway. All of them give exact samples of the target. *simple* drafts one token, *sequence* a chain, *batch* "
    "alternatives for the next token, *tree* the tree that expects most for the ranks seen on the other half of the prompts."
)

NODES, TOKENS = "drafted tokens per target call, k", "tokens per target call"
# By picture: the labels of x and y, and the caption.
PICTURES = {
    "methods": (NODES, TOKENS, "Trees, by method. Bands are one standard error."),
    "strategies": (NODES, TOKENS, "ERSD, by drafting strategy."),
    "categories": (
        "",
        TOKENS,
        "Trees by category of prompt, k = {k}. Bars are one standard error.",
    ),
    "bound": (
        NODES,
        TOKENS,
        "The bound (log |vocabulary| + log(k + 1)) / H[R] is for independent ranks. What matters is its slope.",
    ),
    "ranks": (
        "rank in the draft's order, 1 = tried first",
        "share of positions",
        "Where the emitted token stood in the draft's order.",
    ),
    "depth": (
        "depth in the tree",
        "share accepted of those that got there",
        "How often the next drafted token is accepted, by depth, k = {k}. Above the dashed line: easy stretches of text come together.",
    ),
    "independence": (
        NODES,
        "measured / predicted tokens per call",
        "How far trees are from what independent ranks would give.",
    ),
    "autocorrelation": (
        "distance in tokens",
        "autocorrelation of being accepted first",
        "Whether a token that is accepted first makes a later one more likely to be. Bands are the scatter of independent ranks.",
    ),
}


class Table:
    """Rows by what they belong to."""

    def __init__(self, rows: Iterable[Row]) -> None:
        """Keep the rows, and list what they are about."""
        self.rows = list(rows)
        self.temperatures: list[float] = self.values("temperature")
        self.methods = [m for m in METHODS if m in self.values("method")]
        self.categories: list[str] = self.values("category")
        self.nodes: list[int] = [
            r.draft_nodes
            for r in self.select("bound", method=self.methods[0], temperature=self.temperatures[0])
        ]  # type: ignore[misc]
        self.k = compared_nodes(self.nodes)

    def values(self, name: str) -> list[Any]:
        """The different values of a column where tokens per call are given, in order of appearance."""
        return list(
            dict.fromkeys(getattr(r, name) for r in self.rows if r.quantity == "tokens_per_call")
        )

    def select(self, quantity: str, **where: Any) -> list[Row]:
        """The rows of a quantity that agree with all that is given."""
        return [
            r
            for r in self.rows
            if r.quantity == quantity
            and all(getattr(r, key) == value for key, value in where.items())
        ]

    def one(self, quantity: str, **where: Any) -> Row:
        """The only such row, of all categories unless one is named."""
        (row,) = self.select(quantity, **({"category": "all"} | where))
        return row

    def tokens(
        self, method: str, strategy: str, temperature: float, category: str = "all"
    ) -> list[Row]:
        """Tokens per target call for each k."""
        return self.select(
            "tokens_per_call",
            method=method,
            strategy=strategy,
            temperature=temperature,
            category=category,
        )


def _line(ax: Axes, rows: Sequence[Row], x: str, style: tuple[str, str], label: str) -> None:
    xs, ys = [getattr(r, x) for r in rows], np.array([r.value for r in rows])
    errors = np.nan_to_num(np.array([r.stderr for r in rows]))
    ax.plot(xs, ys, color=style[0], marker=style[1], markersize=4, linewidth=1.4, label=label)
    ax.fill_between(xs, ys - errors, ys + errors, color=style[0], alpha=0.2, linewidth=0)


def _dashed(ax: Axes, rows: Sequence[Row], x: str, style: tuple[str, str], label: str) -> None:
    ax.plot(
        [getattr(r, x) for r in rows],
        [r.value for r in rows],
        color=style[0],
        linestyle="--",
        label=label,
    )


class Pictures:
    """Each method draws one temperature's panel of the picture of its name."""

    def __init__(self, table: Table) -> None:
        """What to draw from."""
        self.table = table
        self.pair = [m for m in ("ersd", "gsd") if m in table.methods]

    def _nodes(self, ax: Axes) -> None:
        ax.set_xscale("log", base=2)
        ax.set_xticks(self.table.nodes, [str(k) for k in self.table.nodes])

    def methods(self, ax: Axes, t: float) -> None:
        """Trees of every method."""
        for m in self.table.methods:
            _line(ax, self.table.tokens(m, "tree", t), "draft_nodes", STYLE[m], NAMES[m])
        ax.axhline(1, color="grey", linewidth=1, linestyle=":", label="plain sampling")
        self._nodes(ax)

    def strategies(self, ax: Axes, t: float) -> None:
        """Every strategy of ERSD."""
        for s, style in STRATEGY_STYLE.items():
            _line(ax, self.table.tokens("ersd", s, t), "draft_nodes", style, s)
        ax.axhline(1, color="grey", linewidth=1, linestyle=":", label="plain sampling")
        self._nodes(ax)

    def categories(self, ax: Axes, t: float) -> None:
        """Trees by category."""
        names = [c for c in self.table.categories if c != "all"]
        for i, m in enumerate(self.table.methods):
            rows = [
                r
                for c in names
                for r in self.table.tokens(m, "tree", t, c)
                if r.draft_nodes == self.table.k
            ]
            places = np.arange(len(names)) + (i - (len(self.table.methods) - 1) / 2) * 0.15
            errors = np.nan_to_num([r.stderr for r in rows])
            color, marker = STYLE[m]
            ax.errorbar(
                places,
                [r.value for r in rows],
                errors,
                color=color,
                marker=marker,
                linestyle="none",
                capsize=2,
                label=NAMES[m],
            )
        ax.set_xticks(range(len(names)), names)

    def bound(self, ax: Axes, t: float) -> None:
        """Trees, and the bound."""
        for m in self.pair:
            _line(ax, self.table.tokens(m, "tree", t), "draft_nodes", STYLE[m], NAMES[m])
            steepest = self.table.one("slope_bound", method=m, temperature=t).value
            bounds = self.table.select("bound", method=m, temperature=t)
            _dashed(
                ax,
                bounds,
                "draft_nodes",
                STYLE[m],
                f"its bound: {steepest:.2f} per doubling of k + 1",
            )
        self._nodes(ax)
        ax.set_ylim(0)

    def ranks(self, ax: Axes, t: float) -> None:
        """P(R = r)."""
        for m in self.table.methods:
            rows = [
                r
                for r in self.table.select(
                    "rank_probability", method=m, temperature=t, category="all"
                )
                if float(r.x) < 256
            ]
            color, marker = STYLE[m]
            xs = [float(r.x) + 1 for r in rows]
            ax.loglog(
                xs,
                [r.value for r in rows],
                color=color,
                marker=marker,
                markersize=3,
                linewidth=0.8,
                label=NAMES[m],
            )

    def depth(self, ax: Axes, t: float) -> None:
        """Acceptance by depth."""
        for m in self.pair:
            where = {"method": m, "strategy": "tree", "temperature": t}
            _line(ax, self.table.select("acceptance_at_depth", **where), "x", STYLE[m], NAMES[m])
            _dashed(
                ax,
                self.table.select("iid_acceptance_at_depth", **where),
                "x",
                STYLE[m],
                "if its ranks were independent",
            )
        ax.set_ylim(0, 1)

    def independence(self, ax: Axes, t: float) -> None:
        """Measured over predicted."""
        for m in self.table.methods:
            expected = self.table.select(
                "predicted_tokens_per_call", method=m, strategy="tree", temperature=t
            )
            measured = self.table.tokens(m, "tree", t)
            ratios = [a.value / b.value for a, b in zip(measured, expected, strict=True)]
            ax.plot(
                self.table.nodes,
                ratios,
                color=STYLE[m][0],
                marker=STYLE[m][1],
                markersize=4,
                label=NAMES[m],
            )
        ax.axhline(1, color="grey", linewidth=1, linestyle=":")
        self._nodes(ax)

    def autocorrelation(self, ax: Axes, t: float) -> None:
        """Of rank 0, by lag."""
        for m in self.table.methods:
            _line(
                ax,
                self.table.select("rank_autocorrelation", method=m, temperature=t),
                "x",
                STYLE[m],
                NAMES[m],
            )
        ax.axhline(0, color="grey", linewidth=1, linestyle=":")

    def draw(self, name: str, folder: Path) -> None:
        """Write folder/name.png."""
        panel: Callable[[Axes, float], None] = getattr(self, name)
        x, y, _ = PICTURES[name]
        figure = Figure(figsize=(5 * len(self.table.temperatures), 3.8), layout="constrained")
        axes = figure.subplots(1, len(self.table.temperatures), sharey=True, squeeze=False)[0]
        for ax, temperature in zip(axes, self.table.temperatures, strict=True):
            panel(ax, temperature)
            ax.set_title(f"temperature {temperature:g}")
            ax.set_xlabel(x)
            ax.grid(alpha=0.3)
            ax.legend(**SMALL)
        axes[0].set_ylabel(y)
        figure.savefig(folder / f"{name}.png", dpi=110)


def _text(row: Row, digits: int = 2) -> str:
    return f"{row.value:.{digits}f}" + (
        "" if np.isnan(row.stderr) else f" ± {row.stderr:.{digits}f}"
    )


def _markdown(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    rows = [list(header), ["---"] + ["---:"] * (len(header) - 1), *map(list, lines)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _section(table: Table, t: float) -> list[str]:
    """The tables of one temperature."""
    parts = [f"## Temperature {t:g}"]
    for strategy in ("tree", "sequence", "batch"):
        lines = [[NAMES[m], *map(_text, table.tokens(m, strategy, t))] for m in table.methods]
        parts.append(_markdown([f"{strategy}, k =", *map(str, table.nodes)], lines))
    lines = [
        [c]
        + [
            _text(r)
            for m in table.methods
            for r in table.tokens(m, "tree", t, c)
            if r.draft_nodes == table.k
        ]
        for c in table.categories
    ]
    parts.append(_markdown([f"tree, k = {table.k}", *table.methods], lines))

    def facts(m: str) -> list[str]:
        where = {"method": m, "temperature": t}
        slope = table.select("slope", **where)
        return [
            NAMES[m],
            _text(table.one("rank_probability", x=0, **where), 3),
            f"{table.one('rank_entropy', **where).value:.2f}",
            f"{slope[0].value:.2f}" if slope else "",
            f"{table.one('slope_bound', **where).value:.2f}",
            f"{table.one('predicted_tokens_per_call', strategy='tree', draft_nodes=table.k, **where).value:.2f}",
            _text(table.one("rank_autocorrelation", x=1, **where), 3),
        ]

    header = [
        "",
        "accepted first",
        "H[R], bits",
        "tokens per doubling of k + 1, k ≥ 16",
        "its bound 1 / H[R]",
    ]
    header += [
        f"tree, k = {table.k}, if ranks were independent",
        "autocorrelation of being accepted first, next token",
    ]
    parts.append(_markdown(header, map(facts, table.methods)))
    if table.select("overlap", temperature=t):
        overlap, ersd, kl, cs = (
            _text(table.one(name, temperature=t), 3)
            for name in (
                "overlap",
                "ersd_acceptance",
                "kl_divergence",
                "channel_simulation_divergence",
            )
        )
        parts.append(
            f"From the two distributions themselves, at every 8th position of ERSD's texts: 1 - TV = {overlap}, which is what rejection "
            f"accepts first; ERSD's first acceptance in closed form {ersd}; D(target || draft) = {kl} bits; channel simulation divergence "
            f"{cs} bits."
        )
    return parts


def _checks(table: Table) -> list[str]:
    """The engine's calls beside those that follow from ranks."""
    lines = []
    for m in table.methods:
        for s in STRATEGY_STYLE:
            engine, ranks = (
                table.select(name, method=m, strategy=s)
                for name in ("engine_calls", "replayed_calls")
            )
            same = sum(a.value == b.value for a, b in zip(engine, ranks, strict=True))
            speeds = [
                sum(r.value for r in table.select(f"{source}_tokens", method=m, strategy=s))
                / sum(r.value for r in rows)
                for source, rows in (("engine", engine), ("replayed", ranks))
            ]
            lines.append(
                [f"{m}, {s}", *(f"{speed:.2f}" for speed in speeds), f"{same} of {len(engine)}"]
            )
    return [
        "## The engine beside the ranks",
        "Tokens per target call of the engine on some prompts, and those that follow from the recorded ranks. For races with a fixed shape "
        "the number of calls is the same (end tokens count on the right only). GSD is another sample of the same distribution, and the "
        "engine's tree learns its ranks as it goes, for each answer anew.",
        _markdown(["", "engine", "from ranks", "answers with the same number of calls"], lines),
    ]


def write_report(rows: Iterable[Row], settings: dict[str, Any], folder: Path) -> None:
    """Write folder/report.md and the pictures it shows. settings: the first record of the experiment."""
    table = Table(rows)
    pictures = Pictures(table)
    parts = [
        f"# Tokens per target call: {settings['model']}, drafted by {settings['draft']}",
        f"Target: {settings['description']}, {settings['n_vocab']:,} tokens. Up to {settings['n']} tokens per prompt, whole vocabulary, "
        f"seeds from {settings['seed']} on. All numbers stand in table.csv with their standard errors, over prompts or binomial.",
        INTRODUCTION,
    ]
    for t in table.temperatures:
        parts += _section(table, t)
    parts.append("## Pictures")
    for name, (_, _, caption) in PICTURES.items():
        pictures.draw(name, folder)
        parts.append(f"![{name}]({name}.png)\n\n{caption.format(k=table.k)}")
    if table.select("engine_calls"):
        parts += _checks(table)
    (folder / "report.md").write_text("\n\n".join(parts) + "\n", encoding="utf-8")
