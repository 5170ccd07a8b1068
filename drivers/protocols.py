"""What the appliance asks of a device. Drivers satisfy these; they do not inherit.

One promise holds for every method: it returns when the device has arrived, not
when it has been told to go. A method that raises says, by the type it raises,
what the device is like now (see drivers.errors).
"""

from __future__ import annotations

from collections.abc import AsyncIterator, Mapping
from contextlib import AbstractAsyncContextManager
from dataclasses import dataclass, field
from typing import Literal, Protocol


@dataclass(frozen=True, slots=True)
class Reply:
    """What the engine answered to one request.

    status   HTTP status; an engine that refuses (4xx) is fine and says so here
    headers  lower-case names
    chunks   the body as it arrives; a chunk of a stream is one or more whole
             server-sent events ("data: …\\n\\n" each), as many as had arrived;
             any other body may be cut anywhere
    """

    status: int
    headers: Mapping[str, str]
    chunks: AsyncIterator[bytes]


@dataclass(frozen=True, slots=True, kw_only=True)
class EngineFacts:
    """What an engine is, once it has started.

    identity     digest of all that may change what it says: weights, versions, flags, GPU
    version      of the server, e.g. "0.32.0"
    pids         of the processes that serve, the leader first
    flags        the command line that matters, for the ledger
    smaller      how it differs from what was asked for, which did not fit; words for people
    """

    kind: str
    identity: str = ""
    version: str = ""
    pids: tuple[int, ...] = ()
    flags: tuple[str, ...] = field(default=())
    smaller: tuple[str, ...] = ()


Rest = Literal["sleep", "park", "host"]
"""How an engine may rest without being gone.

sleep  its memory on the GPU is freed; its context there stays
park   asleep, and taken off the GPU: no context, no memory; the process waits in RAM
host   stopped, but a warm host stays that starts the next one quickly
"""


class Engine(Protocol):
    """A model server that can serve, rest and stop."""

    name: str
    lacks: Mapping[Rest, str]
    """Ways to rest that it does not offer, and why: words for people. May change while
    it lives, for example when a warm host could not be had."""

    as_shipped: bool | None
    """True: from its next start on it does without what saves watts while it is awake and
    idle, so that one can see what that saves. None: there is nothing of that kind."""

    async def recipe(self) -> str:
        """A digest of all that its start prepares for, known without starting it.

        The same before, in and after each life and in the next daemon, until what is
        asked of it changes: model, version, flags, driver; or what was prepared is
        removed. "": its first start takes no longer than any other.

        Raises as `start` does where that is known beforehand.
        """
        ...

    async def ingredients(self) -> Mapping[str, str]:
        """What it is: its model, version, flags, driver, GPU; words for people, by name.

        Known without starting it, and the same until what is asked of it changes. Unlike
        the recipe's, nothing of what is prepared is in it. No secrets are.

        Raises as `recipe`.
        """
        ...

    async def start(self) -> EngineFacts:
        """Start the process and wait until it can serve. Idempotent.

        Cancelling it stops what was started: afterwards no child is left, but for a
        warm host.

        Raises:
            NotPresent: the program or the model is not there.
            NotPermitted, NotSupported: it cannot run like this; the message says why.
            Refused: its place is taken by another daemon's engine, or the system
                would not start a process.
            Died: it exited before it was ready.
            Unresponsive: it was not ready in time, and has been stopped.
        """
        ...

    async def prepare(self) -> bool:
        """Do some of what the next sleep will need, well within a second; is there more of it?

        Only when it is idle. Between two calls it serves as ever. A sleep does what is
        left; False too where that is all that can be done beforehand, or it cannot sleep.

        Raises as `sleep` does, but NotSupported.
        """
        ...

    async def sleep(self) -> str:
        """Put it to sleep. Only when it is idle: some engines abort what runs.

        Returns what it still lacks to wake as quickly as it can, in words for people;
        "" if nothing. Other words after another sleep: it got on with it.

        Raises:
            NotSupported: it cannot; nothing has changed.
            Refused: a request is running, and goes on.
            Died: there is no process.
            Unresponsive: it may or may not be asleep. Stop it.
        """
        ...

    async def park(self) -> None:
        """Take it off the GPU. Only when it is asleep.

        Raises as `sleep` does, but Refused: it is asleep as before.
        """
        ...

    async def wake(self) -> None:
        """From sleep, or from where it is parked: wait until it can serve.

        On an awake engine, nothing. Raises Died or Unresponsive: then stop it.
        """
        ...

    async def stop(self) -> None:
        """End the process and everything it spawned; a warm host stays. Never raises DriverError.

        Requests that run get the engine's own short time to end; new ones raise Died.
        """
        ...

    async def dismiss(self) -> None:
        """End the warm host too: then nothing is left. Never raises DriverError."""
        ...

    async def died(self) -> None:
        """Return never while it is stopped or well; raise Died once it is gone.

        An exit that nobody asked for is a death, whatever its status. By the time it
        is told, nothing of the engine is left; start() or stop() ends the story.
        """
        ...

    def request(
        self, path: str, body: bytes, *, stream: bool
    ) -> AbstractAsyncContextManager[Reply]:
        """Send one request; leaving the context early cancels it in the engine.

        `path` begins with "/v1/". `body` is JSON; `stream` says that it asks for a
        stream. An error inside a stream, after status 200, comes as an event.

        Raises, also while the chunks are read:
            Died: the process went away, before or while answering.
            Unresponsive: the connection broke, though the process is there; or the
                engine gave no sign of life for longer than its stall timeout, to
                this request or any other.
        """
        ...


