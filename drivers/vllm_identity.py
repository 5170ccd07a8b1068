"""A digest of all that may change what an engine says to the same greedy prompt.

Weights of many gigabytes are known by their files' names, sizes and times of
change, and by the header that each safetensors file begins with; reading all of
them would take longer than the start.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from drivers.probe import Machine
from drivers.vllm_versions import Install

SMALL_BYTES = 1 << 20
"""Files up to this size (configuration, tokenizer) are read whole."""
HEADER_BYTES = 1 << 16

# Places of this life, which say nothing of what is in them.
PLACES = ("--uds",)


def identity(
    *, model: str, install: Install, flags: Sequence[str], env: Mapping[str, str], machine: Machine
) -> str:
    """32 hexadecimal digits. Reads files: not for the event loop.

    model  a folder, or a name that says nothing more than itself
    env    what was set on purpose
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


def _files(folder: Path) -> Iterable[list[str | int]]:
    if not folder.is_dir():
        return
    for file in sorted(folder.rglob("*")):
        if not file.is_file():
            continue
        status = file.stat()
        with file.open("rb") as opened:
            head = opened.read(SMALL_BYTES if status.st_size <= SMALL_BYTES else HEADER_BYTES)
        small = status.st_size <= SMALL_BYTES
        yield [
            str(file.relative_to(folder)),
            status.st_size,
            0 if small else status.st_mtime_ns,
            hashlib.sha256(head).hexdigest(),
        ]


def _without_places(flags: Sequence[str]) -> Iterable[str]:
    place = False
    for flag in flags:
        if not place and flag not in PLACES:
            yield flag
        place = flag in PLACES
