"""A plug bills: what it publishes on a real broker ends in the ledger of a real daemon."""

from __future__ import annotations

import asyncio
import json
import time
from itertools import count
from pathlib import Path

import pytest

from tests.appliance.commands import daemon, wattnap, write_config
from tests.brokers import Mosquitto
from tests.senders import Sender, sender

WATTS = 1800.0
TOPIC = "tele/box/SENSOR"
MORE = """
[mqtt]
port = {port}
[energy]
meter = "plug"
plug_topic = "tele/box/SENSOR"
[power]
max_depth = "light"
"""


async def draw(plug: Sender, begun_kwh: float = 6.294) -> None:
    """Until it is cancelled, as a plug that publishes five times a second."""
    for n in count():
        kwh = begun_kwh + n * WATTS * 0.2 / 3.6e6
        says = {"Time": "2026-11-21T16:00:00", "ENERGY": {"Total": round(kwh, 5), "Power": WATTS}}
        await plug.publish(TOPIC, json.dumps(says), qos=0)
        await asyncio.sleep(0.2)  # its pace


async def test_a_plug_bills(broker: Mosquitto, tmp_path: Path) -> None:
    """While it was awake it drew about what the plug said, and the source is a counter."""
    config = tmp_path / "wattnap.toml"
    text = write_config(tmp_path).read_text()
    config.write_text(text.partition("[mqtt]")[0] + MORE.format(port=broker.port))
    async with sender(broker.port) as plug, asyncio.TaskGroup() as tasks:
        drawing = tasks.create_task(draw(plug))
        with daemon(config, tmp_path / "log"):
            answer = await asyncio.to_thread(wattnap, "ask", "hello", config=config)
            await asyncio.sleep(3.0)  # joules are made of time, and a plug is a second late
            await asyncio.to_thread(wattnap, "rest", config=config)
        drawing.cancel()
    # As it ends, the daemon writes down all of it.
    shown = wattnap("energy", "--by", "depth", "--json", config=config)

    assert answer.returncode == 0, answer.stderr
    rows = json.loads(shown.stdout)["energy"]
    (idle,) = [row for row in rows if (row["depth"], row["line"]) == ("awake", "idle")]
    assert idle["source"] == "counter"
    assert idle["seconds"] >= 2.0
    assert idle["energy_j"] / idle["seconds"] == pytest.approx(WATTS, rel=0.5)


async def test_two_plugs_under_one_topic(broker: Mosquitto, tmp_path: Path) -> None:
    """Neither is counted; who asks, and the log, are told why; and answers come as ever."""
    config = tmp_path / "wattnap.toml"
    text = write_config(tmp_path).read_text()
    config.write_text(text.partition("[mqtt]")[0] + MORE.format(port=broker.port))
    async with (
        sender(broker.port) as plug,
        sender(broker.port) as other,
        asyncio.TaskGroup() as tasks,
    ):
        drawing = [tasks.create_task(draw(plug)), tasks.create_task(draw(other, 50.0))]
        with daemon(config, tmp_path / "log"):
            answer = await asyncio.to_thread(wattnap, "ask", "hello", config=config)
            told = await asyncio.to_thread(said, config, "two meters")
        for each in drawing:
            each.cancel()

    assert answer.returncode == 0, answer.stderr
    assert f"not measured: plug at {TOPIC}: its counter goes to and fro" in told
    assert "two meters seem to answer by turns" in (tmp_path / "log").read_text()


def said(config: Path, words: str) -> str:
    """What `wattnap status` says, as soon as these words are in it."""
    deadline = time.monotonic() + 30
    while words not in (told := wattnap("status", config=config).stdout):
        assert time.monotonic() < deadline, told
        time.sleep(0.2)
    return told
