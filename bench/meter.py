"""What a look at each meter of this machine costs, and whether counter and power agree.

    python -m bench.meter                          # cost, on the loop and in a thread
    python -m bench.meter --compare 60 --load "python load.py"

`--load` runs beside the comparison. Prints one line of JSON: seconds and CPU seconds per
reading, the share of a core at the meter's own cadence under load, how often the event
loop stood still while `Meters.look` read them all, and of two meters of one device what
the other counted, divided by what the first did.
"""

from __future__ import annotations

import argparse
import asyncio
import shlex
import subprocess
import time
from collections.abc import Sequence
from typing import Any

from bench.disk import summary
from bench.rig import machine, report
from drivers.cpu_time import CpuTimeMeter
from drivers.crosscheck import Crosscheck
from drivers.errors import DriverError
from drivers.ina3221 import Ina3221Meter
from drivers.meters import Meters
from drivers.nvml import NvmlMeter
from drivers.plug import PlugMeter
from drivers.probe import nvidia_gpus
from drivers.protocols import Meter
from drivers.rapl import RaplMeter

PLUG = b'{"Time":"2026-11-21T16:00:00","ENERGY":{"Total":6.294,"Power":42,"Voltage":227}}'

STOP_S = 0.001


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--readings", type=int, default=300)
    parser.add_argument("--compare", type=float, default=0.0, metavar="SECONDS")
    parser.add_argument("--load", default="", metavar="COMMAND")
    options = parser.parse_args()
    address = next((gpu.address for gpu in nvidia_gpus()), "")
    candidates: list[Meter] = [
        NvmlMeter(address=address),
        NvmlMeter("power", address=address),
        Ina3221Meter(),
        RaplMeter(),
        CpuTimeMeter(),
    ]
    found: list[Meter] = []
    costs: dict[str, Any] = {}
    absent: dict[str, str] = {}
    for meter in candidates:
        try:
            costs[meter.name] = cost(meter, options.readings)
            found.append(meter)
        except DriverError as error:
            absent[meter.name] = str(error)
    result = {"bench": "meter", "machine": machine(), "meters": costs, "absent": absent}
    result["plug"] = of_a_message(options.readings)
    result["look"] = asyncio.run(look(found, options.readings // 3))
    if options.compare:
        result["compare"] = compare(found, options.compare, options.load)
    report(result)


def cost(meter: Meter, readings: int) -> dict[str, Any]:
    """Of one reading. They are a hundredth of a second apart."""
    began_s = time.perf_counter()
    meter.open()
    opened_s = time.perf_counter() - began_s
    took_s, cpu_s, moved = [], [], set()
    for _ in range(readings):
        time.sleep(0.01)
        began_s, cpu_began_s = time.perf_counter(), time.thread_time()
        sample = meter.sample()
        took_s.append(time.perf_counter() - began_s)
        cpu_s.append(time.thread_time() - cpu_began_s)
        moved.add(sample.energy_j)
    meter.close()
    mean_cpu_s = sum(cpu_s) / readings
    return {
        "opened_s": round(opened_s, 4),
        "wall": summary(took_s),
        "cpu_s": round(mean_cpu_s, 7),
        "share_of_a_core_busy": round(mean_cpu_s * meter.cadence.busy_hz, 6),
        "busy_hz": round(meter.cadence.busy_hz, 2),
        "blocks": meter.blocks,
        "wakes_device": meter.wakes_device,
        "values_seen": len(moved),
    }


def of_a_message(readings: int) -> dict[str, float]:
    """A plug costs when it speaks."""
    plug = PlugMeter("tele/box/SENSOR")
    took_s = []
    for _ in range(readings):
        began_s = time.perf_counter()
        plug.take(PLUG)
        plug.sample()
        took_s.append(time.perf_counter() - began_s)
    return summary(took_s)


async def look(found: Sequence[Meter], looks: int) -> dict[str, float]:
    """All at once: how long a look takes, and how often the loop stood still for STOP_S."""
    meters = Meters(found[0], found[1:])
    await meters.look()
    took_s: list[float] = []
    stops = 0

    async def watch() -> None:
        nonlocal stops
        while True:
            began_s = time.perf_counter()
            await asyncio.sleep(0)
            stops += time.perf_counter() - began_s > STOP_S

    async with asyncio.TaskGroup() as tasks:
        watching = tasks.create_task(watch())
        for _ in range(looks):
            await asyncio.sleep(0.01)
            began_s = time.perf_counter()
            await meters.look()
            took_s.append(time.perf_counter() - began_s)
        watching.cancel()
    await meters.close()
    return {"stops_per_look": round(stops / looks, 3)} | summary(took_s)


def compare(found: Sequence[Meter], seconds: float, load: str) -> dict[str, float]:
    """First meter of each device -> what each other one of it counted, divided by that."""
    beside = subprocess.Popen(shlex.split(load)) if load else None
    checks = {}
    for meter in found:
        meter.open()
        first = next(each for each in found if each.device == meter.device)
        if first is not meter:
            checks[f"{meter.name}/{first.name}"] = first, meter, Crosscheck(window_s=seconds)
    end_s = time.perf_counter() + seconds + 2
    while time.perf_counter() < end_s and (beside is None or beside.poll() is None):
        for first, meter, check in checks.values():
            check.add(first.sample(), meter.sample())
        time.sleep(1)
    if beside is not None:
        beside.terminate()
        beside.wait()
    for meter in found:
        meter.close()
    return {
        name: round(check.ratio, 4)
        for name, (_, _, check) in checks.items()
        if check.ratio is not None
    }


if __name__ == "__main__":
    main()
