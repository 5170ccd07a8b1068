"""Checks of the machine: GPU, driver, clocks, memory. Pure."""

from __future__ import annotations

from collections.abc import Iterator

from appliance.setup.checks.facts import Facts
from appliance.setup.checks.findings import Finding, Severity
from drivers.jetson import GpuClock
from drivers.nvml_facts import NvmlFacts

GIB = 1 << 30
PARK_BYTES = int(2.2 * GIB)
"""What an engine parked from sleep level 2 holds in RAM (H200, a 13 GB model)."""
VLLM_BYTES = GIB
"""What vLLM's two processes hold besides (measured on a CPU)."""
NO_GPU = "no NVIDIA GPU; the engine runs on the CPU"


def findings(facts: Facts) -> Iterator[Finding]:
    yield _gpu(facts)
    for check in (_driver, _persistence, _clocks, _boost, _power_mode, _unified):
        found = check(facts)
        if found is not None:
            yield found
    yield _memory(facts)
    yield _swap(facts)


def subject(facts: Facts) -> str:
    """The machine in a line."""
    machine = facts.machine
    if machine.jetson is not None:
        jetpack = f"JetPack {machine.jetson.jetpack}" if machine.jetson.jetpack else ""
        l4t = f"L4T {machine.jetson.l4t}" if machine.jetson.l4t else ""
        parts = [machine.jetson.name or "a Jetson", jetpack, l4t]
    else:
        models = [gpu.model or f"GPU at {gpu.address}" for gpu in machine.found]
        parts = [*(models or ["no NVIDIA GPU"])]
        parts += [f"driver {machine.driver}"] if machine.driver and models else []
    return " · ".join(
        [part for part in parts if part] + [f"{_size(machine.memory.total_bytes)} RAM"]
    )


def _gpu(facts: Facts) -> Finding:
    machine = facts.machine
    if machine.gpus:
        gpu = machine.gpus[0]
        state = {"unsupported": "", "suspended": "; suspended, and left so"}.get(
            gpu.runtime, f"; {gpu.runtime}"
        )
        more = f" and {len(machine.gpus) - 1} more" if len(machine.gpus) > 1 else ""
        model = gpu.model or "a GPU"
        return Finding(what="GPU", says=f"{model} at {gpu.address}{more}{state}")
    if facts.wants_gpu:
        why = machine.absent["gpu"]
        fix: tuple[str, ...] = () if machine.found else ('in wattnap.toml: engine.device = "auto"',)
        return Finding(
            what="GPU", says=f'engine.device is "cuda": {why}', severity=Severity.TROUBLE, fix=fix
        )
    if machine.found:
        return Finding(
            what="GPU",
            says=f"{machine.absent['gpu']}; the engine would run on the CPU",
            # Without a driver, that check warns, and knows the remedy.
            severity=Severity.WARNING if machine.driver or machine.jetson else Severity.NOTE,
        )
    return Finding(what="GPU", says=NO_GPU, severity=Severity.NOTE)


def _driver(facts: Facts) -> Finding | None:
    machine = facts.machine
    if machine.jetson is not None or not (machine.found or machine.driver):
        return None
    severity = Severity.TROUBLE if facts.wants_gpu else Severity.WARNING
    fix: tuple[str, ...]
    if not machine.driver:
        if facts.driver_installed:
            said, fix = "installed, but not loaded", ("sudo modprobe nvidia",)
        else:
            said, fix = "not installed", _get_driver(facts)
        return Finding(what="driver", says=said, severity=severity, fix=fix)
    if facts.needed_driver and _numbers(machine.driver) < _numbers(facts.needed_driver):
        return Finding(
            what="driver",
            says=f"{machine.driver} is too old: this vLLM needs {facts.needed_driver}",
            severity=Severity.TROUBLE if facts.on_gpu else Severity.WARNING,
            fix=_get_driver(facts),
        )
    return Finding(what="driver", says=f"{machine.driver}, loaded")


def _persistence(facts: Facts) -> Finding | None:
    machine = facts.machine
    if not machine.gpus or machine.jetson is not None:
        return None
    if machine.persistenced:
        return Finding(what="persistence", says="nvidia-persistenced keeps the driver loaded")
    match facts.nvml:
        case NvmlFacts(persistence=True):
            return Finding(what="persistence", says="on, by the GPU's own mode")
        case NvmlFacts(persistence=False):
            said, severity = "off", Severity.WARNING
        case _:
            said, severity = "no daemon; the GPU's own mode is not known", Severity.NOTE
    return Finding(
        what="persistence",
        says=f"{said}: without it the driver is started anew for each wake from off",
        severity=severity,
        fix=(
            "sudo systemctl enable --now nvidia-persistenced"
            if facts.around.systemd
            else "sudo nvidia-smi --persistence-mode=1",
        ),
    )


def _clocks(facts: Facts) -> Finding | None:
    board = facts.machine.jetson
    if board is not None:
        return None if board.gpu is None else _jetson_clock(board.gpu)
    if not facts.machine.gpus:
        return None
    if isinstance(facts.nvml, str):
        return Finding(what="clocks", says=f"not looked at: {facts.nvml}", severity=Severity.NOTE)
    if not facts.nvml.pinned:
        return Finding(what="clocks", says="free to follow the load")
    return Finding(
        what="clocks",
        says=f"pinned: {facts.nvml.pinned}. Idle, it draws more than it must",
        severity=Severity.WARNING,
        fix=("sudo nvidia-smi --reset-gpu-clocks", "sudo nvidia-smi --reset-applications-clocks"),
    )


