"""Independent oracles for clocks, truncation, races and plain decoding.

They follow the definitions in NumPy and never call ersd.
"""

from functools import lru_cache

import numpy as np
from scipy import stats

BLOCK = 128
WORD = np.uint64(0xFFFFFFFF)
SHIFT = np.uint64(32)
ROW_KINDS = ("normal", "peaked", "ties", "flat")


def philox(counter, key):
    """Computes Philox4x32-10 over broadcast counters.

    counter: 4 words or arrays of words, key: 2 words. Returns 4 arrays of 32-bit words; u64[...].
    """
    a, b, c, d = np.broadcast_arrays(*(np.asarray(word, dtype=np.uint64) for word in counter))
    k0, k1 = (int(word) for word in key)
    for _ in range(10):
        p0, p1 = np.uint64(0xD2511F53) * a, np.uint64(0xCD9E8D57) * c
        a, b, c, d = (
            (p1 >> SHIFT) ^ b ^ np.uint64(k0),
            p1 & WORD,
            (p0 >> SHIFT) ^ d ^ np.uint64(k1),
            p0 & WORD,
        )
        k0, k1 = (k0 + 0x9E3779B9) & 0xFFFFFFFF, (k1 + 0xBB67AE85) & 0xFFFFFFFF
    return a, b, c, d


def uniform(high, low):
    """Returns uniform variates in (0, 1) from the upper 52 of 64 bits; f64[...]."""
    return ((high << SHIFT | low) >> np.uint64(12)).astype(np.float64) * 2.0**-52 + 2.0**-53


def exponential(high, low, log=np.log):
    """Returns exponential variates -log(1 - u), where 1 - u is exact; f64[...]."""
    return -log(1 - uniform(high, low))


