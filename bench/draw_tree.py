"""Draws the first draft tree of an answer of the default pair, with its accepted path, as an SVG.

python bench/draw_tree.py [PROMPT] [-s SEED] [-k NODES] [-o bench/results/draft_tree.svg]

The engine does not hand out its trees. This script grows the tree again as `Drafter::grow` in
cpp/ersd/draft/drafter.cpp does, and stops unless the engine's first call drafted as many tokens
and accepted as many.
"""

from __future__ import annotations

import argparse
from dataclasses import dataclass, field
from html import escape
from pathlib import Path

import numpy as np
import numpy.typing as npt

from ersd import Generator, _core, models

SAMPLING = {"temperature": 0.8, "top_k": 40, "top_p": 0.95, "min_p": 0.05}  # the defaults
# kFirstHit of cpp/ersd/draft/drafter.cpp: how probable the best child of a node is expected to be.
FIRST_HIT = 0.8

FONT = 15  # px
CHARACTER = 0.6 * FONT  # width of one, in a monospaced font
PADDING, HEIGHT, ROW, GAP, MARGIN = 11, 30, 42, 40, 12  # px
# Fill, border and text of a box: readable on white and on dark pages.
STYLES = {
    "prompt": ("#57606a", "#57606a", "#ffffff"),
    "accepted": ("#1a7f37", "#1a7f37", "#ffffff"),
    "target": ("#dafbe1", "#1a7f37", "#116329"),
    "drafted": ("#eaeef2", "#8c959f", "#424a53"),
}
LEGEND = {
    "accepted": "drafted and accepted",
    "target": "the target's own next token",
    "drafted": "drafted, not accepted",
}


@dataclass
class Node:
    """A token of the tree, its path from the root, and where it is drawn (column, row)."""

    path: list[int]
    probability: float = 1.0
    style: str = "drafted"
    children: list[Node] = field(default_factory=list)
    row: float = 0.0


class Draft:
    """The draft model alone."""

    def __init__(self) -> None:
        self._model = Generator(models.default_draft(), profile=False)

    def logits(self, tokens: list[int]) -> npt.NDArray[np.float32]:
        """Return the logits of the token after these tokens, f32[n_vocab]."""
        rows = []

        def record(
            _: npt.NDArray[np.intc], scores: npt.NDArray[np.single]
        ) -> npt.NDArray[np.single]:
            rows.append(scores.copy())
            return scores

        self._model.generate(tokens, max_tokens=1, logits_processor=record)
        return rows[0]


def grow(prompt: list[int], k: int, seed: int) -> Node:
    """Return the adaptive tree of about k nodes that a fresh Generator drafts after a prompt."""
    draft, race, margins = Draft(), _core.Race(), _core.MarginModel()
    options = _core.SamplingOptions(**SAMPLING)
    threshold = _core.PathThreshold()
    threshold.set_nodes(k)
    root, n_drafted = Node([]), 0
    level = [root]
    while level:
        expanded, level = level, []
        for node in expanded:
            before = prompt + node.path
            row, clock = draft.logits(before), _core.Clock(seed, len(before))
            tokens, _ = race.arrivals(row, options, clock, margins.n_arrivals)
            hits = margins.predict(race, row, options, clock)
            for token, hit in zip(tokens, hits, strict=True):
                child = Node([*node.path, int(token)], node.probability * float(hit))
                if child.probability < threshold.value and n_drafted > 0:
                    continue
                node.children.append(child)
                n_drafted += 1
                if FIRST_HIT * child.probability >= threshold.value:
                    level.append(child)
    return root


def nodes_of(node: Node) -> list[Node]:
    """Return a node and all below it, parents first."""
    return [node] + [below for child in node.children for below in nodes_of(child)]


def mark(root: Node, emitted: list[int]) -> None:
    """Style the path of the emitted tokens and add the last of them, which was not drafted."""
    root.style = "prompt"
    node = root
    for token in emitted[:-1]:
        node = next(child for child in node.children if child.path[-1] == token)
        node.style = "accepted"
    node.children.append(Node([*node.path, emitted[-1]], style="target"))


def place(node: Node, row: int = 0) -> int:
    """Give every leaf a row of its own and a parent the middle of its children.

    Returns the next free row.
    """
    if not node.children:
        node.row = row
        return row + 1
    for child in node.children:
        row = place(child, row)
    node.row = (node.children[0].row + node.children[-1].row) / 2
    return row


def box(x: float, y: float, lines: list[str], style: str) -> str:
    """Return a box with its left edge at x and its middle at y."""
    fill, border, color = STYLES[style]
    width, height = box_width(lines), HEIGHT + (len(lines) - 1) * FONT * 1.3
    dashes = ' stroke-dasharray="5 3"' if style == "target" else ""
    text = "".join(
        f'<text x="{x + width / 2:.1f}" y="{y + (i - (len(lines) - 1) / 2) * FONT * 1.3 + 5:.1f}" '
        f'fill="{color}" text-anchor="middle">{escape(line)}</text>'
        for i, line in enumerate(lines)
    )
    return (
        f'<rect x="{x:.1f}" y="{y - height / 2:.1f}" width="{width:.1f}" height="{height:.1f}" '
        f'rx="7" fill="{fill}" stroke="{border}" stroke-width="1.5"{dashes}/>{text}'
    )


