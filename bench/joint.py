"""What coupling whole sequences of tokens could give, instead of one token at a time.

python bench/joint.py               # small models, by enumeration and by brute force
python bench/joint.py FILE ...      # real pairs of models, from paths that joint_paths.py recorded

results/joint.md says what the forms are and what follows. All figures of a real pair are those of
one target call that begins at a random position of a text of the target.
"""

from __future__ import annotations

import argparse
import itertools
from collections.abc import Callable, Sequence
from pathlib import Path

import numpy as np
import numpy.typing as npt
from joint_paths import Array, Paths, Row, agreement, load

from ersd import chains, theory

LENGTHS = (1, 2, 4, 8, 16)  # drafted tokens
TILTS = (-1.0, -0.5, 0.0, 0.5, 1.0)
TRIALS = 200  # races over the paths of one position
# What target calls with 1, 2, 4, 8 and 16 tokens cost, in calls with one token.
COSTS = {"two CPU cores": (1, 1.5, 2, 2.7, 3), "H100": (1, 1.11, 1.26, 1.71, 2.03)}
DRAFT_COST = 0.1  # of a drafted token

# The probability that the first 1, ..., k drafted tokens are accepted, given a path of the target,
# from the ratios and agreements of its tokens; f64[..., k].
FORMS: dict[str, Callable[[Array, Array], Array]] = {
    "races": lambda ratio, agree: chains.race_acceptance(agree),
    "rejection": lambda ratio, agree: chains.rejection_acceptance(ratio),
    "block verification": lambda ratio, agree: chains.block_acceptance(ratio),
    "bound, 1 - TV": lambda ratio, agree: chains.joint_acceptance(ratio),
}


def sequence_race(paths: Paths, length: int, rng: np.random.Generator, trials: int) -> Array:
    """Return P(the winners of a race over sequences share the first j tokens); f64[length].

    Sequences drawn from the mean M of both models, at the times of a Poisson process of rate 1,
    first come at the times E / M of a race. So sequence s arrives at E / P = time * M / P in the
    target's race, and its winner is among the first paths, since M / P is at least 1 / 2.

    Args:
        paths: independent paths, each from either model by coin.
        length: tokens of a sequence.
        rng: random numbers.
        trials: races; they share the paths, in random order.
    """
    ratio, n = paths.joint_ratio()[:, length - 1], len(paths.tokens)
    order = rng.permuted(np.tile(np.arange(n), (trials, 1)), axis=1)
    times = np.cumsum(rng.exponential(size=(trials, n)), axis=1)
    races = np.arange(trials)
    with np.errstate(divide="ignore"):
        target, draft = (
            order[races, np.argmin(times * (1 + r[order]), axis=1)] for r in (ratio, 1 / ratio)
        )
    shared = paths.shared()[target, draft]
    return np.array([(shared > j).mean() for j in range(length)])


def tilted(p: Array, luck: float, tilt: float) -> Array:
    """Return p * (1 + tilt (2 F - 1) (2 luck - 1)); its mean over a uniform luck is p.

    F is the probability of less probable tokens and half of that of equally probable ones.
    """
    ordered = np.sort(p)
    below = np.concatenate([[0.0], np.cumsum(ordered)])
    f = (below[np.searchsorted(ordered, p)] + below[np.searchsorted(ordered, p, "right")]) / 2
    return np.asarray(p * (1 + tilt * (2 * f - 1) * (2 * luck - 1)))


def _luck(p: Array, token: int, tilt: float, uniform: float) -> float:
    """Return the luck that a tilted row had, given the token that won, from a uniform number.

    Its density is 1 + slope (2 luck - 1).
    """
    slope = tilted(p, 1.0, tilt)[token] / p[token] - 1
    if abs(slope) < 1e-9:
        return uniform
    return float((slope - 1 + np.sqrt((1 - slope) ** 2 + 4 * slope * uniform)) / (2 * slope))


def carried(rows: Sequence[Row], tilt: float, uniforms: Array) -> Array:
    """Return an unbiased estimate of the acceptance of races that carry their luck; f64[k].

    Each race is between tilted rows. Its luck is that of the race before it: 1 - exp(-w), if the
    winner arrived at w. As w does not depend on who wins, the text has the target's distribution.

    Args:
        rows: along a path of k tokens of the target.
        tilt: of the rows, -1 to 1. 0 is a race without memory.
        uniforms: random numbers, f64[k + 1].
    """
    lucks = [_luck(p, x, tilt, u) for (p, _, x), u in zip(rows, uniforms, strict=False)]
    lucks.append(float(uniforms[-1]))  # lucks[j] is known before token j
    chance, drafts_luck = np.zeros(len(rows)), lucks[0]
    for j, (p, q, x) in enumerate(rows):
        p, q = tilted(p, lucks[j], tilt), tilted(q, drafts_luck, tilt)
        if q[x] == 0:
            break
        arrival = -np.log1p(-lucks[j + 1])
        agrees = np.exp(-arrival * np.maximum(q * (p[x] / q[x]) - p, 0).sum())
        chance[j] = agrees * (chance[j - 1] if j else 1)
        drafts_luck = 1 - np.exp(-arrival * p[x] / q[x])
    return chance


