"""A warm host: a process that has imported vLLM, and forks servers that need not.

    daemon ── orders ── host ── guard ── server ── its children
       └────────── orders, reports, output ┘

Most of a start is imports: 11 to 13 s of 29 on an H200, all but 2 s of 19 on a small
CPU. Each fork is a guard (drivers.guard), which forks the server: so the daemon has
the same three pipes to it as to any guard, and what the guard promises holds. A
server outlives its host.

Run as `python vllm_host.py DAEMON CONTROL DEVICE MODEL [WITHOUT…]` by the engine's own
Python, 3.10 or newer, with the server's environment. DAEMON is the pid above us. DEVICE
is "cpu", "cuda", or "none" for a stand-in, for which nothing is imported. MODEL is a
folder or a name. WITHOUT are modules to leave out, by which it begins anew. CONTROL is
a socket of whole messages, JSON each:

    from us   {"ready": SECONDS} or {"unfit": WHY}, once
    to us     {"command", "env", "directory", "grace_s", "group"}, as for a guard, and
              its three descriptors. COMMAND is what would follow `python`
    from us   {"forked": PID} with a pidfd, or {"refused": WHY}

It ends at the end of CONTROL, and is killed with the daemon. It never begins to use the
GPU: there is no context, no memory and no watt of it there, and nothing of it is open.
Standard library only, but for what it imports for the servers.
"""

from __future__ import annotations

import sys

if __name__ == "__main__":
    # Beside us are modules of the daemon's, one of them called vllm.
    BESIDE = sys.path.pop(0)

import atexit
import contextlib
import ctypes
import gc
import importlib
import json
import os
import runpy
import signal
import socket
import tempfile
import traceback
from collections.abc import Sequence
from functools import partial
from pathlib import Path
from typing import Any, NoReturn

if __name__ == "__main__":
    # For this import only: the daemon's packages are not the server's.
    sys.path.insert(0, str(Path(BESIDE).parent))

from drivers import guard
from drivers.vllm_imports import Spoilt, Unfit, import_all, let_go_of_nvml, on_gpu, preload

if __name__ == "__main__":
    sys.path.pop(0)

MESSAGE_BYTES = 1 << 20
# Beginnings of the names of threads that a fork does well without: jemalloc (in pyarrow,
# say) sees to forks itself, and then does in line what that thread would have done. The other
# one NVML leaves behind; forks without it used CUDA and NVML (driver 580.159).
DISPENSABLE = ("jemalloc_bg_thd", "cuda0")