def box_width(lines: list[str]) -> float:
    """Return the width of a box, in px."""
    return max(map(len, lines)) * CHARACTER + 2 * PADDING


def halves(text: str) -> list[str]:
    """Return a text in two lines that are about equally long."""
    words = text.split()
    best = min(
        range(1, len(words) + 1),
        key=lambda n: max(len(" ".join(words[:n])), len(" ".join(words[n:]))),
    )
    return [line for line in (" ".join(words[:best]), " ".join(words[best:])) if line]


def svg(root: Node, prompt: str, label: dict[int, str], sentence: str) -> str:
    """Return the picture of a marked tree. label: the text of each token."""
    n_rows, nodes = place(root), nodes_of(root)
    lines = {id(node): [label[node.path[-1]]] if node.path else halves(prompt) for node in nodes}
    left = [float(MARGIN)]  # edge of each column, in px
    for depth in range(max(len(node.path) for node in nodes) + 1):
        widest = max(box_width(lines[id(n)]) for n in nodes if len(n.path) == depth)
        left.append(left[-1] + widest + GAP)

    def at(node: Node) -> tuple[float, float]:
        return left[len(node.path)], MARGIN + HEIGHT / 2 + node.row * ROW

    edges, boxes = [], []
    for node in nodes:
        x, y = at(node)
        boxes.append(box(x, y, lines[id(node)], node.style))
        x += box_width(lines[id(node)])
        for child in sorted(node.children, key=lambda child: child.style != "drafted"):
            to_x, to_y = at(child)
            bend = (to_x + x) / 2
            stroke = 'stroke="#8c959f" stroke-width="1.5"'
            if child.style != "drafted":
                stroke = 'stroke="#2da44e" stroke-width="3"'
            edges.append(
                f'<path d="M{x:.1f} {y:.1f} C{bend:.1f} {y:.1f} {bend:.1f} {to_y:.1f} '
                f'{to_x:.1f} {to_y:.1f}" fill="none" {stroke}/>'
            )
    x, y = float(MARGIN), MARGIN + n_rows * ROW + 22
    for style, text in LEGEND.items():
        fill, border, _ = STYLES[style]
        boxes.append(
            f'<rect x="{x:.1f}" y="{y - 12}" width="22" height="14" rx="4" fill="{fill}" '
            f'stroke="{border}" stroke-width="1.5"/><text x="{x + 30:.1f}" y="{y}" '
            f'fill="#768390">{escape(text)}</text>'
        )
        x += 30 + len(text) * CHARACTER + 26
    width = max(left[-1] - GAP + MARGIN, x)
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {y + MARGIN:.0f}" '
        f'width="{width:.0f}" role="img" font-size="{FONT}" '
        f'font-family="ui-monospace, SFMono-Regular, Menlo, Consolas, monospace">\n'
        f"<title>{escape(sentence)}</title>\n" + "\n".join([*edges, *boxes]) + "\n</svg>\n"
    )


def main() -> None:
    """Write the picture, and print what it shows."""
    parser = argparse.ArgumentParser(description="Draw the first draft tree of an answer.")
    parser.add_argument("prompt", nargs="?", default="The capital of France is Paris")
    parser.add_argument("-s", "--seed", type=int, default=7)
    parser.add_argument("-k", "--draft-nodes", type=int, default=8)
    here = Path(__file__).parent
    parser.add_argument("-o", "--output", type=Path, default=here / "results" / "draft_tree.svg")
    args = parser.parse_args()
    pair = Generator.default(profile=False)
    with pair.stream(
        args.prompt, seed=args.seed, draft_nodes=args.draft_nodes, **SAMPLING
    ) as stream:
        step, drafted = next(iter(stream)), stream.stats.drafted
    root = grow(pair.tokenize(args.prompt), args.draft_nodes, args.seed)
    if len(nodes_of(root)) - 1 != drafted:
        raise SystemExit("draw_tree: the tree is not the engine's: has Drafter::grow changed?")
    mark(root, list(step.tokens))
    tokens = {node.path[-1] for node in nodes_of(root) if node.path}
    label = {t: pair.detokenize([t]).replace("\n", "\\n").strip() or "space" for t in tokens}
    sentence = (
        f"One call of the target checks {drafted} drafted tokens, accepts {step.n_accepted} and "
        f"adds one of its own: {step.text!r}"
    )
    args.output.write_text(svg(root, args.prompt, label, sentence), encoding="utf-8")
    print(sentence)


if __name__ == "__main__":
    main()
