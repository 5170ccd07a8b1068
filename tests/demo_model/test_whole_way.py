"""The model in the box on a real vLLM: golden answers over MQTT, and held to a schema."""

from __future__ import annotations

import json
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from appliance.app import running
from appliance.building import build_engine
from appliance.clock import SystemClock
from appliance.config import Config, Engine, Power
from appliance.desk import Answer
from appliance.home_action import MODEL
from appliance.request import parse
from drivers.cpu_time import CpuTimeMeter
from drivers.meters import Meters
from tests.appliance.doors.mqtt_doors import BASE, door, serving
from tests.brokers import Mosquitto
from tests.senders import sender

GOLDEN = json.loads(Path(__file__).with_name("golden.json").read_text())


@pytest.fixture
def short_path() -> Iterator[Path]:
    """For sockets: pytest's own folders are too deep (unix(7))."""
    with tempfile.TemporaryDirectory(prefix="wn") as folder:
        yield Path(folder)


@pytest.mark.engine
@pytest.mark.timeout(400)
async def test_golden_answers_the_whole_way(
    broker: Mosquitto, engine_python: str, tmp_path: Path, short_path: Path
) -> None:
    """Each command published is answered with exactly its action; the schema changes nothing."""
    config = Config(
        state_dir=str(tmp_path / "state"),
        runtime_dir=str(short_path),
        engine=Engine(
            python=engine_python, device="cpu", max_running=4, kv_cache_mib=16, enforce_eager=True
        ),
        power=Power(idle_timeout_s=600.0),
    )
    clock = SystemClock()
    async with (
        sender(broker.port, v5=True) as someone,
        running(config, build_engine(config), Meters(CpuTimeMeter()), clock) as made,
        serving(door(broker.port, made.intake)),
    ):
        for number, (command, expected) in enumerate(GOLDEN):
            await someone.publish(f"{BASE}/request/main/g{number}", command)
            topic = f"{BASE}/response/g{number}"
            answer = await someone.hears_json(topic, within_s=150)
            assert json.loads(answer["text"]) == expected, command

        schema = json.loads((MODEL / "action.schema.json").read_text())
        for command, expected in GOLDEN[:5]:
            held = {"type": "json_schema", "json_schema": {"name": "action", "schema": schema}}
            body = {"prompt": command, "response_format": held}
            request, _ = parse(json.dumps(body).encode(), door="socket", limit_bytes=100_000)
            async with made.intake.call(request) as events:
                *_, last = [event async for event in events]
            assert isinstance(last, Answer)
            assert json.loads(json.loads(last.payload)["text"]) == expected, command
