"""A meter for boxes without one: it estimates energy from the CPU's busy time.

    energy = idle_w × time since boot + core_w × busy seconds, summed over cores

An estimate, and says so in `source`. It knows nothing of GPUs, disks or clock
speeds, and bills a suspended box as an idle one. It never wakes anything.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from drivers.continuity import Continuity
from drivers.errors import BadReading, NotPermitted, NotPresent
from drivers.instants import boottime_s
from drivers.protocols import Cadence, Sample

# Largest step back that is taken for the kernel's rounding and not for a restart
# of the counter: user and system time are scaled anew at each read (kernel
# kernel/sched/cputime.c, cputime_adjust), and their sum over cores may lose ticks.
ROUNDING_S = 1.0


class CpuTimeMeter:
    """Estimates what the whole box draws, from /proc/stat under `root`."""

    name = "cpu-time"
    source = "estimate"
    device = "box"
    rails: tuple[str, ...] = ()
    wakes_device = False
    blocks = False
    cadence = Cadence()
    window_s = resolution_s = 1 / os.sysconf("SC_CLK_TCK")

    def __init__(
        self,
        *,
        core_w: float = 6.0,
        idle_w: float = 4.0,
        root: Path = Path("/"),
        now: Callable[[], float] = boottime_s,
    ) -> None:
        """Store the model: `core_w` is added by each busy core, `idle_w` is always drawn.

        Raises ValueError for negative powers.
        """
        if min(core_w, idle_w) < 0:
            raise ValueError(f"powers must be 0 or more, not {core_w} and {idle_w}")
        self.idle_w: float | None = idle_w
        cores = os.cpu_count() or 1
        self.most_w = idle_w + core_w * cores
        self._base_w = idle_w
        self._core_w = core_w
        self._stat = root / "proc/stat"
        self._now = now
        self._file: int | None = None
        self._busy = Continuity(self.name, max_per_s=cores, rounding=ROUNDING_S)

    def open(self) -> None:
        self._read()

    def sample(self) -> Sample:
        busy_s = busy_seconds(self._read())
        at_s = self._now()
        # Another kernel's counter, after a restore or a move, is a new epoch.
        busy_s = self._busy.take(at_s, busy_s)
        return Sample(at_s, self._base_w * at_s + self._core_w * busy_s, self._busy.epoch)

    def close(self) -> None:
        if self._file is not None:
            os.close(self._file)
            self._file = None

    def _read(self) -> str:
        """The first line. The file is kept open: it is read at both ends of each request."""
        try:
            if self._file is None:
                self._file = os.open(self._stat, os.O_RDONLY | os.O_CLOEXEC)
            return os.pread(self._file, 256, 0).decode(errors="replace").partition("\n")[0]
        except PermissionError as error:
            raise NotPermitted(self.name, f"cannot read {self._stat}") from error
        except OSError as error:
            raise NotPresent(self.name, f"no {self._stat}: {error.strerror}") from error


def busy_seconds(line: str) -> float:
    """Seconds that all cores together have worked, from the first line of /proc/stat.

    The fields are user, nice, system, idle, iowait, irq, softirq, steal, guest,
    guest_nice, in ticks (proc_stat(5)). guest is part of user and guest_nice of
    nice, so adding them would count them twice; iowait is idle time; steal was
    spent by other machines of the same host.

    Raises BadReading if the line is not that.
    """
    label, _, rest = line.partition(" ")
    fields = rest.split()
    if label != "cpu" or len(fields) < 4:
        raise BadReading(CpuTimeMeter.name, f"/proc/stat begins with {line[:60]!r}")
    try:
        user, nice, system, _idle, *more = (int(field) for field in fields)
    except ValueError as error:
        raise BadReading(CpuTimeMeter.name, f"/proc/stat begins with {line[:60]!r}") from error
    irq, softirq = [*more[1:3], 0, 0][:2]
    return (user + nice + system + irq + softirq) / os.sysconf("SC_CLK_TCK")
