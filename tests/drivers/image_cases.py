"""What drivers.engine_side promises of an image, as functions that the engine's Python runs.

    PYTHONPATH=drivers/engine_side PYTHON tests/drivers/image_cases.py FOLDER

prints {case: what went wrong, or null}. That Python has torch, and no pytest.
"""

import json
import os
import sys
import tempfile
import threading
import traceback
from collections.abc import Iterator
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from types import SimpleNamespace
from typing import Any
from unittest import mock

import torch
import wattnap_engine.image
import wattnap_engine.worker
from wattnap_engine.image import PAGE_BYTES, Damaged, Image, Unfinished, Unfit

CHUNK_BYTES = 8192
SIZES = (1, 7, PAGE_BYTES, CHUNK_BYTES, 3 * CHUNK_BYTES + 5, 100_000)


def memory() -> list[torch.Tensor]:
    """The same bytes each time, in regions of odd and even sizes."""
    random = torch.Generator().manual_seed(0)
    return [torch.randint(256, (n,), dtype=torch.uint8, generator=random) for n in SIZES]


def image(path: Path, threads: int = 3) -> Image:
    return Image(path, threads=threads, chunk_bytes=CHUNK_BYTES)


def save(of: Image, regions: list[torch.Tensor]) -> int:
    written: int = of.save(regions, budget_s=60)
    return written


@contextmanager
def raises(error: type[Exception]) -> Iterator[None]:
    try:
        yield
    except error:
        return
    raise AssertionError(f"{error.__name__} was not raised")


def same(some: list[torch.Tensor], other: list[torch.Tensor]) -> bool:
    return all(torch.equal(one, two) for one, two in zip(some, other, strict=True))


def a_full_disk() -> AbstractContextManager[object]:
    """As long as it is entered, no disk has enough to spare."""
    return mock.patch.object(wattnap_engine.image, "SPARE_BYTES", 1 << 60)


def case_comes_back(path: Path) -> None:
    regions, saved = memory(), image(path)

    assert save(saved, regions) == sum(SIZES)

    for region in regions:
        region.fill_(0)

    assert saved.load(regions) == sum(SIZES)
    assert same(regions, memory())
    assert path.stat().st_mode & 0o777 == 0o600


def case_comes_back_twice(path: Path) -> None:
    regions, saved = memory(), image(path, threads=1)
    for _ in range(2):
        save(saved, regions)
        for region in regions:
            region.fill_(1)
        saved.load(regions)

        assert same(regions, memory())


def case_its_threads_stay(path: Path) -> None:
    """New ones at each sleep and wake would leave a little memory behind each time."""
    others = set(threading.enumerate())
    regions, saved, seen = memory(), image(path, threads=3), set[threading.Thread]()
    for _ in range(4):
        save(saved, regions)
        saved.load(regions)
        seen |= set(threading.enumerate()) - others

    assert 1 <= len(seen) <= 3, seen
    assert all(thread.is_alive() for thread in seen)

    saved.close()

    assert not any(thread.is_alive() for thread in seen)


def case_another_life_writes_nothing(path: Path) -> None:
    first = image(path)
    save(first, memory())
    first.close()

    assert save(image(path), memory()) == 0


def case_another_life_writes_what_differs(path: Path) -> None:
    first = image(path)
    save(first, memory())
    first.close()
    regions, second = memory(), image(path)
    regions[4][2 * CHUNK_BYTES] ^= 1

    assert save(second, regions) == CHUNK_BYTES

    changed = [region.clone() for region in regions]
    regions[4].fill_(0)
    second.load(regions)

    assert same(regions, changed)


def case_another_model_takes_the_file(path: Path) -> None:
    first = image(path)
    save(first, memory())
    first.close()
    other, second = [torch.full((5000,), 9, dtype=torch.uint8)], image(path)
    save(second, other)
    other[0].fill_(0)
    second.load(other)

    assert other[0].eq(9).all()
    assert path.stat().st_size == 5000


def case_what_changes_is_saved_again(path: Path) -> None:
    """Two swapped values too, which a plain sum would not tell."""
    regions, saved = memory(), image(path)
    save(saved, regions)

    assert save(saved, regions) == 0

    regions[5][:16] = regions[5][:16].roll(8)
    changed = [region.clone() for region in regions]

    assert save(saved, regions) == CHUNK_BYTES

    regions[5].fill_(0)
    saved.load(regions)

    assert same(regions, changed)


def case_a_changed_file_is_noticed(path: Path) -> None:
    regions, saved = memory(), image(path)
    save(saved, regions)
    with path.open("r+b") as file:
        file.seek(3 * PAGE_BYTES)
        file.write(b"?")
    with raises(Damaged):
        saved.load(regions)


def case_a_cut_file_is_noticed(path: Path) -> None:
    regions, saved = memory(), image(path)
    save(saved, regions)
    os.truncate(path, 9000)
    with raises(Damaged):
        saved.load(regions)


def case_a_removed_file_still_serves(path: Path) -> None:
    regions, saved = memory(), image(path)
    save(saved, regions)
    path.unlink()
    regions[2].fill_(0)
    saved.load(regions)

    assert same(regions, memory())


def case_one_process_has_it(path: Path) -> None:
    save(image(path), memory())
    with raises(Unfit):
        save(image(path), memory())


def case_a_full_disk(path: Path) -> None:
    """It takes no more of it than is there to spare, and leaves none."""
    with a_full_disk(), raises(Unfit):
        save(image(path), memory())

    assert path.stat().st_size == 0


