"""Damaged GGUF files: each is loaded and generates in a child process, and none may be killed.

Three kinds of damage are done to small models of several architectures and to an adapter: files are
cut off, bits are flipped, and numbers of the header (values, lengths, types, shapes, offsets) are
overwritten by ones that programs are bad at. Prints how the children ended, and what killed them.

python bench/damaged.py [--count 1000] [--seed 0] [--kinds truncated,flipped,overwritten]
"""

from __future__ import annotations

import argparse
import math
import os
import random
import resource
import signal
import struct
import sys
import tempfile
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

sys.path.append(str(Path(__file__).resolve().parent.parent / "tests"))
import tiny
import tiny_kinds
import tiny_window
from ersd import Generator

SIZES = {0: 1, 1: 1, 2: 2, 3: 2, 4: 4, 5: 4, 6: 4, 7: 1, 10: 8, 11: 8, 12: 8}  # bytes, by GGUF type
STRING, ARRAY = 8, 9
INTEGERS = [0, 1, 2, 3, 7, 31, 100_000, -1]
INTEGERS += [(1 << bits) + more for bits in (7, 8, 15, 16, 31, 32, 63) for more in (-1, 0, 1)]
FLOATS = [0.0, -1.0, math.nan, math.inf, -math.inf, 1e-45, 3e38, 1e300]
SECONDS = 30  # that a child may take
LOADED, REFUSED, WRONG_ERROR = 0, 10, 11  # exit statuses of children


class Slot(NamedTuple):
    """A number in a file's header.

    Attributes:
        offset: its first byte.
        size: its bytes.
        is_float: whether it is a floating-point number.
        what: what it is, for reports.
    """

    offset: int
    size: int
    is_float: bool
    what: str


class Header:
    """Walks along the header of a GGUF file and collects its numbers."""

    def __init__(self, data: bytes) -> None:
        """data: the whole file."""
        self._data, self._at = data, 8
        self.slots: list[Slot] = [Slot(4, 4, False, "version")]
        n_tensors, n_keys = self._number(8, "n_tensors"), self._number(8, "n_kv")
        for _ in range(n_keys):
            key = self._text("key")
            self._value(self._number(4, f"type of {key}"), key)
        for _ in range(n_tensors):
            name = self._text("tensor name")
            for _ in range(self._number(4, f"dimensions of {name}")):
                self._number(8, f"shape of {name}")
            self._number(4, f"type of {name}")
            self._number(8, f"offset of {name}")
        self.n_bytes = self._at
        structure = ("length of ", "type of ", "n_", "version")
        self.values = [slot for slot in self.slots if not slot.what.startswith(structure)]
        general = ("tokenizer.", "general.", "shape of ", "offset of ")
        self.sizes = [s for s in self.values if not s.what.startswith(general)] or self.values

    def _number(self, size: int, what: str, *, is_float: bool = False) -> int:
        self.slots.append(Slot(self._at, size, is_float, what))
        value = int.from_bytes(self._data[self._at : self._at + size], "little")
        self._at += size
        return value

    def _text(self, what: str) -> str:
        n = self._number(8, f"length of {what}")
        text = self._data[self._at : self._at + n].decode("utf-8", "replace")
        self._at += n
        return text

    def _value(self, kind: int, key: str) -> None:
        if kind == STRING:
            self._text(key)
        elif kind == ARRAY:
            each, n = self._number(4, f"type of {key}"), self._number(8, f"length of {key}")
            n_before = len(self.slots)
            for i in range(n):
                self._value(each, f"{key}[{i}]")
            del self.slots[n_before + 3 :]  # arrays would have nearly all slots otherwise
        else:
            self._number(SIZES[kind], key, is_float=kind in (6, 12))


