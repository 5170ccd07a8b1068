"""How fast weights come back from their image: the engine's own code, without an engine.

    python bench/reload.py --file /var/tmp/image --gb 13

Needs torch and nothing of ours but drivers/engine_side beside it; a GPU, or
`--device cpu` to see that it runs. One line of JSON each for:

    limits    what the parts can do: device from pinned memory; file into pinned memory,
              by preadv and through a mapping, for each number of threads
    written   the first save, into a new file
    ring      for each number of threads and size of chunk: comparing a file that is there,
              and loading it; the median of --repeat, and the best
    cold      the best ring again, the file not in the page cache
"""

from __future__ import annotations

import argparse
import json
import mmap
import os
import statistics
import sys
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import torch

sys.path.insert(0, str(Path(__file__).parents[1] / "drivers/engine_side"))

from wattnap_engine.image import SPARE_BUFFERS, Image, read

T = TypeVar("T")
MIB = 1 << 20
SEGMENTS_MIB = (2, 20, 20, 68, 136, 136, 270)  # as vLLM's allocator has them for 7B


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--file", type=Path, required=True, help="on the disk to try; removed")
    parser.add_argument("--gb", type=float, default=13.0)
    parser.add_argument("--device", default="cuda")
    parser.add_argument("--threads", type=int, nargs="+", default=[2, 4, 8, 12])
    parser.add_argument("--chunk-mib", type=int, nargs="+", default=[4, 16, 64])
    parser.add_argument("--repeat", type=int, default=3)
    options = parser.parse_args()
    memory = list(segments(int(options.gb * 1e9), options.device))
    try:
        measure(options, memory, Path(options.file))
    finally:
        options.file.unlink(missing_ok=True)


def measure(options: argparse.Namespace, memory: list[torch.Tensor], file: Path) -> None:
    size = sum(segment.numel() for segment in memory)
    image = Image(file, threads=max(options.threads), chunk_bytes=16 * MIB)
    took_s, written = timed(lambda: image.save(memory, budget_s=600))
    image.close()
    tell("written", gb=written / 1e9, gb_per_s=rate(written, took_s))
    limits(options, file)
    best = (0.0, 0, 0)
    for threads in options.threads:
        for chunk_mib in options.chunk_mib:
            ring = Image(file, threads=threads, chunk_bytes=chunk_mib * MIB)
            compare_s, written = timed(lambda ring=ring: ring.save(memory, budget_s=600))
            again_s, _ = timed(lambda ring=ring: ring.save(memory, budget_s=600))
            loads_s = [load(ring, memory) for _ in range(options.repeat)]
            ring.close()
            median = rate(size, statistics.median(loads_s))
            best = max(best, (median, threads, chunk_mib))
            tell(
                "ring",
                threads=threads,
                chunk_mib=chunk_mib,
                pinned_mib=(threads + SPARE_BUFFERS) * chunk_mib,
                written_bytes=written,
                compare_s=round(compare_s, 3),
                again_s=round(again_s, 3),
                load_s=[round(took_s, 3) for took_s in loads_s],
                gb_per_s=median,
                best_gb_per_s=rate(size, min(loads_s)),
            )
    _, threads, chunk_mib = best
    ring = Image(file, threads=threads, chunk_bytes=chunk_mib * MIB)
    ring.save(memory, budget_s=600)
    with file.open("rb") as opened:
        os.fsync(opened.fileno())
        os.posix_fadvise(opened.fileno(), 0, 0, os.POSIX_FADV_DONTNEED)
    cold_s = load(ring, memory)
    tell("cold", threads=threads, chunk_mib=chunk_mib, gb_per_s=rate(size, cold_s))


def segments(total: int, device: str) -> Iterator[torch.Tensor]:
    """Memory filled with what does not compress, `total` bytes or a little less."""
    turn = 0
    while total >= MIB:
        size = min(SEGMENTS_MIB[turn % len(SEGMENTS_MIB)] * MIB, total // MIB * MIB)
        yield torch.empty(size, dtype=torch.uint8, device=device).random_()
        total, turn = total - size, turn + 1


def load(image: Image, memory: list[torch.Tensor]) -> float:
    """Seconds that it takes, its check of the sums included; raises if they are wrong."""
    for segment in memory:
        segment.zero_()
    took_s, _ = timed(lambda: image.load(memory))
    return took_s


def limits(options: argparse.Namespace, file: Path) -> None:
    """What no arrangement of the parts can beat."""
    cuda = options.device.startswith("cuda")
    result = {"device_gb_per_s": device_rate(options.device)} if cuda else {}
    for threads in options.threads:
        by_read, by_mapping = file_rates(file, threads, pinned=cuda)
        result |= {f"read_{threads}_gb_per_s": by_read, f"mapping_{threads}_gb_per_s": by_mapping}
    tell("limits", **result)


def device_rate(device: str) -> float:
    """GB/s from pinned memory."""
    host = torch.empty(256 * MIB, dtype=torch.uint8, pin_memory=True)
    there = torch.empty_like(host, device=device)

    def fetch() -> None:
        for _ in range(20):
            there.copy_(host, non_blocking=True)

    fetch()
    return rate(20 * host.numel(), timed(fetch)[0])


def file_rates(file: Path, threads: int, *, pinned: bool) -> tuple[float, float]:
    """GB/s from the page cache into host memory, by preadv and from a mapping."""
    size = file.stat().st_size
    buffers = [torch.empty(16 * MIB, dtype=torch.uint8, pin_memory=pinned) for _ in range(threads)]
    starts = range(0, size - 16 * MIB, 16 * MIB)
    with file.open("rb") as opened:
        number = opened.fileno()
        mapped = mmap.mmap(number, 0, access=mmap.ACCESS_COPY)
        whole = torch.frombuffer(memoryview(mapped), dtype=torch.uint8)

        def by_read(lane: int) -> None:
            for start in starts[lane::threads]:
                read(number, memoryview(buffers[lane].numpy()), start)

        def by_mapping(lane: int) -> None:
            for start in starts[lane::threads]:
                buffers[lane].copy_(whole[start : start + 16 * MIB])

        def all_lanes(work: Callable[[int], None]) -> float:
            with ThreadPoolExecutor(threads) as pool:
                took_s, _ = timed(lambda: list(pool.map(work, range(threads))))
            return rate(len(starts) * 16 * MIB, took_s)

        return all_lanes(by_read), all_lanes(by_mapping)


def timed(work: Callable[[], T]) -> tuple[float, T]:
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    began_s = time.perf_counter()
    result = work()
    if torch.cuda.is_available():
        torch.cuda.synchronize()
    return time.perf_counter() - began_s, result


def rate(size: int, took_s: float) -> float:
    return round(size / took_s / 1e9, 2)


def tell(what: str, **numbers: object) -> None:
    print(json.dumps({"bench": "reload", "what": what, **numbers}), flush=True)


if __name__ == "__main__":
    main()
