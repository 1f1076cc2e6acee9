"""What texts propose: after departures, by races, along trees, and how probable that is."""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import pytest
from ersd._core import HitRates, TextDrafts

import oracles

LOOKUP, HISTORY, PREDICTION = 1, 2, 4  # the bits of sources
EXPECTED = list(range(100, 160))
Texts = Sequence[tuple[str, Sequence[int]]]


def drafts(prompt: Sequence[int], *, looks_up: bool = False, others: Texts = ()) -> TextDrafts:
    """Returns the drafts of a sequence that begins with a prompt."""
    made = TextDrafts()
    made.begin(list(prompt), looks_up, [(name, list(text)) for name, text in others])
    return made


def proposed(made: TextDrafts, node: int = 0, rates: HitRates | None = None) -> list[int]:
    """Returns the tokens that are proposed after a node, the most probable first."""
    found = made.propose(node, rates or HitRates())
    return [token for token, _, _ in sorted(found, key=lambda c: -c[1])]


def after(answer: Sequence[int], source: str = "prediction") -> list[int]:
    """Returns what EXPECTED proposes after an answer. The prompt of a history ends as it does."""
    made = drafts([1, 2] if source == "prediction" else [1, 100], others=[(source, EXPECTED)])
    made.append(list(answer))
    made.reset()
    return proposed(made)


@pytest.mark.parametrize(
    ("answer", "first", "others"),
    [
        ([], 100, set()),
        ([100], 101, set()),
        (EXPECTED[:9], 109, set()),
        ([*EXPECTED[:9], 7], None, {109, 110}),  # inserted, or in place of 109
        ([*EXPECTED[:9], 7, 8, 9], None, {109, 112}),
        ([*EXPECTED[:9], 7, 109], 110, set()),  # comes back after an insertion
        ([*EXPECTED[:9], 7, 110], 111, set()),  # comes back after a replacement
        ([*EXPECTED[:9], 7, 8, 111], 112, set()),
        ([*EXPECTED[:9], 112], None, {109, 110, 113}),  # 109 to 111 are left out
        ([*EXPECTED[:9], 112, 113], 114, set()),
        ([7], None, {100, 101}),  # departs at once
        ([7, 8, 102], 103, set()),
        ([*EXPECTED[:9], *range(20)], None, set()),  # departs for good
        ([*EXPECTED[:9], *range(20), 130, 131], 132, set()),  # two tokens place it again
        (EXPECTED, None, set()),  # nothing is left
    ],
)
def test_departures(answer: list[int], first: int | None, others: set[int]) -> None:
    """A text is followed to where an answer departs from it, and found again after that."""
    found = after(answer)
    assert len(found) == len(set(found))
    if first is not None:
        assert found[0] == first
    assert others <= set(found)
    if first is None and not others:
        assert found == []


def test_a_history_has_no_beginning() -> None:
    """Unlike an expected answer, it proposes nothing before something in it came."""
    assert proposed(drafts([1, 2], others=[("history", EXPECTED)])) == []
    assert proposed(drafts([1, 2], others=[("prediction", EXPECTED)])) == [100]
    assert proposed(drafts([7, 103], others=[("history", EXPECTED)])) == [104]
    assert after([101, 102], "history")[0] == 103


def test_lookup_repeats_prompt_and_answer() -> None:
    """The token after the longest ending that occurred before comes first."""
    made = drafts([5, 6, 7, 8, 9, 4, 7, 1, 2], looks_up=True)
    assert proposed(made) == []
    made.append([5, 6, 7])
    made.reset()
    assert proposed(made) == [8, 1]  # after 5 6 7, and after 7 alone
    assert {sources for _, _, sources in made.propose(0, HitRates())} == {LOOKUP}
    made.append([1])
    made.reset()
    assert proposed(made)[0] == 2
    made = drafts([5], looks_up=True)
    made.append([2, 3, 2])
    made.reset()
    assert proposed(made) == [3]
    assert drafts([5, 6, 5], looks_up=False).propose(0, HitRates()) == []


def test_sources_that_agree_are_one_candidate() -> None:
    """Its probability is that of the surer one, and it knows all of its sources."""
    history, prediction = ("history", [98, 99, *EXPECTED]), ("prediction", EXPECTED)
    alone = [
        drafts([98, 99], others=[text]).propose(0, HitRates())[0] for text in (history, prediction)
    ]
    ((token, hit, sources),) = drafts([98, 99], others=[history, prediction]).propose(0, HitRates())
    assert (token, sources) == (100, HISTORY | PREDICTION)
    assert hit == max(each[1] for each in alone) > min(each[1] for each in alone)