def bits(seed, position, stream, n):
    """Returns 64 random bits of each index below n as high and low words; u64[..., n] each.

    position may be an array.
    """
    index = np.arange(n)
    a, b, c, d = philox(
        (index // 2, np.asarray(position)[..., None], 0, stream), (seed & 0xFFFFFFFF, seed >> 32)
    )
    return np.where(index % 2, c, a), np.where(index % 2, d, b)


def minima(seed, position, n_blocks, log=np.log):
    """Returns the least clock of each block and the token that has it; f64, i64[..., n_blocks].

    position may be an array.
    """
    high, low = bits(seed, position, 0, n_blocks)
    return exponential(high, low, log) / BLOCK, np.arange(n_blocks) * BLOCK + (
        low % np.uint64(BLOCK)
    ).astype(np.int64)


def clocks(seed, position, n, log=np.log):
    """Returns the clocks of tokens 0 to n - 1; f64[n]."""
    n_blocks = -(-n // BLOCK)
    value, place = minima(seed, position, n_blocks, log)
    out = np.repeat(value, BLOCK) + exponential(*bits(seed, position, 1, n_blocks * BLOCK), log)
    out[place] = value
    return out[:n]


def fdlibm_log(x):
    """Computes the logarithm as fdlibm does.

    NumPy rounds each operation exactly, so all machines give the same bits.
    """
    fraction, exponent = np.frexp(x)
    low = fraction < float.fromhex("0x1.6a09ep-1")
    fraction, k = np.where(low, 2 * fraction, fraction), (exponent - low).astype(np.float64)
    f = fraction - 1
    s, half_square = f / (2 + f), 0.5 * f * f
    z = s * s
    w = z * z
    even = w * (
        3.999999999940941908e-01 + w * (2.222219843214978396e-01 + w * 1.531383769920937332e-01)
    )
    odd = z * (
        6.666666666666735130e-01
        + w
        * (2.857142874366239149e-01 + w * (1.818357216161805012e-01 + w * 1.479819860511658591e-01))
    )
    return (
        s * (half_square + (odd + even))
        + k * 1.90821492927058770002e-10
        - half_square
        + f
        + k * 6.93147180369123816490e-01
    )


@lru_cache(maxsize=4096)
def cached_clocks(seed, position, n):
    """Returns clocks(seed, position, n) from a cache; n should be small."""
    return clocks(seed, position, n)


def scores(logits, temperature, clock):
    """Returns race scores: logit / T - log(clock), at temperature 0 the logit; f64[n].

    NaN counts as -infinity.
    """
    logits = np.where(np.isnan(logits), -np.inf, logits).astype(np.float64)
    return logits / float(np.float32(temperature)) - np.log(clock) if temperature else logits


def kept(logits, temperature=1.0, top_k=0, top_p=1.0, min_p=0.0):
    """Returns the tokens that truncation keeps, by sorting; bool[n].

    The order is llama.cpp's: top-k, top-p of what is left, min-p. Ties at a cutoff are all kept.
    """
    logits = np.where(np.isnan(logits), -np.inf, logits).astype(np.float64)
    finite = logits > -np.inf
    if temperature == 0 or np.isposinf(logits.max()):
        return finite
    order = np.sort(logits[finite])[::-1]
    if top_k > 0:
        order = order[:top_k]
    if top_p < 1:
        mass = np.cumsum(np.exp(order - order[0]))
        order = order[: np.searchsorted(mass, float(np.float32(top_p)) * mass[-1]) + 1]
    mask = logits >= order[-1]
    return (
        mask & (logits >= order[0] + np.log(np.float64(np.float32(min_p)))) if min_p > 0 else mask
    )


def arrivals(logits, clock, m=None, temperature=1.0, **truncation):
    """Returns the first m tokens by score, and their scores; i64, f64[<= m].

    Of equal scores the lower token comes first.
    """
    score = scores(logits, temperature, clock)
    score[~kept(logits, temperature, **truncation)] = -np.inf
    order = np.argsort(-score, kind="stable")[: np.count_nonzero(score > -np.inf)][:m]
    return order, score[order]


def winner(logits, clock, temperature=1.0, **truncation):
    """Returns the token with the greatest score, the lowest token of equal scores."""
    score = scores(logits, temperature, clock)
    return int(np.argmax(np.where(kept(logits, temperature, **truncation), score, -np.inf)))


def table_hash(tokens, state=1469598103934665603):
    """Computes FNV-1a over whole tokens; it continues from state."""
    for token in tokens:
        state = (state ^ (token + 1)) * 1099511628211 % 2**64
    return state


def table_row(table, state):
    """Returns the row of a table model after the tokens that hash to state; f32[n_vocab]."""
    return table[(state >> 20) % len(table)]


def decode(table, prompt, n, seed, **options):
    """Decodes plainly over a table model: returns the winners of n races, one after the other."""
    state, tokens = table_hash(prompt), []
    for position in range(len(prompt), len(prompt) + n):
        tokens.append(
            winner(
                table_row(table, state), cached_clocks(seed, position, table.shape[1]), **options
            )
        )
        state = table_hash(tokens[-1:], state)
    return tokens


def random_table(rng, n_rows, n_vocab, spread=2.0):
    """Returns the logits of a table model; f32[n_rows, n_vocab]."""
    return (rng.normal(size=(n_rows, n_vocab)) * spread).astype(np.float32)


def random_row(rng, n, kind):
    """Returns random logits of one of ROW_KINDS; f32[n]."""
    row = {
        "normal": lambda: rng.normal(size=n) * 3,
        "peaked": lambda: rng.normal(size=n) + 20 * (rng.random(n) < 2 / n),
        "ties": lambda: rng.integers(-3, 4, size=n),
        "flat": lambda: np.full(n, 1.5),
    }[kind]()
    return row.astype(np.float32)


def random_truncation(rng, n):
    """Returns random top_k, top_p and min_p for a vocabulary of n tokens, each off or on."""
    return {
        "top_k": int(rng.choice([0, 1, 2, 40, n - 1, n, n + 1])),
        "top_p": float(rng.choice([1.0, 0.01, 0.5, 0.9, 0.95, 0.999])),
        "min_p": float(rng.choice([0.0, 0.0, 1e-4, 0.05, 0.5, 1.0])),
    }


def softmax(logits, temperature=1.0, **truncation):
    """Returns the probabilities of the winners of races; f64[n]."""
    p = np.where(
        kept(logits, temperature, **truncation),
        logits.astype(np.float64) / float(np.float32(temperature)),
        -np.inf,
    )
    p = np.exp(p - p.max())
    return p / p.sum()


def goodness(counts, probabilities):
    """Returns the p-value of a chi-square test, or 0 if an impossible outcome was seen.

    Outcomes that are expected fewer than 8 times are put together.
    """
    counts, expected = np.asarray(counts, dtype=float), np.asarray(probabilities) * np.sum(counts)
    if counts[expected == 0].any():
        return 0.0
    rare = expected < 8
    if rare.any():
        counts, expected = (
            np.append(counts[~rare], counts[rare].sum()),
            np.append(expected[~rare], expected[rare].sum()),
        )
        counts, expected = counts[expected > 0], expected[expected > 0]
    return (
        stats.chisquare(counts, expected * (counts.sum() / expected.sum())).pvalue
        if len(counts) > 1
        else 1.0
    )


class Correction:
    """A draft's correction by its definition over dense arrays, one array for each token before."""

    def __init__(self, n):
        self.bias, self.squares, self.n = {}, {}, n

    def __call__(self, before):
        """Returns what is added to the logits after a token; f64[n]."""
        zero = np.zeros(self.n)
        return self.bias.get(-1, zero) + self.bias.get(before, zero)

    def learn(self, before, target, draft, temperature):
        """Takes AdaGrad steps where probabilities differ by more than 0.001, up to a bias of 4.

        Returns the differences of logits there, up to 3 at temperature 1, and 0 elsewhere; f64[n].
        """
        at = max(temperature, 0.5)
        p, q = (softmax(row, at) for row in (target, draft))
        d = np.where(np.abs(p - q) > 0.001, p - q, 0)
        for context in (-1, before):
            squares = self.squares[context] = self.squares.get(context, np.zeros(self.n)) + d**2
            step = 0.7 * at * d / np.sqrt(0.03 + squares)
            self.bias[context] = np.clip(self.bias.get(context, np.zeros(self.n)) + step, -4, 4)
        return np.where(d != 0, at * np.clip(np.log(p / q), -3, 3), 0)
