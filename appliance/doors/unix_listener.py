"""The socket file: made safely, replaced only if nobody listens, removed at the end.

Or none of that, where systemd has made it and hands it over.
"""

from __future__ import annotations

import contextlib
import grp
import os
import socket
import stat
from collections.abc import Iterator
from pathlib import Path

from appliance.errors import ConfigError

BACKLOG = 64
FIRST_INHERITED_FD = 3  # sd_listen_fds(3)


@contextlib.contextmanager
def listening(path: Path, *, mode: int, group: str) -> Iterator[socket.socket]:
    """A listening socket at `path`, with these permissions from its first moment on.

    Its folder is made, private, if it is missing. A file that was left by a
    crash is replaced.

    Raises ConfigError if another program listens there, if `path` is something
    else than a socket, or if it, its folder or its group cannot be used.
    """
    try:
        path.parent.mkdir(mode=0o700, parents=True, exist_ok=True)
    except OSError as error:
        raise ConfigError(
            f"runtime_dir: {path.parent}: {error.strerror}; name a folder that this user can make,"
            f' e.g. runtime_dir = "/run/user/{os.geteuid()}/wattnap"'
        ) from error
    _need_free(path)
    # Bound under another name and renamed: nobody can connect before the
    # permissions are right, and no moment is without a file.
    fresh = path.with_name(f"{path.name}.new")
    with socket.socket(socket.AF_UNIX) as listener:
        try:
            fresh.unlink(missing_ok=True)
            listener.bind(str(fresh))
            if group:
                os.chown(fresh, -1, grp.getgrnam(group).gr_gid)
            fresh.chmod(mode)
            listener.listen(BACKLOG)
            fresh.rename(path)
        except KeyError as error:
            fresh.unlink()
            raise ConfigError(f"socket.group: there is no group {group!r}") from error
        except OSError as error:
            fresh.unlink(missing_ok=True)
            raise ConfigError(f"socket.path: {path}: {error.strerror or error}") from error
        ours = _identity(path)
        try:
            yield listener
        finally:
            # A second daemon may have taken the place of a file that someone removed.
            if _identity(path) == ours:
                path.unlink()


def find_inherited(name: str) -> socket.socket | None:
    """The socket that systemd opened for us under this FileDescriptorName, if it did."""
    if os.environ.get("LISTEN_PID") != str(os.getpid()):
        return None
    names = os.environ.get("LISTEN_FDNAMES", "").split(":")
    if name not in names[: int(os.environ.get("LISTEN_FDS", "0"))]:
        return None
    return socket.socket(fileno=FIRST_INHERITED_FD + names.index(name))


def _need_free(path: Path) -> None:
    identity = _identity(path)
    if identity is None:
        return
    if not stat.S_ISSOCK(path.lstat().st_mode):
        raise ConfigError(f"socket.path: {path} exists and is no socket; move it away")
    with socket.socket(socket.AF_UNIX) as probe:
        try:
            probe.connect(str(path))
        except ConnectionRefusedError:
            return
        except OSError as error:
            raise ConfigError(f"socket.path: {path}: {error.strerror}") from error
    raise ConfigError(f"socket.path: another daemon listens at {path}; stop it first")


def _identity(path: Path) -> tuple[int, int] | None:
    try:
        found = path.lstat()
    except FileNotFoundError:
        return None
    return found.st_dev, found.st_ino
