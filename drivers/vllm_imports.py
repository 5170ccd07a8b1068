"""What a vLLM server needs, imported before one is forked, and without the GPU.

Whatever opens the GPU while it is imported would spoil every fork (CUDA does not
survive one). So each import is watched. What spoils it is named, and left out if a
server does without it until it serves. Runs in the engine's own Python, 3.10 or newer;
standard library only.
"""

from __future__ import annotations

import contextlib
import ctypes
import importlib
import importlib.util
import json
import multiprocessing
import os
import sys
from collections.abc import Sequence
from pathlib import Path

from drivers.vllm_architecture import NVML, architecture_told

UNIFIED_MEMORY = ("/dev/nvidia-uvm", "/dev/nvmap", "/dev/dxg")
"""One of them is there if any process has begun to use CUDA; the last is Windows' way."""
CUDA = "libcuda.so.1"
NOT_INITIALIZED = 3
"""What each call of CUDA's driver interface returns before cuInit (cuda.h)."""

# Where the server is, by version: since 0.32, and before.
SERVERS = ("vllm.entrypoints.launchers.api_server.entry", "vllm.entrypoints.openai.api_server")
# Without these it is no vLLM that we know.
NEEDED = ("vllm.v1.engine.core", "vllm.v1.engine.async_llm")
# The rest is imported as far as it is there; a fork imports what it lacks.
USEFUL = (
    "uvloop",
    "vllm.entrypoints.cli.serve",
    "vllm.v1.core.sched.scheduler",
    # What uvicorn and starlette find by name, once they serve.
    "uvicorn.lifespan.on",
    "uvicorn.protocols.http.auto",
    "uvicorn.protocols.websockets.auto",
    "anyio._backends._asyncio",
    # What vLLM puts beside its own paths.
    "model_hosting_container_standards.sagemaker",
    "vllm.entrypoints.serve.instrumentator.metrics",
    "vllm.entrypoints.serve.instrumentator.offline_docs",
)
FLASHINFER = "vllm.v1.attention.backends.flashinfer"
USEFUL_ON = {
    "cpu": (
        "vllm.v1.executor.multiproc_executor",
        "vllm.v1.worker.cpu_worker",
        "vllm.v1.worker.cpu_model_runner",
        "vllm.v1.attention.backends.cpu_attn",
        "vllm.model_executor.layers.quantization.online.base",
        "vllm.distributed.elastic_ep.elastic_execute",
    ),
    "cuda": (
        "vllm.v1.executor.uniproc_executor",
        "vllm.v1.worker.gpu_worker",
        "vllm.v1.worker.gpu_model_runner",
        # What a worker imports only as it needs it; of attention all that it may choose from.
        "vllm.v1.worker.gpu.model_runner",
        "vllm.v1.attention.backends.flash_attn",
        "vllm.v1.attention.backends.triton_attn",
        "vllm.v1.attention.backends.flex_attention",
        FLASHINFER,
        "vllm.device_allocator.cumem",
        "vllm.device_allocator.sleep_mode_backend",
        "vllm.distributed.elastic_ep.elastic_execute",
        "vllm.model_executor.layers.quantization.online.base",
        "vllm.model_executor.warmup.kernel_warmup",
        "vllm.utils.jit_monitor",
    ),
}
UNSERVED = {"dev", "pooling", "speech_to_text"}
"""Folders of paths that a server of ours does not have: nobody asks for more than text."""
PARSER = "the parser"
"""Stands for vLLM's own options among the modules."""
FEW = 3
"""So many that spoil it, and nothing is imported any more but what is needed."""


class Unfit(Exception):
    """No server can be forked from this process. Says why, for people."""


class Spoilt(Exception):
    """Importing `name`, which can be left out, has opened the GPU."""

    def __init__(self, name: str, culprit: str) -> None:
        super().__init__(f"importing {name} has opened the GPU, in {culprit}")
        self.name = name


def preload() -> None:
    """Begin anew with the libraries that vLLM gives to the workers it spawns on a CPU.

    It does so by LD_PRELOAD (platforms/cpu.py), which a fork cannot. Without torch's
    own OpenMP, threads that are bound to cores share one (vLLM issue 27369).
    """
    present = os.environ.get("LD_PRELOAD", "")
    found = []
    for package, pattern in (
        ("vllm", "libs/libtcmalloc*.so*"),
        ("torch", "lib/libgomp*.so*"),
        ("torch", "../torch.libs/libgomp*.so*"),
    ):
        spec = importlib.util.find_spec(package)
        if spec is not None and spec.origin is not None:
            found += sorted(Path(spec.origin).parent.glob(pattern))[:1]
    wanted = [str(path) for path in found if path.name.partition(".")[0] not in present]
    if wanted:
        os.environ["LD_PRELOAD"] = ":".join([*wanted, *filter(None, [present])])
        os.execv(sys.executable, sys.orig_argv)  # noqa: S606 - ourselves


