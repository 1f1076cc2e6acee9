"""Functions that really changed between two releases of permissively licensed packages.

The releases are downloaded with pip when they are needed. None of their text is kept here.
"""

from __future__ import annotations

import ast
import difflib
import random
import subprocess
import sys
import zipfile
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import NamedTuple

__all__ = ["Edit", "edits"]

RELEASES = {
    "click": ("8.0.0", "8.1.7"),
    "requests": ("2.25.0", "2.32.0"),
    "flask": ("2.0.0", "3.0.0"),
    "attrs": ("20.3.0", "23.2.0"),
    "rich": ("10.0.0", "13.7.0"),
}
LEAST_LINES, MOST_LINES = 8, 60  # of the new function
LEAST_SIMILARITY = 0.9
SEED = 1  # chooses among them


class Edit(NamedTuple):
    """A function before and after a change.

    Attributes:
        name: the package, the file and the function.
        before: the text of the older release.
        after: the text of the newer one.
    """

    name: str
    before: str
    after: str


def edits(folder: Path, n: int) -> list[Edit]:
    """Return n edits, the same ones each time. The packages are kept in the folder.

    Raises:
        RuntimeError: a package cannot be downloaded, or there are not as many edits.
    """
    found = []
    for package, versions in RELEASES.items():
        before, after = (functions(wheel(folder, package, version)) for version in versions)
        names = sorted(name for name in before if name in after)
        pairs = (Edit(f"{package} {name}", before[name], after[name]) for name in names)
        found += [edit for edit in pairs if is_edit(edit)]
    if len(found) < n:
        raise RuntimeError(f"there are {len(found)} edits, and {n} were asked for")
    random.Random(SEED).shuffle(found)
    return found[:n]


def is_edit(edit: Edit) -> bool:
    """Whether a function changed a little and is neither short nor long."""
    if edit.before == edit.after or not LEAST_LINES <= edit.after.count("\n") <= MOST_LINES:
        return False
    matcher = difflib.SequenceMatcher(None, edit.before, edit.after, autojunk=False)
    return matcher.ratio() >= LEAST_SIMILARITY


def wheel(folder: Path, package: str, version: str) -> Path:
    """Return the wheel of a release, from the folder or downloaded into it."""

    def found() -> list[Path]:
        return [
            path
            for path in folder.glob(f"*-{version}-*.whl")
            if path.name.lower().startswith(f"{package}-")
        ]

    if not found():
        words = ["download", "--quiet", "--no-deps", "--only-binary", ":all:", "-d", str(folder)]
        command = [sys.executable, "-m", "pip", *words, f"{package}=={version}"]
        run = subprocess.run(command, capture_output=True, text=True, check=False)
        if run.returncode != 0:
            raise RuntimeError(f"cannot download {package} {version}: {run.stderr.strip()}")
    return found()[0]


def functions(path: Path) -> Mapping[str, str]:
    """Return the texts of the functions and methods in a wheel, by file and name."""
    found: dict[str, str] = {}
    with zipfile.ZipFile(path) as archive:
        for name in archive.namelist():
            if name.endswith(".py") and "test" not in name:
                text = archive.read(name).decode("utf-8", "replace")
                found |= {f"{name}:{function}": source for function, source in functions_of(text)}
    return found


def functions_of(text: str) -> Iterator[tuple[str, str]]:
    """Yield the name and the text of each function of a file that this Python can read."""
    try:
        tree = ast.parse(text)
    except SyntaxError:
        return
    lines = text.splitlines(keepends=True)

    def walk(parent: ast.AST, prefix: str) -> Iterator[tuple[str, str]]:
        for node in ast.iter_child_nodes(parent):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                yield prefix + node.name, "".join(lines[node.lineno - 1 : node.end_lineno])
            elif isinstance(node, ast.ClassDef):
                yield from walk(node, f"{prefix}{node.name}.")

    yield from walk(tree, "")