@dataclass(frozen=True, slots=True)
class Sample:
    """One look at a meter.

    at_s              when, in seconds of CLOCK_BOOTTIME, read next to the sensor; or when
                      the message came that said it, which may be a while ago
    energy_j          what it has counted since its epoch began, in total
    epoch             changes whenever the counter started anew (driver reload, reset) or
                      what it counted cannot be known: two samples of different epochs
                      cannot be subtracted
    energy_j_by_rail  likewise, for each of the meter's rails. Not their sum is the total:
                      one rail may feed another
    """

    at_s: float
    energy_j: float
    epoch: int = 0
    energy_j_by_rail: Mapping[str, float] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Cadence:
    """How often looking at a meter makes sense.

    busy_hz    while requests run
    moving_hz  while the engine wakes or goes to rest
    idle_s     seconds between two looks at an engine that is awake and idle
    rest_s     seconds between two looks in rest. Less often, and what it counted
               meanwhile may be lost
    """

    busy_hz: float = 1.0
    moving_hz: float = 1.0
    idle_s: float = 10.0
    rest_s: float = 30.0


class Meter(Protocol):
    """Something that counts joules."""

    name: str
    source: str
    """"counter" (hardware), "integral" (of measured power) or "estimate"."""
    device: str
    """What it measures, e.g. a GPU's UUID, or "box"."""
    rails: tuple[str, ...]
    """What it tells apart, named as the board prints it; complete once it is open."""
    wakes_device: bool
    """Reading it may wake a suspended device, or keep a driver loaded. True until it is
    known better: it may become False when it is opened."""
    blocks: bool
    """Reading it may take milliseconds. Its methods may be called in another thread than
    the event loop's, one at a time."""
    cadence: Cadence
    """How often to look. Known once it is open."""
    idle_w: float | None
    """Draw of the idle device, where the meter's model contains it."""
    resolution_s: float
    """How often its value moves. Looking more often tells nothing new."""
    window_s: float
    """Of the last so many seconds it tells only a part, because it says a mean, or by steps."""
    most_w: float
    """More its device never draws. Known once it is open; before that, a guess that is too high."""

    def open(self) -> None:
        """Acquire what reading needs. Idempotent.

        Raises:
            NotPresent, NotPermitted, NotSupported: there is nothing to read.
            Refused: the device is suspended, and this would wake it.
            BadReading, Unresponsive: as `sample`.
        """
        ...

    def sample(self) -> Sample:
        """Read it once. Blocks for at most a few milliseconds. Only when it is open.

        Raises:
            BadReading: the value cannot be true. It changes nothing: the next good one
                is measured against the last good one.
            Unresponsive: the sensor did not answer.
            NotPresent: it was there, and is not any more. Close it; it may come back.
            Refused: the device has been suspended, and this would wake it.
        """
        ...

    def close(self) -> None:
        """Let go of the device, so that it may power down. Idempotent."""
        ...
