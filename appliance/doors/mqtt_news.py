"""What the MQTT door tells without being asked: progress, parts, state, energy.

Nothing of it is kept for later. What the desk tells while there is no connection
is not published; answers are in the outbox.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import msgspec

from appliance.desk import Desk
from appliance.doors.mqtt_client import Connection
from appliance.doors.mqtt_message import DOOR
from appliance.doors.mqtt_sending import NotTaken
from appliance.doors.mqtt_topics import Topics
from appliance.errors import ApplianceError
from appliance.notices import (
    ApplianceChanged,
    EnergyBooked,
    Notice,
    OutboxReady,
    Part,
    Progress,
    Subscription,
)

log = logging.getLogger(__name__)

SHOWN_EVERY_S = 0.25
"""Least time between two publications of the state. Nothing ticks: it is paid after a change."""


class News:
    """Tells over one connection at a time."""

    def __init__(
        self, desk: Desk, topics: Topics, outbox_ready: asyncio.Event, version: str
    ) -> None:
        self._desk, self._topics, self._version = desk, topics, version
        self._outbox_ready = outbox_ready
        self._changed = asyncio.Event()
        self._booked = True

    @contextmanager
    def listening(self) -> Iterator[Subscription]:
        """Notices from now on. To be entered before messages can come."""
        with self._desk.notices.subscribed(_wanted) as news:
            yield news

    async def tell(self, connection: Connection, news: Subscription) -> None:
        """Publish what happens to requests, in order. Runs until cancelled."""
        async for notice in news:
            match notice:
                case Progress(id=id, state=state):
                    # "queued" is our receipt; what comes later is only news.
                    qos = 1 if state == "queued" else 0
                    connection.post(self._topics.status(id), progress_json(notice), qos=qos)
                case Part(id=id, index=index, text=text):
                    told = {"id": id, "index": index, "text": text}
                    connection.post(self._topics.part(id), msgspec.json.encode(told), qos=0)
                case OutboxReady():
                    self._outbox_ready.set()
                case ApplianceChanged():
                    self._changed.set()
                case EnergyBooked():
                    self._booked = True
                    self._changed.set()
            await connection.room()

    async def show(self, connection: Connection) -> None:
        """Keep `state` and `energy` up to date. The latest wins."""
        shown: dict[str, Any] = {}
        while True:
            self._changed.clear()
            state = self._desk.state() | {"wattnap": self._version}
            if state != shown:
                await self._keep(connection, self._topics.state, state)
            # An awake period is in the ledger, or this is the first look.
            if self._booked or not shown:
                self._booked = False
                await self._show_energy(connection)
            shown = state
            await asyncio.sleep(SHOWN_EVERY_S)
            await self._changed.wait()

    async def _show_energy(self, connection: Connection) -> None:
        try:
            energy = await self._desk.energy()
        except ApplianceError as error:
            log.warning("energy is not published: %s", error)
        else:
            await self._keep(connection, self._topics.energy, energy)

    async def _keep(self, connection: Connection, topic: str, told: dict[str, Any]) -> None:
        try:
            await connection.publish(topic, msgspec.json.encode(told), retain=True)
        except NotTaken as error:
            log.warning("the broker does not take %s: %s", topic, error)


def progress_json(progress: Progress) -> bytes:
    """Its fields, but the door's name and what is not known."""
    told = {"id": progress.id, "state": progress.state}
    more = {
        "client": progress.client or None,
        "expected_s": progress.expected_s,
        "code": progress.code,
    }
    return msgspec.json.encode(told | {key: v for key, v in more.items() if v is not None})


def _wanted(notice: Notice) -> bool:
    match notice:
        case ApplianceChanged() | EnergyBooked():
            return True
        case Progress(door=door) | Part(door=door) | OutboxReady(door=door):
            return door == DOOR
        case _:
            return False  # nobody follows a bake over MQTT
