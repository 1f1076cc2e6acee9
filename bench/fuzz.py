"""Runs the fuzzers of the core, and prints how many inputs each has tried and what it found.

Build them with Clang, in a folder of their own:

CXX=clang++ cmake -G Ninja -S . -B build/fuzz -DERSD_FUZZ=ON -DERSD_SANITIZE=address,undefined
cmake --build build/fuzz
python bench/fuzz.py build/fuzz [--seconds 10] [--inputs 0] [--targets gguf,text] [--corpus FOLDER]

Each target begins with the inputs in tests/fuzz/corpus, and keeps those that reach new code in the
folder of --corpus, so that a later run goes on from them. An input that ends a target is written
there, too.
"""

from __future__ import annotations

import argparse
import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))
import tiny
import tiny_hybrid
import tiny_window

SEEDS = Path(__file__).resolve().parent.parent / "tests" / "fuzz" / "corpus"
# The greatest length of an input, in bytes, and how long one may take, in seconds.
MAX_LENGTH, TIMEOUT = {"race": 2000, "gguf": 4000, "state": 200}, 20


def write_models(folder: Path) -> None:
    """Writes models with each kind of cache, whose states are damaged."""
    tiny.write_llama(folder / "llama.gguf")
    tiny.write_mamba(folder / "mamba.gguf")
    tiny_window.write_gemma(folder / "gemma.gguf")
    for arch in ("lfm2", "qwen35"):
        tiny_hybrid.write_hybrid(folder / f"{arch}.gguf", arch)


def run(program: Path, corpus: Path, seconds: int, n_inputs: int) -> tuple[int, int, str]:
    """Runs one target. Returns how many inputs it tried, its exit status and its output."""
    target = program.name.removeprefix("fuzz_")
    inputs = corpus / target
    inputs.mkdir(parents=True, exist_ok=True)
    if (SEEDS / target).is_dir():
        shutil.copytree(SEEDS / target, inputs, dirs_exist_ok=True)
    words = [str(program), "-print_final_stats=1", f"-timeout={TIMEOUT}", "-use_value_profile=1"]
    words += [f"-max_len={MAX_LENGTH.get(target, 600)}", f"-artifact_prefix={corpus}/{target}."]
    words += [f"-runs={n_inputs}"] if n_inputs else [f"-max_total_time={seconds}"]
    done = subprocess.run([*words, str(inputs)], capture_output=True, text=True, errors="replace")
    found = re.search(r"number_of_executed_units:\s*(\d+)", done.stderr)
    return int(found[1]) if found else 0, done.returncode, done.stderr


def main() -> int:
    """Prints a line for each target. Returns 1 if one of them ended by an input."""
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    add = parser.add_argument
    add("build", type=Path, help="folder of the build")
    add("--seconds", type=int, default=10, help="time for each target")
    add("--inputs", type=int, default=0, help="inputs for each target, instead of a time")
    add("--targets", default="", help="names separated by commas; without it, all")
    add("--corpus", type=Path, default=None, help="folder of inputs to go on from")
    args = parser.parse_args()
    programs = sorted(path for path in (args.build / "tests" / "fuzz").glob("fuzz_*"))
    wanted = [f"fuzz_{name}" for name in args.targets.split(",") if name]
    total, n_failed = 0, 0
    with tempfile.TemporaryDirectory() as temporary, tempfile.TemporaryDirectory() as models:
        corpus = args.corpus or Path(temporary)
        write_models(Path(models))
        os.environ["ERSD_FUZZ_MODELS"] = models
        for program in programs:
            if wanted and program.name not in wanted:
                continue
            tried, status, output = run(program, corpus, args.seconds, args.inputs)
            total += tried
            outcome = "FAILED" if status else "ok"
            print(f"{program.name}: {tried} inputs, {outcome}", flush=True)
            if status != 0:
                n_failed += 1
                print(output[-4000:], file=sys.stderr)
    print(f"{total} inputs, {n_failed} targets failed")
    return int(n_failed > 0 or total == 0)


if __name__ == "__main__":
    sys.exit(main())
