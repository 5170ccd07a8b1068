"""Ten thousand messages through a real broker: none of them ends the daemon, each is told of."""

from __future__ import annotations

import asyncio
import contextlib
import json
import socket
import struct
from collections.abc import Callable
from pathlib import Path
from typing import Any, NamedTuple

import pytest
from hypothesis import given, settings

from appliance.doors.mqtt_message import Message
from appliance.machine.lifecycle import State
from tests.brokers import Mosquitto
from tests.fuzz.messages import ANYHOW, BAD, MESSAGES, WELL, Said, Visit, placed, visits
from tests.fuzz.whole import Bench, Whole
from tests.mqtt_wire import Publication, Wire, wired

REFUSALS = {"bad_request", "too_large", "unknown_model", "loop", "conflict", "gone"}
"""Codes of what was not accepted."""


class Errand(NamedTuple):
    """A message as it was said, by whom, and where its answer is waited for."""

    said: Said
    message: Publication
    visit: Visit
    mine: str

    @property
    def is_awaited(self) -> bool:
        """Something is to be heard on `mine`."""
        named = self.said.names_its_own(v5=self.visit.v5)
        return named and self.visit.manner == "listen" and self.said.fate in {"answered", "refused"}


Told = tuple[Message, dict[str, Any]]
"""A publication of the appliance's, and what it says."""


class Ear:
    """Hears all that the appliance at `base` says to senders."""

    def __init__(self, wire: Wire, base: str) -> None:
        self._wire, self._base = wire, base
        self._told: list[Told] = []

    def told(self) -> list[Told]:
        """All so far, but parts, which are no news, and the wills of others."""
        for message in self._wire.heard[len(self._told) :]:
            mute = message.topic.endswith("/part") or message.topic.startswith("gone/")
            is_json = not mute and not message.topic.endswith("/availability")
            self._told.append((message, json.loads(message.payload) if is_json else {}))
        return self._told

    def at(self, topic: str) -> list[Told]:
        return [told for told in self.told() if told[0].topic == topic]

    def refusals(self) -> list[dict[str, Any]]:
        errors = [told["error"] for _, told in self.told() if "error" in told]
        return [error for error in errors if error["code"] in REFUSALS]

    def refused_requests(self) -> int:
        """Those that the ledger has, too."""
        return sum(not error["message"].startswith("cancel: no") for error in self.refusals())

    def queued(self) -> set[str]:
        """Ids that have a receipt."""
        return {told["id"] for _, told in self.told() if told.get("state") == "queued"}

    async def all_told(self, refused: int, going: list[Errand]) -> None:
        """Return when so many refusals have been told, and who waits has been answered."""

        def left() -> tuple[int, list[Said]]:
            heard = {message.topic for message, _ in self.told()}
            return refused - self.refused_requests(), [
                errand.said for errand in going if errand.is_awaited and errand.mine not in heard
            ]

        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(10):
                while left() > (0, []):
                    await self._wire.hears_more()
        assert left() == (0, [])
        (online,) = self.at(f"{self._base}/availability")
        assert online[0].payload == b"online"  # the connection has lasted


def errands(base: str, batch: list[Visit], number: int) -> list[Errand]:
    """`number`: of the batch; no two messages wait on the same topic."""
    found = []
    for of, visit in enumerate(batch):
        for place, said in enumerate(visit.messages):
            mine = f"me/wattnap/{number}-{of}-{place}"
            found.append(Errand(said, placed(said.message, base, mine), visit, mine))
    return found


