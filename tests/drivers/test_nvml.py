from __future__ import annotations

import time
from pathlib import Path
from typing import Any

import pytest

from drivers.errors import (
    BadReading,
    DriverError,
    NotPermitted,
    NotPresent,
    NotSupported,
    Refused,
    Unresponsive,
)
from drivers.nvml import NvmlMeter
from drivers.protocols import Meter
from tests.contracts.meter import MeterContract
from tests.trees import write


class NvmlError(Exception):
    def __init__(self, value: int) -> None:
        super().__init__(f"code {value}")
        self.value = value


class FakeNvml:
    """NVML with one GPU, whose counter is set by hand. `fail` names calls and their codes."""

    NVMLError = NvmlError

    def __init__(self, **fail: int) -> None:
        self.fail = fail
        self.energy_mj: Any = 5000
        self.power_mw: Any = 75_000
        self.persistence = 1
        self.users = 0
        self.called: list[str] = []

    def __getattr__(self, name: str) -> Any:  # any of its functions
        def call(*arguments: object) -> object:
            self.called.append(name)
            if name in self.fail:
                raise NvmlError(self.fail[name])
            if name == "nvmlInit":
                self.users += 1
            elif self.users == 0:
                raise NvmlError(1)
            elif name == "nvmlShutdown":
                self.users -= 1
            answers = {
                "nvmlDeviceGetHandleByIndex": "first",
                "nvmlDeviceGetHandleByUUID": "named",
                "nvmlDeviceGetHandleByPciBusId": "at that address",
                "nvmlDeviceGetUUID": "GPU-1",
                "nvmlDeviceGetPowerManagementLimitConstraints": [200_000, 700_000],
                "nvmlDeviceGetPowerUsage": self.power_mw,
                "nvmlDeviceGetPersistenceMode": self.persistence,
                "nvmlDeviceGetTotalEnergyConsumption": self.energy_mj,
            }
            return answers.get(name)

        return call


class TestNvmlMeterOnAFake(MeterContract):
    @pytest.fixture
    def meter(self) -> Meter:
        return NvmlMeter(nvml=FakeNvml())


class TestNvmlPowerOnAFake(MeterContract):
    @pytest.fixture
    def meter(self) -> Meter:
        return NvmlMeter("power", nvml=FakeNvml())


@pytest.mark.gpu
@pytest.mark.usefixtures("real_gpu")
class TestNvmlMeter(MeterContract):
    @pytest.fixture
    def meter(self) -> Meter:
        return NvmlMeter()


@pytest.mark.gpu
@pytest.mark.usefixtures("real_gpu")
class TestNvmlPower(MeterContract):
    @pytest.fixture
    def meter(self) -> Meter:
        return NvmlMeter("power")


@pytest.mark.gpu
@pytest.mark.usefixtures("real_gpu")
def test_counter_and_power_agree() -> None:
    """Over 20 s of an idle GPU they differ by less than a tenth."""
    meters = [NvmlMeter(), NvmlMeter("power")]
    for meter in meters:
        meter.open()
    first = [meter.sample() for meter in meters]
    for _ in range(20):
        time.sleep(1)
        last = [meter.sample() for meter in meters]
    counted, summed = (b.energy_j - a.energy_j for a, b in zip(first, last, strict=True))

    assert summed == pytest.approx(counted, rel=0.1)


@pytest.mark.gpu
@pytest.mark.usefixtures("real_gpu")
def test_a_real_gpu_draws_power() -> None:
    """Between two samples a second apart a GPU spends 5 to 1500 joules."""
    meter = NvmlMeter()
    meter.open()
    first = later = meter.sample()
    while later.at_s < first.at_s + 1:
        later = meter.sample()
    meter.close()

    assert 5 < later.energy_j - first.energy_j < 1500
    assert meter.device.startswith("GPU-")


def opened(nvml: FakeNvml, **how: Any) -> NvmlMeter:
    meter = NvmlMeter(nvml=nvml, **{"now": lambda: 7.0, **how})
    meter.open()
    return meter


def test_millijoules_become_joules() -> None:
    """5000 mJ are 5 J, at the instant of the reading, of the GPU with that UUID."""
    meter = opened(FakeNvml())

    assert (meter.sample().energy_j, meter.sample().at_s, meter.device) == (5.0, 7.0, "GPU-1")


def test_a_decrease_is_a_new_epoch() -> None:
    """After a driver reload the counter begins anew; the readings are not to be subtracted."""
    nvml = FakeNvml()
    meter = opened(nvml)
    nvml.energy_mj = 10

    assert (meter.sample().epoch, meter.sample().energy_j) == (1, 0.01)


@pytest.mark.parametrize(("persistence", "epoch"), [(1, 0), (0, 1)])
def test_reopened(persistence: int, epoch: int) -> None:
    """Without persistence mode nobody knows what the driver did while NVML was closed."""
    nvml = FakeNvml()
    nvml.persistence = persistence
    meter = opened(nvml)
    meter.close()
    nvml.energy_mj = 9000
    meter.open()

    assert meter.sample().epoch == epoch


