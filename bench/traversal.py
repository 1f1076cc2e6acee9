"""Whether block verification of trees pays: trees verified from their leaves and from their roots.

python bench/traversal.py [-md twin|default|FILE] [--count 8] [-n 64] [--stride 8] [-k 16]
                          [--temp 1.0,0.6] [-t 1]

Traversal verification (Weng et al., arXiv 2505.12398) is block verification of trees. It tries the
path to the first leaf with its weight, as block verification does. A node whose first subtree is
rejected goes on with what is left of its weight and of the target's distribution, and with its next
child; a node without further children is tried as a leaf. On a chain it is block verification.

At every stride-th token of texts of the target, trees of several shapes are drawn from the draft
and run through the target. Given such a tree, the expected tokens of a call follow from its rows by
either rule. Both are exact, so their difference is what traversal gives. Siblings are drawn without
replacement.
"""

from __future__ import annotations

import argparse
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import numpy.typing as npt
from ersd._core import Context, DraftTree, Model

from ersd import Generator, models, theory
from ersd.progress import Progress
from ersd.prompts import read_prompts
from ersd.ranks import Texts, ratio

PROMPTS = Path(__file__).parent / "prompts" / "chat.txt"
N_CTX = 512

Array = npt.NDArray[np.float64]


@dataclass
class Shape:
    """A tree of nodes level by level; node 0 is the root, and siblings are in the order of trying.

    Attributes:
        parent: of each node, -1 for the root.
        depth: of each node.
    """

    parent: list[int]
    depth: list[int]

    @classmethod
    def of(cls, shape: theory.TreeShape) -> Shape:
        """Return a shape of the theory."""
        return cls(list(shape.parent), list(shape.depth))

    @classmethod
    def spine(cls, k: int, n_siblings: int, n_chains: int = 1) -> Shape:
        """Return equal chains from the root whose first nodes have one sibling each, k in all."""
        length = (k - n_siblings) // n_chains
        parent, depth, ends = [-1], [0], [0] * n_chains
        for level in range(length):
            parents = list(ends)
            for chain, above in enumerate(parents):
                ends[chain] = len(parent)
                parent.append(above)
                depth.append(level + 1)
            if level < n_siblings:
                parent.append(parents[0])
                depth.append(level + 1)
        return cls(parent, depth)


@dataclass
class Tree:
    """A drafted tree with the distributions of both models at its nodes.

    Attributes:
        tokens, children: of each node; node 0 is the root.
        target: the target's distributions, f64[n_vocab] for each node.
        draft: the draft's; None at leaves.
    """

    tokens: list[int]
    children: list[list[int]]
    target: list[Array]
    draft: list[Array | None]


def residual(target: Array, share: float, draft: Array) -> tuple[Array, float]:
    """Return what is left of share * target after a draft was rejected, and its new share."""
    rest = np.maximum(share * target - draft, 0)
    total = float(rest.sum())
    if total <= 0:
        return target, 0.0 if share < 1 else 1.0
    return rest / total, 1.0 if share >= 1 else total / (total + 1 - share)


def from_root(tree: Tree, node: int = 0) -> float:
    """Return the expected accepted tokens below a node by rejection sampling, child by child."""
    target, draft = tree.target[node], tree.draft[node]
    accepted, reach = 0.0, 1.0
    for child in tree.children[node]:
        assert draft is not None
        token = tree.tokens[child]
        share = min(1.0, target[token] / draft[token])
        if share > 0:
            accepted += reach * share * (1 + from_root(tree, child))
        reach *= 1 - share
        if reach <= 0:
            break
        target, _ = residual(target, 1.0, draft)
        draft = without(draft, token)
    return accepted


def from_leaves(
    tree: Tree, node: int = 0, weight: float = 1.0, depth: int = 0
) -> tuple[float, float]:
    """Return what traversal verification does with a subtree whose root has this weight.

    Returns:
        The probability that some node of the subtree is accepted, and the expected depth of the
        accepted node, which is 0 if there is none.
    """
    target, draft = tree.target[node], tree.draft[node]
    accepted, depths, reach = 0.0, 0.0, 1.0
    for child in tree.children[node]:
        assert draft is not None
        token = tree.tokens[child]
        share = min(1.0, weight * target[token] / draft[token])
        if share > 0:
            below, below_depths = from_leaves(tree, child, share, depth + 1)
            accepted, depths = accepted + reach * below, depths + reach * below_depths
            reach *= 1 - below
        if reach <= 0:
            break
        target, weight = residual(target, weight, draft)
        draft = without(draft, token)
    return accepted + reach * weight, depths + reach * weight * depth


def without(draft: Array, token: int) -> Array:
    """Return a distribution without a token."""
    rest = draft.copy()
    rest[token] = 0
    return rest / max(rest.sum(), 1e-300)