def test_continuations_race() -> None:
    """With a clock, the continuation with the least clock / count comes first."""
    counts, text = {50: 6, 51: 4, 52: 1, 53: 1}, []
    for i, token in enumerate(np.repeat(list(counts), list(counts.values())).tolist()):
        text += [100 + i, 5, token]  # the occurrences of 5 have nothing else in common
    made, firsts = drafts([5], others=[("history", text)]), []
    for position in range(400):
        found = made.propose(0, HitRates(), (7, position))
        clock = oracles.clocks(7, position, 60)
        order = sorted(counts, key=lambda token, c=clock: c[token] / counts[token])
        assert [token for token, _, _ in found] == order[:3]
        firsts.append(order[0])
    assert 0.4 < firsts.count(50) / len(firsts) < 0.6
    assert [token for token, _, _ in made.propose(0, HitRates())][:2] == [50, 51]


def test_separators_are_never_proposed() -> None:
    """The end of a text of the history, and the beginning of the next, are no text."""
    rng = np.random.default_rng(0)
    for _ in range(40):
        history = rng.choice([-1, 0, 1, 2], size=60, p=[0.25, 0.25, 0.25, 0.25]).tolist()
        made = drafts(rng.integers(3, size=5).tolist(), others=[("history", history)])
        for _ in range(20):
            made.append([int(rng.integers(3))])
            made.reset()
            assert all(token >= 0 for token in proposed(made))
    assert drafts([4], others=[("history", [4, -1, 5])]).propose(0, HitRates()) == []


def random_drafts(rng: np.random.Generator, prompt: list[int]) -> TextDrafts:
    """Returns drafts from texts over few tokens."""
    texts = [rng.integers(4, size=80).tolist() for _ in range(2)]
    others = [("history", texts[0]), ("prediction", texts[1])]
    return drafts(prompt, looks_up=True, others=others)


def random_tree(rng: np.random.Generator, n: int) -> list[tuple[int, int]]:
    """Returns the parent and the token of n nodes after the root."""
    return [(int(rng.integers(i)), int(rng.integers(4))) for i in range(1, n + 1)]


def grow(made: TextDrafts, nodes: list[tuple[int, int]], n_kept: int, rates: HitRates) -> None:
    """Adds nodes, asks what is proposed after each, and keeps the first ones alone."""
    for node, (parent, token) in enumerate(nodes, start=1):
        made.add(parent, token)
        made.propose(node, rates)
    made.truncate(n_kept + 1)


def test_candidates_are_a_distribution() -> None:
    """They are distinct, each is possible, and together they are no more than certain."""
    rng, rates = np.random.default_rng(1), HitRates()
    for seed in range(30):
        made = random_drafts(rng, rng.integers(4, size=60).tolist())
        for _ in range(20):
            found = made.propose(0, rates, (seed, 9) if seed % 2 else None)
            tokens = [token for token, _, _ in found]
            assert len(tokens) == len(set(tokens))
            assert all(0 < hit < 1 and 0 < sources < 8 for _, hit, sources in found)
            assert sum(hit for _, hit, _ in found) <= 1
            token = tokens[0] if tokens else 0
            made.learn([0], [token], rates)  # they become sure, each of its own token
            made.append([token])
            made.reset()


def test_trees_that_lose_nodes() -> None:
    """A tree that lost its last nodes proposes and teaches as one that never had them."""
    for seed in range(30):
        rng = np.random.default_rng(seed)
        prompt, nodes, n = rng.integers(4, size=30).tolist(), random_tree(rng, 12), seed % 12
        both = [random_drafts(np.random.default_rng(seed), prompt) for _ in range(2)]
        rates = [HitRates(), HitRates()]
        more = [*nodes[:n], *random_tree(rng, 12)[n:]]
        for made, its, first in zip(both, rates, (nodes, more), strict=True):
            made.propose(0, its)
            grow(made, first, n, its)
            for node, (parent, token) in enumerate(more[n:], start=n + 1):
                made.add(parent, token)
                made.propose(node, its)
        path, emitted = [0], [2]
        for node, (parent, token) in enumerate(more, start=1):
            if parent == path[-1]:
                path, emitted = [*path, node], [*emitted[:-1], token, 1]
        for made, its in zip(both, rates, strict=True):
            made.learn(path, emitted, its)
        for node in range(13):
            assert both[0].propose(node, rates[0]) == both[1].propose(node, rates[1])


