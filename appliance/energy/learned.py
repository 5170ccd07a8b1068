"""What the meter has taught about this machine: what it draws for what.

Pure: fed with stretches of time that held one thing only, asked for expectations. What
is expected never makes a joule; it only decides how joules that were counted are shared.
Kept in the table `learned`, so that the next daemon begins with it.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from policies.ladder import Depth

FLOOR_MEMORY_S = 600.0
"""A floor is the mean over about so much idle time: cards warm up, rooms do, too."""
FLOOR_LEAST_S = 3.0
"""A look at less says little: counters move every 100 ms."""

MEMORY = 0.98
"""How much of what tokens taught is left after each stretch."""
STRETCH_S = 5.0
"""Of serving, that teaches what a token draws."""
ENOUGH = 6
"""Stretches, before tokens are believed."""
PROMPT_TO_COMPLETION = 0.025
"""What a token of a prompt draws, divided by what one of an answer does: 0.05 J and 2 J for one
stream on an H200. Stands in where the requests are too alike to tell the two apart."""
BELIEF = 1e-3

Rows = Mapping[tuple[str, str], float]
"""(name, of) -> value, as in the table."""


@dataclass(slots=True)
class Mean:
    """A mean that forgets: of about the last `memory` worth of weight."""

    memory: float
    value: float = 0.0
    weight: float = 0.0

    def add(self, value: float, weight: float) -> None:
        if weight > 0:
            self.weight = min(self.weight + weight, max(self.memory, weight))
            self.value += (value - self.value) * weight / self.weight


@dataclass(slots=True)
class Tokens:
    """Joules above the floor of a token of a prompt, and of one of an answer.

    Least squares over stretches of serving, the latest counting most, and no token
    giving energy back.
    """

    stretches: float = 0.0
    _pp: float = 0.0
    _pc: float = 0.0
    _cc: float = 0.0
    _pj: float = 0.0
    _cj: float = 0.0

    def add(self, prompt: float, completion: float, above_j: float) -> None:
        """One stretch: tokens of prompts and of answers that were worked on in it."""
        for name, value in (
            ("_pp", prompt * prompt),
            ("_pc", prompt * completion),
            ("_cc", completion * completion),
            ("_pj", prompt * above_j),
            ("_cj", completion * above_j),
            ("stretches", 1.0),
        ):
            setattr(self, name, MEMORY * getattr(self, name) + value)

    def joules(self, least: float = ENOUGH) -> tuple[float, float] | None:
        """(of a prompt's token, of an answer's); None: not enough is known.

        least  stretches that are enough
        """
        if self.stretches < least:
            return None
        # A weak belief in the usual proportion: it decides where the stretches do not, as where
        # prompts are so short that what they drew is less than a hundredth.
        ratio = PROMPT_TO_COMPLETION
        belief = BELIEF * max(self._pp, (0.01 / ratio) ** 2 * self._cc)
        pp, pc, cc = self._pp + belief, self._pc - belief * ratio, self._cc + belief * ratio**2
        determinant = pp * cc - pc * pc
        if determinant <= 0:
            return None
        prompt_j = (cc * self._pj - pc * self._cj) / determinant
        completion_j = (pp * self._cj - pc * self._pj) / determinant
        if prompt_j < 0:
            prompt_j, completion_j = 0.0, self._cj / cc
        elif completion_j < 0:
            prompt_j, completion_j = self._pj / pp, 0.0
        return (prompt_j, completion_j) if max(prompt_j, completion_j) > 0 else None

    def rows(self) -> dict[str, float]:
        return {
            name.lstrip("_"): getattr(self, name)
            for name in ("stretches", "_pp", "_pc", "_cc", "_pj", "_cj")
        }

    @classmethod
    def of(cls, rows: Mapping[str, float]) -> Tokens:
        names = ("stretches", "pp", "pc", "cc", "pj", "cj")
        return cls(*(rows.get(name, 0.0) for name in names))


@dataclass(slots=True)
class Learned:
    """idle_w  what the meter's own model says the idle device draws, if it has one"""

    idle_w: float | None = None
    tokens: Tokens = field(default_factory=Tokens)
    _floors: dict[Depth, Mean] = field(default_factory=dict)
    _moves: dict[str, Mean] = field(default_factory=dict)
    _tail: Mean = field(default_factory=lambda: Mean(200.0))
    _serving: Mean = field(default_factory=lambda: Mean(60.0))
    _pace: Mean = field(default_factory=lambda: Mean(120.0))

    # Told.

    def see_floor(self, depth: Depth, seconds: float, counted_j: float) -> None:
        """Nothing but rest there, long enough after anything else."""
        if seconds >= FLOOR_LEAST_S:
            mean = self._floors.setdefault(depth, Mean(FLOOR_MEMORY_S))
            mean.add(counted_j / seconds, seconds)

    def see_move(self, move: str, seconds: float, counted_j: float) -> None:
        """Nothing but that move."""
        if seconds > 0:
            self._moves.setdefault(move, Mean(60.0)).add(counted_j / seconds, seconds)

    def see_tail(self, height_s: float, above_j: float) -> None:
        """Nothing but a tail, whose height makes up so many seconds at full height."""
        if height_s > 0:
            self._tail.add(above_j / height_s, height_s)

    def see_serving(self, seconds: float, above_j: float) -> None:
        """Nothing but requests."""
        if seconds > 0:
            self._serving.add(above_j / seconds, seconds)

    def see_pace(self, seconds: float, completion_tokens: float) -> None:
        """A request has answered with so many tokens."""
        if seconds > 0:
            self._pace.add(completion_tokens / seconds, seconds)

    # Asked.

    def floor_w(self, depth: Depth) -> float | None:
        """What the device draws there for nothing, as it was seen."""
        mean = self._floors.get(depth)
        return mean.value if mean else None

    def knows_floor(self, depth: Depth) -> bool:
        """By having seen it; or the meter computes it."""
        return depth in self._floors or self.idle_w is not None

    def likely_floor_w(self, depth: Depth) -> float | None:
        """Likewise, or that of the nearest depth below; None: nothing is known."""
        for each in sorted(self._floors):
            if each >= depth:
                return self._floors[each].value
        return self.idle_w

    def move_w(self, move: str) -> float | None:
        """What the device draws on that move, floor included."""
        mean = self._moves.get(move)
        return mean.value if mean else None

    @property
    def tail_w(self) -> float:
        """Just after a load, above the floor. 0 until one was seen: it is little beside a load."""
        return max(0.0, self._tail.value)

    @property
    def serving_w(self) -> float | None:
        """Above the floor, while requests run."""
        return self._serving.value if self._serving.weight else None

    @property
    def pace_hz(self) -> float | None:
        """Tokens per second of one request's answer."""
        return self._pace.value if self._pace.weight else None

    # Kept.

    def rows(self) -> dict[tuple[str, str], float]:
        """What to keep for the next daemon."""
        kept = {("floor_w", depth.name.lower()): m.value for depth, m in self._floors.items()}
        kept |= {("moving_w", move): mean.value for move, mean in self._moves.items()}
        for name, mean in self._means():
            if mean.weight:
                kept[name, ""] = mean.value
        if (joules := self.tokens.joules()) is not None:
            kept["prompt_token_j", ""], kept["completion_token_j", ""] = joules
        return kept | {("tokens", of): value for of, value in self.tokens.rows().items()}

    @classmethod
    def of(cls, rows: Rows, idle_w: float | None) -> Learned:
        """What an earlier daemon kept. The first thing seen counts as much as all of it."""
        made = cls(idle_w=idle_w)
        made.tokens = Tokens.of(
            {of: value for (name, of), value in rows.items() if name == "tokens"}
        )
        for (name, of), value in rows.items():
            if name == "floor_w":
                made._floors[Depth[of.upper()]] = Mean(FLOOR_MEMORY_S, value, 30.0)
            elif name == "moving_w":
                made._moves[of] = Mean(60.0, value, 5.0)
        for name, mean in made._means():
            if (kept := rows.get((name, ""))) is not None:
                mean.value, mean.weight = kept, 5.0
        return made

    def _means(self) -> tuple[tuple[str, Mean], ...]:
        return (
            ("tail_w", self._tail),
            ("serving_w", self._serving),
            ("completion_tokens_hz", self._pace),
        )