class Pair:
    """A target and a draft that run trees."""

    def __init__(self, draft: Path, threads: int) -> None:
        """Load both models."""
        self.models = [Model(str(path)) for path in (models.default_target(), draft)]
        self.target, self.draft = (
            Context(model, n_ctx=N_CTX, n_threads=threads, max_nodes=64) for model in self.models
        )

    def grow(
        self, history: list[int], shape: Shape, temperature: float, rng: np.random.Generator
    ) -> Tree:
        """Draw a tree of this shape from the draft. The last token of the history is its root."""
        for context in (self.target, self.draft):
            known = context.cached()
            same = 0
            while same < min(len(known), len(history) - 1) and known[same] == history[same]:
                same += 1
            context.rollback(same)
        drafted, n = DraftTree(history[-1]), len(shape.parent)
        children: list[list[int]] = [[] for _ in range(n)]
        for node, parent in enumerate(shape.parent):
            if parent >= 0:
                children[parent].append(node)
        draft: list[Array | None] = [None] * n
        for depth in range(max(shape.depth)):
            level = [i for i, d in enumerate(shape.depth) if d == depth and children[i]]
            self.draft.decode([(0, history[:-1], drafted, level)])
            for node in level:
                row = theory.softmax(self.draft.logits(node), temperature)
                draft[node] = np.pad(row, (0, self.target.n_vocab - len(row)))
            for node in [i for i, d in enumerate(shape.depth) if d == depth + 1]:
                parent = shape.parent[node]
                row = draft[parent]
                assert row is not None
                for sibling in children[parent]:
                    if sibling < node:
                        row = without(row, drafted.tokens[sibling])
                drafted.add(parent, int(rng.choice(len(row), p=row)))
        self.target.decode([(0, history[:-1], drafted, list(range(n)))])
        target = [theory.softmax(self.target.logits(node), temperature) for node in range(n)]
        for context in (self.target, self.draft):
            context.commit([(0, drafted, -1)])
        return Tree(drafted.tokens, children, target, draft)


def shapes_of(k: int, texts: Texts) -> dict[str, Shape]:
    """Return shapes of k nodes by their names. Texts tell the ranks of rejection sampling."""
    ranks = texts.rank_distribution()
    return {
        "chain": Shape.of(theory.sequence_shape(k, k)),
        "chain of k - 2, the first 2 with a sibling": Shape.spine(k, 2),
        "chain of k - 4, the first 4 with a sibling": Shape.spine(k, 4),
        "two chains": Shape.spine(k, 0, 2),
        "four chains": Shape.spine(k, 0, 4),
        "best tree for the ranks": Shape.of(theory.optimal_tree(ranks, k)),
    }


RULES: dict[str, Callable[[Tree], float]] = {
    "from the root": lambda tree: 1 + from_root(tree),
    "from the leaves": lambda tree: 1 + from_leaves(tree)[1],
}


def write_texts(generator: Generator, args: argparse.Namespace, temperature: float) -> Texts:
    """Return texts of the target with the ranks of rejection sampling."""
    records = []
    for i, prompt in enumerate(read_prompts(PROMPTS)[: args.count]):
        start = generator.tokenize(generator.target.chat_prompt(prompt))
        positions = list(
            generator.ranks(
                start, max_tokens=args.n, temperature=temperature, seed=2000 + i, method="gsd"
            )
        )
        text = {"start": start, "tokens": [p.token for p in positions]}
        text |= {"category": "chat", "prompt": i, "ranks": [p.rank for p in positions]}
        records.append(text)
    return Texts(records)


def measure(
    pair: Pair, texts: Texts, shapes: dict[str, Shape], args: argparse.Namespace, temperature: float
) -> dict[tuple[str, str], list[list[float]]]:
    """Return expected tokens by shape and rule: for each text, one number per position."""
    found: dict[tuple[str, str], list[list[float]]] = {}
    progress = Progress("traversal", len(texts.records))
    for record in texts.records:
        rng = np.random.default_rng(record["prompt"])
        for name, shape in shapes.items():
            for rule in RULES:
                found.setdefault((name, rule), []).append([])
            for t in range(0, len(record["tokens"]), args.stride):
                history = record["start"] + record["tokens"][:t]
                tree = pair.grow(history, shape, temperature, rng)
                for rule, tokens in RULES.items():
                    found[name, rule][-1].append(tokens(tree))
        progress.step()
    return found


def print_table(
    found: dict[tuple[str, str], list[list[float]]], shapes: dict[str, Shape], temperature: float
) -> None:
    """Print a row for each shape: both rules, and what the second gives over the first."""
    n = sum(map(len, next(iter(found.values()))))
    print(f"\nT = {temperature:g}, {n} positions\n")
    print("| shape | depth | " + " | ".join(RULES) + " | difference |")
    print("| --- |" + " ---: |" * (len(RULES) + 2))

    def cell(numbers: Sequence[Sequence[float]]) -> str:
        mean, error = ratio([sum(x) for x in numbers], [len(x) for x in numbers])
        return f"{mean:.2f} ± {error:.2f}"

    for name, shape in shapes.items():
        root, leaves = (found[name, rule] for rule in RULES)
        difference = [np.subtract(b, a).tolist() for a, b in zip(root, leaves, strict=True)]
        cells = [cell(numbers) for numbers in (root, leaves, difference)]
        print(f"| {name} | {max(shape.depth)} | " + " | ".join(cells) + " |", flush=True)


def main() -> None:
    """Print a table for each temperature."""
    parser = argparse.ArgumentParser(description="trees verified from the leaves and the root")
    add = parser.add_argument
    add("-md", "--model-draft", default="twin", help="twin, default, or a GGUF file")
    add("--count", type=int, default=8, help="prompts")
    add("-n", type=int, default=64, help="tokens per prompt")
    add("--stride", type=int, default=8, help="tokens from one tree to the next")
    add("-k", type=int, default=16, help="drafted nodes")
    add("--temp", default="1.0,0.6", help="temperatures")
    add("-t", "--threads", type=int, default=1)
    args = parser.parse_args()
    known = {"twin": models.twin, "default": models.default_draft}
    name = args.model_draft
    draft = known[name]() if name in known else Path(name)
    generator = Generator(
        models.default_target(), draft, n_ctx=N_CTX, n_threads=args.threads, profile=False
    )
    pair = Pair(draft, args.threads)
    for temperature in map(float, args.temp.split(",")):
        texts = write_texts(generator, args, temperature)
        shapes = shapes_of(args.k, texts)
        print_table(measure(pair, texts, shapes, args, temperature), shapes, temperature)


if __name__ == "__main__":
    main()
