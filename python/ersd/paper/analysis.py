"""Makes the rows of the table from the recorded ranks."""

from __future__ import annotations

from collections.abc import Sequence
from itertools import product
from typing import Any

import numpy as np

from ersd import chains, theory
from ersd.paper.experiment import COMPARISONS
from ersd.paper.table import Row, single_k
from ersd.rank_distributions import Array
from ersd.ranks import STRATEGIES, Record, Texts, binomial_share, ratio, replay, strategy_tree

__all__ = ["analyse"]

MAX_LAG = 8  # longest distance, in tokens, of the autocorrelation
SLOPE_NODES = 16  # the slope is fitted to each k from here on


def analyse(records: Sequence[Record], nodes: Sequence[int]) -> list[Row]:
    """Return all rows of the table.

    Args:
        records: what `record` returns.
        nodes: each k.
    """
    groups: dict[tuple[str, float], list[Record]] = {}
    for r in records[1:]:
        if "ranks" in r:
            groups.setdefault((r["method"], r["temperature"]), []).append(r)
    texts_of = {key: Texts(group) for key, group in groups.items()}
    rows = []
    for (method, temperature), texts in texts_of.items():
        where = {"method": method, "temperature": temperature}
        rows += _strategy_rows(texts, nodes, where)
        for category, members in texts.by_category().items():
            rows += _rank_rows(members, where | {"category": category})
        rows += _bound_rows(texts, nodes, records[0]["n_vocab"], where)
        rows += _slope_rows(rows, where)
        rows += _autocorrelation_rows(texts, where)
        for category, members in texts.by_category().items():
            rows += _chain_rows(members, nodes, {"temperature": temperature, "category": category})
    for r in records[1:]:
        if "strategy" in r:
            method = "ersd" if r["method"] == "block" else r["method"]
            rows += _check_rows(r, texts_of[method, r["temperature"]])
    return rows


def _strategy_rows(texts: Texts, nodes: Sequence[int], where: dict[str, Any]) -> list[Row]:
    """Return tokens per call of every strategy and k, measured and predicted, and acceptance."""
    rows, pooled = [], texts.rank_distribution()
    for strategy, k in product(STRATEGIES, nodes):
        if strategy == "simple" and k > 1:
            continue
        here = where | {"strategy": strategy, "draft_nodes": k}
        trees = texts.trees(strategy, k)
        for category, members in texts.by_category().items():
            measured = members.tokens_per_call(trees)
            rows.append(Row("tokens_per_call", *measured, category=category, **here))
        here["category"] = "all"
        predicted = theory.expected_tokens(strategy_tree(strategy, k, pooled), pooled)
        rows.append(Row("predicted_tokens_per_call", predicted, **here))
        if k == single_k(nodes):
            for depth, share, independent in texts.acceptance_by_depth(trees):
                rows.append(Row("acceptance_at_depth", *share, x=depth, **here))
                rows.append(Row("iid_acceptance_at_depth", independent, x=depth, **here))
    return rows


def _rank_rows(texts: Texts, where: dict[str, Any]) -> list[Row]:
    """Return the distribution of ranks, its entropy, and comparisons of the two models."""
    counts = texts.counts()
    rows = [
        Row("rank_entropy", theory.entropy(counts), **where),
        Row("rank_probability", *texts.first_acceptance(), x=0, **where),
    ]
    for rank in np.flatnonzero(counts):
        if rank:
            share = binomial_share(counts[rank], counts.sum())
            rows.append(Row("rank_probability", *share, x=int(rank), **where))
    compared = [np.asarray(r["compared"]) for r in texts.records if "compared" in r]
    for column, compare in enumerate(COMPARISONS if compared else ()):
        mean = ratio([c[:, column].sum() for c in compared], [len(c) for c in compared])
        rows.append(Row(compare.__name__, *mean, **where))
    return rows


def _bound_rows(
    texts: Texts, nodes: Sequence[int], n_vocab: int, where: dict[str, Any]
) -> list[Row]:
    """Return the bound of tokens per call for each k, and its slope."""
    where = where | {"category": "all"}
    counts = texts.counts()
    rows = [
        Row(
            "bound",
            float(theory.expected_tokens_bound(counts, k, n_vocab)),
            draft_nodes=k,
            **where,
        )
        for k in nodes
    ]
    return [*rows, Row("slope_bound", theory.slope(counts), **where)]


def _slope_rows(rows: Sequence[Row], where: dict[str, Any]) -> list[Row]:
    """Return tokens per call gained by each doubling of k + 1, fitted to trees of many nodes."""
    where = where | {"strategy": "tree", "category": "all"}
    large = [
        (int(r.draft_nodes), r.value)
        for r in rows
        if r.quantity == "tokens_per_call"
        and all(getattr(r, name) == value for name, value in where.items())
        and int(r.draft_nodes) >= SLOPE_NODES
    ]
    if len(large) < 2:
        return []
    nodes, values = np.array(large).T
    return [Row("slope", float(np.polyfit(np.log2(nodes + 1), values, 1)[0]), **where)]


def _autocorrelation_rows(texts: Texts, where: dict[str, Any]) -> list[Row]:
    """Return the autocorrelation of "the rank is 0" by distance."""
    return [
        Row("rank_autocorrelation", *texts.autocorrelation(lag), x=lag, category="all", **where)
        for lag in range(1, MAX_LAG + 1)
    ]


def _chain_rows(texts: Texts, nodes: Sequence[int], where: dict[str, Any]) -> list[Row]:
    """Return expected tokens per call of chains by each method, and the bound of all methods.

    The bound is that of the calls of block verification, averaged over where they begin.
    """
    records = [r for r in texts.records if "ratios" in r]
    rows = []
    for chain, k in product(chains.CHAINS, nodes if records else ()):
        calls: list[float] = []
        tokens: list[float] = []
        for r in records:
            values = r["agreements" if chain == "ersd" else "ratios"]
            starts = chains.call_starts("block" if chain == "joint" else chain, values, k)
            calls.append(float(starts.sum()))
            tokens.append(_bound_of_calls(values, starts, k) if chain == "joint" else len(values))
        mean = ratio(tokens, calls)
        rows.append(Row("expected_chain_tokens", *mean, method=chain, draft_nodes=k, **where))
    return rows


def _bound_of_calls(ratios: Sequence[float], starts: Array, k: int) -> float:
    """Return the bound of the tokens of all calls that begin at each token so often."""
    last = len(ratios) - 1
    bounds = [chains.joint_bound(ratios[t : min(t + k, last)]) for t in range(len(ratios))]
    return float(starts @ np.array(bounds))


def _check_rows(r: Record, texts: Texts) -> list[Row]:
    """Calls and tokens of the engine on a text, and those that follow from the recorded text."""
    text = next(
        text
        for text in texts.records
        if (text["category"], text["prompt"]) == (r["category"], r["prompt"])
    )
    ranks = text["ranks"]
    if r["method"] == "block":
        calls = float(chains.call_starts("block", text["ratios"], r["draft_nodes"]).sum())
    else:
        tree = texts.trees(r["strategy"], r["draft_nodes"])[r["prompt"] % 2]
        calls = len(replay(ranks, tree))
    names = ("method", "strategy", "draft_nodes", "temperature", "category")
    where = {name: r[name] for name in names} | {"x": r["prompt"]}
    return [
        Row("engine_calls", r["target_calls"], **where),
        Row("engine_tokens", r["generated"], **where),
        Row("replayed_calls", calls, **where),
        Row("replayed_tokens", len(ranks), **where),
    ]
