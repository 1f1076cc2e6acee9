"""Paths of a real target and draft from positions of the target's texts, for joint.py.

python bench/joint_paths.py FILE [-md DRAFT] [--temp 1.0] [--count 24] [-t THREADS]

A path is a continuation of 16 tokens, drawn from the target or from the draft, by coin. An end
token counts as any other.
"""

from __future__ import annotations

import argparse
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import numpy.typing as npt
from ersd._core import Context, DraftTree

from ersd import Generator, models, theory
from ersd.prompts import read_prompts

Array = npt.NDArray[np.float64]
Row = tuple[Array, Array, int]  # the target's and the draft's distribution, and the path's token

N_PATHS, DEPTH = 16, 16  # a call has at most 256 drafted nodes
POSITIONS = (0, 16, 32, 48)  # of an answer, from which paths begin
KEPT = 1e-4  # rows keep the tokens that are more probable in a model; the others become one token
TOP_K, TOP_P = 40, 0.95  # truncations whose searches are counted beside that of the whole row


@dataclass
class Paths:
    """Paths from one position of a text.

    Attributes:
        tokens: i32[n, k].
        ratio: the draft's probability of each token over the target's, f64[n, k].
        agreement: P(the token wins the draft's race | it wins the target's), f64[n, k].
        rows: the shortened rows along each path of the target.
        reads: `rows_to_read` of the target's first row, whole, with top-k and with top-p.
        prompt: the number of the text.
    """

    tokens: npt.NDArray[np.int32]
    ratio: Array
    agreement: Array
    rows: list[list[Row]] = field(default_factory=list)
    reads: Sequence[float] = ()
    prompt: int = 0

    def mean(self, chance: Array) -> Array:
        """Return the mean of f64[n, k] over paths of the target; f64[k].

        Column j must depend on the first j + 1 tokens only. Paths come from the mean of both
        models, so a path counts with P / ((P + Q) / 2).
        """
        return np.asarray((chance * 2 / (1 + self.joint_ratio())).mean(axis=0))

    def joint_ratio(self) -> Array:
        """Return Q / P of the first 1, ..., k tokens; f64[n, k]."""
        return np.cumprod(self.ratio, axis=1)

    def shared(self) -> npt.NDArray[np.int64]:
        """Return how many first tokens two paths share; i64[n, n]."""
        equal = self.tokens[:, None] == self.tokens[None]
        return np.asarray(np.cumprod(equal, axis=2).sum(axis=2))


def agreement(p: Array, q: Array, token: int) -> float:
    """Return P(the token wins the draft's race | it wins the target's), with shared clocks."""
    return float(1 / np.maximum(p, q * (p[token] / q[token])).sum()) if q[token] > 0 else 0.0


def rows_to_read(p: Array, n: int) -> float:
    """Return how many rows a search reads until the winner among pairs of tokens is certain.

    The pair (x, y) arrives at E(x, y) / (p(x) p(y | x)), so not before min_y E(x, y) / p(x). The
    row of x must be read if this bound, an arrival of rate n p(x), precedes the first pair of all
    other x, since the row might put all its mass there. Otherwise it need not be read.

    Args:
        p: the target's distribution over first tokens, f64[n_kept].
        n: second tokens.
    """
    p = p[p > 0]
    return float((n * p / (n * p + 1 - p)).sum())


def shorten(p: Array, q: Array, token: int) -> Row:
    """Return a row in which the improbable tokens are one token, at the end."""
    is_kept = (p > KEPT) | (q > KEPT)
    is_kept[token] = True
    both = [np.append(r[is_kept], r[~is_kept].sum()) for r in (p, q)]
    return both[0], both[1], int(is_kept[:token].sum())


