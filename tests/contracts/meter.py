"""What every Meter must do. Collected once per driver, by subclassing."""

from __future__ import annotations

import itertools
import math
import time
from concurrent.futures import ThreadPoolExecutor

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
        assert 0 <= meter.window_s <= 10
        assert math.isfinite(meter.most_w)
        assert meter.most_w > (meter.idle_w or 0.0)

    def test_says_how_often_to_look(self, meter: Meter) -> None:
        """At most every time that its value moves, and not so seldom that an hour is lost."""
        meter.open()
        cadence, resolution_s = meter.cadence, meter.resolution_s
        meter.close()

        for hz in (cadence.busy_hz, cadence.moving_hz):
            assert 0.01 <= hz <= 20
            assert 1 / hz >= resolution_s * 0.999
        assert 1 / cadence.busy_hz <= cadence.idle_s <= cadence.rest_s <= 3600

    def test_open_twice_is_open(self, meter: Meter) -> None:
        """open() is idempotent, and sampling works after it."""
        meter.open()
        meter.open()
        sample = meter.sample()
        meter.close()

        assert math.isfinite(sample.energy_j)
        assert sample.energy_j >= 0

    def test_energy_never_runs_backwards(self, meter: Meter) -> None:
        """Within one epoch neither time nor energy decreases, in total or on any rail."""
        meter.open()
        samples = [meter.sample() for _ in range(20)]
        meter.close()

        for earlier, later in itertools.pairwise(samples):
            assert later.epoch == earlier.epoch
            assert later.at_s >= earlier.at_s
            assert later.energy_j >= earlier.energy_j
            for rail, energy_j in later.energy_j_by_rail.items():
                assert energy_j >= earlier.energy_j_by_rail[rail] >= 0

    def test_rails_are_those_that_it_names(self, meter: Meter) -> None:
        """Each sample has all of them, and no others; their names do not change."""
        meter.open()
        rails, sample = meter.rails, meter.sample()
        meter.close()

        assert tuple(sample.energy_j_by_rail) == rails
        assert len(set(rails)) == len(rails)

    def test_is_quick(self, meter: Meter) -> None:
        """The median of 20 samples is under 20 ms; under 5 ms if it says that it does not block."""
        meter.open()
        took_s = []
        for _ in range(20):
            began_s = time.perf_counter()
            meter.sample()
            took_s.append(time.perf_counter() - began_s)
        meter.close()

        assert sorted(took_s)[10] < (0.02 if meter.blocks else 0.005)

    def test_in_another_thread(self, meter: Meter) -> None:
        """What one thread has opened, another reads, and a third closes."""
        meter.open()
        with ThreadPoolExecutor(1) as one, ThreadPoolExecutor(1) as other:
            sample = one.submit(meter.sample).result()
            other.submit(meter.close).result()

        assert sample.energy_j >= 0

    def test_close_when_closed(self, meter: Meter) -> None:
        """close() is safe at any time, also twice, and open() works after it."""
        meter.close()
        meter.open()
        meter.close()
        meter.close()
        meter.open()
        meter.sample()
        meter.close()
