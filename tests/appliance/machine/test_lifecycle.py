"""The lifecycle, checked on every cell and then in every world it can reach."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, replace
from typing import get_args

import pytest

from appliance.machine import lifecycle as lc
from appliance.machine.lifecycle import Load, Machine, State, step
from policies.ladder import Depth

EVENTS: list[lc.Event] = [
    kind(Depth.PARKED) if kind in {lc.StepDue, lc.RestAsked, lc.Stayed} else kind()
    for kind in get_args(lc.Event)
]

IMPOSSIBLE: dict[State, set[type]] = {
    State.AWAKE: {lc.Settled, lc.Stayed, lc.Woke, lc.RetryDue},
    State.ASLEEP: {lc.Settled, lc.Stayed, lc.Woke, lc.RetryDue},
    State.WAKING: {lc.Settled, lc.Stayed, lc.RetryDue},
    State.SETTLING: {lc.RetryDue},
    State.FAILED: {lc.Settled, lc.Stayed, lc.Woke, lc.Broke},
    State.CLOSED: set(),
}


@pytest.mark.parametrize("event", EVENTS, ids=lambda e: type(e).__name__)
@pytest.mark.parametrize("state", State, ids=lambda s: s.name)
def test_every_cell_is_decided(state: State, event: lc.Event) -> None:
    """A pair has a rule or is listed in IMPOSSIBLE: never neither, never both."""
    try:
        step(Machine(state), event, Load())
    except lc.ImpossibleEvent:
        refused = True
    else:
        refused = False

    assert refused == (type(event) in IMPOSSIBLE[state])


@dataclass(frozen=True)
class World:
    """A machine, its roster in numbers, and the answers its orders are owed.

    One place at the engine, so that a request may have to wait while another runs.
    """

    machine: Machine = Machine()
    load: Load = Load()
    accepted: int = 0
    owed: tuple[lc.Event, ...] = ()
    timetable: bool = False

    def post(self, event: lc.Event, giving_up: int = 0) -> World:
        """Deliver one event and carry out its effects, as the supervisor would."""
        waiting, running, owed = self.load.waiting, self.load.running, list(self.owed)
        timetable = self.timetable
        at = event.depth if isinstance(event, lc.Stayed) else self.machine.depth
        machine, effects = step(self.machine, event, Load(waiting, running))
        for effect in effects:
            match effect:
                case lc.Rest(here=here, depth=depth):
                    assert depth > here == at, "a rest that climbs"
                    owed.append(lc.Settled())
                case lc.Wake(depth=depth):
                    assert depth is at
                    owed.append(lc.Woke())
                case lc.Serve():
                    if not running and waiting:
                        owed.append(lc.Finished())
                        waiting, running = waiting - 1, 1
                case lc.Requeue():
                    waiting, running = waiting + running - giving_up, 0
                case lc.BackOff():
                    owed = [lc.RetryDue()]
                case lc.BeginIdle():
                    assert not waiting, "idle while something waits"
                    assert not running, "idle while something runs"
                    assert not timetable, "two timetables"
                    timetable = True
                case lc.EndIdle():
                    timetable = False
        owed.sort(key=repr)  # so that worlds differing only in order are one world
        return World(machine, Load(waiting, running), self.accepted, tuple(owed), timetable)

    def next(self, requests: int) -> Iterator[World]:
        """Every world one event away."""
        for i, answer in enumerate(self.owed):
            after = replace(self, owed=self.owed[:i] + self.owed[i + 1 :])
            if isinstance(answer, lc.Finished):
                after = replace(after, load=replace(self.load, running=self.load.running - 1))
            yield after.post(answer)
            light = self.machine.depth is Depth.LIGHT  # else it came from further down
            if self.machine.state is State.SETTLING and light:
                yield after.post(lc.Woke())
            if isinstance(answer, lc.Settled) and self.machine.depth is Depth.PARKED:
                yield after.post(lc.Stayed(Depth.LIGHT))
        if self.accepted < requests:
            more = replace(self.load, waiting=self.load.waiting + 1)
            yield replace(self, load=more, accepted=self.accepted + 1).post(lc.Arrived())
        if self.load.waiting:  # cancelled, or its deadline passed
            fewer = replace(self.load, waiting=self.load.waiting - 1)
            yield replace(self, load=fewer).post(lc.Finished())
        if self.machine.state is State.AWAKE and self.timetable:
            yield self.post(lc.Finished())  # it ended in one turn with another, told before
        if self.machine.state is not State.FAILED:
            for lost in range(self.load.running + 1):
                yield self.post(lc.Broke(), giving_up=lost)
        yield self.post(lc.WakeAsked())
        yield self.post(lc.PlanChanged())
        yield self.post(lc.ClockSet())
        for depth in Depth:
            yield self.post(lc.RestAsked(depth))
            yield self.post(lc.StepDue(depth))  # a bake's come without a timetable too

    def check(self) -> None:
        state, load = self.machine.state, self.load
        moves = sum(isinstance(e, lc.Settled | lc.Woke) for e in self.owed)
        assert moves == (state in {State.WAKING, State.SETTLING}), "one move at a time"
        assert not load.running or state is State.AWAKE, "running on a sleeping engine"
        stranded = state is State.ASLEEP or (state is State.AWAKE and not load.running)
        assert not load.waiting or not stranded, "stranded"
        assert state is not State.AWAKE or load.running or self.timetable, "awake for ever"

    def drained(self) -> World:
        """Let everything owed arrive, and nothing else happen."""
        world = self
        while world.owed:
            answer, rest = world.owed[0], world.owed[1:]
            world = replace(world, owed=rest)
            if isinstance(answer, lc.Finished):
                world = replace(world, load=replace(world.load, running=world.load.running - 1))
            world = world.post(answer)
        return world


def test_every_reachable_world_is_sound_and_drains() -> None:
    """Three requests, any deaths, any timers, any operator, every order: none stranded."""
    seen = {World()}
    todo = [World()]
    while todo:
        world = todo.pop()
        world.check()
        assert world.drained().load == Load(), world
        fresh = set(world.next(requests=3)) - seen
        seen |= fresh
        todo += fresh

    assert {w.machine.state for w in seen} == set(State) - {State.CLOSED}


def test_the_way_to_parked_is_two_edges_and_an_arrival_turns_it_round() -> None:
    """Asleep first, then off the GPU; between the two a request is noticed."""
    awake = Machine(State.AWAKE, Depth.AWAKE, Depth.AWAKE)
    settling, effects = step(awake, lc.StepDue(Depth.PARKED), Load())
    assert effects == (lc.Rest(Depth.AWAKE, Depth.LIGHT),)

    further, effects = step(settling, lc.Settled(), Load())
    assert effects == (lc.Rest(Depth.LIGHT, Depth.PARKED),)
    assert step(further, lc.Settled(), Load())[0] == Machine(
        State.ASLEEP, Depth.PARKED, Depth.PARKED
    )

    turned, effects = step(settling, lc.Settled(), Load(waiting=1))
    assert turned.state is State.WAKING
    assert lc.Wake(Depth.LIGHT) in effects


def test_before_it_has_left_awake_it_turns_round() -> None:
    """It serves who came; whom nobody waits for any more begins an idle time."""
    settling = Machine(State.SETTLING, Depth.LIGHT, Depth.PARKED)
    awake = Machine(State.AWAKE, Depth.AWAKE, Depth.AWAKE)

    assert step(settling, lc.Woke(), Load(waiting=1)) == (awake, (lc.EndIdle(), lc.Serve()))
    assert step(settling, lc.Woke(), Load()) == (awake, (lc.EndIdle(), lc.BeginIdle()))


def test_an_edge_that_is_refused() -> None:
    """It stays where it was, serves who came meanwhile, and goes on to what lies deeper."""
    settling = Machine(State.SETTLING, Depth.PARKED, Depth.PARKED)
    asleep = Machine(State.ASLEEP, Depth.LIGHT, Depth.LIGHT)
    stayed = lc.Stayed(Depth.LIGHT)

    assert step(settling, stayed, Load()) == (asleep, ())
    assert step(settling, stayed, Load(waiting=1)) == step(asleep, lc.Arrived(), Load(waiting=1))
    wanted, _ = step(settling, lc.WakeAsked(), Load())
    assert step(wanted, stayed, Load()) == step(asleep, lc.WakeAsked(), Load())
    further, _ = step(settling, lc.StepDue(Depth.STOPPED), Load())
    assert step(further, stayed, Load())[1] == (lc.Rest(Depth.LIGHT, Depth.STOPPED),)


def test_a_step_that_is_due_on_the_way_down_leads_on() -> None:
    """Steps may be closer than the way is long: none is lost, and none turns it round."""
    settling = Machine(State.SETTLING, Depth.LIGHT, Depth.LIGHT)

    further, _ = step(settling, lc.StepDue(Depth.STOPPED), Load())
    assert step(further, lc.StepDue(Depth.PARKED), Load()) == (further, ())
    assert step(further, lc.Settled(), Load())[1] == (lc.Rest(Depth.LIGHT, Depth.STOPPED),)

    wanted_up, _ = step(settling, lc.WakeAsked(), Load())
    assert step(wanted_up, lc.StepDue(Depth.STOPPED), Load()) == (wanted_up, ())


def test_closing_leads_nowhere() -> None:
    """After Closed nothing happens any more, whatever is posted."""
    for event in EVENTS:
        closed, effects = step(Machine(State.CLOSED), event, Load(1, 1))

        assert closed == Machine(State.CLOSED)
        assert effects == ()
