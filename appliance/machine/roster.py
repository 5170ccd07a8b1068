"""Everything unfinished, durable and live, in memory: the one count of load.

Bodies of durable requests stay in the database until they are claimed. Who is
served next: those that ran when an engine died, one at a time, then by
priority, then people before batch requests, then in order of arrival.

Who is deferred is no load: nothing wakes for them, and it may rest while they wait.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass, field
from itertools import count

from appliance.energy.timeline import Share
from appliance.machine.lifecycle import Load
from appliance.replies import LiveReply

Key = tuple[str, str, str]
"""(door, client, id)"""


@dataclass(slots=True, eq=False, kw_only=True)
class Entry:
    """One unfinished request.

    seq            in the inbox; None for a live call
    body           None until it is claimed
    attempts       begun so far
    suspect        it ran when an engine died: served alone
    deferrable     nobody waits for it: by itself it wakes nothing
    deadline_at_s  on the boot clock
    verbatim       its caller hears the engine's own events, not parts
    parts          told so far in this attempt
    events         a live call's: what its caller will see
    share          of the joules, once it has begun to run
    ended          its one outcome is on its way to the database
    """

    key: Key
    form: str
    path: str
    stream: bool
    klass: str
    priority: int
    hops: int
    accepted_at: str
    accepted_s: float
    deadline_s: float | None
    deadline_at_s: float | None
    seq: int | None = None
    body: bytes | None = None
    attempts: int = 0
    suspect: bool = False
    deferrable: bool = False
    verbatim: bool = False
    claimed: bool = False
    started_at: str | None = None
    started_s: float | None = None
    parts: int = 0
    events: LiveReply | None = None
    last_failure: str = ""
    share: Share | None = None
    ended: bool = False

    @property
    def id(self) -> str:
        return self.key[2]


@dataclass(slots=True)
class Roster:
    """max_running  places for requests at the engine"""

    max_running: int
    _waiting: dict[Entry, None] = field(default_factory=dict)
    _running: dict[Entry, None] = field(default_factory=dict)
    _deferred: dict[Entry, None] = field(default_factory=dict)
    _by_key: dict[Key, Entry] = field(default_factory=dict)
    _queue: list[tuple[bool, int, bool, int, Entry]] = field(default_factory=list)
    _order: Iterator[int] = field(default_factory=count)

    def __len__(self) -> int:
        return len(self._waiting) + len(self._running) + len(self._deferred)

    @property
    def busy(self) -> bool:
        """Something waits or runs."""
        return bool(self._waiting or self._running)

    @property
    def load(self) -> Load:
        return Load(len(self._waiting), len(self._running))

    @property
    def waiting(self) -> list[Entry]:
        return list(self._waiting)

    @property
    def running(self) -> list[Entry]:
        return list(self._running)

    @property
    def deferred(self) -> list[Entry]:
        return list(self._deferred)

    def find(self, key: Key) -> Entry | None:
        return self._by_key.get(key)

    def add(self, entry: Entry) -> None:
        """It waits."""
        self._by_key[entry.key] = entry
        self._waiting[entry] = None
        if len(self._queue) > 2 * len(self._waiting) + 64:
            # Who left while nothing could be taken: an engine that cannot start keeps nobody.
            self._queue = [placed for placed in self._queue if placed[-1] in self._waiting]
            heapq.heapify(self._queue)
        rank = (not entry.suspect, entry.priority, entry.klass == "batch", next(self._order))
        heapq.heappush(self._queue, (*rank, entry))

    def defer(self, entry: Entry) -> None:
        """It waits for `admit`."""
        self._by_key[entry.key] = entry
        self._deferred[entry] = None

    def admit(self) -> int:
        """Those that were deferred wait from now on; how many that are."""
        admitted, self._deferred = self._deferred, {}
        for entry in admitted:
            self.add(entry)
        return len(admitted)

    def has_place(self) -> bool:
        """A request that arrived now would run at once: nothing is before it."""
        return not self._waiting and len(self._running) < self.max_running and not self._alone()

    def occupy(self, entry: Entry) -> None:
        """It runs, without having waited."""
        self._by_key[entry.key] = entry
        self._running[entry] = None

    def take(self) -> list[Entry]:
        """Those that may run now, next first; from here on they run."""
        taken: list[Entry] = []
        while self._queue and len(self._running) < self.max_running and not self._alone():
            entry = self._queue[0][-1]
            if entry in self._waiting:
                if entry.suspect and self._running:
                    break  # it waits for an empty engine
                del self._waiting[entry]
                self._running[entry] = None
                taken.append(entry)
            heapq.heappop(self._queue)
        return taken

    def put_back(self, entry: Entry) -> None:
        """It ran and waits again."""
        if entry in self._running:
            del self._running[entry]
            self.add(entry)

    def remove(self, entry: Entry) -> bool:
        """It has ended. False if it was gone already."""
        held = self._holds(entry)
        self._waiting.pop(entry, None)
        self._running.pop(entry, None)
        self._deferred.pop(entry, None)
        if self._by_key.get(entry.key) is entry:
            del self._by_key[entry.key]
        return held

    def _holds(self, entry: Entry) -> bool:
        return any(entry in group for group in (self._waiting, self._running, self._deferred))

    def _alone(self) -> bool:
        return any(entry.suspect for entry in self._running)
