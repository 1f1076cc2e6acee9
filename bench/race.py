"""Time races, first arrivals and truncation against a bare maximum over the same logits.

cmake -S . -B build \\
  -DCMAKE_PREFIX_PATH=$(python -c "import sysconfig; print(sysconfig.get_path('platlib'))")
cmake --build build --target race_bench
python bench/race.py build/bench/librace_bench.so [--model gemma.gguf] [--passes 40]

llama.cpp's sampler chain and NumPy are timed in the same run. Rows are recorded from the model over
bench/prompts. Rows of least, median and greatest entropy are called "peaked", "typical" and "flat";
"constant" is a row of equal logits. Rows for other vocabularies are drawn from the recorded ones
with replacement, but keep their greatest logits. A row "in L2" is raced several times in
succession. A row "in turn" is raced once in each pass over 12 MB of rows. The time of a row is that
of its fastest pass.
"""

from __future__ import annotations

import argparse
import ctypes
import time
from collections.abc import Callable
from pathlib import Path

import llama_cpp
import numpy as np
from numpy.typing import NDArray

from ersd import models

PROMPTS = Path(__file__).parent / "prompts"
OURS = [
    "maximum",
    "winner",
    "64 arrivals",
    "truncation",
    "truncated winner",
    "llama.cpp chain",
    "its array alone",
]
NUMPY = ["numpy max", "numpy winner", "numpy truncation"]
BYTES = 12 << 20  # all rows of one kind together, more than the second-level cache holds
SLOW_EVERY = 8  # slow measurements run only in every eighth pass
Rows = NDArray[np.float32]


def record(path: str, n_tokens: int) -> Rows:
    """Record the logits at all positions of the prompts; f32[n, n_vocab]."""
    model = llama_cpp.Llama(
        path,
        n_ctx=n_tokens,
        n_batch=n_tokens,
        logits_all=True,
        n_threads=1,
        n_threads_batch=1,
        verbose=False,
    )
    rows = []
    for prompt in sorted(PROMPTS.glob("*.txt")):
        model.reset()
        model.eval(model.tokenize(prompt.read_bytes())[:n_tokens])
        rows.append(model.scores[: model.n_tokens].astype(np.float32))
    return np.concatenate(rows)


def entropies(rows: Rows) -> NDArray[np.float64]:
    """Return the entropy of each row in nats; f64[n]."""
    p = np.exp(rows - rows.max(axis=1, keepdims=True)).astype(np.float64)
    p /= p.sum(axis=1, keepdims=True)
    return -(p * np.log(np.maximum(p, 1e-300))).sum(axis=1)


def resized(rows: Rows, n_vocab: int, rng: np.random.Generator) -> Rows:
    """Make rows for another vocabulary; f32[n, n_vocab]."""
    if n_vocab == rows.shape[1]:
        return rows
    out = np.empty((len(rows), n_vocab), np.float32)
    for row, made in zip(rows, out, strict=True):
        top = np.argpartition(row, -256)[-256:]
        made[:] = rng.choice(np.delete(row, top), n_vocab)
        made[rng.choice(n_vocab, 256, replace=False)] = row[top]
    return out


