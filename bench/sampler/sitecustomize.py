"""On an engine's path (bench.sampled): every process that is forked notes its stacks.

While $WATCHED_FORKS/on is there, a line each 8 ms into $WATCHED_FORKS/<pid>: the time, and the main
thread's frames, innermost first. Standard library only, Python 3.10.
"""

import os
import sys
import threading
import time

FOLDER = os.environ.get("WATCHED_FORKS", "")
EACH_S = 0.008


def frames(ident: int) -> str:
    """`file:function` of each, joined by `;`."""
    told = []
    frame = sys._current_frames().get(ident)  # noqa: SLF001 - the documented way, for debuggers
    while frame is not None:
        code = frame.f_code
        told.append(f"{'/'.join(code.co_filename.split('/')[-2:])}:{code.co_name}")
        frame = frame.f_back
    return ";".join(told)


def watch(main: int) -> None:
    switch = f"{FOLDER}/on"
    with open(f"{FOLDER}/{os.getpid()}", "a", buffering=1) as file:  # noqa: PTH123
        while True:
            if os.path.exists(switch):  # noqa: PTH110
                file.write(f"{time.monotonic():.4f} {frames(main)}\n")
                time.sleep(EACH_S)
            else:
                time.sleep(0.05)


def begin() -> None:
    ident = threading.main_thread().ident
    threading.Thread(target=watch, args=(ident,), name="sampler", daemon=True).start()


if FOLDER:
    os.register_at_fork(after_in_child=begin)
