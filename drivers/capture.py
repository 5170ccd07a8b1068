"""Packs the files that the drivers read on this machine, so that they can be tests elsewhere.

Exactly what CAPTURED lists, and nothing that tells whose machine it is: no serial
numbers, no addresses, no host or user names. Of devices and sockets only that they
are there. Unpacked below some folder, it is a root for `probe` and all drivers.
"""

from __future__ import annotations

import gzip
import io
import re
import stat
import tarfile
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path

from drivers.probe import NODES, TEGRA_MEMORY_NODE, TEGRA_NODES

LIMIT_BYTES = 64 << 10  # per file; those that are longer before redaction are cut after it
DEVFREQ = "sys/class/devfreq/*"
HWMON = "sys/bus/i2c/drivers/ina3221*/*/hwmon/hwmon*"
PCI = "sys/bus/pci/devices/*"

Redact = Callable[[str], str]


def _as_is(text: str) -> str:
    return text


def _without_uuid(text: str) -> str:
    """Of a GPU's `information`: its model and its place on the bus."""
    kept = re.findall(r"^(?:Model|Bus Type|Bus Location):.*$", text, re.MULTILINE)
    return "".join(f"{line}\n" for line in kept)


def _nvidia_modules(text: str) -> str:
    """Of modules.dep: the lines of NVIDIA's own modules."""
    kept = re.findall(r"^(?:\S*/)?nv\w*(?:-\w+)*\.ko\S*:.*$", text, re.MULTILINE)
    return "".join(f"{line}\n" for line in kept)


def _without_builder(text: str) -> str:
    """Of the driver's version: a module that was built here names user and host."""
    return re.sub(r"\(\S*@\S*\)", "()", text)


def _without_places(text: str) -> str:
    """Of /proc/swaps: a swap file may lie in somebody's home."""
    return re.sub(r"^(?!Filename|/dev/zram)\S+", "/swap", text, flags=re.MULTILINE)


CAPTURED: Mapping[str, Redact] = {
    "etc/nv_tegra_release": _as_is,
    "etc/nvpmodel.conf": _as_is,
    "etc/os-release": _as_is,
    "lib/modules/*/modules.dep": _nvidia_modules,
    "proc/device-tree/compatible": _as_is,
    "proc/device-tree/model": _as_is,
    "proc/driver/nvidia/gpus/*/information": _without_uuid,
    "proc/driver/nvidia/version": _without_builder,
    "proc/meminfo": _as_is,
    "proc/swaps": _without_places,
    "proc/sys/kernel/osrelease": _as_is,
    f"{HWMON}/curr[1-4]_input": _as_is,
    f"{HWMON}/in[1-7]_input": _as_is,
    f"{HWMON}/in[1-7]_label": _as_is,
    f"{HWMON}/in[1-3]_enable": _as_is,
    f"{HWMON}/name": _as_is,
    f"{HWMON}/samples": _as_is,
    f"{HWMON}/shunt[1-3]_resistor": _as_is,
    f"{HWMON}/update_interval": _as_is,
    f"{PCI}/class": _as_is,
    f"{PCI}/power/runtime_status": _as_is,
    f"{PCI}/vendor": _as_is,
    f"{DEVFREQ}/available_frequencies": _as_is,
    f"{DEVFREQ}/cur_freq": _as_is,
    f"{DEVFREQ}/device/of_node/name": _as_is,
    f"{DEVFREQ}/device/power/control": _as_is,
    f"{DEVFREQ}/device/power/runtime_status": _as_is,
    f"{DEVFREQ}/governor": _as_is,
    f"{DEVFREQ}/max_freq": _as_is,
    f"{DEVFREQ}/min_freq": _as_is,
    "var/lib/nvpmodel/status": _as_is,
}
"""Pattern of paths below the root -> what is kept of such a file."""

EXISTING = (
    *NODES,
    *TEGRA_NODES,
    TEGRA_MEMORY_NODE,
    "dev/nvidia[0-9]*",
    "run/nvidia-persistenced/socket",
)
"""Of these an empty file is kept, with its permissions."""


def captured(root: Path = Path("/")) -> dict[str, tuple[int, str]]:
    """Path below `root` -> its permissions, and what is kept of it."""
    release = _text(root / "proc/sys/kernel/osrelease").strip()
    found: dict[str, tuple[int, str]] = {}
    for pattern, redact in CAPTURED.items():
        # Of all kernels only the one that runs.
        here = pattern.replace("modules/*", f"modules/{release}") if release else pattern
        for path in _matching(root, here):
            if not _asleep(path):
                text = redact(_text(path))
                found[str(path.relative_to(root))] = (0o644, text[:LIMIT_BYTES])
    for pattern in EXISTING:
        for path in _matching(root, pattern):
            found[str(path.relative_to(root))] = (stat.S_IMODE(path.stat().st_mode), "")
    return dict(sorted(found.items()))


def write(file: Path, files: Mapping[str, tuple[int, str]]) -> None:
    """Pack them as a new .tar.gz. Raises OSError, also if there is such a file already."""
    with (
        file.open("xb") as raw,
        gzip.GzipFile(fileobj=raw, mode="wb", mtime=0, filename="") as packed,
        tarfile.open(fileobj=packed, mode="w", format=tarfile.PAX_FORMAT) as tar,
    ):
        for name, (mode, text) in files.items():
            data = text.encode(errors="surrogateescape")
            entry = tarfile.TarInfo(name)  # owner root, time 0
            entry.mode, entry.size = mode, len(data)
            tar.addfile(entry, io.BytesIO(data))


def _matching(root: Path, pattern: str) -> Iterator[Path]:
    try:
        yield from sorted(root.glob(pattern))
    except OSError:  # a folder on the way is not ours to read
        return


def _asleep(path: Path) -> bool:
    """Asking a suspended device for its clock may wake it."""
    status = path.parent / "device/power/runtime_status"
    return path.name == "cur_freq" and _text(status).strip() == "suspended"


def _text(path: Path) -> str:
    try:
        return path.read_bytes().decode(errors="surrogateescape")
    except OSError:
        return ""
