"""The folder of one engine's life: private, empty at its start, short enough for sockets."""

from __future__ import annotations

import asyncio
import errno
import os
from pathlib import Path

from drivers.errors import NotPermitted, NotSupported, Refused, Unresponsive
from drivers.leftovers import InUse, sweep

SOCKET_PATH_BYTES = 107  # sun_path without its NUL (unix(7))
IPC_NAME_BYTES = 37  # vLLM's own sockets are called "/" and a UUID (utils/network_utils.py)


class Home:
    """`<runtime_dir>/engine` and what is in it."""

    def __init__(self, runtime_dir: Path) -> None:
        self.runtime_dir = runtime_dir.absolute()
        self.path = self.runtime_dir / "engine"
        self.socket = self.path / "vllm.sock"
        self.ipc = self.path / "ipc"
        self.tmp = self.path / "tmp"

    async def make(self, device: str) -> None:
        """Have it, empty, whatever an earlier life has left there: that is ended.

        Raises:
            NotSupported: its path is too long.
            NotPermitted: it may not be written, or others may enter it.
            Refused: a living daemon's engine is in it, or it cannot be written now.
            Unresponsive: processes of an earlier engine do not end.
        """
        over = len(os.fsencode(self.ipc)) + IPC_NAME_BYTES - SOCKET_PATH_BYTES
        if over > 0:
            where = f"runtime_dir {self.runtime_dir}"
            raise NotSupported(device, f"{where} is {over} bytes too long for sockets")
        try:
            await asyncio.to_thread(self._make, device)
        except InUse as error:
            raise Refused(device, str(error)) from error
        except OSError as error:
            why = f"cannot write {error.filename or self.runtime_dir}: {error.strerror}"
            # All else, such as a full disk or too many open files, passes.
            forbidden = isinstance(error, PermissionError) or error.errno == errno.EROFS
            kind = NotPermitted if forbidden else Refused
            raise kind(device, why) from error

    def _make(self, device: str) -> None:
        self.runtime_dir.mkdir(mode=0o700, parents=True, exist_ok=True)
        status = self.runtime_dir.stat()
        if status.st_uid != os.geteuid() or status.st_mode & 0o077:
            # The socket has no other lock: whoever enters the folder speaks to the engine.
            where = f"runtime_dir {self.runtime_dir}"
            raise NotPermitted(device, f"{where} must be ours alone (chmod 700)")
        if left := sweep(self.path):
            raise Unresponsive(device, f"an earlier engine's processes {left} do not end")
        for folder in (self.path, self.ipc, self.tmp):
            folder.mkdir(mode=0o700)
