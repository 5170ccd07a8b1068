"""What the processes below this one hold: a real child, and a GPU that is made up."""

from __future__ import annotations

import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

from drivers.errors import NotPresent
from drivers.held import held
from drivers.tenants import Look

MIB = 1 << 20
HOLD = (
    "import sys; held = bytearray({n}); held[::4096] = b'x' * len(held[::4096]); print(); input()"
)


@contextmanager
def holding(mib: int) -> Iterator[subprocess.Popen[str]]:
    """A child that has touched so much memory, and waits."""
    command = [sys.executable, "-c", HOLD.format(n=mib * MIB)]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    ) as child:
        assert child.stdout is not None
        assert child.stdin is not None
        child.stdout.readline()
        yield child
        child.stdin.write("\n")
        child.stdin.close()


class Gpu:
    """Satisfies Tenants."""

    def __init__(self, bytes_by_pid: dict[int, int] | None) -> None:
        self._bytes_by_pid = bytes_by_pid

    def look(self) -> Look:
        if self._bytes_by_pid is None:
            raise NotPresent("nvml", "no driver")
        return Look(self._bytes_by_pid, 600 * MIB + sum(self._bytes_by_pid.values()))


def test_what_a_child_holds() -> None:
    """As much as it has touched, and little else; nothing once it has gone."""
    before = held(on_gpu=False).ram_bytes
    with holding(64):
        with_child = held(on_gpu=False)

    assert 64 * MIB <= with_child.ram_bytes - before < 96 * MIB
    assert with_child.vram_bytes is None
    assert held(on_gpu=False).ram_bytes <= before + MIB


def test_on_the_gpu() -> None:
    """Of our processes only; not known where NVML has other numbers for them, or is not there."""
    with holding(1) as child:
        ours = held(on_gpu=True, tenants=Gpu({child.pid: 3 * MIB, 1: 5 * MIB}))
        foreign = held(on_gpu=True, tenants=Gpu({999_999_999: 3 * MIB}))
        absent = held(on_gpu=True, tenants=Gpu(None))

    assert (ours.vram_bytes, ours.used_bytes) == (3 * MIB, 608 * MIB)
    assert (foreign.vram_bytes, foreign.used_bytes) == (None, 603 * MIB)
    assert (absent.vram_bytes, absent.used_bytes) == (None, None)
