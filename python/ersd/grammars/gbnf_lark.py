"""Writes a grammar in GBNF as a Lark grammar for llguidance.

llguidance cuts a text into lexemes, and each is the longest text that a terminal matches. So most
terminals are single characters here: longer ones would change what the grammar means. But a run of
characters of one set is one terminal where nothing else can come that begins with one of them. That
makes masks of open strings fast.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from ersd.grammars.gbnf import Item, Rules, read_gbnf

__all__ = ["gbnf_to_lark"]

_SURROGATES = (0xD800, 0xDFFF)
_MAX_TERMINALS = 400  # more of them are not looked at in pairs

# A set of characters in a grammar: rule, alternative and place. Equal sets in other places differ.
_Terminal = tuple[str, int, int]


def gbnf_to_lark(text: str) -> str:
    """Returns the Lark grammar of the same language. Raises ValueError as `read_gbnf`."""
    rules = read_gbnf(text)
    runs = _Runs(rules).found()
    names = {name: f"rule_{i}" for i, name in enumerate(rules)}
    lines = [f"start: {names['root']}"]
    for name, alternatives in rules.items():
        written = (
            " ".join(_written(item, (name, i, j) in runs, names) for j, item in enumerate(items))
            for i, items in enumerate(alternatives)
        )
        lines.append(f"{names[name]}: " + "\n | ".join(each or '""' for each in written))
    return "\n".join(lines)


def _written(item: Item, is_run: bool, names: dict[str, str]) -> str:
    what, least, most = item
    if isinstance(what, str):
        return names[what] + _times(least, most)
    if not is_run:
        return f"/{_set_of(what)}/" + _times(least, most)
    if (least, most) == (1, 1):  # alone in a group that is repeated
        return f"/{_set_of(what)}+/"
    run = f"/{_set_of(what)}{_times(max(least, 1), most)}/"
    return f"({run})?" if least == 0 else run


def _times(least: int, most: int | None) -> str:
    if (least, most) == (1, 1):
        return ""
    return f"{{{least},{'' if most is None else most}}}"


def _set_of(ranges: Iterable[tuple[int, int]]) -> str:
    """Returns a regular expression of one of these characters."""
    parts = []
    for first, last in ranges:
        for low, high in (
            (first, min(last, _SURROGATES[0] - 1)),
            (max(first, _SURROGATES[1] + 1), last),
        ):
            if low <= high:
                parts.append(f"\\u{{{low:x}}}-\\u{{{high:x}}}")
    return f"[{''.join(parts)}]"


class _Runs:
    """Finds the sets whose runs may be one terminal.

    A text is read character by character here. Two sets are rivals if both may come at one place.
    A run of a set may be one terminal if the set shares no character with a rival, and if one run
    never follows another directly: then there is one way to cut a text, and the longest run is it.
    """

    def __init__(self, rules: Rules) -> None:
        self._rules = rules
        self._sets = {
            (name, i, j): item.what
            for name, alternatives in rules.items()
            for i, items in enumerate(alternatives)
            for j, item in enumerate(items)
            if not isinstance(item.what, str) and item.most != 0
        }
        self._empty: set[str] = set()  # rules that match the empty text
        self._first: dict[str, set[_Terminal]] = {name: set() for name in rules}
        # What may come after a rule, with itself again where it is repeated and without.
        self._after: dict[str, set[_Terminal]] = {name: set() for name in rules}
        self._beyond: dict[str, set[_Terminal]] = {name: set() for name in rules}
        self._next: dict[_Terminal, set[_Terminal]] = {each: set() for each in self._sets}

    def found(self) -> set[_Terminal]:
        """Returns the sets."""
        candidates = set(self._candidates())
        if not candidates or len(self._sets) > _MAX_TERMINALS:
            return set()
        while self._grow():
            pass
        rivals = self._rivals()
        return {
            each
            for each in candidates
            if each not in (self._next[each] if self._is_repeated(each) else self._beyond[each[0]])
            and not any(self._overlap(each, other) for other in rivals[each] - {each})
        }

    def _is_repeated(self, terminal: _Terminal) -> bool:
        name, i, j = terminal
        most = self._rules[name][i][j].most
        return most is None or most > 1

    def _candidates(self) -> Iterator[_Terminal]:
        """Yields the sets that are repeated, by themselves or alone in a group that is."""
        repeated = {
            item.what
            for alternatives in self._rules.values()
            for items in alternatives
            for item in items
            if isinstance(item.what, str) and item.what[0] == "(" and _is_endless(item)
        }
        for name, i, j in self._sets:
            is_alone = len(self._rules[name][i]) == 1 and self._rules[name][i][j][1:] == (1, 1)
            if self._is_repeated((name, i, j)) or (name in repeated and is_alone):
                yield name, i, j

    def _grow(self) -> bool:
        """Adds what follows from what is known so far. Returns whether anything was added."""
        before = self._size()
        for name, alternatives in self._rules.items():
            for i, items in enumerate(alternatives):
                self._grow_by(name, i, items)
        return self._size() != before

    def _grow_by(self, name: str, i: int, items: list[Item]) -> None:
        after, ends_here = set(self._after[name]), True  # what may come after the rest
        first: set[_Terminal] = set()
        for j in range(len(items) - 1, -1, -1):
            item = items[j]
            if item.most == 0:
                continue
            own = self._first[item.what] if isinstance(item.what, str) else {(name, i, j)}
            is_empty = item.least == 0 or (isinstance(item.what, str) and item.what in self._empty)
            is_repeated = item.most is None or item.most > 1
            if isinstance(item.what, str):
                self._beyond[item.what] |= after
                self._after[item.what] |= after | (own if is_repeated else set())
            else:
                self._next[(name, i, j)] |= after
            after = after | own if is_empty else set(own)
            first = first | own if is_empty else set(own)
            ends_here = ends_here and is_empty
        self._first[name] |= first
        if ends_here:
            self._empty.add(name)

    def _size(self) -> int:
        sets = (*self._first.values(), *self._after.values(), *self._next.values())
        return len(self._empty) + sum(map(len, sets)) + sum(map(len, self._beyond.values()))

    def _rivals(self) -> dict[_Terminal, set[_Terminal]]:
        """Returns the sets that may come where each one may come, itself included."""
        rivals: dict[_Terminal, set[_Terminal]] = {each: set() for each in self._sets}
        following = {
            each: found | ({each} if self._is_repeated(each) else set())
            for each, found in self._next.items()
        }
        found = [(one, other) for one in self._first["root"] for other in self._first["root"]]
        while found:
            one, other = found.pop()
            if other in rivals[one]:
                continue
            rivals[one].add(other)
            if one == other or self._overlap(one, other):
                found += [(a, b) for a in following[one] for b in following[other]]
        return rivals

    def _overlap(self, one: _Terminal, other: _Terminal) -> bool:
        return any(
            low <= last and first <= high
            for low, high in self._sets[one]
            for first, last in self._sets[other]
        )


def _is_endless(item: Item) -> bool:
    return item.most is None and item.least <= 1
