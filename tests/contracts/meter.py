"""What every Meter must do. Collected once per driver, by subclassing."""

from __future__ import annotations

import itertools
import math
import time

from drivers.protocols import Meter


class MeterContract:
    """Subclass, name it Test..., and provide the `meter` fixture: closed, unused."""

    def test_says_what_it_is(self, meter: Meter) -> None:
        """Its source is one of three words, and it names itself and its device."""
        assert meter.source in {"counter", "integral", "estimate"}
        assert meter.name
        assert meter.device
        assert meter.idle_w is None or meter.idle_w >= 0
        assert meter.resolution_s >= 0

    def test_open_twice_is_open(self, meter: Meter) -> None:
        """open() is idempotent, and sampling works after it."""
        meter.open()
        meter.open()
        sample = meter.sample()
        meter.close()

        assert math.isfinite(sample.energy_j)
        assert sample.energy_j >= 0

    def test_energy_never_runs_backwards(self, meter: Meter) -> None:
        """Within one epoch neither time nor energy decreases."""
        meter.open()
        samples = [meter.sample() for _ in range(20)]
        meter.close()

        for earlier, later in itertools.pairwise(samples):
            assert later.epoch == earlier.epoch
            assert later.at_s >= earlier.at_s
            assert later.energy_j >= earlier.energy_j

    def test_is_quick(self, meter: Meter) -> None:
        """A sample takes a few milliseconds: the median of 20 is under 20 ms."""
        meter.open()
        took_s = []
        for _ in range(20):
            began_s = time.perf_counter()
            meter.sample()
            took_s.append(time.perf_counter() - began_s)
        meter.close()

        assert sorted(took_s)[10] < 0.02

    def test_close_when_closed(self, meter: Meter) -> None:
        """close() is safe at any time, also twice, and open() works after it."""
        meter.close()
        meter.open()
        meter.close()
        meter.close()
        meter.open()
        meter.sample()
        meter.close()
