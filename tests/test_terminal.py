"""``ersd chat`` at a terminal, through a pseudo-terminal, and in a pipe."""

from __future__ import annotations

import re
import shlex
import subprocess
import sys
from pathlib import Path

import pytest

import tiny
from conftest import Drafting
from ersd import Generator
from terminals import COLOUR, terminal

pytestmark = pytest.mark.no_sanitizer

TEMPLATE = "{% for m in messages %}{{ m.role }}: {{ m.content }}\n{% endfor %}assistant:"
OPTIONS = shlex.split("-t 1 -s 5 -n 12 -k 8 --temp 1 --top-k 0 --top-p 1 --min-p 0")
SAMPLING = {"max_tokens": 12, "seed": 5, "temperature": 1.0, "top_k": 0, "top_p": 1.0, "min_p": 0.0}


@pytest.fixture(scope="module")
def pair(folder: Path) -> tuple[Path, Path]:
    """Tiny models with a chat template."""
    target, draft = (
        tiny.write_llama(folder / f"terminal{noise}.gguf", noise=noise, chat_template=TEMPLATE)
        for noise in (0, 0.15)
    )
    return target, draft


@pytest.fixture(scope="module")
def answers(pair: tuple[Path, Path]) -> Generator:
    """The same pair in Python, which gives the expected answers."""
    return Drafting(*pair, n_ctx=2048, n_threads=1)


def command(pair: tuple[Path, Path], *more: str) -> list[str]:
    """Returns the command line of ``ersd chat`` with both models."""
    program = [sys.executable, "-m", "ersd", "chat"]
    return [*program, "-m", str(pair[0]), "-md", str(pair[1]), *OPTIONS, *more]


