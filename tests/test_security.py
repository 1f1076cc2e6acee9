"""What data from others cannot do: attacks by templates and grammars, forged states, bombs."""

from __future__ import annotations

import subprocess
import sys
import zipfile
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any

import pytest

import tiny
import tiny_hybrid
import tiny_window
from ersd import Generator

pytestmark = pytest.mark.no_sanitizer

MESSAGES = [{"role": "user", "content": "hi"}]
ATTACKS = [
    "{{ ''.__class__.__mro__[1].__subclasses__() }}",
    "{{ messages.__class__.__base__.__subclasses__() }}",
    "{{ raise_exception.__globals__['__builtins__']['open']('/etc/passwd').read() }}",
    "{{ strftime_now.__globals__ }}",
    "{{ self.__init__.__globals__.__builtins__.__import__('os').system('true') }}",
    "{{ cycler.__init__.__globals__.os.system('true') }}",
    "{{ lipsum.__globals__['os'].popen('id').read() }}",
    "{{ namespace.__init__.__globals__ }}",
    "{{ (messages|attr('__class__')).mro() }}",
    "{{ messages.append({'role': 'system', 'content': 'obey'}) }}",
    "{{ messages[0].update({'role': 'system'}) }}",
    "{{ messages.clear() }}",
    "{% include '/etc/passwd' %}",
    "{% import 'os' as os %}{{ os.system('true') }}",
    "{{ '%s'.__mod__.__self__.__class__.__init__.__globals__ }}",
    "{{ '{0.__class__.__init__.__globals__}'.format(messages) }}",
    "{% for i in range(1000000000) %}a{% endfor %}",
    "{{ 1 / 0 }}",
    "{{ undefined_name.attribute }}",
    "{{ raise_exception('no') }}",
    "{% for",
]


@pytest.mark.parametrize("attack", ATTACKS)
def test_templates_cannot_leave_their_sandbox(folder: Path, attack: str) -> None:
    """Each attack gives one ValueError or harmless text, and the messages stay as they were."""
    path = folder / "attacked.gguf"
    if not path.exists():
        tiny.write_llama(path)
    messages = [dict(message) for message in MESSAGES]
    generator = Generator(path, n_ctx=512, n_threads=1, chat_template=attack)
    try:
        shown = generator.detokenize(generator.apply_chat_template(messages))
    except ValueError as error:
        shown = str(error).removeprefix(f"the chat template of '{path}' refuses these messages: ")
        assert shown != str(error)  # noqa: PT017 - other templates give harmless text
    assert not any(word in shown for word in ("root:", "builtins", "<class"))
    assert messages == MESSAGES


def test_a_template_in_a_file_is_in_the_sandbox_too(tmp_path: Path) -> None:
    """The file's own template and the argument are rendered in the same way."""
    path = tiny.write_llama(tmp_path / "t.gguf", chat_template=ATTACKS[0])
    with pytest.raises(ValueError, match="refuses these messages"):
        Generator(path, n_ctx=64, n_threads=1).chat(MESSAGES, max_tokens=1)


FORGERY = """
import random, struct, sys
from ersd import Generator
from ersd.state import checked_state

generator = Generator(sys.argv[1], n_ctx=128, n_threads=1)
expected = generator.generate("the rain of the", max_tokens=8, seed=1).tokens
state = generator.save_state()
numbers = struct.unpack(f"<{len(state.data) // 4}i", state.data[: len(state.data) // 4 * 4])
small = [4 * i for i, number in enumerate(numbers) if 0 <= number < 4096]
outcomes = {"loaded": 0, "refused": 0}
for i in range(300):
    rng = random.Random(i)
    data, tokens = bytearray(state.data), list(state.tokens)
    kind = i % 4
    if kind == 0:  # mostly in the head, which has counts, positions, types and sizes
        for _ in range(rng.choice([1, 1, 4])):
            data[rng.randrange(120 if rng.random() < 0.7 else len(data))] ^= 1 << rng.randrange(8)
    elif kind == 1:
        data = data[: rng.randrange(len(data))]
    elif kind == 2:
        tokens = [rng.choice([0, -1, 2**31 - 1, 5]) for _ in range(rng.randrange(130))]
    else:
        value = rng.choice([-1, -5, 0, 1, 2, 7, 127, 2**31 - 1])
        struct.pack_into("<i", data, rng.choice(small), value)
    forged = checked_state(state.models, tokens, bytes(data), [], b"")
    try:
        generator.load_state(forged)
        outcomes["loaded"] += 1
    except (ValueError, RuntimeError):
        outcomes["refused"] += 1
    try:
        generator.generate("the rain of the", max_tokens=2, seed=1)
    except RuntimeError as error:  # the numbers of a forged cache may be anything
        assert "logits are NaN" in str(error)
    generator.reset()
    assert generator.generate("the rain of the", max_tokens=8, seed=1).tokens == expected, i
print(outcomes)
"""
WRITERS: dict[str, Callable[[Path], Path]] = {
    "attention": tiny.write_llama,
    "sliding window": tiny_window.write_gemma,
    "recurrent": tiny.write_mamba,
    "hybrid": partial(tiny_hybrid.write_hybrid, arch="lfm2"),
}


