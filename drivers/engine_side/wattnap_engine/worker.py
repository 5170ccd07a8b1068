"""What is mixed into vLLM's worker (--worker-extension-cls), called by name from the middleware.

Each method is called in every worker, while none of them runs a model. Python 3.10.
"""

from __future__ import annotations

import ctypes
import functools
import logging
import os
import time
from pathlib import Path
from typing import Any

import torch

from .heap import Heap, in_use
from .image import Image, Unfinished, Unfit
from .stacks import Stacks

# Measured by bench/reload.py.
THREADS = 12
CHUNK_BYTES = 8 << 20
NOT_MAPPED = 1
"""CUDA_ERROR_INVALID_VALUE: what cuMemRetainAllocationHandle says of an address where nothing is
mapped. What it finds it keeps from being freed, until cuMemRelease (CUDA driver API, 6.14)."""

log = logging.getLogger("vllm.wattnap")  # below vLLM's own, whose output the daemon reads


class Extension:
    """Names begin with `wattnap_`: vLLM refuses an extension that hides something of its own."""

    wattnap_image: Image | None = None
    wattnap_heap = Heap()
    wattnap_stacks = Stacks()

    def wattnap_memory(self) -> dict[str, int] | None:
        """Bytes of the device that are free, and that a sleep must give back; None on a CPU."""
        device = device_of(self)
        if device.type != "cuda":
            return None
        free_bytes, _ = torch.cuda.mem_get_info(device)
        allocator = find_allocator()
        return {
            "free_bytes": free_bytes,
            "pool_bytes": 0 if allocator is None else allocator.get_current_usage(),
        }

    def wattnap_held(self) -> int:
        """Bytes of the allocator's that have memory of the device's behind them; on a GPU only.

        After a sleep there are none, whatever others have done with that memory since.
        """
        allocator = find_allocator()
        if allocator is None:
            return 0
        pieces = [(address, data.handle[1]) for address, data in allocator.pointer_to_data.items()]
        return sum(size for address, size in pieces if is_held(address))

    def wattnap_prepare(self, path: str, budget_s: float) -> bool:
        """Some of what `wattnap_save` does, so that this has less to do; is there more of it?"""
        try:
            self.wattnap_bring(path, budget_s)
        except Unfinished:
            return True
        except Exception:  # noqa: BLE001 - wattnap_save tells of it
            return False
        return False

    def wattnap_save(self, path: str, budget_s: float) -> str:
        """Before a level-2 sleep. Return why there is no image: "" if there is one."""
        began_s = time.perf_counter()
        try:
            written = self.wattnap_bring(path, budget_s)
        except Exception as error:  # noqa: BLE001 - it only reads weights: they can come from files
            log.warning("no image of the weights: %r", error)
            return str(error)
        log.info(
            "the image equals the weights after %.2f s; %.3f GB of it were written",
            time.perf_counter() - began_s,
            written / 1e9,
        )
        return ""

    def wattnap_bring(self, path: str, budget_s: float) -> int:
        """As Image.save, of all weights."""
        if self.wattnap_image is None:
            threads = min(THREADS, len(os.sched_getaffinity(0)))
            rank: int = self.rank  # type: ignore[attr-defined]  # of the worker we are mixed into
            self.wattnap_image = Image(
                Path(f"{path}-{rank}"), threads=threads, chunk_bytes=CHUNK_BYTES
            )
        return self.wattnap_image.save(regions_of(self), budget_s=budget_s)

    def wattnap_tidy(self) -> int | None:
        """Once it sleeps: give back the memory that loading and serving have left free.

        And what only a running kernel needs. Return the bytes of its heap that are in use.
        """
        if is_cuda(self):
            self.wattnap_stacks.give_up(libcuda())
        given_back = self.wattnap_heap.tidy()
        if given_back:
            log.info("%d MiB of free memory were given back", given_back >> 20)
        return in_use()

    def wattnap_rouse(self) -> None:
        """Before anything else of a wake. Raises if this engine must not serve."""
        if is_cuda(self):
            self.wattnap_stacks.take_back(libcuda())

    def wattnap_load(self) -> str:
        """Once the weights' memory is back, before it is used. Return as `wattnap_save` does.

        Raises if the weights are now wrong: then this engine must not serve.
        """
        began_s = time.perf_counter()
        if self.wattnap_image is None:
            return "nothing was saved"
        try:
            loaded = self.wattnap_image.load(regions_of(self))
        except Unfit as error:
            log.warning("the weights cannot come from their image: %s", error)
            return str(error)
        took_s = time.perf_counter() - began_s
        log.info("%.3f GB of weights came from their image in %.3f s", loaded / 1e9, took_s)
        return ""


def device_of(worker: Any) -> torch.device:
    return torch.device(worker.device)


def is_cuda(worker: Any) -> bool:
    return device_of(worker).type == "cuda" and not torch.version.hip


def find_allocator() -> Any:
    """vLLM's, of the memory that a sleep frees; None where it sleeps without one."""
    try:
        from vllm.device_allocator.cumem import CuMemAllocator
    except ImportError:
        return None
    return CuMemAllocator.instance


def is_held(address: int) -> bool:
    """There is memory behind an address of the allocator's, or nobody can tell."""
    if torch.version.hip:
        return True
    handle = ctypes.c_uint64()
    driver = libcuda()
    code: int = driver.cuMemRetainAllocationHandle(ctypes.byref(handle), ctypes.c_void_p(address))
    if code == 0:
        driver.cuMemRelease(handle)
    return code != NOT_MAPPED


@functools.cache
def libcuda() -> Any:
    return ctypes.CDLL("libcuda.so.1")


def regions_of(worker: Any) -> list[torch.Tensor]:
    """All memory that holds weights, as bytes.

    On a GPU that is what vLLM's allocator calls so (device_allocator/cumem.py, 0.17 to
    0.33): parameters in the form the kernels want, buffers, tables, whether a module
    owns up to them or not. A sleep drops what is behind these addresses, and waking
    puts new memory behind the same ones.

    Raises Unfit if there is none, or none of that kind.
    """
    if device_of(worker).type == "cpu":
        return storages_of(worker.model_runner.get_model())
    allocator = find_allocator()
    if allocator is None or torch.version.hip:
        raise Unfit("this vLLM has no allocator for sleep that we know")
    regions = [
        view(address, data.handle[1], device_of(worker))
        for address, data in sorted(allocator.pointer_to_data.items())
        if data.tag == "weights"
    ]
    if not regions:
        raise Unfit("no memory is set aside for weights: no sleep mode?")
    return regions


def storages_of(model: torch.nn.Module) -> list[torch.Tensor]:
    """Each storage behind the parameters and buffers of a model, once."""
    tensors = [*model.parameters(), *model.buffers()]
    storages = {t.untyped_storage().data_ptr(): t.untyped_storage() for t in tensors}
    return [
        torch.empty(0, dtype=torch.uint8).set_(storage)
        for storage in storages.values()
        if storage.nbytes()
    ]


@functools.cache
def view(address: int, size: int, device: torch.device) -> torch.Tensor:
    """Bytes of a device as a tensor, which is kept.

    PyTorch (2.13) leaks a few objects whenever it is told of such memory (pytorch#194877),
    which a sleep and a wake would do for each of the weights' regions.
    """
    return torch.as_tensor(Raw(address, size), device=device)


class Raw:
    """Device memory that belongs to somebody else, as torch can be told of it."""

    def __init__(self, address: int, size: int) -> None:
        self.__cuda_array_interface__ = {
            "data": (address, False),
            "shape": (size,),
            "typestr": "|u1",
            "version": 3,
        }
