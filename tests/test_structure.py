"""The structure of the sources: which file may use which, and how long files and functions are."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from graphlib import CycleError, TopologicalSorter
from pathlib import Path

import pytest

from cpp_functions import cpp_functions

ROOT = Path(__file__).parent.parent
pytestmark = [
    pytest.mark.no_sanitizer,
    pytest.mark.skipif(
        not (ROOT / "cpp").is_dir(), reason="needs the sources beside the tests, as in a checkout"
    ),
]

# The rooms of cpp/ersd from bottom to top. A file includes files of its own room and of lower ones.
ROOMS = ["root", "race", "matrix", "attention", "tree", "model", "verify", "learning"]
ROOMS += ["draft", "decode", "llama", "top"]
ROOT_FILES = {"token", "stats", "stopwatch", "check", "process", "operation"}
TOP_FILES = {"text", "request", "places", "scheduler", "model_pair", "generator", "worker"}
TOP_FILES |= {"teams", "ersd"}
# These may include any file of cpp/ersd: the bindings, the benchmarks and the tests.
ABOVE = ["python/src", "bench", "tests"]
# This file times llama.cpp's own sampler beside ours.
USES_LLAMA_CPP = {"bench/race_bench.cpp"}

# The modules and packages of python/ersd from bottom to top. A file imports files of its own layer
# and of lower ones.
LAYERS = [
    {"_loader"},
    {"arguments"},
    {"files", "grammars", "profile", "progress", "prompts", "results", "state"},
    {"engine"},
    {"models", "api"},
    {"generator"},
    {"llama"},
    {"__init__"},
    {"rank_distributions"},
    {"chains"},
    {"theory"},
    {"ranks"},
    {"kernels"},
    {"tune"},
    {"divergence"},
    {"paper", "distill", "serve"},
    {"tables"},
    {"ray"},
    {"commands"},
    {"__main__"},
]
USES_CORE = {"_loader", "engine"}
# These names are documented although they begin with an underscore: of named tuples, and of the
# object to which argparse adds commands.
PUBLIC_UNDERSCORES = {"_asdict", "_fields", "_make", "_replace", "_SubParsersAction"}

MAX_CPP_FUNCTION, MAX_PYTHON_FUNCTION, MAX_FILE, MAX_COLUMNS = 50, 60, 300, 100


def fail_if(faults: list[str]) -> None:
    """Fails with one line for each different fault."""
    if faults:
        pytest.fail("\n".join(dict.fromkeys(faults)), pytrace=False)


def sources(*endings: str, folders: str = "cpp python bench tests") -> list[Path]:
    """Returns the source files with these endings."""
    found = [path for folder in folders.split() for path in (ROOT / folder).rglob("*")]
    found = sorted(path for path in found if path.suffix in endings)
    assert found, f"no {endings} files in {folders}"
    return found


def name_of(path: Path) -> str:
    """Returns the file's path from the root of the repository."""
    return path.relative_to(ROOT).as_posix()


def room_of(file: str) -> tuple[str, int] | None:
    """Returns the room of a file and its height; None for a file of cpp/ersd that has no room."""
    for folder in ABOVE:
        if file.startswith(folder + "/"):
            return folder, len(ROOMS)
    path = Path(file).relative_to("cpp/ersd")
    if len(path.parts) > 1:
        room = path.parts[0]
    else:
        room = "root" if path.stem in ROOT_FILES else "top" if path.stem in TOP_FILES else ""
    if room not in ROOMS:
        return None
    return ("/".join(path.parts[:-1]) or room), ROOMS.index(room)


def includes(path: Path) -> Iterator[tuple[str, str]]:
    """Yields what a file includes as it is written, and its path if the file is ours, or ""."""
    for written in re.findall(r"^\s*#\s*include\s*[<\"]([^>\"]+)", path.read_text(), re.MULTILINE):
        for place in (ROOT / "cpp" / written, path.parent / written):
            if place.is_file():
                yield written, name_of(place)
                break
        else:
            yield written, ""


def include_fault(file: str, included: str) -> str:
    """Returns why a file must not include another one, or ""."""
    user, used = room_of(file), room_of(included)
    if not user or not used:
        return f"{file if not user else included} is in no room of cpp/ersd"
    if user[0] in ABOVE:
        allowed = used[0] in (user[0], *ROOMS) or used[1] < len(ROOMS)
    elif user[0] == "race/simd":
        allowed = used[0] in ("race/simd", "root")
    else:
        allowed = used[1] <= user[1]
    return "" if allowed else f"{file} ({user[0]}) includes {included}, which is of {used[0]}"


def test_a_cpp_file_includes_only_its_own_room_and_lower_ones() -> None:
    """Rooms are layers, no files include each other in a circle, and llama.cpp has one room."""
    faults, graph = [], {}
    for path in sources(".h", ".cpp"):
        file, graph[name_of(path)] = name_of(path), set()
        for written, included in includes(path):
            if included:
                graph[file].add(included)
                faults.append(include_fault(file, included))
            elif written.startswith("ersd/"):
                faults.append(f"{file} includes {written}, which does not exist")
            elif re.match(r"(llama|ggml|gguf)[\w-]*\.h$", written) and not (
                file.startswith("cpp/ersd/llama/") or file in USES_LLAMA_CPP
            ):
                faults.append(f"{file} includes {written}; only cpp/ersd/llama/ may")
    fail_if([fault for fault in [*faults, *circles(graph)] if fault])