async def visit(port: int, visit: Visit, messages: list[Publication], will: str) -> None:
    """Say them. Return when the broker has noticed the end, or has them all."""
    if visit.manner == "listen":
        async with wired(port, v5=visit.v5) as someone:
            await someone.publish(messages)
        return
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    await Wire(reader, writer, v5=visit.v5).greet("", will=will)
    told = b"".join(
        message.encoded(mid, v5=visit.v5) for mid, message in enumerate(messages, start=1)
    )
    with contextlib.suppress(ConnectionError):
        writer.write(told[:-7] if visit.manner == "cut" else told)
        if isinstance(visit.manner, bytes):
            writer.write(visit.manner)
            writer.write_eof()
            async with asyncio.timeout(20):
                await reader.read()
    if visit.manner == "reset":
        linger = struct.pack("ii", 1, 0)
        writer.get_extra_info("socket").setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, linger)
        writer.transport.abort()
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def all_of(whole: Whole, batch: list[Visit], number: int) -> Ear:
    """All visits at the same time. Return when the appliance has told of each message."""
    port, base = whole.config.mqtt.port, whole.config.mqtt_base
    ours = ("response/#", "errors", "status/+", "availability")
    filters = (*(f"{base}/{each}" for each in ours), "+/wattnap/#", "gone/+", "other/#")
    going = errands(base, batch, number)
    last = Publication(f"{base}/cancel/last", response_topic=f"last/wattnap/{number}")
    async with wired(port, filters=filters) as wire:
        ear, refused_before = Ear(wire, base), await whole.refused("mqtt")
        async with asyncio.TaskGroup() as tasks:
            for of, each in enumerate(batch):
                messages = [errand.message for errand in going if errand.visit is each]
                tasks.create_task(visit(port, each, messages, f"gone/{number}-{of}"))
        for of, each in enumerate(batch):
            if each.manner != "listen":
                await wire.hears(f"gone/{number}-{of}")
        await wire.publish([last])  # all that the broker has goes before it
        assert last.response_topic is not None
        await wire.hears(last.response_topic)
        refused = await whole.refused("mqtt") - refused_before
        await ear.all_told(refused, going)
        accepted = await whole.accepted("mqtt")
        assert ear.queued() <= accepted
        for errand in going:
            check(errand, ear, accepted)
    return ear


def check(errand: Errand, ear: Ear, accepted: set[str]) -> None:
    """Its sender has heard of it, once, there where it waits and nowhere else."""
    heard = ear.at(errand.mine)
    assert not ear.at("other/place")
    if errand.is_awaited:
        ((message, told),) = heard
        asked = errand.message.correlation if errand.visit.v5 else None
        assert message.properties.correlation == asked
        assert told["id"] in accepted or told["error"]["code"] in REFUSALS
        if errand.said.fate == "refused":
            assert told["error"]["code"] in REFUSALS
    elif errand.said.fate == "unanswerable":
        assert not heard


@pytest.mark.timeout(600)  # found, a failure is made smaller before it is told
def test_ten_thousand_messages(
    hasty_broker: Mosquitto, tmp_path: Path, thorough: Callable[[int], settings]
) -> None:
    """Right, wrong in one thing, or nonsense; waited for, or left in the middle."""
    bench = Bench(tmp_path, hasty_broker.port)

    @thorough(520)
    @given(visits(MESSAGES, ANYHOW))
    def say(batch: list[Visit]) -> None:
        bench.said += sum(len(each.messages) for each in batch)
        with bench.batch() as whole:
            whole.run(all_of(whole, batch, bench.said))

    with bench:
        say()
    assert bench.said >= 10_000


@pytest.mark.timeout(600)
def test_nothing_refused_wakes(
    hasty_broker: Mosquitto, tmp_path: Path, thorough: Callable[[int], settings]
) -> None:
    """Two thousand messages, each of them wrong: all are told so, and the machine never moves."""
    bench = Bench(tmp_path, hasty_broker.port)

    @thorough(100)
    @given(visits(BAD, WELL))
    def say(batch: list[Visit]) -> None:
        bench.said += sum(len(each.messages) for each in batch)
        with bench.batch() as whole:
            whole.run(whole.asleep())
            starts, changes = len(whole.engine.calls), whole.changes
            ear = whole.run(all_of(whole, batch, bench.said))
            assert len(ear.refusals()) == 1 + sum(len(each.messages) for each in batch)
            assert not ear.queued()
            assert whole.appliance.supervisor.machine.state is State.ASLEEP
            assert (len(whole.engine.calls), whole.changes) == (starts, changes)

    with bench:
        say()
    assert bench.said >= 2_000