class Pair:
    """A target and a draft that draw paths and read them."""

    def __init__(self, generator: Generator, temperature: float, threads: int) -> None:
        """Make a cache for each model."""
        both = (generator.target, generator.draft)
        self.contexts = [Context(m, n_ctx=1024, n_threads=threads, max_nodes=257) for m in both]
        self.temperature = temperature

    def clear(self) -> None:
        """Forget all texts."""
        for context in self.contexts:
            context.rollback(0)

    def paths(self, text: list[int], rng: np.random.Generator) -> Paths:
        """Draw paths that follow a text, which continues that of the call before."""
        tree, nodes, n_read = DraftTree(text[-1]), [0] * N_PATHS, 0
        is_target = rng.random(N_PATHS) < 0.5
        tokens, ratio, agree = np.zeros((3, N_PATHS, DEPTH))
        kept: list[list[Row]] = [[] for _ in range(N_PATHS)]
        reads: list[float] = []
        for j in range(DEPTH):
            for context in self.contexts:
                context.decode([(0, text[:-1], tree, list(range(n_read, len(tree))))])
            n_read = len(tree)
            rows = {node: [self._row(c, node) for c in self.contexts] for node in set(nodes)}
            reads = reads or searches(rows[0][0])
            for i, node in enumerate(nodes):
                p, q = rows[node]
                cumulative = np.cumsum(p if is_target[i] else q)
                x = int(np.searchsorted(cumulative, rng.random() * cumulative[-1], "right"))
                tokens[i, j], ratio[i, j], agree[i, j] = x, q[x] / p[x], agreement(p, q, x)
                if is_target[i]:
                    kept[i].append(shorten(p, q, x))
                child = tree.child(node, x)
                nodes[i] = child if child > 0 else tree.add(node, x)
        for context in self.contexts:
            context.commit([(0, tree, -1)])
        return Paths(tokens.astype(np.int32), ratio, agree, [r for r in kept if r], reads)

    def _row(self, context: Context, node: int) -> Array:
        return theory.softmax(context.logits(node), self.temperature)


def searches(p: Array) -> list[float]:
    """Return `rows_to_read` of a row as it is, with top-k and with top-p."""
    ordered = np.sort(p)[::-1]
    top_p = ordered[: int(np.searchsorted(np.cumsum(ordered), TOP_P)) + 1]
    kept = (p, ordered[:TOP_K], top_p)
    return [rows_to_read(row / row.sum(), len(p)) for row in kept]


def save(path: Path, found: list[Paths], temperature: float, draft: str) -> None:
    """Write paths to a file."""
    rows = [row for f in found for path_rows in f.rows for row in path_rows]
    np.savez(
        path,
        temperature=temperature,
        draft=draft,
        **{name: [getattr(f, name) for f in found] for name in ("tokens", "ratio", "agreement")},
        **{name: [getattr(f, name) for f in found] for name in ("reads", "prompt")},
        n_paths=[len(f.rows) for f in found],
        sizes=[len(p) for p, _, _ in rows],
        winners=[x for _, _, x in rows],
        p=np.concatenate([p for p, _, _ in rows]).astype(np.float32),
        q=np.concatenate([q for _, q, _ in rows]).astype(np.float32),
    )


def load(path: Path) -> tuple[list[Paths], float, str]:
    """Return the paths of a file, their temperature, and the draft's name."""
    data = np.load(path)
    ends = np.cumsum(data["sizes"])[:-1]
    p, q = (np.split(data[name].astype(np.float64), ends) for name in "pq")
    rows = list(zip(p, q, map(int, data["winners"]), strict=True))
    found, at = [], 0
    for i, n in enumerate(data["n_paths"]):
        own = [rows[at + j * DEPTH : at + (j + 1) * DEPTH] for j in range(n)]
        at += n * DEPTH
        arrays = (data[name][i] for name in ("tokens", "ratio", "agreement"))
        found.append(Paths(*arrays, own, data["reads"][i], int(data["prompt"][i])))
    return found, float(data["temperature"]), str(data["draft"])


def main() -> None:
    """Record paths from four positions of an answer to each prompt."""
    parser = argparse.ArgumentParser(description="records paths of two models for joint.py")
    parser.add_argument("file", type=Path)
    prompts = Path(__file__).parent / "prompts" / "chat.txt"
    parser.add_argument("--prompts", type=Path, default=prompts)
    parser.add_argument("--count", type=int, default=24)
    parser.add_argument("--temp", type=float, default=1.0)
    parser.add_argument("-md", "--model-draft", type=Path, default=models.twin())
    parser.add_argument("-t", "--threads", type=int, default=1)
    args = parser.parse_args()
    generator = Generator(
        models.default_target(), args.model_draft, n_ctx=1024, n_threads=args.threads, profile=False
    )
    pair, found = Pair(generator, args.temp, args.threads), list[Paths]()
    whole = {"temperature": args.temp, "top_k": 0, "top_p": 1.0, "min_p": 0.0}
    for i, prompt in enumerate(read_prompts(args.prompts)[: args.count]):
        rng = np.random.default_rng(i)
        history = generator.tokenize(generator.target.chat_prompt(prompt))
        plain = {"max_tokens": POSITIONS[-1], "seed": 100 + i, "method": "ar"}
        answer = generator.generate(history, **plain, **whole).tokens
        pair.clear()
        for position in POSITIONS:
            if position <= len(answer):
                found.append(pair.paths([*history, *answer[:position]], rng))
                found[-1].prompt = i
        save(args.file, found, args.temp, args.model_draft.name)
        print(f"{i + 1} prompts, {len(found)} positions", flush=True)


if __name__ == "__main__":
    main()