def best_agreement(n: int, k: int) -> float:
    """Return the most that a target and a draft agree in all of k positions, by trying all rules.

    At each position one of n + 1 tokens is forbidden to the target, and another one to the draft;
    all such pairs are equally probable. Rows that are uniform otherwise have TV = 1 / n. What the
    target picks depends on what it was told so far. The draft makes the best of that.
    """
    tokens = range(n + 1)
    told = list(itertools.product(tokens, repeat=k))  # all that a rule may be told
    prefixes = list(dict.fromkeys(bad[:j] for j in range(1, k + 1) for bad in told))
    choices = itertools.product(*[[x for x in tokens if x != bad[-1]] for bad in prefixes])
    rules = (dict(zip(prefixes, choice, strict=True)) for choice in choices)
    words = [[[rule[bad[:j]] for j in range(1, k + 1)] for bad in told] for rule in rules]
    picks = np.array(words, dtype=np.int8)  # [rule, told, position]

    def reply(forbidden: tuple[int, ...], word: tuple[int, ...]) -> npt.NDArray[np.int64]:
        """Return, for each rule, the most agreements of a draft that was told this and chose so."""
        if len(word) == k:
            possible = [all(map(int.__ne__, bad, forbidden)) for bad in told]
            return np.asarray((picks[:, possible] == word).all(axis=2).sum(axis=1))
        following = [[reply((*forbidden, j), (*word, x)) for x in tokens if x != j] for j in tokens]
        return np.asarray(sum(np.max(replies, axis=0) for replies in following))

    return float(reply((), ()).max() / (n * (n + 1)) ** k)


class SmallModels:
    """A target and a draft whose rows depend on all tokens before, small enough to enumerate.

    Attributes:
        p, q: the probabilities of all sequences of j tokens, for j = 0 to k; f64[n^j].
        ratio, agree: see `Paths`, of all sequences of k tokens; f64[n^k, k].
    """

    def __init__(self, n: int, k: int, noise: float, rng: np.random.Generator) -> None:
        """Draw logits of both models, which differ by normal noise."""
        self.n, self.k = n, k
        self.p, self.q = [np.ones(1)], [np.ones(1)]
        self.ratio, self.agree = np.zeros((2, n**k, k))
        for j in range(k):
            logits = 2 * rng.normal(size=(n**j, n))
            p = [theory.softmax(row) for row in logits]
            q = [theory.softmax(row + noise * rng.normal(size=n)) for row in logits]
            agree = [[agreement(a, b, x) for x in range(n)] for a, b in zip(p, q, strict=True)]
            for table, rows in ((self.ratio, np.divide(q, p)), (self.agree, np.array(agree))):
                table[:, j] = np.repeat(rows.ravel(), n ** (k - 1 - j))
            self.p.append((self.p[-1][:, None] * p).ravel())
            self.q.append((self.q[-1][:, None] * q).ravel())

    def acceptance(self, form: str) -> Array:
        """Return the probability that the first 1, ..., k tokens are accepted; f64[k]."""
        return np.asarray(self.p[-1] @ FORMS[form](self.ratio, self.agree))

    def race(self, rng: np.random.Generator, trials: int) -> tuple[Array, float]:
        """Run races over all sequences, each with its own clock, and decode the block of k tokens.

        Returns:
            P(the winners share the first j tokens), f64[k]; and the target calls that a block
            takes, if each call drafts the winner among the sequences that are still possible.
        """
        clocks = rng.exponential(size=(trials, self.n**self.k))
        winner, arrivals = np.argmin(clocks / self.p[-1], axis=1), clocks / self.q[-1]
        first, calls = np.zeros(self.k), 0
        for x, arrival in zip(winner, arrivals, strict=True):
            known = 0
            while known < self.k:
                block = self.n ** (self.k - known)
                start = x // block * block
                y = start + int(np.argmin(arrival[start : start + block]))
                j = known
                while j < self.k and x // self.n ** (self.k - 1 - j) == y // self.n ** (
                    self.k - 1 - j
                ):
                    j += 1
                if known == 0:
                    first[:j] += 1
                calls, known = calls + 1, j + 1
        return first / trials, calls / trials


