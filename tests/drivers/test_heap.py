"""What the engine gives back of its heap when it rests, each in a process of its own."""

from __future__ import annotations

import os
import platform
import subprocess
import sys

import pytest

from drivers.engine_side.wattnap_engine.heap import SPARE_BYTES
from drivers.vllm_command import LARGE_BYTES, TOP_BYTES
from drivers.vllm_rest import ENGINE_SIDE

SPARE_MIB = SPARE_BYTES >> 20
PATH = f"{ENGINE_SIDE}:{ENGINE_SIDE.parents[1]}"  # as the engine has it, and for the tests' own

pytestmark = pytest.mark.skipif(platform.libc_ver()[0] != "glibc", reason="glibc's trim")

PRELUDE = """
import ctypes
from wattnap_engine.heap import Heap, private_bytes
libc = ctypes.CDLL(None)
libc.malloc.restype = ctypes.c_void_p
PIECE = 64 << 10  # less than what glibc maps by itself
def used_and_freed(size):
    pieces = [libc.malloc(PIECE) for _ in range(size // PIECE)]
    for piece in pieces:
        ctypes.memset(piece, 1, PIECE)
    kept = libc.malloc(PIECE)  # so that the heap's end is not free
    for piece in pieces:
        libc.free(ctypes.c_void_p(piece))
def held_after(work):
    global before
    before = private_bytes()
    work()
    return private_bytes() - before >> 20
heap = Heap()
"""


def run(script: str, **env: str) -> list[int]:
    """The numbers that it prints, in MiB."""
    said = subprocess.run(
        [sys.executable, "-c", PRELUDE + script],
        env=os.environ | {"PYTHONPATH": PATH, "MALLOC_ARENA_MAX": "1", **env},
        stdout=subprocess.PIPE,
        check=True,
        text=True,
    ).stdout
    return [int(word) for word in said.split()]


def test_what_the_start_left_is_given_back_if_it_is_much() -> None:
    left, after = run(
        "print(held_after(lambda: used_and_freed(80 << 20)));print(held_after(heap.tidy))"
    )
    assert left >= 78
    assert -78 <= after <= -78 + SPARE_MIB


def test_it_tells_how_much_that_was() -> None:
    given_back, nothing = run(
        "used_and_freed(80 << 20);print(heap.tidy() >> 20);print(heap.tidy() >> 20)"
    )
    assert given_back >= 78
    assert nothing == 0


def test_little_that_the_start_left_is_kept_for_the_turns() -> None:
    """Otherwise what lasts of each turn would lie on pages of its own."""
    left, after, turn = run(
        "print(held_after(lambda: used_and_freed(40 << 20)));print(held_after(heap.tidy))\n"
        "print(held_after(lambda: used_and_freed(20 << 20)))"
    )
    assert left >= 38
    assert abs(after) <= 1
    assert turn <= 1


def test_what_a_turn_leaves_is_kept_for_the_next() -> None:
    turn = "print(held_after(lambda: (used_and_freed(20 << 20), heap.tidy())));"
    first, second = run("heap.tidy();" + turn + turn)
    assert first >= 18
    assert second <= 1


@pytest.mark.parametrize(("tidied", "least", "most"), [("heap.tidy()", 0, 0), ("", 2, 3)])
def test_what_turns_leave_lies_in_what_is_spare(tidied: str, least: int, most: int) -> None:
    """3 MiB of small pieces that stay take no pages of their own, after a turn of large ones."""
    (grown,) = run(
        f"{tidied}\n"
        "def turn():\n"
        "    used_and_freed(1 << 20)\n"
        "    for _ in range(3 << 10): ctypes.memset(libc.malloc(1000), 1, 1000)\n"
        "print(held_after(turn))",
        MALLOC_MMAP_THRESHOLD_=str(LARGE_BYTES),
        MALLOC_TRIM_THRESHOLD_=str(TOP_BYTES),
    )
    assert least <= grown <= most


def test_much_is_given_back_again() -> None:
    left, after = run(
        "heap.tidy();print(held_after(lambda: used_and_freed(80 << 20)))\n"
        "print(held_after(heap.tidy))"
    )
    assert left >= 78 - SPARE_MIB
    assert -78 <= after <= -78 + SPARE_MIB


