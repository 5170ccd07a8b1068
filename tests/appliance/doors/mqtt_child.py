"""A process with nothing but the MQTT door in it: `python -m … PORT`."""

from __future__ import annotations

import sys

import uvloop

from tests.appliance.doors.mqtt_doors import door
from tests.fakes.mqtt_desk import MqttDesk


async def main() -> None:
    await door(int(sys.argv[1]), MqttDesk(), keep_alive_s=60).run()


uvloop.run(main())
