"""What the machine is doing, and what it may do next.

`step` is where that is decided, and nowhere else. It takes a machine, an event
and the load, and gives back a machine and orders; it waits for nothing, reads
no clock and touches no device. A (state, event) pair that has no rule is
refused with ImpossibleEvent, and a test holds the list of the refused ones.

The machine counts nothing. How many requests wait or run is the roster's to
know; a second count here could only disagree with it.
"""

from __future__ import annotations

from dataclasses import dataclass, replace
from enum import Enum, auto

from policies.ladder import Depth, next_edge


class State(Enum):
    AWAKE = auto()  # the engine can serve
    SETTLING = auto()  # taking one edge down; turns round only before it has left AWAKE
    ASLEEP = auto()  # at rest
    WAKING = auto()  # on the way up
    FAILED = auto()  # the engine died or would not move; a retry is due
    CLOSED = auto()  # the daemon is going away; nothing leads out


@dataclass(frozen=True, slots=True)
class Machine:
    """depth  where it rests; while SETTLING, where this edge leads
    goal   where it was told to go: deeper than `depth` while edges are left,
           AWAKE if somebody asked for that while it could not turn round
    """

    state: State = State.ASLEEP
    depth: Depth = Depth.OFF
    goal: Depth = Depth.OFF


@dataclass(frozen=True, slots=True)
class Load:
    """The roster, in two numbers, as it is when the event is handled.

    Durable and live requests alike: nothing rests under a live stream.
    """

    waiting: int = 0
    running: int = 0


# Events: what happened. In the past tense, because they cannot fail.


@dataclass(frozen=True, slots=True)
class Arrived:
    """Requests are in the roster, and wait.

    cause  "request", or "defer" if they have waited for this; for the ledger
    why    in words for people; may be empty
    """

    cause: str = "request"
    why: str = ""


@dataclass(frozen=True, slots=True)
class Finished:
    """A request left the roster, well or badly, or lost its place in it."""


@dataclass(frozen=True, slots=True)
class StepDue:
    """The timetable says: be at `depth` by now; or, out of turn, an errand does.

    cause  "policy", or the errand's, for the ledger
    """

    depth: Depth
    cause: str = "policy"


@dataclass(frozen=True, slots=True)
class WakeAsked:
    """The operator wants it awake."""


@dataclass(frozen=True, slots=True)
class RestAsked:
    """The operator wants it at `depth`, once nothing waits or runs."""

    depth: Depth


@dataclass(frozen=True, slots=True)
class PlanChanged:
    """How an idle period is to be spent is another question now than when it began."""


@dataclass(frozen=True, slots=True)
class ClockSet:
    """Wall time has jumped: hours to be awake or to rest are elsewhere now."""


@dataclass(frozen=True, slots=True)
class Settled:
    """One edge down has been taken."""


@dataclass(frozen=True, slots=True)
class Stayed:
    """One edge down was refused: it still rests in `depth`."""

    depth: Depth


@dataclass(frozen=True, slots=True)
class Woke:
    """The engine can serve; or it still can, having turned round on its way down."""


@dataclass(frozen=True, slots=True)
class Broke:
    """The engine died, or did not move in time."""


@dataclass(frozen=True, slots=True)
class RetryDue:
    """The back-off after Broke has run out. `wanted`: its policy would have it awake."""

    wanted: bool = False


@dataclass(frozen=True, slots=True)
class Closed:
    """SIGTERM, or the operator."""


Event = (
    Arrived
    | Finished
    | StepDue
    | WakeAsked
    | RestAsked
    | PlanChanged
    | ClockSet
    | Settled
    | Stayed
    | Woke
    | Broke
    | RetryDue
    | Closed
)

# Effects: what to do now. In the imperative, each naming the answer it is owed.


@dataclass(frozen=True, slots=True)
class Wake:
    """Climb from `depth` until the engine can serve. Owes Woke or Broke."""

    depth: Depth


@dataclass(frozen=True, slots=True)
class Rest:
    """Take the edge from `here` down to `depth`. Owes Settled or Broke; from AWAKE, or Woke;
    to PARKED, or Stayed."""

    here: Depth
    depth: Depth


@dataclass(frozen=True, slots=True)
class Serve:
    """Hand to the engine what waits and has a place. Owes one Finished for each, or Broke."""


@dataclass(frozen=True, slots=True)
class Requeue:
    """Cancel what runs and let it wait again; what has failed too often is given up."""


@dataclass(frozen=True, slots=True)
class BeginIdle:
    """Ask the policy for a timetable and follow it. Owes a StepDue for each step."""


@dataclass(frozen=True, slots=True)
class EndIdle:
    """Forget the timetable, if there is one."""


@dataclass(frozen=True, slots=True)
class Hasten:
    """End the pause that BackOff began. Owes what that owes."""


@dataclass(frozen=True, slots=True)
class BackOff:
    """Cancel the move in progress and wait a while. Owes RetryDue."""


