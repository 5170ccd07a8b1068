"""Draws the lifecycle as a diagram, by asking `step` about every state and event.

    python tools/draw_lifecycle.py          print it
    python tools/draw_lifecycle.py --write  put it into docs/architecture.md

Generated, so that the picture cannot say anything else than the code; a test
fails when the document is behind.
"""

from __future__ import annotations

import sys
from collections import defaultdict
from pathlib import Path
from typing import get_args

from appliance.machine import lifecycle as lc
from appliance.machine.lifecycle import Load, Machine, State, step
from policies.ladder import Depth

DOCUMENT = Path(__file__).parent.parent / "docs" / "architecture.md"
BEGIN, END = "<!-- lifecycle: begin -->", "<!-- lifecycle: end -->"

LOADS = {"": Load(), "waiting": Load(1, 0), "running": Load(0, 1)}
MACHINES = {
    State.AWAKE: [Machine(State.AWAKE, Depth.AWAKE, Depth.AWAKE)],
    State.SETTLING: [
        Machine(State.SETTLING, Depth.LIGHT, Depth.PARKED),
        Machine(State.SETTLING, Depth.OFF, Depth.OFF),
    ],
    State.ASLEEP: [Machine(State.ASLEEP, Depth.PARKED, Depth.PARKED)],
    State.WAKING: [Machine(State.WAKING, Depth.OFF, Depth.AWAKE)],
    State.FAILED: [Machine(State.FAILED, Depth.OFF, Depth.OFF)],
    State.CLOSED: [Machine(State.CLOSED)],
}


def events() -> list[lc.Event]:
    """One of each kind, and of those that carry a value, each that matters."""
    made: list[lc.Event] = []
    for kind in get_args(lc.Event):
        if kind in {lc.StepDue, lc.RestAsked}:
            made += [kind(Depth.AWAKE), kind(Depth.OFF)]
        elif kind is lc.Stayed:
            made.append(kind(Depth.LIGHT))
        elif kind is lc.RetryDue:
            made += [kind(wanted=False), kind(wanted=True)]
        else:
            made.append(kind())
    return made


def label(event: lc.Event, load: str) -> str:
    values = [getattr(event, name) for name in event.__dataclass_fields__ if name != "cause"]
    told = ", ".join(v.name if isinstance(v, Depth) else str(v).lower() for v in values)
    name = f"{type(event).__name__}({told})" if told else type(event).__name__
    return f"{name} [{load}]" if load else name


def arrows() -> dict[tuple[State, State], list[str]]:
    """(from, to) -> the events that lead there, for moves that change the state."""
    found: dict[tuple[State, State], set[str]] = defaultdict(set)
    for state, machines in MACHINES.items():
        for machine in machines:
            for event in events():
                answers = {}
                for name, load in LOADS.items():
                    if load.running and state is not State.AWAKE:
                        continue  # nothing runs on an engine that is not awake
                    try:
                        answers[name] = step(machine, event, load)[0].state
                    except lc.ImpossibleEvent:
                        continue
                alike = len(set(answers.values())) == 1
                for name, to in answers.items():
                    if to is not state:
                        found[state, to].add(label(event, "" if alike else name or "idle"))
    return {pair: sorted(labels) for pair, labels in sorted(found.items(), key=str)}


def diagram() -> str:
    lines = ["```mermaid", "stateDiagram-v2", "    [*] --> ASLEEP"]
    for (here, to), labels in arrows().items():
        if to is State.CLOSED:
            continue  # from everywhere, by Closed alone
        lines.append(f"    {here.name} --> {to.name}: {'<br>'.join(labels)}")
    return "\n".join([*lines, "```"])


def document(text: str) -> str:
    """`text` with the diagram between its two markers."""
    before, rest = text.split(BEGIN)
    _, after = rest.split(END)
    return f"{before}{BEGIN}\n{diagram()}\n{END}{after}"


if __name__ == "__main__":
    if "--write" in sys.argv:
        DOCUMENT.write_text(document(DOCUMENT.read_text()))
    else:
        print(diagram())
