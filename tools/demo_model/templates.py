"""Reads the template files and decides which templates are never trained on.

The files' syntax is at the top of data/templates_switch.txt; slots are filled by grammar.py.
"""

import hashlib
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from random import Random

DATA = Path(__file__).parent / "data"
# Of this many templates one is for validation and one for the test, by a hash of its text: adding
# templates moves no other. Recipes are chosen on the first, and the second is only reported.
FOLDS = 24
# Changed whenever errors on the test's templates were read, so that what is scored was never seen.
SALT = "4:"
# A bare word such as "bye" is vocabulary, not phrasing; withholding it would test nothing.
FOLD_MIN_WORDS = 3

Node = str | tuple["Sequence[Node]", ...]
"""Text, or a choice between sequences of nodes."""


@dataclass(frozen=True)
class Template:
    """One line of a template file.

    text        as in the file, without "!"
    imperative  may be framed: "could you ..."
    action      the action it stands for
    device      the device, or none
    fixed       "null", a scene, "@area", or "" if the file leaves both open
    """

    text: str
    imperative: bool
    action: str
    device: str
    fixed: str

    @cached_property
    def fold(self) -> str:
        """ "train", or "validation" or "test", which training never sees."""
        if len(self.text.split()) < FOLD_MIN_WORDS:
            return "train"
        digest = hashlib.sha256(f"{SALT}{self.text}".encode()).digest()
        return {0: "validation", 1: "test"}.get(int.from_bytes(digest[:4]) % FOLDS, "train")

    @cached_property
    def nodes(self) -> Sequence[Node]:
        """The parsed text."""
        return parse(self.text)

    def has(self, *slots: str) -> bool:
        """Whether any of `slots` occurs."""
        return any(slot in self.text for slot in slots)


def parse(text: str) -> Sequence[Node]:
    """Text with (a|b) choices, nested, as a tree. A choice holds at least one "|"."""
    nodes, rest = _sequence(text)
    if rest:
        raise ValueError(f"{text!r}: unbalanced at {rest!r}")
    return nodes


def _sequence(text: str) -> tuple[list[Node], str]:
    nodes: list[Node] = []
    while text and text[0] not in "|)":
        if text[0] == "(":
            choice, text = _choice(text[1:])
            nodes.append(choice)
        else:
            plain = re.match(r"[^(|)]+", text)
            assert plain
            nodes.append(plain[0])
            text = text[plain.end() :]
    return nodes, text


def _choice(text: str) -> tuple[Node, str]:
    branches: list[Sequence[Node]] = []
    while True:
        branch, text = _sequence(text)
        branches.append(branch)
        if not text:
            raise ValueError("unbalanced (")
        mark, text = text[0], text[1:]
        if mark == ")":
            # print("x") keeps its parentheses; only (a|b) is a choice.
            return (("(", *branch, ")"),) if len(branches) == 1 else tuple(branches), text


def expand(nodes: Sequence[Node], rng: Random) -> str:
    """One drawing of every choice."""
    return "".join(n if isinstance(n, str) else expand(rng.choice(n), rng) for n in nodes)


def load() -> list[Template]:
    """Every template of every file; one per device where a section names several."""
    return [t for path in sorted(DATA.glob("templates_*.txt")) for t in _read(path)]


def _read(path: Path) -> Iterator[Template]:
    sections: list[tuple[str, str, str]] = []
    for raw in path.read_text().splitlines():
        line = raw.strip()
        if not line or line.startswith("#"):
            continue
        if header := re.fullmatch(r"\[(\w+)(?: ([\w,]+))?(?: ([@\w]+))?\]", line):
            devices = (header[2] or "none").split(",")
            sections = [(header[1], device, header[3] or "") for device in devices]
            continue
        for action, device, fixed in sections:
            yield Template(line.removeprefix("!"), line[0] == "!", action, device, fixed)