def kinds(rows: Rows, n_vocab: int) -> dict[str, Rows]:
    """Rows by kind of distribution, as many as fit into BYTES; f32[n, n_vocab] each."""
    order, n = np.argsort(entropies(rows)), min(max(BYTES // (4 * n_vocab), 8), len(rows) // 3)
    middle, rng = (len(rows) - n) // 2, np.random.default_rng(0)
    chosen = {"peaked": order[:n], "typical": order[middle : middle + n], "flat": order[-n:]}
    made = {
        kind: np.ascontiguousarray(resized(rows[indices], n_vocab, rng))
        for kind, indices in chosen.items()
    }
    return made | {"constant": np.zeros((n, n_vocab), np.float32)}


def numpy_winner(row: Rows, rng: np.random.Generator) -> int:
    """Race with fresh noise and return the winner."""
    return int(np.argmax(row - np.log(rng.standard_exponential(len(row), dtype=np.float32))))


def numpy_truncation(row: Rows, rng: np.random.Generator) -> int:
    """Apply top-k 40, top-p 0.95 and min-p 0.05, then draw a token."""
    tokens = np.argpartition(row, -40)[-40:]
    tokens = tokens[np.argsort(-row[tokens])]
    p = np.exp(row[tokens] - row[tokens[0]])
    n = min(np.searchsorted(np.cumsum(p), 0.95 * p.sum()) + 1, np.count_nonzero(p >= 0.05))
    return int(tokens[rng.choice(n, p=p[:n] / p[:n].sum())])


def timed(
    function: Callable[[Rows, np.random.Generator], object], rows: Rows, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return the nanoseconds that a function takes for each row; f64[n]."""
    times = [time.perf_counter_ns()]
    for row in rows:
        function(row, rng)
        times.append(time.perf_counter_ns())
    return np.diff(times)


Bench = Callable[..., None]


def load(library: Path) -> Bench:
    """Load race_bench, the C++ function that times rows."""
    bench = ctypes.CDLL(str(library.resolve())).race_bench
    bench.argtypes = [
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_size_t,
        ctypes.c_size_t,
        ctypes.c_void_p,
    ]
    return bench


def best_times(
    bench: Bench, rows: Rows, repeats: int, passes: int, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Return the nanoseconds of each row in its fastest pass, inf where it was not timed.

    Args:
        bench: what load() returns.
        rows: logits; f32[n, n_vocab].
        repeats: how often a row is raced before the next one. NumPy is timed only if it is 1.
        passes: the number of passes over the rows.
        rng: noise for NumPy.

    Returns:
        f64[len(OURS) + len(NUMPY), n].
    """
    by_numpy = [lambda row, _: row.max(), numpy_winner, numpy_truncation]
    best = np.full((len(OURS) + len(NUMPY), len(rows)), np.inf)
    ns = np.empty(len(rows))
    for i in range(passes):
        slow = i % SLOW_EVERY == 0
        for what in range(len(OURS)):
            if slow or not OURS[what].startswith(("llama", "its")):
                bench(what, rows.ctypes.data, *rows.shape, repeats, ns.ctypes.data)
                best[what] = np.minimum(best[what], ns)
        for what, function in enumerate(by_numpy if slow and repeats == 1 else []):
            times = best[len(OURS) + what]
            times[:8] = np.minimum(times[:8], timed(function, rows[:8], rng))
    return best


def table_row(n_vocab: int, kind: str, rows: Rows, place: str, best: NDArray[np.float64]) -> str:
    """Return a line of the table: the mean time of the maximum, and the others relative to it."""
    means = [
        times[np.isfinite(times)].mean() if np.isfinite(times).any() else np.nan for times in best
    ]
    cells = [str(n_vocab), kind, f"{entropies(rows[:32]).mean():.1f}", place]
    cells += [f"{means[0] / 1000:.2f} us"]
    cells += ["" if np.isnan(mean) else f"{mean / means[0]:.2f}" for mean in means[1:]]
    return "| " + " | ".join(cells) + " |"


def main() -> None:
    """Print a table of ratios."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("library", type=Path)
    parser.add_argument("--model", default=str(models.default_target()))
    parser.add_argument(
        "--vocabularies",
        default="49152",
        help="sizes as a comma list; rows of other sizes are made of the model's rows",
    )
    parser.add_argument("--passes", type=int, default=40)
    parser.add_argument("--tokens", type=int, default=128, help="tokens taken from each prompt")
    args = parser.parse_args()
    bench = load(args.library)
    recorded, rng = record(args.model, args.tokens), np.random.default_rng(1)
    print("| tokens | rows | nats | lie in | maximum | " + " | ".join([*OURS[1:], *NUMPY]) + " |")
    print("| ---: | --- | ---: | --- | ---: |" + " ---: |" * (len(OURS) - 1 + len(NUMPY)))
    for n_vocab in map(int, args.vocabularies.split(",")):
        for kind, rows in kinds(recorded, n_vocab).items():
            for place, repeats in (("L2", 8), ("turn", 1)):
                best = best_times(bench, rows, repeats, args.passes, rng)
                print(table_row(n_vocab, kind, rows, place, best), flush=True)


if __name__ == "__main__":
    main()
