"""Tells people what the demo does, while it does it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from rich.console import Console
from rich.markup import escape
from rich.padding import Padding
from rich.text import Text

from appliance.commands.answers import summary
from appliance.commands.tables import Column, made
from appliance.commands.waiting import Waiting

INDENT = "  "


class Narrator:
    """On stdout; on stderr if stdout is for JSON."""

    def __init__(self, *, to_stderr: bool) -> None:
        self._console = Console(stderr=to_stderr, highlight=False)
        self._spinner: Waiting | None = None
        self._in_line = False

    def title(self, text: str) -> None:
        self._settle()
        self._console.print(f"\n[bold]{escape(text)}[/bold]")

    def note(self, text: str) -> None:
        self._settle()
        # However narrow the terminal: its further lines are indented, too.
        self._console.print(Padding(Text(text, "dim"), (0, 0, 0, len(INDENT)), expand=False))

    def waits(self, text: str) -> None:
        """What is being waited for: a spinner on a terminal, a line elsewhere."""
        if self._console.is_terminal:
            self._settle()
            self._spinner = Waiting(self._console, text)
            self._spinner.start()
        else:
            self.note(text)

    def part(self, text: str) -> None:
        """A piece of an answer, as it comes."""
        if not self._in_line:
            self._settle()
            self._console.print(INDENT, end="")
            self._in_line = True
        self._console.print(escape(text), end="", soft_wrap=True, style="cyan")

    def took(self, answer: Mapping[str, Any]) -> None:  # JSON
        """What an answer has cost, as far as it is known when it comes."""
        known = answer["energy"]["marginal_j"] is not None
        self.note(summary(dict(answer)) + ("" if known else " · joules: not known yet"))

    def table(self, columns: Sequence[Column]) -> None:
        self._settle()
        room = self._console.width if self._console.is_terminal else None
        for line in made(columns, room):
            self._console.print(Text.from_ansi(line), soft_wrap=True)

    def quote(self, last_words: str) -> None:
        """What a process said before it failed."""
        self._settle()
        self._console.print(escape(last_words), style="dim", soft_wrap=True)

    def failed(self, reason: str) -> None:
        self._settle()
        self._console.print(f"[bold red]It did not work:[/bold red] {escape(reason)}")

    def close(self) -> None:
        self._settle()

    def _settle(self) -> None:
        if self._spinner is not None:
            self._spinner.stop()
            self._spinner = None
        if self._in_line:
            self._console.print()
            self._in_line = False
