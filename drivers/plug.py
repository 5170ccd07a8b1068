"""A meter in the wall: a smart plug that publishes over MQTT what goes through it.

The only one that sees all: power supply, disks, a suspended box. Somebody else holds
the connection and hands over each message (`take`); this never opens one. A reading is
as old as the last message.
"""

from __future__ import annotations

from collections.abc import Callable

from drivers.errors import BadReading, Unresponsive
from drivers.instants import boottime_s
from drivers.plug_energy import PlugEnergy
from drivers.plug_message import read_message
from drivers.protocols import Cadence, Sample

MAX_W = 4000.0  # 16 A at 250 V: the most that a household's socket carries

STALE_S = 660.0
"""A plug that says nothing for so long is gone: Tasmota publishes every 300 s unless told
otherwise (TelePeriod), and one message may get lost."""


class PlugMeter:
    """What a plug counts, from the messages under one topic."""

    name = "plug"
    source = "counter"
    device = "box"
    rails: tuple[str, ...] = ()
    wakes_device = False
    blocks = False
    cadence = Cadence()
    idle_w: float | None = None
    window_s = resolution_s = 1.0  # plugs measure about once a second
    most_w = MAX_W

    def __init__(
        self, topic: str, *, stale_s: float = STALE_S, now: Callable[[], float] = boottime_s
    ) -> None:
        self.topic = topic
        self._stale_s, self._now = stale_s, now
        self._said = f"plug at {topic}"
        self._energy = PlugEnergy(self._said, max_w=MAX_W)
        self._last: Sample | None = None
        self._wrong: BadReading | None = None

    def take(self, payload: bytes, *, retained: bool = False) -> None:
        """A message has come. Never raises: what is wrong with it, `sample` says.

        retained  the broker had kept it: nobody knows from when it is
        """
        if retained:
            return
        at_s = self._now()
        try:
            energy_j = self._energy.take(at_s, read_message(self._said, payload))
        except BadReading as error:
            self._wrong = error
        else:
            self._last, self._wrong = Sample(at_s, energy_j, self._energy.epoch), None

    def open(self) -> None:
        """There is nothing to acquire: it is the plug that speaks."""

    def sample(self) -> Sample:
        if self._wrong is not None:
            raise self._wrong.with_traceback(None)
        if self._last is None:
            raise Unresponsive(self._said, "has said nothing yet")
        silent_s = self._now() - self._last.at_s
        if silent_s > self._stale_s:
            raise Unresponsive(self._said, f"has said nothing for {silent_s:.0f} s")
        return self._last

    def close(self) -> None:
        """Its messages go on."""
