"""Races, first arrivals and truncation beside a bare maximum over the same logits, llama.cpp's sampler chain and NumPy, in turn in one run.

cmake -S . -B build -DCMAKE_PREFIX_PATH=$(python -c "import sysconfig; print(sysconfig.get_path('platlib'))")
cmake --build build --target race_bench
python bench/race.py build/bench/librace_bench.so [--model gemma.gguf] [--passes 40]

Rows are recorded from the model over bench/prompts: those of least, median and greatest entropy are "peaked", "typical" and "flat";
"constant" is a row of equal logits. Other vocabularies are made of these rows: drawn from them with replacement, their greatest logits
kept. A row "in L2" is raced several times in a row, one "in turn" once in each pass over 12 MB of them. Each row counts with its
fastest pass.
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
BYTES = (
    12 << 20
)  # of the rows that are taken in turn: more than the second level of the cache holds
Rows = NDArray[np.float32]


def record(path: str, n_tokens: int) -> Rows:
    """The logits at all positions of the prompts; f32[n, n_vocab]."""
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
    """Of each row, in nats."""
    p = np.exp(rows - rows.max(axis=1, keepdims=True)).astype(np.float64)
    p /= p.sum(axis=1, keepdims=True)
    return -(p * np.log(np.maximum(p, 1e-300))).sum(axis=1)


def resized(rows: Rows, n_vocab: int, rng: np.random.Generator) -> Rows:
    """Rows for another vocabulary."""
    if n_vocab == rows.shape[1]:
        return rows
    out = np.empty((len(rows), n_vocab), np.float32)
    for row, made in zip(rows, out, strict=True):
        top = np.argpartition(row, -256)[-256:]
        made[:] = rng.choice(np.delete(row, top), n_vocab)
        made[rng.choice(n_vocab, 256, replace=False)] = row[top]
    return out


def kinds(rows: Rows, n_vocab: int) -> dict[str, Rows]:
    """Rows by kind of distribution, as many as BYTES hold; f32[n, n_vocab] each."""
    order, n = np.argsort(entropies(rows)), min(max(BYTES // (4 * n_vocab), 8), len(rows) // 3)
    middle, rng = (len(rows) - n) // 2, np.random.default_rng(0)
    chosen = {"peaked": order[:n], "typical": order[middle : middle + n], "flat": order[-n:]}
    made = {
        kind: np.ascontiguousarray(resized(rows[places], n_vocab, rng))
        for kind, places in chosen.items()
    }
    return made | {"constant": np.zeros((n, n_vocab), np.float32)}


def numpy_winner(row: Rows, rng: np.random.Generator) -> int:
    """A race with fresh noise."""
    return int(np.argmax(row - np.log(rng.standard_exponential(len(row), dtype=np.float32))))


def numpy_truncation(row: Rows, rng: np.random.Generator) -> int:
    """Top-k 40, top-p 0.95, min-p 0.05, then a draw."""
    places = np.argpartition(row, -40)[-40:]
    places = places[np.argsort(-row[places])]
    p = np.exp(row[places] - row[places[0]])
    n = min(np.searchsorted(np.cumsum(p), 0.95 * p.sum()) + 1, np.count_nonzero(p >= 0.05))
    return int(places[rng.choice(n, p=p[:n] / p[:n].sum())])


def clocked(
    function: Callable[[Rows, np.random.Generator], object], rows: Rows, rng: np.random.Generator
) -> NDArray[np.float64]:
    """Nanoseconds of each row; f64[n]."""
    times = [time.perf_counter_ns()]
    for row in rows:
        function(row, rng)
        times.append(time.perf_counter_ns())
    return np.diff(times)


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
        help="comma list; others than the model's are made of its rows",
    )
    parser.add_argument("--passes", type=int, default=40)
    parser.add_argument("--tokens", type=int, default=128, help="recorded of each file of prompts")
    args = parser.parse_args()
    bench = ctypes.CDLL(str(args.library.resolve())).race_bench
    bench.argtypes = [
        ctypes.c_int,
        ctypes.c_void_p,
        ctypes.c_size_t,
        ctypes.c_size_t,
        ctypes.c_size_t,
        ctypes.c_void_p,
    ]
    recorded, rng = record(args.model, args.tokens), np.random.default_rng(1)
    by_numpy = [lambda row, _: row.max(), numpy_winner, numpy_truncation]
    print("| tokens | rows | nats | lie in | maximum | " + " | ".join([*OURS[1:], *NUMPY]) + " |")
    print("| ---: | --- | ---: | --- | ---: |" + " ---: |" * (len(OURS) - 1 + len(NUMPY)))
    for n_vocab in map(int, args.vocabularies.split(",")):
        for kind, rows in kinds(recorded, n_vocab).items():
            for place, repeats in (("L2", 8), ("turn", 1)):
                best = np.full((len(OURS) + len(NUMPY), len(rows)), np.inf)
                ns = np.empty(len(rows))
                for i in range(args.passes):
                    slow = i % 8 == 0  # what takes long is timed less often
                    for what in range(len(OURS)):
                        if slow or not OURS[what].startswith(("llama", "its")):
                            bench(
                                what, rows.ctypes.data, len(rows), n_vocab, repeats, ns.ctypes.data
                            )
                            best[what] = np.minimum(best[what], ns)
                    for what, function in enumerate(by_numpy if slow and repeats == 1 else []):
                        theirs = best[len(OURS) + what]
                        theirs[:8] = np.minimum(theirs[:8], clocked(function, rows[:8], rng))
                means = [
                    times[np.isfinite(times)].mean() if np.isfinite(times).any() else np.nan
                    for times in best
                ]
                ratios = ["" if np.isnan(x) else f"{x / means[0]:.2f}" for x in means[1:]]
                nats = entropies(rows[:32]).mean()
                print(
                    f"| {n_vocab} | {kind} | {nats:.1f} | {place} | {means[0] / 1000:.2f} us | "
                    + " | ".join(ratios)
                    + " |",
                    flush=True,
                )


if __name__ == "__main__":
    main()