def circles(graph: dict[str, set[str]]) -> list[str]:
    """Returns a circle of a graph, as a list of one sentence, or an empty list."""
    try:
        TopologicalSorter(graph).prepare()
    except CycleError as error:
        return ["a circle: " + " <- ".join(error.args[1])]
    return []


def modules() -> dict[str, Path]:
    """Returns the modules of the package ersd by their full names."""
    found = {}
    for path in sources(".py", folders="python/ersd"):
        parts = path.relative_to(ROOT / "python").with_suffix("").parts
        found[".".join(parts).removesuffix(".__init__")] = path
    return found


def imports(module: str, path: Path, known: set[str]) -> Iterator[tuple[int, str]]:
    """Yields the line and the module of ersd of each import, also of those inside functions."""
    package = module.split(".") if path.stem == "__init__" else module.split(".")[:-1]
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            names = [alias.name for alias in node.names]
        elif isinstance(node, ast.ImportFrom):
            base = package[: len(package) - node.level + 1] if node.level else []
            base += [node.module] if node.module else []
            names = [".".join([*base, alias.name]) for alias in node.names]
        else:
            continue
        for imported in names:
            while imported not in known and "." in imported:
                imported = imported.rpartition(".")[0]
            if imported in known:
                yield node.lineno, imported


def layer_of(module: str) -> int | None:
    """Returns the height of a module."""
    name = module.split(".")[1] if "." in module else "__init__"
    return next((i for i, layer in enumerate(LAYERS) if name in layer), None)


def test_a_module_imports_only_its_own_layer_and_lower_ones() -> None:
    """Packages and modules are layers, without a circle, and the extension has few users."""
    found, faults, graph = modules(), [], {}
    for module, path in found.items():
        graph[module], file, layer = set(), name_of(path), layer_of(module)
        if layer is None:
            faults.append(f"{file} has no place in LAYERS of tests/test_structure.py")
            continue
        for line, imported in imports(module, path, {*found, "ersd._core"}):
            if imported == "ersd._core":
                if not LAYERS[layer] & USES_CORE:
                    faults.append(f"{file}:{line} imports ersd._core; only the engine may")
            elif imported != module:
                graph[module].add(imported)
                if (layer_of(imported) or 0) > layer:
                    faults.append(f"{file}:{line} imports {imported}, which is of a higher layer")
    fail_if(faults + circles(graph))


def private_names(tree: ast.Module) -> set[str]:
    """Returns the underscored names of a module's own classes, functions and values."""
    names = set()
    for node in ast.walk(tree):
        if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef | ast.ClassDef):
            names.add(node.name)
        elif isinstance(node, ast.Name) and isinstance(node.ctx, ast.Store):
            names.add(node.id)
        elif isinstance(node, ast.Attribute) and isinstance(node.ctx, ast.Store):
            names.add(node.attr)
    return {name for name in names if name.startswith("_")}


def test_names_with_an_underscore_stay_in_their_module() -> None:
    """No module reaches into another one's `x._name`, but by self and cls."""
    faults = []
    for path in modules().values():
        tree = ast.parse(path.read_text())
        own = private_names(tree) | PUBLIC_UNDERSCORES
        for node in ast.walk(tree):
            if not isinstance(node, ast.Attribute) or not re.match("_(?!_)", node.attr):
                continue
            of_self = isinstance(node.value, ast.Name) and node.value.id in ("self", "cls")
            if not of_self and node.attr not in own:
                faults.append(f"{name_of(path)}:{node.lineno} uses {ast.unparse(node)}")
    fail_if(faults)


def test_functions_are_short() -> None:
    """Every function fits a screen, its docstring included."""
    faults = []
    for path in sources(".h", ".cpp"):
        for line, n_lines, head in cpp_functions(path.read_text()):
            if n_lines > MAX_CPP_FUNCTION:
                faults.append(f"{name_of(path)}:{line} has {n_lines} lines: {head[:60]}")
    for path in sources(".py"):
        for node in ast.walk(ast.parse(path.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef):
                n_lines = (node.end_lineno or 0) - node.lineno + 1
                if n_lines > MAX_PYTHON_FUNCTION:
                    faults.append(f"{name_of(path)}:{node.lineno} has {n_lines} lines: {node.name}")
    fail_if(faults)


def test_files_are_short() -> None:
    """No file and no line is too long."""
    faults = []
    for path in sources(".h", ".cpp", ".py"):
        lines = path.read_text().split("\n")
        if len(lines) - 1 > MAX_FILE:
            faults.append(f"{name_of(path)} has {len(lines) - 1} lines")
        for number, line in enumerate(lines, 1):
            if len(line) > MAX_COLUMNS:
                faults.append(f"{name_of(path)}:{number} has {len(line)} columns")
    fail_if(faults)


CPP = """
#define BRACE {
namespace a {
// a comment with a {
struct alignas(64) S : T {
  S() : x_{1}, y_(2) {
  }
  int x_{3};

 public:
  template <class V>
  auto f(V v = {}) const -> std::vector<V> {
    const char* text = "{";
    if (v) { return {'{', 1'000}; }
    return R"(
      })";
  }
};
const int TABLE[] = {
    1, (2), 3,
};
enum class E : int { A, B };
extern "C" int g(int (*h)(int)) { return [&] { return 1; }(); }
void declared(int);
}
"""


def test_lengths_of_cpp_functions() -> None:
    """Bodies are told from lists, classes, literals and comments."""
    found = [(line, n_lines, head.split("(")[0]) for line, n_lines, head in cpp_functions(CPP)]
    assert found == [(6, 2, "S"), (11, 7, "template <class V> auto f"), (23, 1, "extern int g")]