def _jetson_clock(gpu: GpuClock) -> Finding:
    if gpu.pinned:
        return Finding(
            what="clocks",
            says=f"the GPU's is pinned at {_mhz(gpu.max_hz)}, idle or not;"
            " a reboot frees it, or what jetson_clocks has stored",
            severity=Severity.WARNING,
            fix=("sudo jetson_clocks --restore",),
        )
    now = f"{_mhz(gpu.current_hz)} now; " if gpu.current_hz else ""
    span = f"from {_mhz(gpu.min_hz)} to {_mhz(gpu.max_hz)}, by {gpu.governor}"
    return Finding(what="clocks", says=now + span)


def _boost(facts: Facts) -> Finding | None:
    machine = facts.machine
    if not machine.gpus or machine.jetson is not None:
        return None
    if machine.boost_switch:
        return Finding(
            what="boost switch", says="an awake, idle engine lets the GPU's clock go down"
        )
    return Finding(
        what="boost switch",
        says=f"{machine.absent['boost_switch']}; an awake, idle engine holds the clock high",
        severity=Severity.WARNING,
        fix=_get_driver(facts),
    )


def _power_mode(facts: Facts) -> Finding | None:
    board = facts.machine.jetson
    if board is None:
        return None
    if board.power_mode is None:
        return Finding(what="power mode", says="nvpmodel does not say", severity=Severity.NOTE)
    mode = board.power_mode
    others = ", ".join(name for id, name in sorted(mode.names.items()) if id != mode.id)
    return Finding(
        what="power mode",
        says=f"{mode.name}; there are also {others}. Some changes reboot: Wattnap makes none"
        if others
        else mode.name,
    )


def _unified(facts: Facts) -> Finding | None:
    if not facts.machine.unified:
        return None
    chosen = facts.settings
    kv = f"{chosen.kv_cache_bytes >> 20} MiB" if chosen.kv_cache_bytes else "as vLLM measures"
    eager = "no graphs" if chosen.enforce_eager else "graphs"
    return Finding(
        what="unified memory",
        says=f"GPU and CPU share it: KV cache {kv}, {chosen.max_running} at once, {eager}",
        severity=Severity.NOTE,
    )


def _memory(facts: Facts) -> Finding:
    memory, model = facts.machine.memory, facts.weights_bytes
    if not memory.total_bytes:
        return Finding(what="memory", says="/proc/meminfo does not say", severity=Severity.NOTE)
    said = f"{_size(memory.available_bytes)} of {_size(memory.total_bytes)} available"
    if not model:
        return Finding(what="memory", says=said)
    said += f"; the model takes {_size(model)}"
    if facts.on_gpu and not facts.machine.unified:
        how, resting = _resting(facts)
        if memory.available_bytes >= model + resting:
            more = f", {how} about {_size(resting)} more" if how else ""
            return Finding(what="memory", says=said + more)
        said += ": too little to keep it at hand, so that a wake reads it from the disk"
    elif memory.available_bytes >= model + VLLM_BYTES:
        return Finding(what="memory", says=said)
    else:
        said += f", and vLLM itself about {_size(VLLM_BYTES)}: it will hardly fit"
    return Finding(what="memory", says=said, severity=Severity.WARNING)


def _resting(facts: Facts) -> tuple[str, int]:
    """How a sleeping engine holds bytes besides the files of its weights, and how many."""
    if facts.lacks is None or "sleep" in facts.lacks:
        return "", 0
    # Level 1 has them in RAM a second time, pinned.
    pinned = facts.weights_bytes if facts.config.engine.sleep_level == 1 else 0
    if "park" not in facts.lacks:
        return "parked", PARK_BYTES + pinned
    return ("asleep", pinned) if pinned else ("", 0)


def _swap(facts: Facts) -> Finding:
    swaps = facts.machine.memory.swaps
    size = _size(sum(swap.size_bytes for swap in swaps))
    if not swaps:
        return Finding(
            what="swap",
            says="none: when memory runs out the kernel ends the engine, which is started again",
            severity=Severity.NOTE,
        )
    if all(swap.compressed for swap in swaps):
        return Finding(
            what="swap",
            says=f"{size} of zram, in the memory that it is to relieve; for a model that hardly"
            " fits, a file on an NVMe disk helps more",
            severity=Severity.NOTE,
            fix=(
                "sudo fallocate -l 8G /swapfile && sudo chmod 600 /swapfile",
                "sudo mkswap /swapfile && sudo swapon --priority 1 /swapfile",
            ),
        )
    return Finding(what="swap", says=size)


def _get_driver(facts: Facts) -> tuple[str, ...]:
    if facts.distribution == "ubuntu":
        return ("sudo ubuntu-drivers install nvidia:580", "sudo reboot")
    return ("# https://www.nvidia.com/drivers: 580.105 or newer, then: sudo reboot",)


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))


def _size(size_bytes: int) -> str:
    gib = size_bytes / GIB
    return f"{gib:.1f} GiB" if gib >= 1 else f"{max(1, round(gib * 1024))} MiB"


def _mhz(hertz: int | None) -> str:
    return f"{hertz / 1e6:.0f} MHz" if hertz else "an unknown clock"
