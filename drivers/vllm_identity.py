"""A digest of all that may change what an engine says to the same greedy prompt.

Weights of many gigabytes are known by their files' names, sizes and times of
change, and by the header that each safetensors file begins with; reading all of
them would take longer than the start.
"""

from __future__ import annotations

import errno
import hashlib
import json
import os
import stat
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

from drivers.errors import Refused
from drivers.probe import Machine
from drivers.vllm_versions import Install

SMALL_BYTES = 1 << 20
"""Files up to this size (configuration, tokenizer) are read whole."""
HEADER_BYTES = 1 << 16
UNREADABLE = "unreadable"
"""Instead of what is in a file or folder: whether vLLM needs it, only vLLM knows."""
NOT_THERE = frozenset({errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG})
"""What the system says of a path that leads to nothing."""

# Places of this life, which say nothing of what is in them.
PLACES = ("--uds",)


def identity(
    *, model: str, install: Install, flags: Sequence[str], env: Mapping[str, str], machine: Machine
) -> str:
    """32 hexadecimal digits. Reads files: not for the event loop.

    model  a folder, or a name that says nothing more than itself
    env    what was set on purpose

    Raises Refused for passing trouble with reading, such as too many open files.
    """
    facts = {
        "model": list(_files(Path(model))) or model,
        "engine": [install.distribution, install.version, install.torch],
        "flags": list(_without_places(flags)),
        "env": dict(env),
        "driver": machine.driver,
        "gpus": [[gpu.model, gpu.uuid] for gpu in machine.gpus],
    }
    told = json.dumps(facts, sort_keys=True).encode()
    return hashlib.sha256(told).hexdigest()[:32]


def ingredients(
    *, model: str, install: Install, flags: Sequence[str], env: Mapping[str, str], machine: Machine
) -> dict[str, str]:
    """The same one by one, in words; but no GPU's UUID, which is not known before its first use.

    What an operator has written is a digest here: there may be secrets in it. Reads files.

    Raises as identity().
    """
    files = list(_files(Path(model)))
    return {
        "model": f"{Path(model).name} ({_short(files)})" if files else model,
        "vLLM": f"{install.distribution} {install.version}",
        "torch": install.torch,
        "flags": _short(list(_without_places(flags))),
        "variables": _short(dict(env)),
        "driver": machine.driver,
        "GPU": ", ".join(gpu.model for gpu in machine.gpus),
        "memory": f"{round(machine.memory.total_bytes / (1 << 30))} GiB",
    }


def _short(value: object) -> str:
    """8 hexadecimal digits."""
    return hashlib.sha256(json.dumps(value, sort_keys=True).encode()).hexdigest()[:8]


def _files(folder: Path) -> Iterator[list[str | int]]:
    for path in sorted(_paths(folder)):
        name = str(path.relative_to(folder))
        try:
            status = path.stat()
            if stat.S_ISREG(status.st_mode):
                yield [name, *_content(path, status)]
            elif stat.S_ISDIR(status.st_mode):
                yield [name, UNREADABLE]
        except OSError as error:
            if _is_forbidden(path, error):
                yield [name, UNREADABLE]


def _paths(folder: Path) -> Iterable[Path]:
    """Of all files below `folder`, and of the folders that may not be listed."""
    found: list[Path] = []

    def note(error: OSError) -> None:
        if _is_forbidden(path := Path(error.filename), error):
            found.append(path)

    for place, _, names in os.walk(folder, onerror=note):
        found += (Path(place, name) for name in names)
    return found


def _is_forbidden(path: Path, error: OSError) -> bool:
    """Whether that is why; False: it is gone, or leads nowhere. Raises Refused if neither.

    Were it left out for want of descriptors, say, the digest would be another engine's.
    """
    if isinstance(error, PermissionError):
        return True
    if error.errno in NOT_THERE:
        return False
    raise Refused("vllm", f"cannot read {path}: {error.strerror}") from error


def _content(path: Path, status: os.stat_result) -> tuple[int, int, str]:
    """Size, time of change unless it is read whole, digest of its beginning."""
    small = status.st_size <= SMALL_BYTES
    with path.open("rb") as opened:
        head = opened.read(SMALL_BYTES if small else HEADER_BYTES)
    return (
        status.st_size,
        0 if small else status.st_mtime_ns,
        hashlib.sha256(head).hexdigest(),
    )


def _without_places(flags: Sequence[str]) -> Iterable[str]:
    place = False
    for flag in flags:
        if not place and flag not in PLACES:
            yield flag
        place = flag in PLACES
