from __future__ import annotations

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


class NvmlError(Exception):
    def __init__(self, value: int) -> None:
        super().__init__(f"code {value}")
        self.value = value


class FakeNvml:
    """NVML with one GPU, whose counter is set by hand. `fail` names calls and their codes."""

    NVMLError = NvmlError

    def __init__(self, **fail: int) -> None:
        self.fail = fail
        self.energy_mj = 5000
        self.persistence = 1
        self.users = 0

    def __getattr__(self, name: str) -> Any:  # any of its functions
        def call(*arguments: object) -> object:
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
                "nvmlDeviceGetUUID": "GPU-1",
                "nvmlDeviceGetPersistenceMode": self.persistence,
                "nvmlDeviceGetTotalEnergyConsumption": self.energy_mj,
            }
            return answers.get(name)

        return call


class TestNvmlMeterOnAFake(MeterContract):
    @pytest.fixture
    def meter(self) -> Meter:
        return NvmlMeter(nvml=FakeNvml())


@pytest.mark.gpu
@pytest.mark.usefixtures("real_gpu")
class TestNvmlMeter(MeterContract):
    @pytest.fixture
    def meter(self) -> Meter:
        return NvmlMeter()


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


def opened(nvml: FakeNvml) -> NvmlMeter:
    meter = NvmlMeter(nvml=nvml, now=lambda: 7.0)
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


def test_by_uuid() -> None:
    """A GPU can be named."""
    meter = NvmlMeter(uuid="GPU-9", nvml=FakeNvml())

    assert meter.device == "GPU-9"

    meter.open()
    meter.close()
