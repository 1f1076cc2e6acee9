"""The conversation of ``ersd chat``: what the user types, what is printed, and the messages."""

from __future__ import annotations

import contextlib
import os
import sys
from typing import TYPE_CHECKING, Any

from ersd.commands.colours import PLAIN, DraftColours, enable_colours

if TYPE_CHECKING:
    from ersd.engine.options import Options
    from ersd.engine.stream import Stream
    from ersd.generator import Generator

__all__ = ["talk"]

_PROMPT = "> "
_CONTINUATION = ". "
_DIM = "\x1b[2m"
_HELP = """\
/reset         forget the conversation and keep the system prompt (also /clear)
/regen         generate another answer in place of the last one
/system TEXT   forget the conversation and set the system prompt; without TEXT, remove it
/exit          leave (also /quit, /bye, Ctrl-D, Ctrl-C twice)
A line that ends with \\ continues in the next line, and so does pasted text.
Ctrl-C stops an answer, and clears the line that is being typed."""


def talk(
    generator: Generator, options: Options, *, system: str | None = None, show_draft: bool = False
) -> None:
    """Read messages from standard input and answer them until the input ends.

    On a terminal there are prompts, commands and a status line after each answer. Otherwise each
    line is a message, and only the answers are printed.

    Args:
        generator: the models that answer.
        options: options of `Generator.stream_chat`.
        system: the system prompt.
        show_draft: whether drafted tokens are coloured by their sources on a terminal.

    Raises:
        ValueError: the model has no chat template. Without a terminal also whatever
            `Generator.stream_chat` raises.
    """
    generator.apply_chat_template([{"role": "user", "content": "Hi"}])  # raises without a template
    conversation = _Conversation(generator, options, system, show_draft)
    conversation.greet()
    leaving = False  # whether the user has just pressed Ctrl-C at the prompt
    while True:
        try:
            line = conversation.read()
            leaving = False
            if not conversation.take(line):
                return
        except EOFError:
            conversation.note("")
            return
        except KeyboardInterrupt:
            if conversation.was_typing():
                conversation.note("")
                continue
            if leaving:
                return
            leaving = True
            conversation.note("\n(Ctrl-C again, Ctrl-D or /exit to leave)")


class _Conversation:
    """The messages so far, and how they are read and shown."""

    def __init__(
        self, generator: Generator, options: Options, system: str | None, show_draft: bool
    ) -> None:
        """Begin a conversation without messages. The arguments are those of `talk`."""
        self._generator, self._options = generator, options
        self._interactive = sys.stdin.isatty() and sys.stdout.isatty()
        shows = show_draft and self._interactive
        self._colours = DraftColours(generator) if shows else None
        self._messages: list[dict[str, str]] = []
        self._begin(system)
        if self._interactive:
            with contextlib.suppress(ImportError):
                import readline  # input() then edits lines and keeps a history

                # Python turns this off. With it, pasted lines are one message.
                readline.parse_and_bind("set enable-bracketed-paste on")
            enable_colours()

    def greet(self) -> None:
        """Say which models answer."""
        target, draft = self._generator.target, self._generator.draft
        drafted = f", draft {os.path.basename(draft.path)}" if draft else ""
        self.note(f"{os.path.basename(target.path)}{drafted}. /help lists the commands.")

    def note(self, text: str) -> None:
        """Print a note that is not part of the conversation. Only a terminal gets notes."""
        if self._interactive:
            print(f"{_DIM}{text}{PLAIN}" if text else "", file=sys.stderr, flush=True)

    def read(self) -> str:
        """Read a message or a command. A backslash at the end of a line continues it."""
        line = input(_PROMPT if self._interactive else "")
        while line.endswith("\\"):
            line = line[:-1] + "\n" + input(_CONTINUATION if self._interactive else "")
        return line

    def was_typing(self) -> bool:
        """Return whether there was text in the line that Ctrl-C ended."""
        readline = sys.modules.get("readline")
        return bool(self._interactive and readline and readline.get_line_buffer())

    def take(self, line: str) -> bool:
        """Answer a message or obey a command.

        Returns:
            False if the user wants to leave.
        """
        if not line.startswith("/"):
            if line.strip():
                self._messages.append({"role": "user", "content": line})
                self._answer()
            return True
        command, _, rest = line.strip().partition(" ")
        if command in ("/exit", "/quit", "/bye"):
            return False
        if command in ("/reset", "/clear"):
            self._begin(self._system)
        elif command == "/system":
            self._begin(rest.strip() or None)
        elif command == "/regen":
            self._answer_again()
        else:
            self.note(_HELP if command == "/help" else f"no command {command}; there are\n{_HELP}")
        return True

    def _begin(self, system: str | None) -> None:
        """Forget all messages and set the system prompt."""
        self._system = system
        self._messages = [{"role": "system", "content": system}] if system else []

    def _answer_again(self) -> None:
        """Replace the last answer by a new one, with a fresh seed."""
        if self._messages and self._messages[-1]["role"] == "assistant":
            self._messages.pop()
            self._answer(seed=None)
        else:
            self.note("there is no answer yet")

    def _answer(self, **changed: Any) -> None:
        """Answer the last message. A message without an answer is dropped from the conversation.

        Args:
            changed: options that differ from those of the conversation.
        """
        options: dict[str, Any] = {**self._options, **changed}
        try:
            stream = self._generator.stream_chat(self._messages, **options)
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
            self._messages.pop()

    def _show(self, stream: Stream) -> None:
        """Print an answer as it comes, and a status line below it."""
        colours, stopped = self._colours, ""
        if colours:
            colours.begin()
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
        if colours and (legend := colours.legend()):
            print(legend, file=sys.stderr, flush=True)
        full = ", the context is full: /reset begins anew" if self._is_full(stream) else ""
        cached = f"{stream.stats.cached_tokens} prompt tokens cached"
        self.note(f"[{stream.stats}, {cached}, seed {stream.seed}{stopped}{full}]")

    def _is_full(self, stream: Stream) -> bool:
        """Return whether the context, and not ``max_tokens``, ended an answer."""
        limit = self._options.get("max_tokens")
        is_below_limit = limit is None or limit < 0 or len(stream.tokens) < limit
        return bool(stream.tokens) and stream.finish_reason == "length" and is_below_limit