def exact() -> None:
    """Print what holds for small models."""
    print("| agreement in the worst case | all rules tried | races |\n| --- | ---: | ---: |")
    for n in (3, 4):
        print(f"| TV = 1/{n} | {best_agreement(n, 1):.4f} | {(n - 1) / (n + 1):.4f} |")
    rng, n, k = np.random.default_rng(1), 4, 4
    heads = [*map(str, range(1, k + 1)), "tokens, first call", "tokens per call"]
    for noise in (0.5, 1.0):
        rows: dict[str, list[Array]] = {form: [] for form in (*FORMS, "sequence race")}
        for _ in range(200):
            small = SmallModels(n, k, noise, rng)
            first, calls = small.race(rng, 400)
            rows["sequence race"].append(np.array([*first, k / calls]))
            for form in FORMS:
                calls = 1 + (1 - small.p[-1] @ small.agree)[:-1].sum()
                whole = [k / calls] if form == "races" else []
                rows[form].append(np.array([*small.acceptance(form), *whole]))
        print(f"\n| noise {noise} | {' | '.join(heads)} |\n| --- |{' ---: |' * len(heads)}")
        for form, values in rows.items():
            mean = np.mean(values, axis=0)
            cells = [f"{c:.3f}" for c in (*mean[:k], 1 + mean[:k].sum(), *mean[k:])]
            print(f"| {form} | {' | '.join(cells)} |")
        gain = np.subtract(rows["sequence race"], rows["races"])[:, k]
        error = gain.std(ddof=1) / np.sqrt(len(gain))
        print(f"\nsequence race, tokens per call beside races: {gain.mean():+.4f} ± {error:.4f}")


def over_prompts(values: Sequence[float], found: Sequence[Paths]) -> tuple[float, float]:
    """Return the mean of one value per position and its standard error over prompts."""
    prompts = np.array([paths.prompt for paths in found])
    means = [np.mean(np.array(values)[prompts == i]) for i in np.unique(prompts)]
    return float(np.mean(means)), float(np.std(means, ddof=1) / np.sqrt(len(means)))


def report(path: Path) -> None:
    """Print what each form gives on recorded paths."""
    found, temperature, draft = load(path)
    rng = np.random.default_rng(1)
    print(f"\n## {draft}, T = {temperature:g}, {len(found)} positions\n")
    accepted = {
        form: [paths.mean(chance(paths.ratio, paths.agreement)) for paths in found]
        for form, chance in FORMS.items()
    }
    tokens = {  # [form][drafted tokens]: of each position
        form: {k: [1 + row[:k].sum() for row in rows] for k in LENGTHS}
        for form, rows in accepted.items()
    }
    tokens["sequence race"] = {
        k: [1 + sequence_race(paths, k, rng, TRIALS).sum() for paths in found] for k in LENGTHS
    }
    heads = [f"k = {k}" for k in LENGTHS] + [f"speed, {name}" for name in COSTS]
    print(f"| tokens per call | {' | '.join(heads)} |\n| --- |{' ---: |' * len(heads)}")
    for form, by_length in tokens.items():
        cells = [over_prompts(values, found) for values in by_length.values()]
        means = {k: mean for k, (mean, _) in zip(by_length, cells, strict=True)}
        speeds = [
            max(
                (means[k] / (np.interp(k + 1, LENGTHS, costs) + k * DRAFT_COST), k)
                for k in LENGTHS[:-1]
            )
            for costs in COSTS.values()
        ]
        shown = [f"{mean:.3f} ± {error:.3f}" for mean, error in cells]
        shown += [f"{speed:.2f} (k = {k})" for speed, k in speeds]
        print(f"| {form} | {' | '.join(shown)} |")
    print("\n| the least share of calls whose text the draft changes | k = 8 | k = 16 |")
    print("| --- | ---: | ---: |")
    for form in list(FORMS)[1:]:
        gains = np.mean(accepted[form], axis=0) - np.mean(accepted["races"], axis=0)
        print(f"| {form} | {gains[:8].max():.3f} | {gains.max():.3f} |")
    carry(found, rng)
    print("\n| rows read until the winner of two tokens is certain | |\n| --- | ---: |")
    for i, name in enumerate(("whole row", "top-k 40", "top-p 0.95")):
        mean, error = over_prompts([paths.reads[i] for paths in found], found)
        print(f"| {name} | {mean:.1f} ± {error:.1f} |")


def carry(found: Sequence[Paths], rng: np.random.Generator, draws: int = 1) -> None:
    """Print what races that carry their luck give on the paths of the target."""
    print("\n| tilt, k = 16 | tokens per call | beside no tilt |\n| --- | ---: | ---: |")
    tokens: dict[float, list[float]] = {tilt: [] for tilt in TILTS}
    found = [paths for paths in found if paths.rows]
    for paths in found:
        drawn = [(r, rng.random(len(r) + 1)) for r in paths.rows for _ in range(draws)]
        for tilt in TILTS:
            chance = [carried(rows, tilt, uniforms).sum() for rows, uniforms in drawn]
            tokens[tilt].append(1 + float(np.mean(chance)))
    for tilt, values in tokens.items():
        mean, error = over_prompts(values, found)
        gain, gain_error = over_prompts(np.subtract(values, tokens[0.0]).tolist(), found)
        print(f"| {tilt:g} | {mean:.3f} ± {error:.3f} | {gain:+.3f} ± {gain_error:.3f} |")


def main() -> None:
    """Print the tables of small models, or those of files."""
    parser = argparse.ArgumentParser(description="what coupling whole sequences could give")
    parser.add_argument("files", type=Path, nargs="*", help="of joint_paths.py")
    files = parser.parse_args().files
    for path in files:
        report(path)
    if not files:
        exact()


if __name__ == "__main__":
    main()
