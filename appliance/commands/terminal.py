"""What the place that a command prints to can show: how wide, in which letters, which colours."""

from __future__ import annotations

import os
import shutil
import sys
import textwrap
import unicodedata
from typing import TextIO

import click

PLAIN = str.maketrans({"…": "...", "·": "-", "×": "x", "–": "-", "€": "EUR", "₂": "2"})


def width() -> int | None:
    """Columns; None: a line may be as long as it likes, for it goes into a file or a pipe."""
    return shutil.get_terminal_size().columns if sys.stdout.isatty() else None


def draws() -> bool:
    """Whether blocks and dots can be told apart there: not in a locale without Unicode."""
    # As setlocale(3) chooses. Python itself speaks UTF-8 even in the locale "C", in which
    # the terminal may not.
    locale = next(filter(None, map(os.environ.get, ("LC_ALL", "LC_CTYPE", "LANG"))), "") or ""
    return "utf" in locale.lower() and _encoding(sys.stdout).startswith("utf")


def coloured() -> bool:
    """On a terminal that knows colours and whose user wants them (no-color.org)."""
    wanted = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb"
    return wanted and sys.stdout.isatty()


def say(line: str = "", *, err: bool = False) -> None:
    """Print it; what the place has no letters for is a question mark, never an error."""
    encoding = _encoding(sys.stderr if err else sys.stdout)
    if not draws():
        line = line.translate(PLAIN)
        # Python takes a locale like "C" for UTF-8 (PEP 540); what it stands for is not known.
        encoding = "ascii" if encoding.startswith("utf") else encoding
    line = line.encode(encoding, "replace").decode(encoding)
    click.echo(line, err=err, color=None if coloured() else False)


def tell(sentence: str, *, err: bool = False) -> None:
    """Print it on as many lines as it takes there."""
    stream = sys.stderr if err else sys.stdout
    if not stream.isatty():
        say(sentence, err=err)
        return
    for line in textwrap.wrap(sentence, shutil.get_terminal_size().columns):
        say(line, err=err)


def harmless(text: str) -> str:
    """On one line, and without what a terminal would obey."""
    return "".join(c if unicodedata.category(c)[0] != "C" else "?" for c in text)


def columns(text: str) -> int:
    """How many a terminal needs for it."""
    return sum(map(_columns, click.unstyle(text)))


def cut(text: str, room: int) -> str:
    """As much as fits, and a sign that there was more."""
    if columns(text) <= room:
        return text
    kept = ""
    for character in text:
        if columns(kept + character) > room - 1:
            break
        kept += character
    return kept + ("…" if draws() else "~")


def _columns(character: str) -> int:
    if unicodedata.combining(character):
        return 0
    return 2 if unicodedata.east_asian_width(character) in "WF" else 1


def _encoding(stream: TextIO) -> str:
    return (stream.encoding or "ascii").lower()