def test_a_pipe_gets_answers_and_nothing_else(pair: tuple[Path, Path], answers: Generator) -> None:
    """Each line is a message. There are no prompts, colours or status lines."""
    run = subprocess.run(
        command(pair, "--system", "short", "--show-draft"),
        input="the rain\n\nin the\n",
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    talk = [{"role": "system", "content": "short"}, {"role": "user", "content": "the rain"}]
    first = answers.chat(talk, **SAMPLING).text
    talk += [{"role": "assistant", "content": first}, {"role": "user", "content": "in the"}]
    assert (run.returncode, run.stdout, run.stderr) == (
        0,
        f"{first}\n{answers.chat(talk, **SAMPLING).text}\n",
        "",
    )


def test_a_conversation_at_a_terminal(pair: tuple[Path, Path], answers: Generator) -> None:
    """The greeting, the history, the commands, continued lines and the status lines."""
    talk = [{"role": "user", "content": "the rain"}]
    first = answers.chat(talk, **SAMPLING).text
    with terminal(command(pair)) as screen:
        greeting = COLOUR.sub("", screen.until("> "))
        assert "terminal0.gguf, draft terminal0.15.gguf. /help lists the commands." in greeting
        screen.type("the rain\n")
        shown = COLOUR.sub("", screen.until(r"\]\S*\n.*> "))
        assert first in shown
        assert re.search(
            r"\[12 tokens, [\d.]+ tokens/s, [\d.]+ tokens per target call[^,]*(, \w+ \d+\))?, "
            r"\d+ prompt tokens cached, seed 5\]",
            shown,
        )
        screen.type("/regen\n")
        shown = COLOUR.sub("", screen.until(r"\]\S*\n.*> "))
        seed = int(re.search(r"seed (\d+)\]", shown)[1])  # type: ignore[index]
        assert seed != 5
        other = answers.chat(talk, **(SAMPLING | {"seed": seed})).text
        assert other in shown
        screen.type("in \\\nthe\n")
        more = [
            *talk,
            {"role": "assistant", "content": other},
            {"role": "user", "content": "in \nthe"},
        ]
        assert answers.chat(more, **SAMPLING).text in COLOUR.sub("", screen.until(r"\]\S*\n.*> "))
        screen.type("/reset\n")
        screen.until("> ")
        screen.type("the rain\n")
        assert first in COLOUR.sub("", screen.until(r"\]\S*\n.*> "))
        screen.type("/system short\n")
        screen.until("> ")
        screen.type("the rain\n")
        told = answers.chat([{"role": "system", "content": "short"}, *talk], **SAMPLING).text
        assert told in COLOUR.sub("", screen.until(r"\]\S*\n.*> "))
        screen.type("/what\n")
        assert "no command /what; there are" in screen.until(r"typed\..*\n.*> ")
        screen.type("/exit\n")
        assert screen.ends() == 0


def test_ctrl_c_stops_the_answer_and_not_the_program(pair: tuple[Path, Path]) -> None:
    """After a stopped answer the next message is answered.

    At the prompt, Ctrl-C gives a hint. A second Ctrl-C in a row leaves, and so does Ctrl-D.
    """
    endless = [*command(pair), "-n", "-1", "-c", "100000"]
    with terminal(endless) as screen:
        screen.until("> ")
        for _ in range(2):
            screen.type("the rain\n")
            # The second answer follows a first one of any length, so it may have line breaks.
            screen.until(r"the rain\n[\s\S]{40}")
            screen.type("\x03")
            assert "seed 5, stopped]" in COLOUR.sub("", screen.until(r"\]\S*\n.*> "))
        screen.type("\x03")
        screen.until(r"\(Ctrl-C again, Ctrl-D or /exit to leave\).*\n.*> ")
        screen.type("/help\n")
        screen.until(r"/reset .*\n(.*\n)*.*typed\..*\n.*> ")
        screen.type("\x03")  # the first Ctrl-C since a command
        screen.until(r"to leave\).*\n.*> ")
        screen.type("\x03")
        assert screen.ends() == 0
    with terminal(command(pair)) as screen:
        screen.until("> ")
        screen.type("\x04")
        assert screen.ends() == 0
        assert "Traceback" not in screen.seen


def test_a_pasted_text_is_one_message(pair: tuple[Path, Path], answers: Generator) -> None:
    """Line breaks in what a terminal marks as pasted do not end the message."""
    readline = pytest.importorskip("readline")
    if "libedit" in (readline.__doc__ or ""):
        pytest.skip("libedit does not know pasted text")
    talk = [{"role": "user", "content": "the rain\nin the\nof"}]
    with terminal(command(pair), term="xterm") as screen:
        screen.until("> ")
        screen.type("\x1b[200~the rain\nin the\nof\x1b[201~\n")
        assert answers.chat(talk, **SAMPLING).text in COLOUR.sub("", screen.until(r"seed 5\]"))
        screen.until("> ")
        screen.type("/exit\n")
        assert screen.ends() == 0


def test_ctrl_c_clears_the_line(pair: tuple[Path, Path], answers: Generator) -> None:
    """What was typed before is not part of the message, and this Ctrl-C is not the first of two."""
    pytest.importorskip("readline")
    talk = [{"role": "user", "content": "the rain"}]
    with terminal(command(pair)) as screen:
        screen.until("> ")
        for _ in range(3):
            screen.type("nonsense")
            screen.until("nonsense")
            screen.type("\x03")
            shown = screen.until("> ")
            assert "to leave" not in shown
        screen.type("the rain\n")
        assert answers.chat(talk, **SAMPLING).text in COLOUR.sub("", screen.until(r"seed 5\]"))
        screen.until("> ")
        screen.type("\x03")
        screen.until(r"to leave\).*\n.*> ")
        screen.type("\x03")
        assert screen.ends() == 0


def test_drafted_tokens_are_coloured(pair: tuple[Path, Path], answers: Generator) -> None:
    """With --show-draft the same text comes, some of it is cyan, and a legend says why."""
    text = answers.chat([{"role": "user", "content": "the rain"}], **SAMPLING).text
    for more in (["--show-draft"], []):
        with terminal(command(pair, *more)) as screen:
            screen.until("> ")
            screen.type("the rain\n")
            shown = screen.until(r"\]\S*\n.*> ")
            assert text in COLOUR.sub("", shown)
            assert ("\x1b[36m" in shown) == bool(more)
            assert ("\ndrafted by \x1b[36mmodel\x1b[0m" in shown) == bool(more)
            screen.type("/regen\n")
            assert "drafted by \x1b[36mmodel" not in screen.until(r"\]\S*\n.*> ")  # said once
            screen.type("/exit\n")
            assert screen.ends() == 0


def test_generate_colours_drafted_tokens(pair: tuple[Path, Path]) -> None:
    """At a terminal the text comes in colours, then a legend and the accepted tokens by source."""
    words = [sys.executable, "-m", "ersd", "generate", "the in the in the", "--show-draft"]
    words += ["-m", str(pair[0]), "-md", str(pair[1]), *OPTIONS, "-n", "60"]
    with terminal(words) as screen:
        assert screen.ends() == 0
        shown = screen.seen
    assert "\x1b[36m" in shown
    assert re.search("\ndrafted by \x1b\\[36mmodel\x1b\\[0m", shown)
    assert re.search(r"tokens per target call.*, seed 5\n", shown)


def test_errors_do_not_end_a_conversation(pair: tuple[Path, Path], generator: Generator) -> None:
    """At a terminal, a message that does not fit is refused and forgotten.

    In a pipe it is an error. A model without a chat template is always an error.
    """
    small = [*command(pair), "-c", "64"]
    with terminal(small) as screen:
        screen.until("> ")
        screen.type("the rain " * 40 + "\n")
        assert "ersd: the prompt has" in screen.until(r"to generate.*\n.*> ")
        screen.type("the\n")
        screen.until(r"12 tokens, .*\]\S*\n.*> ")
        screen.type("/bye\n")
        assert screen.ends() == 0
    run = subprocess.run(
        small, input="the rain " * 40, capture_output=True, encoding="utf-8", timeout=120
    )
    assert (run.returncode, run.stdout) == (1, "")
    assert run.stderr.startswith("ersd: the prompt has")
    bare = [sys.executable, "-m", "ersd", "chat", "-m", generator.target.path]
    run = subprocess.run(bare, input="hi", capture_output=True, encoding="utf-8", timeout=120)
    assert run.returncode == 1
    assert "has no chat template" in run.stderr
    assert run.stderr.count("\n") == 1


def test_a_full_context_is_said(pair: tuple[Path, Path]) -> None:
    """A full context is reported with the command that helps. --context-shift avoids it."""
    with terminal([*command(pair), "-c", "48", "-n", "-1"]) as screen:
        screen.until("> ")
        screen.type("the\n")
        assert "the context is full: /reset begins anew]" in screen.until(r"\]\S*\n.*> ")
        screen.type("/exit\n")
        assert screen.ends() == 0
    run = subprocess.run(
        [*command(pair), "-c", "48", "-n", "100", "--context-shift"],
        input="the",
        capture_output=True,
        encoding="utf-8",
        timeout=120,
    )
    assert (run.returncode, run.stderr) == (0, "")
    assert len(run.stdout) > 100
