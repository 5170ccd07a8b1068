"""A file that equals the engine's weights, and the quick way back from it to the device.

Runs in vLLM's worker process. The file lies in the page cache, which costs no memory
that anybody else needs; a few threads read it into small pinned buffers, from which
the device fetches. What was in the file before is never trusted: in each life of an
engine it is first compared, byte by byte, with what is on the device.

Knows memory and a file, not vLLM. Python 3.10, torch.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import queue
import time
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor, wait
from dataclasses import dataclass
from pathlib import Path

import torch

PAGE_BYTES = 4096
SPARE_BUFFERS = 4
"""More of them than threads that fill them: those that the device is fetching."""
SUMMED_TOGETHER = 4
"""Chunks. So much more of the device is held, by PyTorch, until the next sleep."""
SPARE_BYTES = 4 << 30
"""What an image leaves free on its disk, where the daemon's database may be too."""


class Unfit(Exception):
    """There is no image of this memory. Nothing has been touched."""


class Unfinished(Unfit):
    """There was no time for all of it. The next save goes on from there."""


class Damaged(Exception):
    """What came from the image is not what was saved. The memory now holds something else."""


@dataclass(frozen=True)
class Chunk:
    """A piece of memory, one-dimensional uint8, and where in the file it belongs."""

    memory: torch.Tensor
    offset: int


