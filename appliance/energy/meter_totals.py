"""What each meter has counted, by the hour and by rail; that which bills among them."""

from __future__ import annotations

from collections.abc import Mapping, Sequence

from appliance.storage.ledger import Metered
from drivers.protocols import Meter, Sample


class MeterTotals:
    """`see` each sample; `taken` hands out what was added since."""

    def __init__(self, meters: Sequence[Meter]) -> None:
        self._meters = {meter.name: meter for meter in meters}
        self._last: dict[str, Sample] = {}
        self._sums: dict[tuple[str, str, str], list[float]] = {}

    def see(self, samples: Mapping[str, Sample], hour: str) -> None:
        """What lies between two samples of one epoch counts to the hour of the later one."""
        for name, sample in samples.items():
            last = self._last.get(name)
            self._last[name] = sample
            if last is None or last.epoch != sample.epoch or sample.at_s <= last.at_s:
                continue
            seconds = sample.at_s - last.at_s
            self._add(name, "", hour, seconds, sample.energy_j - last.energy_j)
            for rail, energy_j in sample.energy_j_by_rail.items():
                if rail in last.energy_j_by_rail:
                    self._add(name, rail, hour, seconds, energy_j - last.energy_j_by_rail[rail])

    def _add(self, name: str, rail: str, hour: str, seconds: float, energy_j: float) -> None:
        sums = self._sums.setdefault((name, rail, hour), [0.0, 0.0])
        sums[0] += seconds
        sums[1] += energy_j

    def taken(self) -> list[Metered]:
        found, self._sums = self._sums, {}
        return [
            Metered(
                meter=name,
                device=self._meters[name].device,
                hour=hour,
                rail=rail,
                source=self._meters[name].source,
                seconds=seconds,
                energy_j=energy_j,
            )
            for (name, rail, hour), (seconds, energy_j) in found.items()
        ]
