"""A conversation in the terminal: ``ersd chat``."""

from __future__ import annotations

import codecs
import contextlib
import os
import sys
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from ersd.generator import Generator
    from ersd.options import Options
    from ersd.stream import Step, Stream

__all__ = ["talk"]

_PROMPT = "> "
_HELP = """\
/reset         begin anew; the system prompt stays (also /clear)
/regen         answer again
/system TEXT   another system prompt, and begin anew; without TEXT, none
/exit          leave (also /quit, /bye, Ctrl-D, Ctrl-C twice)
A line that ends with \\ goes on in the next one. Ctrl-C stops an answer."""


def talk(
    generator: Generator, options: Options, *, system: str | None = None, show_draft: bool = False
) -> None:
    """Read messages from standard input and answer them until its end.

    On a terminal with prompts, commands and a status line after each answer; else a message a line, and nothing but answers comes out.

    Args:
        generator: who answers.
        options: those of `Generator.stream_chat`.
        system: what the model is told before the conversation.
        show_draft: colour drafted tokens, on a terminal.

    Raises ValueError where the model has no chat template, and, off the terminal, what `Generator.stream_chat` raises.
    """
    generator.apply_chat_template([{"role": "user", "content": "Hi"}])
    terminal = _Terminal(generator, options, system, show_draft)
    terminal.greet()
    leaving = False  # whether the last thing that happened was Ctrl-C at the prompt
    while True:
        try:
            line = terminal.read()
            leaving = False
            if not terminal.take(line):
                return
        except EOFError:
            terminal.note("")
            return
        except KeyboardInterrupt:
            if leaving:
                return
            leaving = True
            terminal.note("\n(Ctrl-C again, Ctrl-D or /exit to leave)")


class _Terminal:
    def __init__(
        self, generator: Generator, options: Options, system: str | None, show_draft: bool
    ) -> None:
        self._generator, self._options = generator, options
        self._interactive = sys.stdin.isatty() and sys.stdout.isatty()
        self._show_draft = show_draft and self._interactive
        self._messages: list[dict[str, str]] = []
        self._set_system(system)
        if self._interactive:
            with contextlib.suppress(ImportError):
                import readline  # noqa: F401 - lines can be edited, and earlier ones come back
            if os.name == "nt":
                os.system("")  # lets the console understand colours

    def greet(self) -> None:
        draft = (
            f", draft {os.path.basename(self._generator.draft.path)}"
            if self._generator.draft
            else ""
        )
        self.note(
            f"{os.path.basename(self._generator.target.path)}{draft}. /help lists the commands."
        )

    def note(self, text: str) -> None:
        """Something beside the conversation, for whoever sits at the terminal."""
        if self._interactive:
            print(f"\x1b[2m{text}\x1b[0m" if text else "", file=sys.stderr, flush=True)

    def read(self) -> str:
        line = input(_PROMPT if self._interactive else "")
        while line.endswith("\\"):
            line = (
                line[:-1]
                + "\n"
                + input("" if not self._interactive else "." * (len(_PROMPT) - 1) + " ")
            )
        return line

    def take(self, line: str) -> bool:
        """A message or a command; False to leave."""
        if not line.startswith("/"):
            if line.strip():
                self._messages.append({"role": "user", "content": line})
                self._answer()
            return True
        command, _, rest = line.strip().partition(" ")
        if command in ("/exit", "/quit", "/bye"):
            return False
        if command in ("/reset", "/clear"):
            self._set_system(self._system)
        elif command == "/system":
            self._set_system(rest.strip() or None)
        elif command == "/regen":
            self._again()
        else:
            self.note(_HELP if command == "/help" else f"no command {command}; there are\n{_HELP}")
        return True

    def _set_system(self, system: str | None) -> None:
        self._system = system
        self._messages = [{"role": "system", "content": system}] if system else []

    def _again(self) -> None:
        if self._messages and self._messages[-1]["role"] == "assistant":
            self._messages.pop()
            self._answer()
        else:
            self.note("there is no answer yet")

    def _answer(self) -> None:
        try:
            stream = self._generator.stream_chat(self._messages, **self._options)
            self._show(stream)
        except (ValueError, RuntimeError) as error:
            self._messages.pop()
            if not self._interactive:
                raise
            self.note(f"ersd: {error}")
            return
        if stream.text:
            self._messages.append({"role": "assistant", "content": stream.text})
        else:
            self._messages.pop()  # a question without an answer would be no conversation

    def _show(self, stream: Stream) -> None:
        colours, stopped = _Colours(self._generator) if self._show_draft else None, ""
        try:
            for step in stream:
                sys.stdout.write(colours.paint(step) if colours else step.text)
                sys.stdout.flush()
        except KeyboardInterrupt:
            stopped = ", stopped"
            if not self._interactive:
                raise
        finally:
            stream.close()
            print(flush=True)
        full = (
            ", the context is full: /reset begins anew"
            if len(stream.tokens) and self._is_full(stream)
            else ""
        )
        self.note(
            f"[{stream.stats}, {stream.stats.cached_tokens} prompt tokens cached, seed {stream.seed}{stopped}{full}]"
        )

    def _is_full(self, stream: Stream) -> bool:
        limit = self._options.get("max_tokens")
        return stream.finish_reason == "length" and (
            limit is None or limit < 0 or len(stream.tokens) < limit
        )


class _Colours:
    """Which characters of an answer come from drafted tokens."""

    DRAFTED, PLAIN = "\x1b[36m", "\x1b[0m"

    def __init__(self, generator: Generator) -> None:
        self._piece = generator.target.piece
        self._decoder = codecs.getincrementaldecoder("utf-8")("replace")
        self._waiting: list[
            tuple[int, bool]
        ] = []  # characters of tokens whose text has not come yet, and whether they were drafted

    def paint(self, step: Step) -> str:
        """The text of a step; a character of several tokens has the colour of the last."""
        for i, token in enumerate(step.tokens):
            self._waiting.append(
                (len(self._decoder.decode(self._piece(token))), i < step.n_accepted)
            )
        painted, text = "", step.text
        while text and self._waiting:
            n, drafted = self._waiting.pop(0)
            part, text = text[:n], text[n:]
            if len(part) < n:
                self._waiting.insert(0, (n - len(part), drafted))
            painted += f"{self.DRAFTED}{part}{self.PLAIN}" if drafted and part else part
        return painted + text