def import_all(device: str, model: Path, without: Sequence[str]) -> None:
    """Import what a server of `model` needs, but for `without`. Raises Unfit, or Spoilt."""
    watch = Watch()
    sys.meta_path.insert(0, watch)
    try:
        import_needed()
        if watch.spoilt():
            raise Unfit(f"importing vLLM has opened the GPU, in {watch.culprit}")
        useful = (*USEFUL, *routers(), *USEFUL_ON[device], *modules_of(model), PARSER)
        for name in useful if len(without) < FEW else ():
            if name in without:
                continue
            if name == PARSER:
                build_parser()
            elif name == FLASHINFER:
                import_flashinfer()
            else:
                can_import(name)
            if watch.spoilt():
                raise Spoilt(name, watch.culprit)
    finally:
        sys.meta_path.remove(watch)
    if device == "cpu":
        fork_workers()
        override_kernels()


class Watch:
    """Finds no module, and so is asked for each that is imported: sees which opens the GPU."""

    def __init__(self) -> None:
        self.culprit = ""
        self._latest = "vllm"

    def find_spec(self, name: str, path: object = None, target: object = None) -> None:  # noqa: ARG002 - as Python calls it
        self.spoilt()
        self._latest = name

    def spoilt(self) -> bool:
        """Whether the GPU is open; `culprit` is then what was imported when it was not yet."""
        if not self.culprit and on_gpu():
            self.culprit = self._latest
        return bool(self.culprit)


def on_gpu() -> bool:
    """Whether this process has begun to use CUDA: from then on no fork of it can.

    What it has open tells less: to count devices, as PyTorch does when it is asked whether there
    are any, NVML opens them too.
    """
    # Asked thousands of times, mostly for no GPU: looking for a library takes ten times as long.
    if not any(map(os.path.exists, UNIFIED_MEMORY)) or (driver := loaded(CUDA)) is None:
        return False
    return bool(driver.cuDeviceGetCount(ctypes.byref(ctypes.c_int())) != NOT_INITIALIZED)


def let_go_of_nvml() -> None:
    """Who counts devices initializes NVML, and leaves it so. Forks that want it begin anew."""
    if (nvml := loaded(NVML)) is not None:
        while nvml.nvmlShutdown() == 0:
            pass  # it counts who has initialized it


def loaded(library: str) -> ctypes.CDLL | None:
    """That library, if this process has it already."""
    with contextlib.suppress(OSError):
        return ctypes.CDLL(library, mode=os.RTLD_NOLOAD)
    return None


def import_needed() -> None:
    try:
        importlib.import_module("vllm")
    except Exception as error:
        raise Unfit(f"vLLM cannot be imported: {error!r}") from error
    for choices in (SERVERS, *((name,) for name in NEEDED)):
        if not any(can_import(name) for name in choices):
            version = getattr(sys.modules["vllm"], "__version__", "of unknown version")
            raise Unfit(f"vLLM {version} is not known to the warm host: no {choices[-1]}")


def can_import(name: str) -> bool:
    # Anything may go wrong in a module that this machine has no use for.
    with contextlib.suppress(Exception):
        importlib.import_module(name)
        return True
    return False


def routers() -> list[str]:
    """The modules of the server's paths, which it imports only when its engine is up.

    Imported then, they are a tenth of a start on a small CPU.
    """
    found = []
    with contextlib.suppress(Exception):
        package = Path(str(sys.modules["vllm"].__file__)).parent
        for file in sorted(package.glob("entrypoints/**/api_router.py")):
            within = file.relative_to(package.parent).with_suffix("").parts
            if not UNSERVED & set(within):
                found.append(".".join(within))
    return found


def import_flashinfer() -> None:
    """A third of a second of each start (H200), if it can be had without the GPU."""
    with architecture_told() as told:
        if told:
            can_import(FLASHINFER)


def modules_of(model: Path) -> list[str]:
    """Where vLLM has the classes that the model's configuration names, as far as that is known."""
    with contextlib.suppress(Exception):
        named = json.loads((model / "config.json").read_text())["architectures"]
        known = importlib.import_module("vllm.model_executor.models.registry").ModelRegistry.models
        return [known[name].module_name for name in named if name in known]
    return []


def build_parser() -> None:
    """Have vLLM look at its own options once: it remembers what it found."""
    with contextlib.suppress(Exception):
        arguments = next(
            module
            for name in ("vllm.entrypoints.launchers.cli_args", "vllm.entrypoints.openai.cli_args")
            if (module := sys.modules.get(name)) is not None
        )
        utilities = importlib.import_module("vllm.utils.argparse_utils")
        arguments.make_arg_parser(utilities.FlexibleArgumentParser())


def fork_workers() -> None:
    """Have a server fork its workers on a CPU too, where vLLM insists on spawning them.

    Spawning would import all anew, twice. What vLLM fears is that a parent has run
    OpenMP threads, which a fork does not survive: neither host nor API server do.
    """
    fork = multiprocessing.get_context("fork")
    for module in list(sys.modules.values()):
        if module.__name__.startswith("vllm.") and "get_mp_context" in vars(module):
            vars(module)["get_mp_context"] = lambda: fork


def override_kernels() -> None:
    """Put in place of Triton's kernels, once, what each worker on a CPU would: 0.2 s of a start.

    vLLM (0.32) looks at all that every module has for that. What is imported later finds them
    in their places.
    """
    with contextlib.suppress(Exception):
        platform = importlib.import_module("vllm.platforms").current_platform
        platform.register_triton_kernel_overrides()
        type(platform).register_triton_kernel_overrides = classmethod(lambda _: None)
