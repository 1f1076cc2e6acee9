"""The report of the experiment: one Markdown page with pictures, made from the table."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np

from ersd.files import replacing
from ersd.paper.pictures import CHAIN_NAMES, METHOD_NAMES, PICTURES, STRATEGY_STYLE, draw
from ersd.paper.table import Row, Table

__all__ = ["write_report"]

INTRODUCTION = (
    "A *draft* model proposes k tokens. One call of the *target* model checks all of them and"
    " yields at least one token. **ERSD** runs a seeded exponential race in both models at each"
    " position. **GSD** is greedy rejection sampling; its siblings are drawn without replacement"
    " (distinct) or with it (independent). **match** tries the draft's most probable tokens and"
    " accepts the token that the target samples by itself. All methods give exact samples of the"
    " target. *simple* drafts one token, *sequence* a chain, and *batch* alternatives for the next"
    " token. *tree* drafts the tree with the most expected tokens for the ranks of the other half"
    " of the prompts."
)
CHAINS_TEXT = (
    "The next two tables are for chains. They have what is expected on ERSD's texts, by the closed"
    " form for each token from the two models' distributions there; ± is over prompts. Block"
    " verification decides on a chain as a whole. No exact method gives more than the bound: 1 +"
    " the sum over j of 1 - TV of the first j tokens, at the places where block verification's"
    " calls begin."
)
ENGINE_TEXT = (
    "Tokens per target call of the engine on some prompts, and those that follow from the recorded"
    " texts. For races with a fixed tree the numbers of calls are equal. Only the ranks count end"
    " tokens. For GSD the engine draws another sample of the same distribution, and for block"
    " verification the second column has what is expected on ERSD's text. The engine's *tree*"
    " learns its ranks while it generates, anew for each answer."
)


def write_report(rows: Iterable[Row], settings: dict[str, Any], folder: Path) -> None:
    """Write folder/report.md and the pictures that it shows.

    Args:
        rows: the rows of the table.
        settings: the first record of the experiment.
        folder: an existing folder.
    """
    table = Table(rows)
    parts = [
        f"# Tokens per target call: {settings['model']}, drafted by {settings['draft']}",
        f"Target: {settings['description']}, {settings['n_vocab']:,} tokens. Each prompt gives up"
        f" to {settings['n']} tokens, sampled from the whole vocabulary. Seeds begin at"
        f" {settings['seed']}. The file table.csv has all numbers with their standard errors, which"
        " are over prompts or binomial.",
        INTRODUCTION,
    ]
    for t in table.temperatures:
        parts += _temperature_section(table, t)
    parts.append("## Pictures")
    for picture in PICTURES:
        if picture.name == "chains" and not table.select("expected_chain_tokens"):
            continue
        draw(picture, table, folder)
        parts.append(
            f"![{picture.name}]({picture.name}.png)\n\n{picture.caption.format(k=table.k)}"
        )
    if table.select("engine_calls"):
        parts += _engine_section(table)
    with replacing(folder / "report.md") as unfinished:
        unfinished.write_text("\n\n".join(parts) + "\n", encoding="utf-8")


def _cell(row: Row, digits: int = 2) -> str:
    """Return a value, with its standard error if it has one."""
    error = "" if np.isnan(row.stderr) else f" ± {row.stderr:.{digits}f}"
    return f"{row.value:.{digits}f}{error}"


def _markdown(header: Sequence[str], lines: Iterable[Sequence[str]]) -> str:
    """Return a Markdown table. The first column is aligned to the left, the others to the right."""
    rows = [list(header), ["---"] + ["---:"] * (len(header) - 1), *map(list, lines)]
    return "\n".join("| " + " | ".join(row) + " |" for row in rows)


def _temperature_section(table: Table, t: float) -> list[str]:
    """Return the paragraphs and tables of one temperature."""
    parts = [f"## Temperature {t:g}"]
    for strategy in ("tree", "sequence", "batch"):
        lines = [
            [METHOD_NAMES[m], *map(_cell, table.tokens(m, strategy, t))] for m in table.methods
        ]
        parts.append(_markdown([f"{strategy}, k =", *map(str, table.nodes)], lines))
    lines = [
        [c, *(_cell(r) for m in table.methods for r in table.tree_tokens(m, t, [c]))]
        for c in table.categories
    ]
    parts.append(_markdown([f"tree, k = {table.k}", *table.methods], lines))
    if table.chain_tokens("block", t):
        parts += _chain_tables(table, t)
    parts.append(_rank_facts(table, t))
    if table.select("overlap", temperature=t):
        parts.append(_distribution_facts(table, t))
    return parts


def _chain_tables(table: Table, t: float) -> list[str]:
    """Return the tables of expected tokens per call of chains, by k and by category."""
    by_k = [[name, *map(_cell, table.chain_tokens(c, t))] for c, name in CHAIN_NAMES.items()]
    by_category = [
        [
            category,
            *(
                _cell(row)
                for chain in CHAIN_NAMES
                for row in table.chain_tokens(chain, t, category)
                if row.draft_nodes == table.k
            ),
        ]
        for category in table.categories
    ]
    return [
        CHAINS_TEXT,
        _markdown(["chain, k =", *map(str, table.nodes)], by_k),
        _markdown([f"chain, k = {table.k}", *CHAIN_NAMES.values()], by_category),
    ]


def _rank_facts(table: Table, t: float) -> str:
    """Return the table of facts about ranks, one line per method."""

    def facts(m: str) -> list[str]:
        where = {"method": m, "temperature": t}
        slope = table.select("slope", **where)
        predicted = table.one(
            "predicted_tokens_per_call", strategy="tree", draft_nodes=table.k, **where
        )
        return [
            METHOD_NAMES[m],
            _cell(table.one("rank_probability", x=0, **where), 3),
            f"{table.one('rank_entropy', **where).value:.2f}",
            f"{slope[0].value:.2f}" if slope else "",
            f"{table.one('slope_bound', **where).value:.2f}",
            f"{predicted.value:.2f}",
            _cell(table.one("rank_autocorrelation", x=1, **where), 3),
        ]

    header = [
        "",
        "accepted first",
        "H[R], bits",
        "tokens per doubling of k + 1, k ≥ 16",
        "its bound 1 / H[R]",
        f"tree, k = {table.k}, if ranks were independent",
        "autocorrelation of being accepted first, next token",
    ]
    return _markdown(header, map(facts, table.methods))


def _distribution_facts(table: Table, t: float) -> str:
    """Return the paragraph about the two models' distributions."""
    overlap, acceptance, divergence, simulation = (
        _cell(table.one(name, temperature=t), 3)
        for name in ("overlap", "ersd_acceptance", "kl_divergence", "channel_simulation_divergence")
    )
    return (
        "The two distributions themselves were compared at every 8th position of ERSD's texts."
        f" Their overlap 1 - TV is {overlap}; rejection sampling accepts the first token with this"
        f" probability. ERSD accepts it with probability {acceptance} by the closed form."
        f" D(target || draft) is {divergence} bits. The channel simulation divergence is"
        f" {simulation} bits."
    )


def _engine_section(table: Table) -> list[str]:
    """Return the engine's tokens per call next to those that follow from ranks."""
    lines = []
    for m, s in (*product(table.methods, STRATEGY_STYLE), ("block", "sequence")):
        engine, replayed = (
            table.select(name, method=m, strategy=s) for name in ("engine_calls", "replayed_calls")
        )
        if not engine:
            continue
        same = sum(a.value == b.value for a, b in zip(engine, replayed, strict=True))
        speeds = [
            sum(r.value for r in table.select(f"{source}_tokens", method=m, strategy=s))
            / sum(r.value for r in calls)
            for source, calls in (("engine", engine), ("replayed", replayed))
        ]
        cells = [f"{speed:.2f}" for speed in speeds]
        lines.append([f"{m}, {s}", *cells, "-" if m == "block" else f"{same} of {len(engine)}"])
    header = ["", "engine", "from the texts", "answers with the same number of calls"]
    return ["## The engine compared with the ranks", ENGINE_TEXT, _markdown(header, lines)]
