"""Everything that the checks judge, as it was seen: values, gathered by `doctor`."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from appliance.config import Config
from appliance.defaults import Settings
from appliance.setup.http_look import HttpSeen
from appliance.setup.meter_look import MetersSeen
from appliance.setup.surroundings import Around
from drivers.nvml_facts import NvmlFacts
from drivers.permissions import Account, Node
from drivers.probe import Machine
from drivers.protocols import Rest
from drivers.vllm_versions import Install


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """One look at a machine and its installation.

    config            as loaded, or the defaults
    config_failure    why it could not be loaded; "" if it was, or if there is none
    config_forbidden  the reason was that this user may not read it
    machine           as probed
    driver_installed  a module of NVIDIA's driver is there for this kernel
    distribution      of Linux, as /etc/os-release calls it: "ubuntu", "debian"
    settings          what the engine is told here
    lacks             ways to rest that the engine does not offer -> why; None: there is no engine
    install           the engine's vLLM, or why there is none, in words
    other_python      of an engine that `install.sh` has made beside our own; "" if there is none
    needed_driver     the oldest driver for that vLLM; "" if not known
    account           who is to use the devices
    forbidden         device nodes that `account` may not use
    socket            "ours", "forbidden" or "absent": the daemon's socket, for this user
    socket_group      group that owns it; "" if it is absent
    no_such_group     `socket.group` of the configuration is no group of this machine
    meters            whether they can be read
    nvml              what it says, or why it was not asked, in words
    model             that is served: a folder, or a name that vLLM knows
    model_lacks       why it cannot be, in words; "": it can, as far as its files tell
    weights_bytes     of the model's files; 0: not known
    calibrated        of what the engine consisted when the ladder was measured; None: it never was;
                      or why nobody knows, in words
    fsync_s           seconds of commits in the state folder, sorted; or why none were made
    around            what runs beside it
    http              its HTTP door; None: there is to be none
    """

    config: Config
    config_failure: str = ""
    config_forbidden: bool = False
    machine: Machine
    driver_installed: bool = False
    distribution: str = ""
    settings: Settings
    lacks: Mapping[Rest, str] | None = None
    install: Install | str = ""
    other_python: str = ""
    needed_driver: str = ""
    account: Account
    forbidden: tuple[Node, ...] = ()
    socket: str = "absent"
    socket_group: str = ""
    no_such_group: bool = False
    meters: MetersSeen | None = None
    nvml: NvmlFacts | str = ""
    model: str = ""
    model_lacks: str = ""
    weights_bytes: int = 0
    calibrated: Mapping[str, str] | str | None = ""
    fsync_s: tuple[float, ...] | str = ""
    around: Around = field(default_factory=Around)
    http: HttpSeen | None = None

    @property
    def wants_gpu(self) -> bool:
        """Whether the configuration insists on one."""
        return self.config.engine.device == "cuda"

    @property
    def on_gpu(self) -> bool:
        """Whether the engine would run on one."""
        return self.wants_gpu or (self.config.engine.device == "auto" and bool(self.machine.gpus))

    @property
    def installed(self) -> bool:
        """Whether it is the service's daemon that this configuration means."""
        return (self.around.unit or {}).get("LoadState") == "loaded"

    @property
    def real_engine(self) -> bool:
        return self.config.engine.kind == "vllm"
