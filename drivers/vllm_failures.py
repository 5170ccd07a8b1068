"""Why a vLLM server ended before it could serve: pure functions of its output and status.

The signs are strings of vLLM 0.11.0, 0.26.0 and 0.32.0 as their sources have them, and
of PyTorch, CUDA and Python beneath; "tried" marks what 0.32.0 said on a CPU. Output that
shows no sign is "unknown": guessing would make somebody repair the wrong thing.
"""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from drivers.vllm_command import PREFIX, last_words

Kind = Literal[
    "memory_taken",
    "cache_too_small",
    "out_of_memory",
    "disk_full",
    "place_taken",
    "no_device",
    "bad_loader",
    "bad_install",
    "not_permitted",
    "bad_flag",
    "no_model",
    "bad_model",
    "bad_settings",
    "unknown",
]
"""In the order in which signs count, if there are several: a cause before its effects."""

SHORT_OF_MEMORY: frozenset[Kind] = frozenset({"memory_taken", "cache_too_small", "out_of_memory"})
"""A smaller engine may start."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Failure:
    """A start that failed.

    said         the line that shows why
    free_share   memory_taken: of the device's memory, what was free (0 to 1)
    fits_tokens  cache_too_small: the longest context for which there was room
    others       other programs are known to hold memory of the device, or may have been why
                 the kernel wanted some of the host's: it passes when they end
    by_kernel    it ended this one for want of memory, whoever had it
    """

    kind: Kind
    said: str = ""
    free_share: float | None = None
    fits_tokens: int | None = None
    others: bool = False
    by_kernel: bool = False

    @property
    def advice(self) -> str:
        """What to do, for people; "" where nobody knows."""
        if self.kind == "cache_too_small" and self.fits_tokens is not None:
            return f"{ADVICE[self.kind]}; {self.fits_tokens} tokens would fit"
        return ADVICE.get(self.kind, "")


# vLLM's own sentences first in each, then those of what is below it.
SIGNS: dict[Kind, re.Pattern[str]] = {
    "memory_taken": re.compile(
        # v1/worker/utils.py:766, v1/worker/gpu_worker.py:191 (0.11), v1/worker/cpu_worker.py:87
        # (tried): a share of all memory is asked for, whoever uses it already.
        r"is less than desired [GC]PU memory utilization"
    ),
    "cache_too_small": re.compile(
        # v1/core/kv_cache_utils.py:1011, :1031 (both tried), :2455
        r"No available memory for the cache blocks"
        r"|To serve at least one request with the models?'s max seq len"
        r"|Cannot auto-fit max_model_len"
    ),
    "out_of_memory": re.compile(
        r"not enough GPU memory"  # v1/worker/gpu_model_runner.py:5140
        # v1/worker/cpu_worker.py:219, :241 (tried)
        r"|on kv cache allocation is less than requested memory for kv"
        r"|CUDA out of memory|OutOfMemoryError|CUDA (driver )?error: out of memory"
        r"|cudaErrorMemoryAllocation|CU(DA|BLAS|DNN)\w*_ALLOC_FAILED|CUDA_ERROR_OUT_OF_MEMORY"
        # A Jetson's ways to say so: its allocator's, and PyTorch's when it asks the NVML that
        # is not there who holds the memory.
        r"|NvMapMemAlloc|NVML_SUCCESS == r INTERNAL ASSERT FAILED"
        r"|DefaultCPUAllocator: (can't allocate|not enough) memory|std::bad_alloc"
        r"|^MemoryError\b|^OSError: \[Errno 12\]"
    ),
    "disk_full": re.compile(r"No space left on device"),
    "place_taken": re.compile(r"[Aa]ddress already in use|devices are busy or unavailable"),
    "no_device": re.compile(
        r"Failed to infer device type"  # config/device.py:56
        r"|No CUDA GPUs are available|no CUDA-capable device is detected"
        r"|Found no NVIDIA driver|NVIDIA driver on your system is too old"
        r"|CUDA driver version is insufficient|CUDA driver is a stub library"
        r"|forward compatibility was attempted|system not yet initialized"
        r"|no kernel image is available for execution|libcuda\.so[.\d]*: cannot open"
    ),
    # model_executor/model_loader/weight_utils.py, and any line of its own in a traceback.
    "bad_loader": re.compile(r"Please install instanttensor|^\s*File \".*/instanttensor/"),
    "bad_install": re.compile(
        r"^(ModuleNotFoundError|ImportError): |undefined symbol|cannot open shared object file"
        r"|PackageNotFoundError"
    ),
    "not_permitted": re.compile(r"^PermissionError: "),
    # argparse; vLLM says which flags there are, and the error after them (tried).
    "bad_flag": re.compile(r"^(vllm[\w ]*|[\w-]+\.py): error: "),
    "no_model": re.compile(
        r"Invalid repository ID or local directory"  # transformers_utils/config.py:849 (tried)
        r"|Repo id must be in the form|RepositoryNotFoundError|LocalEntryNotFoundError"  # (tried)
        r"|Cannot find any model weights"  # model_loader/default_loader.py:260 (tried)
        r"|Cannot access gated repo|is not a valid model identifier"
    ),
    "bad_model": re.compile(
        # model_executor/models/registry.py:1181 to :1206 (tried)
        r"Model architectures? .{1,200}(not supported|failed to be inspected)"
        r"|No model architectures are specified|Cannot find model module"
        r"|does not recognize this architecture"  # Transformers (tried)
        r"|Failed to load the model config"  # transformers_utils/config.py:412
        # config/model.py:1445, :1454 (tried); config/vllm.py:903; platforms/interface.py:1148
        r"|Unknown quantization method|Invalid quantization method"
        r"|Quantization method specified in the model config"
        r"|Cannot find the config file for"  # model_loader/weight_utils.py (tried)
        r"|is not supported for the current GPU|quantization is currently not supported"
        r"|is not supported for quantization method|quantization method .{1,80} is deprecated"
        r"|SafetensorError|safetensors_rust"  # (tried: a file cut short)
        r"|is greater than the derived max_model_len"  # config/model.py (tried)
        r"|Can't load tokenizer|Couldn't instantiate the backend tokenizer"
    ),
    # What else its checks of the whole configuration find, in pydantic's form (tried).
    "bad_settings": re.compile(r"^Value error, "),
}

ADVICE: dict[Kind, str] = {
    "memory_taken": (
        "other programs hold the memory that vLLM reserves: end them, or let vLLM reserve less"
        " (--gpu-memory-utilization in engine.args)"
    ),
    "cache_too_small": "shorten engine.max_model_len, or give the cache more (engine.kv_cache_mib)",
    "out_of_memory": (
        "choose a smaller or quantized model, or lower engine.kv_cache_mib, engine.max_running"
        " or engine.max_model_len"
    ),
    "disk_full": "make room on the disk; the engine's caches are in engine.cache_dir",
    "place_taken": "another program has its address, or the GPU for itself alone: end that one",
    "no_device": (
        "vLLM finds no GPU that it can use: see to the driver (nvidia-smi), or to"
        " engine.device; a vLLM built for a newer CUDA needs a newer driver"
    ),
    "bad_loader": "InstantTensor cannot load this model here: correct engine.load_format",
    "bad_install": "the engine's packages do not fit together: install the engine anew",
    "not_permitted": "the daemon's user may not read or write that: see to owner and mode",
    "bad_flag": "this vLLM does not take such a flag: correct engine.args",
    "no_model": (
        "there is no whole model there, nor one of that name to download: see to engine.model, a"
        " folder (`wattnap model add` takes one)"
    ),
    "bad_model": "this vLLM cannot run this model so: see to engine.model and engine.quantization",
    "bad_settings": "this vLLM does not take these settings: see to the section [engine]",
}

# Lines that only report, whatever words are in them.
CHATTER = re.compile(r"^(\(\S+ pid=\d+\) )?(DEBUG|INFO|WARNING) ")
# Of a traceback: what was raised is told below, in words.
CODE = re.compile(r"^\s*raise \w")
# v1/engine/utils.py:1432; v1/executor/multiproc_executor.py:316
KILLED_CHILD = re.compile(r"(Failed core proc\(s\): \{.*: |died unexpectedly \(exit code: )-9\b")
FREE_OF_ALL = re.compile(r"\(([\d.]+)/([\d.]+) GiB\)")
FITS = re.compile(r"estimated maximum model length is (\d+)")
OTHERS = re.compile(r"\bProcess \d+ has [\d.]+ [GM]iB memory in use")


def explain(lines: Iterable[str], status: int, *, oom_kills: int = 0) -> Failure:
    """Why it ended, by its last lines and its exit status (negative: a signal).

    `oom_kills`: processes that the kernel has killed for want of memory meanwhile.
    """
    kept = [line for line in lines if not CHATTER.match(line)]
    said = [PREFIX.sub("", line).rstrip() for line in kept]
    for kind, sign in SIGNS.items():
        shown = next((line for line in said if sign.search(line) and not CODE.match(line)), None)
        if shown is not None:
            return _read(kind, last_words(kept) if kind == "bad_loader" else shown)
    # The kernel tells nobody whom it has killed; but it counts, and SIGKILL came from someone.
    killed = status == -9 or any(map(KILLED_CHILD.search, said))
    if killed and oom_kills:
        said_of_it = "killed by the kernel for want of memory"
        return Failure(kind="out_of_memory", said=said_of_it, others=True, by_kernel=True)
    return Failure(kind="unknown", said=last_words(kept))


def _read(kind: Kind, line: str) -> Failure:
    """What the line that shows it also says."""
    free, fits = FREE_OF_ALL.search(line), FITS.search(line)
    return Failure(
        kind=kind,
        said=line.removeprefix("Value error, ")[:300],
        free_share=float(free[1]) / float(free[2]) if free and float(free[2]) else None,
        fits_tokens=int(fits[1]) if fits else None,
        others=kind == "memory_taken" or OTHERS.search(line) is not None,
    )
