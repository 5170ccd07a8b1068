"""Hours to be awake and hours to rest, while nobody asks: fake engine, fake clock."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path
from typing import Any

import msgspec
import pytest

from appliance.config import Config, Power
from tests.benches import AWAKE, OFF, Bench, bench, configured

DAY_S, HOUR_S = 86400.0, 3600.0


def config(folder: Path, **keys: Any) -> Config:
    power = Power(idle_timeout_s=60.0, bake=False, **keys)
    return msgspec.structs.replace(configured(folder), power=power)


async def at(b: Bench, hour: float) -> None:
    """The next time that it is so late, on the wall."""
    now = b.clock.utc().astimezone()
    midnight = now.replace(hour=0, minute=0, second=0, microsecond=0)
    ahead_s = (midnight + timedelta(hours=hour) - now).total_seconds()
    await b.clock.advance(ahead_s % DAY_S)
    await b.quiet()


@pytest.mark.parametrize(
    ("keys", "within", "outside"),
    [
        ({"keep_warm": ("09:00-10:00",)}, AWAKE, OFF),
        ({"policy": "always_on", "rest": ("09:00-10:00",)}, OFF, AWAKE),
    ],
)
async def test_they_come_again_however_long_nobody_asks(
    tmp_path: Path, keys: dict[str, Any], within: object, outside: object
) -> None:
    """On the first day as on the thirtieth."""
    async with bench(tmp_path, config=config(tmp_path, **keys), start_s=1.0) as b:
        await b.send("a person")
        await b.clock.advance(60)
        for _ in range(30):
            await at(b, 9.5)
            assert b.where == within
            await at(b, 10.5)
            assert b.where == outside


async def test_what_rested_for_a_window_rests_on(tmp_path: Path) -> None:
    """After it the policy's long patience is no reason to wake."""
    keys: dict[str, Any] = {"rest": ("22:00-06:00",)}
    power = Power(idle_timeout_s=20 * DAY_S, bake=False, **keys)
    made = msgspec.structs.replace(configured(tmp_path), power=power)
    async with bench(tmp_path, config=made, start_s=1.0) as b:
        await b.send("a person")
        await at(b, 23)
        for _ in range(12):
            assert b.where == OFF
            await at(b, 12)


async def test_a_clock_that_is_set(tmp_path: Path) -> None:
    """Within the hour, windows are where the new time has them."""
    made = config(tmp_path, keep_warm=("09:00-10:30",))
    async with bench(tmp_path, config=made, start_s=1.0) as b:
        await at(b, 3.1)
        await b.send("a person")
        await b.clock.advance(120)
        b.clock.wall += timedelta(hours=5)
        await at(b, 9.5)

        assert b.where == AWAKE