@pytest.mark.parametrize("cache", WRITERS)
def test_forged_states_do_not_end_the_process(tmp_path: Path, cache: str) -> None:
    """Whatever passes the checksum is refused or loads, and nothing of it is left after a reset."""
    path = WRITERS[cache](tmp_path / "model.gguf")
    run = subprocess.run(
        [sys.executable, "-c", FORGERY, str(path)],
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    assert "'refused'" in run.stdout


TWO_CELLS = """
import struct, sys
from ersd import Generator
from ersd.state import checked_state

generator = Generator(sys.argv[1], n_ctx=128, n_threads=1)
generator.generate("the rain of the", max_tokens=8, seed=1)
state = generator.save_state()
n = len(state.tokens)
assert struct.unpack("<3i", state.data[8:20]) == (1, n - 1, 0)  # cells, and a position and its ids
data = state.data[:8] + struct.pack("<5i", 2, n - 2, 0, n - 1, 0) + state.data[20:]
try:
    generator.load_state(checked_state(state.models, state.tokens, data, [], b""))
except ValueError as error:
    print(error)
"""


def test_a_recurrent_state_of_two_cells(tmp_path: Path) -> None:
    """llama.cpp ends the process by an assertion when it reads one."""
    words = [sys.executable, "-c", TWO_CELLS, str(tiny.write_mamba(tmp_path / "model.gguf"))]
    run = subprocess.run(words, capture_output=True, encoding="utf-8", timeout=300)
    assert run.returncode == 0, run.stderr
    assert run.stdout.startswith("the state is not one of this model")


GRAMMARS: list[tuple[dict[str, Any], str]] = [
    ({"lark": '%import "/etc/passwd"\nstart: "a"'}, "lark"),
    ({"lark": "start: <[http://localhost/]>"}, "lark"),
    ({"grammar": 'root ::= "a" | include'}, "include"),
    ({"grammar": "root ::= root"}, "root"),
    ({"response_format": {"type": "json_object", "schema": {"$ref": "http://localhost/"}}}, "ref"),
    ({"response_format": {"type": "json_object", "schema": {"$ref": "file:///etc/hosts"}}}, "ref"),
]


@pytest.mark.parametrize(("given", "message"), GRAMMARS, ids=lambda each: str(each)[:40])
def test_grammars_read_nothing_and_end(
    generator: Generator, given: dict[str, Any], message: str
) -> None:
    """Files and addresses are no grammar, and what is too large is refused before it is built."""
    with pytest.raises(ValueError, match=message):
        generator.generate("the", max_tokens=1, **given)


ALONE = """
import socket, sys

def watch(event, args):
    if event.startswith(("socket.connect", "socket.bind", "socket.getaddrinfo", "subprocess.")):
        raise RuntimeError(f"{event} {args}")
    if event in ("os.system", "os.exec", "os.fork", "os.posix_spawn", "pickle.find_class"):
        raise RuntimeError(f"{event} {args}")

from ersd import Generator, Llama
sys.addaudithook(watch)
generator = Generator(sys.argv[1], sys.argv[2], n_ctx=128, n_threads=1)
generator.generate("the rain", max_tokens=8, regex="[a-h ]*")
generator.chat([{"role": "user", "content": "the"}], max_tokens=8)
generator.load_state(generator.save_state())
generator.load_profile(generator.save_profile(sys.argv[3]))
Llama(sys.argv[1], n_ctx=128, n_threads=1, verbose=False)("the", max_tokens=4)
try:
    socket.create_connection(("localhost", 9))
except RuntimeError as error:
    print("watched")
"""


def test_nothing_is_connected_or_started(
    writer_path: Path, tiny_draft: Path, tmp_path: Path
) -> None:
    """Generating opens no connection, starts no process and unpickles nothing."""
    words = [
        sys.executable,
        "-c",
        ALONE,
        str(writer_path),
        str(tiny_draft),
        str(tmp_path / "p.npz"),
    ]
    run = subprocess.run(words, capture_output=True, encoding="utf-8", timeout=120)
    assert (run.returncode, run.stdout) == (0, "watched\n"), run.stderr


def test_a_profile_that_unfolds_to_a_huge_one(tiny_target: Path, tmp_path: Path) -> None:
    """What its arrays take is known before they are read."""
    path = tmp_path / "bomb.npz"
    with (
        zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED, compresslevel=1) as archive,
        archive.open("version.npy", "w") as member,
    ):
        for _ in range(257):
            member.write(bytes(1 << 20))
    assert path.stat().st_size < 3 << 20
    with pytest.raises(ValueError, match="it has more than 268435456 bytes"):
        Generator(tiny_target, profile=path, n_ctx=64, n_threads=1)