def damage(kind: str, data: bytes, header: Header, rng: random.Random) -> tuple[bytes, str]:
    """Returns a damaged copy of a file, and what was done to it."""
    if kind == "truncated":
        n = rng.randrange(header.n_bytes if rng.random() < 0.5 else len(data))
        return data[:n], f"cut at {n}"
    changed = bytearray(data)
    if kind == "flipped":
        places = []
        for _ in range(rng.choice([1, 1, 2, 8])):
            places.append(rng.randrange(header.n_bytes if rng.random() < 0.8 else len(data)))
            changed[places[-1]] ^= 1 << rng.randrange(8)
        return bytes(changed), f"flipped at {places}"
    done = []
    for _ in range(rng.choice([1, 1, 1, 2])):
        slot = rng.choice(rng.choice([header.sizes, header.values, header.slots]))
        if slot.is_float:
            value = rng.choice(FLOATS)
            with_float = struct.pack("<f" if slot.size == 4 else "<d", min(value, 3.4e38))
            changed[slot.offset : slot.offset + slot.size] = with_float
        else:
            value = rng.choice(INTEGERS)
            raw = value & ((1 << 8 * slot.size) - 1)
            changed[slot.offset : slot.offset + slot.size] = raw.to_bytes(slot.size, "little")
        done.append(f"{slot.what} = {value}")
    return bytes(changed), ", ".join(done)


def write_models(folder: Path) -> Iterator[tuple[Path, Path | None]]:
    """Writes small models of several kinds. Yields each with the adapter to load, if any."""
    plain = tiny.write_llama(folder / "llama.gguf", n_words=32, chat_template="{{ messages }}")
    yield plain, None
    yield tiny_kinds.write_bpe(folder / "bpe.gguf"), None
    yield tiny.write_mamba(folder / "mamba.gguf"), None
    yield tiny_kinds.write_experts(folder / "experts.gguf"), None
    yield tiny_window.write_gemma(folder / "gemma.gguf"), None
    yield plain, tiny.write_lora(folder / "lora.gguf")


# The process stays free of threads, so that its children can load models.
def child(model: Path, lora: Path | None) -> int:
    """Loads the files and generates, in a process of its own. Returns its status."""
    pid = os.fork()
    if pid == 0:
        status = WRONG_ERROR
        try:
            os.dup2(os.open(os.devnull, os.O_WRONLY), 2)
            resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
            resource.setrlimit(resource.RLIMIT_AS, (8 << 30, 8 << 30))
            signal.alarm(SECONDS)
            generator = Generator(model, lora_path=lora, n_ctx=64, n_threads=1, profile=False)
            generator.generate("the rain", max_tokens=4, seed=1)
            status = LOADED
        except (ValueError, RuntimeError, OSError, MemoryError):
            status = REFUSED
        except BaseException as error:
            print(f"{type(error).__name__}: {error}", flush=True)
        finally:
            os._exit(status)
    return os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1])


def run(kind: str, count: int, seed: int, folder: Path, save: Path | None) -> Counter[str]:
    """Damages files in one way and loads each of them. Returns how many ended in which way."""
    cases = []
    for model, lora in write_models(folder):
        data = (lora or model).read_bytes()
        cases.append((model, lora, data, Header(data)))
    found: Counter[str] = Counter()
    for i in range(count):
        rng = random.Random(f"{kind} {seed} {i}")
        model, lora, data, header = cases[i % len(cases)]
        changed, what = damage(kind, data, header, rng)
        path = folder / f"damaged.{(lora or model).name}"
        path.write_bytes(changed)
        status = child(model if lora else path, path if lora else None)
        names = {LOADED: "loaded", REFUSED: "refused", WRONG_ERROR: "wrong error"}
        name = names.get(status) or f"killed by {signal.Signals(-status).name}"
        found[name] += 1
        if name not in ("loaded", "refused"):
            print(f"{kind} {i}, {path.name}: {name}: {what}", flush=True)
            if save:
                (save / f"{kind}.{i}.{path.name}").write_bytes(changed)
    return found


def main() -> int:
    """Prints how many files of each kind ended in which way. Returns 1 if any was killed."""
    parser = argparse.ArgumentParser(description=__doc__)
    add = parser.add_argument
    add("--count", type=int, default=1000, help="files of each kind of damage")
    add("--seed", type=int, default=0)
    add("--kinds", default="truncated,flipped,overwritten")
    add("--save", type=Path, default=None, help="folder for the files that are not survived")
    args = parser.parse_args()
    n_bad = 0
    with tempfile.TemporaryDirectory() as folder:
        os.environ["ERSD_CACHE"] = folder
        for kind in args.kinds.split(","):
            found = run(kind, args.count, args.seed, Path(folder), args.save)
            print(f"{kind}: {dict(found)}", flush=True)
            n_bad += args.count - found["loaded"] - found["refused"]
    return int(n_bad > 0)


if __name__ == "__main__":
    sys.exit(main())
