"""What tests of models with many places share: the logits of each text alone, and a driver."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from ersd._core import Context, DraftTree, LanguageModel, Model

Part = tuple[int, list[int], DraftTree, list[int]]
Oracle = Callable[[list[int]], np.ndarray]  # tokens to the logits that follow them, f32[n_vocab]


class Alone:
    """A context of one place without trees. It reads each text anew, in one call."""

    def __init__(self, model: Model, *, exact: bool = True) -> None:
        """Makes the context."""
        self.context = Context(model, n_ctx=1024, n_threads=2, max_nodes=0, exact=exact)

    def __call__(self, tokens: list[int]) -> np.ndarray:
        """Returns the logits that follow the tokens."""
        self.context.rollback(0)
        self.context.decode([(0, tokens[:-1], DraftTree(tokens[-1]), [0])])
        return self.context.logits(0)


class Driver:
    """Does at random to a model what an engine may do, and checks what the model says."""

    def __init__(self, model: LanguageModel, oracle: Oracle, n_total: int, seed: int) -> None:
        """Takes the model, the expected logits and the tokens that all places may hold."""
        self.model, self.oracle, self.n_total = model, oracle, n_total
        self.rng = np.random.default_rng(seed)
        self.texts: list[list[int]] = [[] for _ in range(model.n_sequences)]
        self.cells: list[list[int]] = [[] for _ in range(model.n_sequences)]  # as sets count them
        self.n_cells = 0
        self.checked = 0.6  # share of the nodes whose logits are compared
        self.most_nodes, self.most_history = 12, 30
        self.two_calls = 0.3  # how often a tree is decoded in two calls
        self.n_rows = 0  # compared rows

    def tokens(self, n: int) -> list[int]:
        """Returns n random tokens."""
        return self.rng.integers(3, self.model.n_vocab, size=n).tolist()

    def extend(self, place: int, tokens: list[int]) -> None:
        """Notes that a place has committed tokens."""
        self.texts[place] += tokens
        self.cells[place] += range(self.n_cells, self.n_cells + len(tokens))
        self.n_cells += len(tokens)

    def cut(self, place: int, n: int) -> None:
        """Rolls a place back."""
        self.model.rollback(n, place)
        del self.texts[place][n:], self.cells[place][n:]

    def tree(self) -> DraftTree:
        """Returns a random tree, from chain to star."""
        tree, reach = DraftTree(self.tokens(1)[0]), int(self.rng.choice([1, 2, 9]))
        for node in range(1, int(self.rng.integers(1, self.most_nodes + 1))):
            tree.add(int(self.rng.integers(max(0, node - reach), node)), self.tokens(1)[0])
        return tree

    def path(self, tree: DraftTree, node: int) -> list[int]:
        """Returns the tokens from the root to a node."""
        path: list[int] = []
        while node >= 0:
            path.insert(0, tree.tokens[node])
            node = tree.parents[node]
        return path

    def steps(self, n: int) -> None:
        """Makes n steps."""
        for _ in range(n):
            self.step()

    def plan(self, place: int) -> tuple[list[int], DraftTree, list[int], list[int]]:
        """Returns a longer history, a tree, and its nodes for a first and for a second call."""
        new = self.tokens(int(self.rng.integers(self.most_history + 1)))
        history = self.texts[place] + (new if self.rng.random() < 0.5 else [])
        tree = self.tree()
        n = 0 if self.rng.random() < 0.2 else len(tree.tokens)
        n_first = (
            min(n, int(self.rng.integers(1, n + 2))) if self.rng.random() < self.two_calls else n
        )
        return history, tree, list(range(n_first)), list(range(n_first, n))

    def step(self) -> None:
        """Decodes histories and trees of some places, in one call or two, and commits."""
        self.make_room()
        order = self.rng.permutation(len(self.texts)).tolist()
        chosen = order[: int(self.rng.integers(1, len(order) + 1))]
        plans = {place: self.plan(place) for place in chosen}
        late = (
            set(chosen[1:]) if self.rng.random() < self.two_calls else set()
        )  # in the second call alone
        calls: list[list[Part]] = [[], []]
        for place, (history, tree, first, rest) in plans.items():
            calls[place in late].append((place, history, tree, first))
            if rest and place in late:
                calls[1][-1] = (place, history, tree, first + rest)
            elif rest:
                calls[1].append((place, history, tree, rest))
        for call in calls:
            self.decode(call)
        accepted = [
            (place, tree, int(self.rng.integers(-1, len(tree.tokens))))
            for place, (_, tree, first, _) in plans.items()
            if first
        ]
        if self.rng.random() < 0.2 and accepted:  # one of them goes another way
            place, _, _ = accepted.pop()
            self.cut(place, int(self.rng.integers(len(self.texts[place]) + 1)))
        if self.rng.random() < 0.5:
            self.model.commit(accepted)
        else:
            for item in accepted:
                self.model.commit([item])
        for place, tree, node in accepted:
            self.extend(place, self.path(tree, node))

    def decode(self, call: list[Part]) -> None:
        """Makes a call and compares some of its rows with those of the same tokens alone."""
        self.model.decode(call)
        for place, history, tree, nodes in call:
            self.extend(place, history[len(self.texts[place]) :])
            for node in nodes:
                if self.rng.random() < self.checked:
                    expected = self.oracle(history + self.path(tree, node))
                    np.testing.assert_array_equal(self.model.logits(node, place), expected)
                    self.n_rows += 1

    def make_room(self) -> None:
        """Empties places, the longest first, until any step fits."""
        while self.n_free() < (self.most_history + self.most_nodes) * len(self.texts):
            self.cut(max(range(len(self.texts)), key=lambda place: len(self.texts[place])), 0)

    def n_free(self) -> int:
        """Returns how many tokens fit beside those that places hold."""
        return self.n_total - len(set().union(*self.cells))

    def move(self) -> None:
        """Rolls a place back, or lets an empty one take over the beginning of another."""
        place, other = (int(p) for p in self.rng.integers(len(self.texts), size=2))
        if self.rng.random() < 0.4:
            self.cut(place, int(self.rng.integers(len(self.texts[place]) + 1)))
        elif place != other and self.texts[place]:
            self.cut(other, 0)
            n = int(self.rng.integers(1, len(self.texts[place]) + 1))
            assert self.model.share(place, other, n)
            self.texts[other], self.cells[other] = self.texts[place][:n], self.cells[place][:n]

    def run(self, n: int) -> None:
        """Does n things, and looks at the cache after each."""
        for _ in range(n):
            self.move() if self.rng.random() < 0.4 else self.step()
            assert [self.model.cached(p) for p in range(len(self.texts))] == self.texts
            assert self.model.n_free == self.n_free()


def step(model: LanguageModel, place: int, text: list[int]) -> np.ndarray:
    """Extends a place to a text by one call, and returns the logits that follow it."""
    tree = DraftTree(text[-1])
    model.decode([(place, text[:-1], tree, [0])])
    logits = model.logits(0, place)
    model.commit([(place, tree, 0)])
    return logits
