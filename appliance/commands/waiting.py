"""What a person sees while nothing comes: what is waited for, and for how long already."""

from __future__ import annotations

from typing import Self

from rich.console import Console
from rich.markup import escape
from rich.progress import Progress, SpinnerColumn, TextColumn, TimeElapsedColumn


class Waiting:
    """A line that turns, on a terminal. Gone without a trace when it is left."""

    def __init__(self, console: Console, text: str) -> None:
        self._progress = Progress(
            SpinnerColumn(),
            TextColumn("{task.description}"),
            TimeElapsedColumn(),
            console=console,
            transient=True,
        )
        self._task = self._progress.add_task(escape(text), total=None)

    def say(self, text: str) -> None:
        self._progress.update(self._task, description=escape(text))

    def start(self) -> None:
        self._progress.start()

    def stop(self) -> None:
        self._progress.stop()

    def __enter__(self) -> Self:
        self.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.stop()