def main(
    daemon: int, control: socket.socket, device: str, model: Path, without: Sequence[str]
) -> None:
    began_s = guard.now()
    libc = ctypes.CDLL(None)
    libc.prctl(guard.PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != daemon:
        return  # it died before the kernel knew of our wish
    try:
        if device != "none":
            import_all(device, model, without)
        settle()
    except Spoilt as spoilt:
        begin_anew(control, spoilt)
    except Unfit as unfit:
        control.send(json.dumps({"unfit": str(unfit)}).encode())
        return
    entitle("wattnap: warm host")
    control.send(json.dumps({"ready": round(guard.now() - began_s, 2)}).encode())
    signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # guards are reaped by the kernel
    while True:
        message, descriptors, _, _ = socket.recv_fds(control, MESSAGE_BYTES, 3)
        if not message:
            return
        carry_out(json.loads(message), descriptors, daemon, control)


# Getting warm.


def begin_anew(control: socket.socket, spoilt: Spoilt) -> NoReturn:
    """In the same process, as new, and without what has opened the GPU."""
    sys.stdout.write(f"{spoilt}; once more without {spoilt.name}\n")
    sys.stdout.flush()
    control.set_inheritable(True)
    os.execv(sys.executable, [*sys.orig_argv, spoilt.name])  # noqa: S606 - ourselves


def settle() -> None:
    """Make forks cheap, and be sure that they are safe. Raises Unfit."""
    let_go_of_nvml()
    gc.collect()
    gc.freeze()  # a collection in a fork would copy every page that it looks at
    # Threads that mind forks (OpenBLAS has one per core) are ended by a first one, and
    # come back when they are needed. Who is still there then would be missing in a fork.
    if (pid := os.fork()) == 0:
        os._exit(0)
    os.waitpid(pid, 0)
    be_sure()


def be_sure() -> None:
    torch = sys.modules.get("torch")
    if torch is not None and torch.cuda.is_initialized():
        raise Unfit("importing vLLM has initialized CUDA, which no fork could use")
    if on_gpu():
        raise Unfit("importing vLLM has begun to use the GPU, which no fork could")
    if others := [name for name in threads() if not name.startswith(DISPENSABLE)]:
        named = ", ".join(sorted(others))
        raise Unfit(f"importing vLLM has started threads that forks would lack: {named}")


def threads() -> list[str]:
    """Names of all but this one."""
    names = []
    for task in Path("/proc/self/task").iterdir():
        with contextlib.suppress(OSError):  # it has just ended
            if task.name != str(os.getpid()):
                names.append((task / "comm").read_text().strip())
    return names


# Forking.


def carry_out(order: dict[str, Any], pipes: list[int], daemon: int, control: socket.socket) -> None:
    """Fork a guard that forks a server."""
    try:
        be_sure()
        sys.stdout.flush()
        sys.stderr.flush()
        if (pid := os.fork()) == 0:
            control.close()
            shelter(order, pipes, daemon)
        pidfd = os.pidfd_open(pid)
    except (Unfit, OSError) as why:
        control.send(json.dumps({"refused": str(why)}).encode())
    else:
        socket.send_fds(control, [json.dumps({"forked": pid}).encode()], [pidfd])
        os.close(pidfd)
    for descriptor in pipes:
        os.close(descriptor)


def shelter(order: dict[str, Any], pipes: list[int], daemon: int) -> NoReturn:
    """Be the guard of a server, as drivers.process starts one: leader of a session, its pipes."""
    try:
        os.setsid()
        signal.signal(signal.SIGCHLD, signal.SIG_DFL)
        for standard, pipe in enumerate(pipes):
            os.dup2(pipe, standard)
            os.close(pipe)
        os.environ.clear()
        os.environ.update(order["env"])
        os.chdir(order["directory"])
        entitle("wattnap: guard")
        guard.Guard(
            Path(order["directory"]),
            order["grace_s"],
            order["group"],
            become=partial(become, order["command"]),
            daemon=daemon,
        ).run()
    except BaseException:  # noqa: BLE001 - its output is read, and there is nobody above
        traceback.print_exc()
    finally:
        os._exit(0)


def become(command: list[str]) -> NoReturn:
    """Be `python COMMAND…`, from a fresh process's state to its exit status."""
    signal.signal(signal.SIGINT, signal.default_int_handler)
    signal.signal(signal.SIGPIPE, signal.SIG_IGN)
    tempfile.tempdir = None  # where they go is the environment's to say, and that is new
    if (numpy := sys.modules.get("numpy")) is not None:
        numpy.random.seed()  # random has seen to itself, and torch always begins alike
    # On a GPU vLLM's command asks for spawning, if nobody says anything (cli_env_setup).
    os.environ.setdefault("VLLM_WORKER_MULTIPROC_METHOD", "fork")
    entitle(" ".join([sys.executable, *command]))
    status = 1
    try:
        status = run(command)
        # As at the end of any Python; multiprocessing ends its children there.
        atexit._run_exitfuncs()  # noqa: SLF001 - the only way to have it without that end
        sys.stdout.flush()
        sys.stderr.flush()
    finally:
        os._exit(status)


def run(command: list[str]) -> int:
    """Run a module or a script as Python's own command line does; return its exit status."""
    try:
        if command[0] == "-m":
            sys.argv = command[1:]
            sys.path.insert(0, str(Path.cwd()))
            sys.modules.pop(command[1], None)  # or runpy warns that it was imported before
            runpy.run_module(command[1], run_name="__main__", alter_sys=True)
        else:
            sys.argv = command
            sys.path.insert(0, str(Path(command[0]).parent))
            runpy.run_path(command[0], run_name="__main__")
    except SystemExit as end:
        if end.code is None or isinstance(end.code, int):
            return end.code or 0
        sys.stderr.write(f"{end.code}\n")
        return 1
    except BaseException:  # noqa: BLE001 - what Python would do
        traceback.print_exc()
        return 1
    return 0


def entitle(title: str) -> None:
    """What ps shows; without it all of us would look alike. vLLM brings what does it."""
    with contextlib.suppress(Exception):
        importlib.import_module("setproctitle").setproctitle(title)


if __name__ == "__main__":
    if sys.argv[3] == "cpu":
        preload()
    with socket.socket(fileno=int(sys.argv[2])) as control:
        control.set_inheritable(False)
        main(int(sys.argv[1]), control, sys.argv[3], Path(sys.argv[4]), sys.argv[5:])