class Image:
    """One file, kept equal to the regions that are saved, for the life of this process.

    threads      that copy at once
    chunk_bytes  copied at once; a multiple of 8. So large are the pinned buffers, of which
                 there are a few more than threads
    """

    def __init__(self, path: Path, *, threads: int, chunk_bytes: int) -> None:
        self._path = path
        self._threads = threads
        self._chunk_bytes = chunk_bytes
        self._lanes: list[Lane] = []
        # For this whole life: a wake begins no threads (docs/decisions/0029-one-heap.md).
        self._pool = ThreadPoolExecutor(threads, thread_name_prefix="wattnap-image")
        self._file = -1
        self._layout: list[tuple[int, int]] = []
        self._marks: dict[int, int] = {}  # of the chunks that the file is known to equal

    def save(self, regions: Sequence[torch.Tensor], *, budget_s: float) -> int:
        """Write what differs from the file; return how many bytes that were.

        `regions` are one-dimensional uint8, all on one device, which nobody else uses
        meanwhile. After `budget_s` it stops: a later call goes on from there.

        Raises:
            Unfinished: it stopped.
            Unfit: the disk is too small, or another process has the file.
            OSError
        """
        chunks = self._cut(regions)
        layout = layout_of(regions)
        if layout != self._layout:
            self._layout, self._marks = layout, {}
        end = chunks[-1].offset + chunks[-1].memory.numel()
        filled = self._open(end)
        self._marks = {
            index: mark
            for index, mark in self._marks.items()
            if chunks[index].offset + chunks[index].memory.numel() <= filled
        }
        now = marks_of(regions, self._chunk_bytes)
        ends_s = time.perf_counter() + budget_s
        written = []

        def bring(lane: Lane, index: int) -> None:
            if time.perf_counter() < ends_s:
                written.append(lane.save(self._file, chunks[index], filled))
                self._marks[index] = now[index]

        changed = [index for index, mark in enumerate(now) if self._marks.get(index) != mark]
        for index in changed:
            self._marks.pop(index, None)
        self._spread(bring, changed, regions[0].device)
        if len(self._marks) < len(chunks):
            saved = sum(chunks[index].memory.numel() for index in self._marks)
            whole = sum(region.numel() for region in regions)
            raise Unfinished(f"{saved >> 20} of {whole >> 20} MiB are saved after {budget_s:.0f} s")
        return sum(written)

    def load(self, regions: Sequence[torch.Tensor]) -> int:
        """Copy the file into the regions; return how many bytes that were.

        Raises:
            Unfit: these regions, at these addresses, were not saved by this process.
            Damaged, OSError: some of it may have been copied.
        """
        chunks = self._cut(regions)
        if layout_of(regions) != self._layout or len(self._marks) != len(chunks):
            raise Unfit("these weights were not saved")

        def fetch(lane: Lane, index: int) -> None:
            lane.load(self._file, chunks[index])

        self._spread(fetch, range(len(chunks)), regions[0].device)
        # Not in the lanes: their threads take turns at Python, and that is what would take long.
        marks = marks_of(regions, self._chunk_bytes)
        wrong = sum(mark != self._marks[index] for index, mark in enumerate(marks))
        if wrong:
            raise Damaged(f"{wrong} of {len(chunks)} chunks of {self._path} are not what was saved")
        return sum(region.numel() for region in regions)

    def close(self) -> None:
        """Let go of the file, for another to take. Nothing can be saved or loaded after it."""
        self._pool.shutdown()
        if self._file >= 0:
            os.close(self._file)
        self._file, self._marks = -1, {}

    def _cut(self, regions: Sequence[torch.Tensor]) -> list[Chunk]:
        chunks, offset = [], 0
        for region in regions:
            for memory in region.split(self._chunk_bytes):
                chunks.append(Chunk(memory, offset))
                offset += -(-memory.numel() // PAGE_BYTES) * PAGE_BYTES
        return chunks

    def _open(self, size: int) -> int:
        """Have the file, ours and `size` bytes long; return how much of it was there."""
        if self._file < 0:
            self._path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
            file = os.open(self._path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
            try:
                fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError as error:
                os.close(file)
                raise Unfit(f"{self._path} is another engine's") from error
            self._file = file
        status, disk = os.fstat(self._file), os.fstatvfs(self._file)
        free = disk.f_bavail * disk.f_frsize + status.st_blocks * 512
        if size + SPARE_BYTES > free:
            self._marks = {}
            os.ftruncate(self._file, 0)
            raise Unfit(f"{self._path} would leave less than {SPARE_BYTES >> 30} GiB of its disk")
        os.ftruncate(self._file, size)
        return min(status.st_size, size)

    def _spread(
        self, work: Callable[[Lane, int], None], indexes: Iterable[int], device: torch.device
    ) -> None:
        """Do the work for each index, on all lanes at once. Raises what one of them raised."""
        if not self._lanes:
            ring = Ring(self._threads + SPARE_BUFFERS, self._chunk_bytes, device)
            self._lanes = [Lane(device, ring) for _ in range(self._threads)]
        if device.type == "cuda":
            torch.cuda.synchronize(device)  # our streams do not wait for vLLM's
        todo: queue.SimpleQueue[int] = queue.SimpleQueue()
        for index in indexes:
            todo.put(index)

        def run(lane: Lane) -> None:
            with lane.used():
                while not todo.empty():
                    with contextlib.suppress(queue.Empty):  # another lane was quicker
                        work(lane, todo.get_nowait())

        running = [self._pool.submit(run, lane) for lane in self._lanes]
        wait(running)  # none of them copies on once we have told of another's failure
        for lane_run in running:
            lane_run.result()


class Ring:
    """Buffers that the device can fetch from, pinned if it is a GPU, and when it has done so.

    The device is quicker than a thread that reads: so there are few more than threads.
    """

    def __init__(self, count: int, size: int, device: torch.device) -> None:
        cuda = device.type == "cuda"
        self._free: queue.SimpleQueue[Buffer] = queue.SimpleQueue()
        for _ in range(count):
            memory = torch.empty(size, dtype=torch.uint8, pin_memory=cuda)
            self._free.put(Buffer(memory, torch.cuda.Event() if cuda else None))

    @contextlib.contextmanager
    def buffer(self) -> Iterator[Buffer]:
        """One of them. What is ordered on the current stream may still use it."""
        buffer = self._free.get()
        try:
            if buffer.fetched is not None:
                buffer.fetched.synchronize()
            yield buffer
            if buffer.fetched is not None:
                buffer.fetched.record()
        finally:
            self._free.put(buffer)


class Buffer:
    """memory, bytes  the same, for torch and for the file
    fetched        when the device has been to it
    """

    def __init__(self, memory: torch.Tensor, fetched: torch.cuda.Event | None) -> None:
        self.memory, self.fetched = memory, fetched
        self.bytes = memoryview(memory.numpy())


class Lane:
    """One thread's way between file and device, and its stream on a GPU."""

    def __init__(self, device: torch.device, ring: Ring) -> None:
        self._ring = ring
        self._stream = torch.cuda.Stream(device) if device.type == "cuda" else None
        # What is compared with the device, while it is used: new memory for each chunk would
        # be the system's each time (docs/decisions/0033-heap-kept.md), and has to be zeroed.
        self._there: torch.Tensor | None = None

    @contextlib.contextmanager
    def used(self) -> Iterator[None]:
        """Around all use in a thread. When it is left, all copies have arrived."""
        try:
            with torch.inference_mode():
                if self._stream is None:
                    yield
                    return
                with torch.cuda.stream(self._stream):
                    yield
                    self._stream.synchronize()
        finally:
            self._there = None

    def load(self, file: int, chunk: Chunk) -> None:
        """Read one chunk, and order the device to fetch it, while the next one is read."""
        size = chunk.memory.numel()
        with self._ring.buffer() as buffer:
            if read(file, buffer.bytes[:size], chunk.offset) < size:
                raise Damaged("the image is too short")
            chunk.memory.copy_(buffer.memory[:size], non_blocking=True)

    def save(self, file: int, chunk: Chunk, filled: int) -> int:
        """Make the file equal to a chunk; return how many bytes had to be written.

        The first `filled` bytes of the file hold something, possibly the same.
        """
        size: int = chunk.memory.numel()
        with self._ring.buffer() as buffer:
            have, left = buffer.memory[:size], buffer.bytes[:size]
            have.copy_(chunk.memory, non_blocking=True)
            if self._stream is not None:
                self._stream.synchronize()
            if chunk.offset < filled:
                if self._there is None:
                    self._there = torch.empty(buffer.memory.shape, dtype=torch.uint8)
                there = self._there[:size]
                got = read(file, memoryview(there.numpy()), chunk.offset)
                if got == size and torch.equal(have, there):
                    return 0
            offset = chunk.offset
            while left:
                done = os.pwrite(file, left, offset)
                left, offset = left[done:], offset + done
            return size


def read(file: int, into: memoryview, offset: int) -> int:
    """Fill it from the file; return how much of that there was."""
    got, size = 0, len(into)
    while got < size and (more := os.preadv(file, [into[got:]], offset + got)):
        got += more
    return got


def layout_of(regions: Sequence[torch.Tensor]) -> list[tuple[int, int]]:
    return [(region.data_ptr(), region.numel()) for region in regions]


def marks_of(regions: Sequence[torch.Tensor], chunk_bytes: int) -> list[int]:
    """A 64-bit sum of each chunk's words, weighted by their places: made where the memory is.

    It tells lost, late and misplaced copies, not forgeries.
    """
    device, words = regions[0].device, chunk_bytes // 8
    weights = torch.arange(1, 2 * words, 2, dtype=torch.int64, device=device)
    product = torch.empty((SUMMED_TOGETHER, words), dtype=torch.int64, device=device)
    marks: list[torch.Tensor] = []
    for region in regions:
        whole = region.numel() // chunk_bytes
        chunks = region[: whole * chunk_bytes].view(torch.int64).view(whole, words)
        for some in chunks.split(SUMMED_TOGETHER):
            torch.mul(some, weights, out=product[: len(some)])
            marks.append(product[: len(some)].sum(dim=1))
        if (rest := region[whole * chunk_bytes :]).numel():
            rest = torch.nn.functional.pad(rest, (0, -rest.numel() % 8)).view(torch.int64)
            marks.append((rest * weights[: len(rest)]).sum().view(1))
    return [int(mark) for mark in torch.cat(marks).tolist()]