@pytest.mark.parametrize(
    ("call", "code", "kind"),
    [
        ("nvmlInit", 12, NotPresent),
        ("nvmlInit", 9, NotPresent),
        ("nvmlInit", 18, NotSupported),
        ("nvmlInit", 4, NotPermitted),
        ("nvmlDeviceGetHandleByIndex", 2, Refused),
        ("nvmlDeviceGetTotalEnergyConsumption", 3, NotSupported),
        ("nvmlDeviceGetTotalEnergyConsumption", 15, Unresponsive),
        ("nvmlDeviceGetTotalEnergyConsumption", 999, Unresponsive),
    ],
)
def test_errors_by_kind(call: str, code: int, kind: type[DriverError]) -> None:
    """NVML's codes become ours, and a failed open() leaves NVML closed."""
    nvml = FakeNvml(**{call: code})
    with pytest.raises(kind):
        opened(nvml)

    assert nvml.users == 0


def test_lost_while_running() -> None:
    """A GPU that falls off the bus is Unresponsive, and the meter can be closed."""
    nvml = FakeNvml()
    meter = opened(nvml)
    nvml.fail["nvmlDeviceGetTotalEnergyConsumption"] = 15
    with pytest.raises(Unresponsive):
        meter.sample()
    meter.close()

    assert nvml.users == 0


def test_negative_energy_is_a_bad_reading() -> None:
    """What cannot be true is not passed on."""
    nvml = FakeNvml()
    meter = opened(nvml)
    nvml.energy_mj = -1
    with pytest.raises(BadReading):
        meter.sample()


@pytest.mark.parametrize("said", [-1, "n/a", None, float("nan"), 50_000_000, True])
def test_what_no_gpu_counts(said: Any) -> None:
    """Text, NaN and a leap of 50 kJ are refused, and the next good reading continues."""
    nvml = FakeNvml()
    meter = opened(nvml)
    nvml.energy_mj = said
    with pytest.raises(BadReading):
        meter.sample()
    nvml.energy_mj = 5100

    assert (meter.sample().energy_j, meter.sample().epoch) == (5.1, 0)


@pytest.mark.parametrize("said", [-1, "n/a", float("nan"), 7_000_000])
def test_what_no_gpu_draws(said: Any) -> None:
    """A power that cannot be is refused; the sum goes on from the last good one."""
    nvml, clock = FakeNvml(), [10.0]
    meter = opened(nvml, by="power", now=lambda: clock[0], suspended=lambda: 0.0)
    clock[0], nvml.power_mw = 11.0, 85_000
    assert meter.sample().energy_j == 80.0
    clock[0], nvml.power_mw = 12.0, said
    with pytest.raises(BadReading):
        meter.sample()
    clock[0], nvml.power_mw = 13.0, 95_000

    assert meter.sample().energy_j == 80.0 + 2 * 90.0


def pci(root: Path, *, status: str = "active", control: str = "auto") -> Path:
    folder = "sys/bus/pci/devices/0000:19:00.0/power"
    return write(root, {f"{folder}/runtime_status": status, f"{folder}/control": control})


def test_a_suspended_gpu_is_not_touched(tmp_path: Path) -> None:
    """Neither to open it nor to read it: NVML is not even loaded."""
    nvml = FakeNvml()
    with pytest.raises(Refused, match="suspended"):
        opened(nvml, address="0000:19:00.0", root=pci(tmp_path, status="suspended"))
    assert nvml.called == []

    meter = opened(nvml, address="0000:19:00.0", root=pci(tmp_path))
    pci(tmp_path, status="suspended")
    nvml.called.clear()
    with pytest.raises(Refused, match="suspended"):
        meter.sample()

    assert nvml.called == []


@pytest.mark.parametrize(
    ("persistence", "control", "wakes"), [(1, "on", False), (1, "auto", True), (0, "on", True)]
)
def test_when_it_does_no_harm_to_look(
    tmp_path: Path, persistence: int, control: str, wakes: bool
) -> None:
    """If the driver stays loaded anyway, and the kernel would not suspend the GPU."""
    nvml = FakeNvml()
    nvml.persistence = persistence
    meter = opened(nvml, address="0000:19:00.0", root=pci(tmp_path, control=control))

    assert meter.wakes_device is wakes


def test_by_address() -> None:
    """The GPU that sysfs was asked about is the one that is read."""
    nvml = FakeNvml()
    opened(nvml, address="0000:19:00.0")

    assert "nvmlDeviceGetHandleByPciBusId" in nvml.called


def test_by_uuid() -> None:
    """A GPU can be named."""
    meter = NvmlMeter(uuid="GPU-9", nvml=FakeNvml())

    assert meter.device == "GPU-9"

    meter.open()
    meter.close()
