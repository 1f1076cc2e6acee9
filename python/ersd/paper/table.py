"""The tidy table of the experiment: one row per number."""

from __future__ import annotations

import csv
from collections.abc import Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np

from ersd.files import replacing
from ersd.ranks import METHODS

__all__ = ["Row", "Table", "single_k", "write_table"]


@dataclass(frozen=True)
class Row:
    """One number of the table.

    Attributes:
        quantity: what the number is.
        value: the number.
        stderr: its standard error; NaN if it has none.
        method, strategy, draft_nodes, temperature, category: what the number belongs to; "" where
            that does not apply.
        x: the place within a series: a rank, a depth, a distance or the number of a prompt.
    """

    quantity: str
    value: float
    stderr: float = float("nan")
    method: str = ""
    strategy: str = ""
    draft_nodes: int | str = ""
    temperature: float | str = ""
    category: str = ""
    x: float | str = ""


def single_k(nodes: Iterable[int]) -> int:
    """Return the k of figures that are shown for one k alone: the largest one up to 16."""
    return max(k for k in nodes if k <= 16)


class Table:
    """The rows, and a way to find them.

    Attributes:
        rows: all rows.
        temperatures, methods, categories, nodes: the values that occur, in the order of the report.
        k: the k of figures that are shown for one k alone.
    """

    def __init__(self, rows: Iterable[Row]) -> None:
        """Keep the rows, and list the values of their columns."""
        self.rows = list(rows)
        self.temperatures: list[float] = self.values("temperature")
        self.methods = [m for m in METHODS if m in self.values("method")]
        self.categories: list[str] = self.values("category")
        method, temperature = self.methods[0], self.temperatures[0]
        bounds = self.select("bound", method=method, temperature=temperature)
        self.nodes = [int(r.draft_nodes) for r in bounds]
        self.k = single_k(self.nodes)

    def values(self, name: str) -> list[Any]:
        """Return the values of a column in the rows of tokens per call, in order of appearance."""
        return list(
            dict.fromkeys(getattr(r, name) for r in self.rows if r.quantity == "tokens_per_call")
        )

    def select(self, quantity: str, **where: Any) -> list[Row]:
        """Return the rows of a quantity whose columns have the given values."""
        return [
            r
            for r in self.rows
            if r.quantity == quantity
            and all(getattr(r, key) == value for key, value in where.items())
        ]

    def one(self, quantity: str, **where: Any) -> Row:
        """Return the single row that `select` finds, by default the one of all categories."""
        (row,) = self.select(quantity, **({"category": "all"} | where))
        return row

    def tokens(
        self, method: str, strategy: str, temperature: float, category: str = "all"
    ) -> list[Row]:
        """Return tokens per target call, one row for each k."""
        return self.select(
            "tokens_per_call",
            method=method,
            strategy=strategy,
            temperature=temperature,
            category=category,
        )

    def chain_tokens(self, chain: str, temperature: float, category: str = "all") -> list[Row]:
        """Return expected tokens per target call of chains, one row for each k.

        There are none where the texts were recorded without the models' distributions.
        """
        return self.select(
            "expected_chain_tokens", method=chain, temperature=temperature, category=category
        )

    def tree_tokens(self, method: str, temperature: float, categories: Iterable[str]) -> list[Row]:
        """Return tokens per target call of trees of `k` nodes, one row for each category."""
        return [
            r
            for category in categories
            for r in self.tokens(method, "tree", temperature, category)
            if r.draft_nodes == self.k
        ]


def write_table(rows: Iterable[Row], path: Path) -> None:
    """Write the rows as CSV. A cell is empty where its column does not apply."""

    def cell(value: object) -> object:
        return ("" if np.isnan(value) else f"{value:.6g}") if isinstance(value, float) else value

    with replacing(path) as unfinished, unfinished.open("w", encoding="utf-8", newline="") as file:
        writer = csv.writer(file, lineterminator="\n")
        writer.writerow(Row.__dataclass_fields__)
        writer.writerows([cell(value) for value in vars(row).values()] for row in rows)
