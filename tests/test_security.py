"""What data from others cannot do: chat templates that attack, and forged states."""

from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest

import tiny
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
import random, sys
from ersd import Generator
from ersd.state import checked_state

generator = Generator(sys.argv[1], n_ctx=128, n_threads=1)
generator.generate("the rain of the", max_tokens=8, seed=1)
state = generator.save_state()
outcomes = {"loaded": 0, "refused": 0}
for i in range(300):
    rng = random.Random(i)
    data, tokens = bytearray(state.data), list(state.tokens)
    kind = i % 3
    if kind == 0:  # mostly in the head, which has counts, positions, types and sizes
        for _ in range(rng.choice([1, 1, 4])):
            data[rng.randrange(120 if rng.random() < 0.7 else len(data))] ^= 1 << rng.randrange(8)
    elif kind == 1:
        data = data[: rng.randrange(len(data))]
    else:
        tokens = [rng.choice([0, -1, 2**31 - 1, 5]) for _ in range(rng.randrange(130))]
    forged = checked_state(state.models, tokens, bytes(data), [], b"")
    try:
        generator.load_state(forged)
        outcomes["loaded"] += 1
    except (ValueError, RuntimeError):
        outcomes["refused"] += 1
    generator.generate("the rain of the", max_tokens=2, seed=1)
print(outcomes)
"""


def test_forged_states_do_not_end_the_process(tiny_target: Path) -> None:
    """Whatever passes the checksum is refused, or loads and leaves the Generator usable."""
    run = subprocess.run(
        [sys.executable, "-c", FORGERY, str(tiny_target)],
        capture_output=True,
        encoding="utf-8",
        timeout=300,
    )
    assert run.returncode == 0, run.stderr
    assert "'refused'" in run.stdout
