"""What other libraries do on `ersd.Llama`, beside llama_cpp.Llama, as a table.

Each row is run in a process of its own for each class, at temperature 0 with the default target,
and the answers are compared. The libraries that are not installed are left out. Then
llama-cpp-python's own tests are run from a folder with its sources, on copies in which the default
target's own tokens and greedy text replace those of the model that the tests download.

    pip download --no-deps --no-binary :all: llama-cpp-python==0.3.36 && tar xf llama_cpp_python-*
    pip install langchain-community llama-index-core outlines instructor openai numba scipy
    pip install --no-deps llama-index-llms-llama-cpp
    python bench/llama_class.py --sources llama_cpp_python-0.3.36
"""

from __future__ import annotations

import argparse
import importlib.metadata
import json
import os
import platform
import re
import subprocess
import sys
import tempfile
from pathlib import Path

CLASSES = ("llama_cpp", "ersd")
PACKAGES = ("ersd", "llama-cpp-python", "langchain-community", "llama-index-core")
PACKAGES += ("llama-index-llms-llama-cpp", "outlines", "instructor", "openai", "numpy")
BENCH = Path(__file__).parent
# What llama-cpp-python's tests expect of the models that they download.
DOWNLOADED_TEXT, DOWNLOADED_TOKENS = '" jumps over the lazy dog."', "[9419, 11, 1814, 0]"


def answer_of(case: str, cls: str) -> str:
    """Runs a case in a process of its own; returns its answer as JSON, or the error's last line."""
    command = [sys.executable, __file__, "--case", case, "--class", cls]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode == 0:
        return done.stdout.splitlines()[-1]
    return "fails: " + done.stderr.strip().splitlines()[-1]


def run_case(case: str, cls: str) -> None:
    """Prints the answer of a case on a class as JSON."""
    import llama_cpp
    from llama_class_calls import CASES

    import ersd

    if cls == "ersd":
        llama_cpp.Llama = ersd.Llama
    print(json.dumps(CASES[case][1](str(ersd.models.default_target()))))


def row_of(case: str) -> str:
    """Returns the row of a case."""
    theirs, ours = (answer_of(case, cls) for cls in CLASSES)
    words = ["works" if not each.startswith("fails") else each for each in (theirs, ours)]
    same = "yes" if ours == theirs else "no"
    return f"| {case} | {words[0]} | {words[1]} | {same if words[0] == 'works' else '-'} |"


def adapted_tests(sources: Path, folder: Path) -> Path:
    """Copies llama-cpp-python's tests and replaces what they expect of the downloaded model."""
    import llama_cpp

    import ersd

    llama = llama_cpp.Llama(str(ersd.models.default_target()), n_ctx=64, verbose=False)
    prompt = "The quick brown fox jumps over the lazy dog. The quick brown fox"
    text = llama(prompt, max_tokens=6, temperature=0)["choices"][0]["text"]
    tokens = llama.tokenize(b"Hello, world!", special=True)
    (folder / "vendor").symlink_to((sources / "vendor").absolute())
    tests = folder / "tests"
    tests.mkdir()
    for path in (sources / "tests").glob("test_*.py"):
        source = path.read_text().replace(DOWNLOADED_TEXT, repr(text))
        (tests / path.name).write_text(source.replace(DOWNLOADED_TOKENS, str(tokens)))
    return tests


def outcomes(folder: Path, cls: str) -> dict[str, str]:
    """Runs the tests in a folder on a class and returns the outcome of each."""
    paths = [str(BENCH.absolute()), os.environ.get("PYTHONPATH", "")]
    environment = {**os.environ, "CLASS": cls, "CACHE": str(folder)}
    environment["PYTHONPATH"] = os.pathsep.join(filter(None, paths))
    command = [sys.executable, "-P", "-m", "pytest", "-rA", "-p", "no:cacheprovider"]
    command += ["-p", "llama_class_tests", "tests"]
    done = subprocess.run(
        command, cwd=folder, env=environment, capture_output=True, text=True, check=False
    )
    found = re.findall(r"^(PASSED|FAILED|ERROR) (\S+)(?: - (.*))?$", done.stdout, re.MULTILINE)
    found += re.findall(r"^(SKIPPED) (.*)$()", done.stdout, re.MULTILINE)
    return {name: f"{outcome.lower()} {reason}".strip() for outcome, name, reason in found}


def tests_table(sources: Path) -> list[str]:
    """Returns the table of llama-cpp-python's own tests."""
    with tempfile.TemporaryDirectory() as name:
        adapted_tests(sources, Path(name))
        theirs, ours = (outcomes(Path(name), cls) for cls in CLASSES)
    lines = ["| test of llama-cpp-python | llama_cpp.Llama | ersd.Llama |", "| --- | --- | --- |"]
    for test in sorted({**theirs, **ours}):
        lines.append(f"| {test} | {theirs.get(test, '-')} | {ours.get(test, '-')} |")
    passed = [sum(each == "passed" for each in found.values()) for found in (theirs, ours)]
    return [*lines, "", f"{passed[0]} pass on llama_cpp.Llama, {passed[1]} on ersd.Llama."]


def versions() -> str:
    """Names the machine and the versions of all packages."""
    found = [f"Python {platform.python_version()}", platform.machine()]
    for package in PACKAGES:
        try:
            found.append(f"{package} {importlib.metadata.version(package)}")
        except importlib.metadata.PackageNotFoundError:
            found.append(f"{package} is not installed")
    return ", ".join(found)


def main() -> None:
    """Prints the tables."""
    parser = argparse.ArgumentParser(description=__doc__.split("\n")[0])
    parser.add_argument("--sources", type=Path, help="the sources of llama-cpp-python")
    parser.add_argument("--case", help=argparse.SUPPRESS)
    parser.add_argument("--class", dest="cls", help=argparse.SUPPRESS)
    args = parser.parse_args()
    if args.case:
        run_case(args.case, args.cls)
        return
    from llama_class_calls import CASES

    print(versions(), end="\n\n")
    print("| library | on llama_cpp.Llama | on ersd.Llama | same answers |")
    print("| --- | --- | --- | --- |")
    for case, (package, _) in CASES.items():
        try:
            importlib.metadata.version(package)
        except importlib.metadata.PackageNotFoundError:
            continue
        print(row_of(case), flush=True)
    if args.sources:
        print("", *tests_table(args.sources), sep="\n")


if __name__ == "__main__":
    main()