@pytest.mark.parametrize(
    ("env", "least", "most"), [({}, 70, 90), ({"MALLOC_MMAP_THRESHOLD_": str(LARGE_BYTES)}, 0, 1)]
)
def test_what_is_large_leaves_no_gaps(env: dict[str, str], least: int, most: int) -> None:
    """By itself glibc takes even that from the heap, once a process has freed as much."""
    (free,) = run(
        "from wattnap_engine.heap import MallInfo2\n"
        "libc.mallinfo2.restype = MallInfo2\n"
        "libc.free(ctypes.c_void_p(libc.malloc(8 << 20)))\n"
        "pieces = [libc.malloc(size) for _ in range(10) for size in (8 << 20, PIECE)]\n"
        "for piece in pieces[::2]: libc.free(ctypes.c_void_p(piece))\n"
        "print(libc.mallinfo2().fordblks >> 20)",
        **env,
    )
    assert least <= free <= most


def test_names_that_pythons_cache_alone_holds_are_let_go_of() -> None:
    """Otherwise hundreds, wherever they happened to lie."""
    kept, after = run(
        "import sys\n"
        "def count(): return sys.getallocatedblocks() << 20\n"  # run() counts in MiB
        "heap.tidy();before = count()\n"
        "for name in [f'name {n}' for n in range(20_000)]: hasattr(heap, name)\n"
        "del name\n"
        "kept = count();heap.tidy();print(kept - before >> 20, count() - before >> 20)"
    )
    assert kept >= 300
    assert after <= 100


def test_the_server_has_as_much_to_spare_from_its_first_rest_on() -> None:
    """Not only the workers: what lasts of its requests comes to lie somewhere, too."""
    before, after = run(
        "import asyncio\n"
        "from tests.drivers.test_middleware import Server\n"
        "from wattnap_engine.heap import MallInfo2\n"
        "libc.mallinfo2.restype = MallInfo2\n"
        "def free(): print(libc.mallinfo2().fordblks >> 20)\n"
        "server = Server();free()\n"
        "asyncio.run(server.ask('POST', '/wattnap/sleep?level=1'));free()",
        MALLOC_MMAP_THRESHOLD_=str(LARGE_BYTES),
        MALLOC_TRIM_THRESHOLD_=str(TOP_BYTES),
    )
    assert before < SPARE_MIB <= after


def test_no_memory_to_be_had_is_no_crash() -> None:
    assert run(
        "import resource\n"
        "size = int(open('/proc/self/statm').read().split()[0]) * 4096\n"
        "resource.setrlimit(resource.RLIMIT_AS, (size + (1 << 20),) * 2)\n"
        "print(heap.tidy())"
    ) == [0]


def test_what_is_in_use_is_counted() -> None:
    """What has been freed is not, though the process still has it."""
    kept, freed = run(
        "from wattnap_engine.heap import in_use\n"
        "before = in_use();libc.malloc(PIECE * 20);kept = in_use()\n"
        "used_and_freed(20 << 20);print(kept - before >> 10, in_use() - kept >> 10)",
        MALLOC_MMAP_THRESHOLD_=str(64 << 20),
    )
    assert 20 * 64 <= kept <= 20 * 64 + 8
    assert 64 <= freed <= 2 * 64  # it keeps a piece; its list of pointers is Python's


def test_an_old_c_library_cannot_tell() -> None:
    """glibc before 2.33: nothing is given back, nothing fails."""
    assert run(
        "class Old:\n"
        "    def __init__(self, name): self.malloc_trim = libc.malloc_trim\n"
        "ctypes.CDLL = Old\nheap.tidy();used_and_freed(80 << 20)\nprint(held_after(heap.tidy))"
    ) == [0]


def test_another_c_library_has_no_trim() -> None:
    assert run(
        "class Other:\n    def __init__(self, name): pass\n"
        "ctypes.CDLL = Other\nprint(held_after(heap.tidy))"
    ) == [0]