def test_a_path_of_the_tree_is_as_good_as_the_text() -> None:
    """Texts that do not grow propose after a node what they propose once its path is accepted."""
    rng, rates = np.random.default_rng(3), HitRates()
    others = [
        ("history", rng.integers(4, size=90).tolist()),
        ("prediction", rng.integers(4, size=90).tolist()),
    ]
    for _ in range(30):
        prompt, answer = rng.integers(4, size=9).tolist(), rng.integers(4, size=25).tolist()
        tree, text = drafts(prompt, others=others), drafts(prompt, others=others)
        for node, token in enumerate(answer):
            assert tree.propose(node, rates) == text.propose(0, rates)
            tree.add(node, token)
            text.append([token])
            text.reset()


def test_learning_is_of_verified_positions_alone() -> None:
    """Rates move by what came after accepted nodes, up and down, and by nothing else."""

    def hit(rates: HitRates) -> float:
        fresh = drafts([1], others=[("prediction", EXPECTED)])
        return float(fresh.propose(0, rates)[0][1])

    rates = {name: HitRates() for name in ("right", "wrong", "elsewhere")}
    for name, its in rates.items():
        for _ in range(20):
            made = drafts([1], others=[("prediction", EXPECTED)])
            made.propose(0, its)
            made.add(0, 3)
            made.propose(1, its)
            path = [] if name == "elsewhere" else [0]
            made.learn(path, [100 if name == "right" else 8] * len(path), its)
    assert hit(rates["wrong"]) < 0.2 < hit(HitRates()) < hit(rates["right"])
    assert hit(rates["elsewhere"]) == hit(HitRates())


def answer_by(rng: np.random.Generator, text: list[int], right: float) -> list[int]:
    """Returns an answer that goes on with a text with a probability, and else departs from it."""
    place, answer = 0, []
    while place < len(text):
        if rng.random() < right:
            answer.append(text[place])
            place += 1
        else:
            answer.append(int(rng.integers(1000, 2000)))
            place += int(rng.integers(3))  # inserts, replaces, or skips one more
    return answer


def check_calibration(hits: list[float], came: list[bool], least: int, n_tenths: int) -> None:
    """Checks that the share that came true is predicted within 0.03 in each tenth that is full."""
    late = len(hits) // 4
    predicted, actual = np.array(hits[late:]), np.array(came[late:])
    tenth = np.minimum(predicted * 10, 9).astype(int)
    n_checked = 0
    for inside in (tenth == d for d in range(10)):
        if inside.sum() >= least:
            error = 2 * actual[inside].std() / np.sqrt(inside.sum())
            expected = pytest.approx(predicted[inside].mean(), abs=0.03 + error)
            assert actual[inside].mean() == expected
            n_checked += 1
    assert n_checked >= n_tenths


@pytest.mark.parametrize("source", ["history", "prediction"])
def test_probabilities_are_calibrated(source: str) -> None:
    """Of the candidates with about the same probability, such a share comes true."""
    rng, rates, hits, came = np.random.default_rng(4), HitRates(), [], []
    for right in [0.97, 0.85, 0.6, 0.3] * 14:
        text = rng.integers(1000, size=260).tolist()
        made = drafts(text[:2], others=[(source, text)])
        for token in answer_by(rng, text, right):
            for candidate, hit, _ in made.propose(0, rates):
                hits.append(hit)
                came.append(candidate == token)
            made.learn([0], [token], rates)
            made.append([token])
            made.reset()
    check_calibration(hits, came, 800, 4)
    assert max(hits) > 0.9


def test_a_grammar_is_calibrated() -> None:
    """So are the tokens that a grammar leaves, with other shares for each number of them."""
    rng, rates, hits, came = np.random.default_rng(5), HitRates(), [], []
    truth = {2: [0.9, 0.1], 3: [0.2, 0.7, 0.1], 6: [0.5, 0.15, 0.05, 0.1, 0.1, 0.1]}
    for _ in range(6000):
        shares = truth[int(rng.choice(list(truth)))]
        allowed = rng.permutation(50)[: len(shares)].tolist()
        token = int(rng.choice(allowed, p=shares))
        made = drafts([1])
        for place, candidate in enumerate(allowed[:4]):
            found = made.propose_by_grammar(0, 7, candidate, len(shares), place, rates)
            assert found[0][0] == candidate
            hits.append(found[0][1])
            came.append(candidate == token)
        made.learn([0], [token], rates)
    check_calibration(hits, came, 500, 5)