Effect = Wake | Rest | Serve | Requeue | BeginIdle | EndIdle | BackOff | Hasten
Move = tuple[Machine, tuple[Effect, ...]]


class ImpossibleEvent(Exception):
    """This event cannot happen in this state: a bug in whoever posted it."""


def step(m: Machine, event: Event, load: Load) -> Move:
    """Return the next machine and the orders that take it there.

    Raises ImpossibleEvent, and then nothing has changed: `m` is immutable.
    """
    busy = bool(load.waiting or load.running)
    match m.state, event:
        case State.CLOSED, _:
            return m, ()
        case _, Closed():
            return replace(m, state=State.CLOSED), (EndIdle(),)

        case State.AWAKE, Arrived():
            return m, (EndIdle(), Serve())
        case State.AWAKE, Finished():
            # A place is free; where nothing may take it yet, Serve does nothing.
            if load.waiting:
                return m, (Serve(),)
            # Two that end in one turn are told of twice: the timetable begins anew.
            return m, (() if load.running else (EndIdle(), BeginIdle()))
        case State.AWAKE, (StepDue(depth=depth) | RestAsked(depth=depth)):
            # A timer may fire in the same turn as an arrival. The request wins.
            return (m, ()) if busy or depth is Depth.AWAKE else rest(m, depth)
        case State.AWAKE, (WakeAsked() | PlanChanged() | ClockSet()):
            return m, (() if busy else (EndIdle(), BeginIdle()))

        case State.ASLEEP, (Arrived() | WakeAsked() | StepDue(depth=Depth.AWAKE)):
            return wake(m)
        case State.ASLEEP, (StepDue(depth=depth) | RestAsked(depth=depth)):
            return rest(m, depth) if depth > m.depth else (m, ())
        case State.ASLEEP, ClockSet():
            return m, (EndIdle(), BeginIdle())
        case State.ASLEEP, Finished():
            return m, ()  # it was cancelled before it could wake anything
        case _, (PlanChanged() | ClockSet()):
            return m, ()  # it is asked when the next one begins

        case ((State.WAKING | State.SETTLING), Woke()):
            m = Machine(State.AWAKE, Depth.AWAKE, Depth.AWAKE)
            return m, (EndIdle(), Serve() if load.waiting else BeginIdle())
        case State.SETTLING, Settled():
            if is_wanted(m, load):
                return wake(m)
            return rest(m, m.goal) if m.goal > m.depth else (replace(m, state=State.ASLEEP), ())
        case State.SETTLING, Stayed(depth=here):
            if is_wanted(m, load):
                return wake(replace(m, depth=here))
            if m.goal > m.depth:  # past the edge that was refused
                return rest(replace(m, depth=here), m.goal)
            return Machine(State.ASLEEP, here, here), ()
        case State.FAILED, RetryDue(wanted=wanted):
            if load.waiting or wanted or m.goal is Depth.AWAKE:
                return wake(m)
            return replace(m, state=State.ASLEEP), ()

        case State.SETTLING, WakeAsked():
            return replace(m, goal=Depth.AWAKE), ()
        case State.SETTLING, StepDue(depth=depth) if depth > m.goal is not Depth.AWAKE:
            return replace(m, goal=depth), ()  # steps may be closer than the way down is long
        case State.SETTLING, RestAsked(depth=depth):
            return replace(m, goal=max(m.depth, depth)), ()  # the operator's latest word
        case State.FAILED, WakeAsked():
            return replace(m, goal=Depth.AWAKE), (Hasten(),)  # it may have been repaired
        case (
            (State.WAKING | State.SETTLING | State.FAILED),
            (Arrived() | Finished() | StepDue() | RestAsked() | WakeAsked()),
        ):
            return m, ()  # the roster remembers the request; the next answer looks there
        case ((State.AWAKE | State.ASLEEP | State.WAKING | State.SETTLING), Broke()):
            # Whatever it was, it is now a cold start.
            m = Machine(State.FAILED, Depth.OFF, Depth.OFF)
            return m, (EndIdle(), Requeue(), BackOff())

    raise ImpossibleEvent(f"{type(event).__name__} while {m}")


def is_wanted(m: Machine, load: Load) -> bool:
    """By somebody who came on its way down."""
    return bool(load.waiting) or m.goal is Depth.AWAKE


def wake(m: Machine) -> Move:
    return Machine(State.WAKING, m.depth, Depth.AWAKE), (EndIdle(), Wake(m.depth))


def rest(m: Machine, goal: Depth) -> Move:
    to = next_edge(m.depth, goal)
    return Machine(State.SETTLING, to, goal), (Rest(m.depth, to),)


def cause_of(event: Event, before: str) -> str:
    """Why the machine moves, for the ledger."""
    match event:
        case Arrived(cause=cause):
            return cause
        case WakeAsked() | RestAsked():
            return "operator"
        case StepDue(cause=cause):
            return cause
        case Broke() | RetryDue():
            return "failure"
        case Closed():
            return "stop"
    return before