def case_a_disk_that_was_full_for_one_sleep(path: Path) -> None:
    """What has given up its place is not held to be there still."""
    regions, saved = memory(), image(path)
    save(saved, regions)
    with a_full_disk(), raises(Unfit):
        save(saved, regions)
    with raises(Unfit):
        saved.load(regions)

    assert save(saved, regions) == sum(SIZES)

    for region in regions:
        region.fill_(0)
    saved.load(regions)

    assert same(regions, memory())


def case_a_cut_file_is_filled_again(path: Path) -> None:
    """Somebody has made room on the disk: the next sleep writes what is missing."""
    regions, saved = memory(), image(path)
    save(saved, regions)
    os.truncate(path, 3 * PAGE_BYTES)

    assert save(saved, regions) == sum(SIZES[3:])

    for region in regions:
        region.fill_(0)
    saved.load(regions)

    assert same(regions, memory())


def case_out_of_time_and_on(path: Path) -> None:
    regions, saved = memory(), image(path)
    with raises(Unfinished):
        saved.save(regions, budget_s=0)
    with raises(Unfit):
        saved.load(regions)

    assert same(regions, memory())

    save(saved, regions)
    saved.load(regions)

    assert same(regions, memory())


def case_other_memory_is_left_alone(path: Path) -> None:
    saved = image(path)
    save(saved, memory())
    elsewhere = [region + 1 for region in memory()]
    untouched = [region.clone() for region in elsewhere]
    with raises(Unfit):
        saved.load(elsewhere)

    assert same(elsewhere, untouched)


def case_a_devices_weights_are_told_of_once(path: Path) -> None:
    """PyTorch leaks a little each time that it is told of somebody's device memory."""
    told: list[object] = []
    held = {0x3000: ("weights", 30), 0x1000: ("weights", 10), 0x2000: ("kv_cache", 20)}
    pointers = {at: SimpleNamespace(tag=tag, handle=(0, n)) for at, (tag, n) in held.items()}
    allocator = SimpleNamespace(pointer_to_data=pointers)

    def as_tensor(raw: Any, device: torch.device) -> torch.Tensor:
        told.append(raw.__cuda_array_interface__["data"])
        return torch.empty(raw.__cuda_array_interface__["shape"], device="meta")

    a_gpu = SimpleNamespace(device="cuda:0")
    with (
        mock.patch.object(wattnap_engine.worker, "find_allocator", return_value=allocator),
        mock.patch.object(torch, "as_tensor", as_tensor),
    ):
        first, again = (wattnap_engine.worker.regions_of(a_gpu) for _ in range(2))

    assert told == [(0x1000, False), (0x3000, False)]
    assert [region.numel() for region in first] == [10, 30]
    assert all(one is other for one, other in zip(first, again, strict=True))


def worker_on_a_cpu() -> Any:
    """As vLLM makes one, of a model with a few weights."""
    model = torch.nn.Linear(300, 200)
    worker = wattnap_engine.worker.Extension()
    worker.rank, worker.device = 3, "cpu"
    worker.model_runner = SimpleNamespace(get_model=lambda: model)
    return worker


def case_a_worker_prepares_what_it_saves(path: Path) -> None:
    """No time: there is more. With some, all of it is there before the sleep."""
    worker = worker_on_a_cpu()

    assert worker.wattnap_prepare(str(path), 0.0)
    assert not worker.wattnap_prepare(str(path), 60.0)
    assert worker.wattnap_image.save(wattnap_engine.worker.regions_of(worker), budget_s=0) == 0
    assert worker.wattnap_save(str(path), 0.0) == ""
    assert worker.wattnap_load() == ""


def case_a_worker_that_cannot_prepare_says_why_when_it_sleeps(path: Path) -> None:
    """Nothing more can be done beforehand, and the sleep tells of it."""
    worker = worker_on_a_cpu()
    with a_full_disk():
        assert not worker.wattnap_prepare(str(path), 60.0)
        assert "GiB" in worker.wattnap_save(str(path), 60.0)


def case_what_has_memory_behind_it_is_held(path: Path) -> None:
    """The driver is asked at each address, and gets back what it hands out."""
    codes: dict[int, int] = {0x1000: 0, 0x2000: wattnap_engine.worker.NOT_MAPPED, 0x3000: 999}
    released: list[int] = []

    def retain(handle: Any, address: Any) -> int:
        at: int = address.value
        handle._obj.value = at + 7
        return codes[at]

    driver = SimpleNamespace(
        cuMemRetainAllocationHandle=retain,
        cuMemRelease=lambda handle: released.append(handle.value),
    )
    pointers = {at: SimpleNamespace(handle=(0, 10**n)) for n, at in enumerate(codes)}
    allocator = SimpleNamespace(pointer_to_data=pointers)
    with (
        mock.patch.object(wattnap_engine.worker, "find_allocator", return_value=allocator),
        mock.patch.object(wattnap_engine.worker, "libcuda", return_value=driver),
    ):
        held = wattnap_engine.worker.Extension().wattnap_held()

    assert held == 101
    assert released == [0x1007]


def main() -> None:
    results: dict[str, str | None] = {}
    for name, case in list(globals().items()):
        if name.startswith("case_"):
            with tempfile.TemporaryDirectory(dir=sys.argv[1]) as folder:
                try:
                    case(Path(folder) / "new/image")
                    results[name] = None
                except Exception:  # noqa: BLE001 - for the test that reads this
                    results[name] = traceback.format_exc()
    print(json.dumps(results))  # noqa: T201


if __name__ == "__main__":
    main()
