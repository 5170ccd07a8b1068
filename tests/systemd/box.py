"""A Debian that boots under a real systemd: run commands in it, reboot it, cut its power.

    overlay of trees > private mounts and pids > a control group > systemd-nspawn > init

Whatever ends us ends the box: no process and no mount outlives it, and what little
does (its folder, empty control groups) is swept by the next one.

A box must be used from the thread that booted it: it is bound to that thread's life.
"""

from __future__ import annotations

import contextlib
import fcntl
import secrets
import shutil
import socket
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Self

from tests.systemd import groups
from tests.systemd.base_tree import CACHE

BOXES = CACHE / "boxes"
REBOOT = 133  # nspawn's exit status when its init asks for one
ENV = {"PATH": "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin", "LANG": "C.UTF-8"}
EVERYTHING = ("--mount", "--uts", "--ipc", "--net", "--pid", "--cgroup", "--root", "--wd")

# --kill-child: nspawn's own death would let its init live on. pdeathsig: so would ours.
OUTER = r"""
for group in $GROUPS_OF_BOX; do mkdir -p "$group"; echo $$ >"$group/cgroup.procs"; done
exec setpriv --pdeathsig KILL unshare --mount --pid --propagation private --fork \
    --kill-child=KILL --mount-proc sh -ec "$INNER"
"""
# The tmpfs: nspawn would leave folders in /run/systemd. --keep-unit: there may be no
# systemd out here to ask for a scope. adjtimex: on a real machine everybody may ask.
INNER = r"""
mount -t tmpfs none /run/systemd
mount -t overlay none -o "lowerdir=$LOWER,upperdir=$DIR/upper,workdir=$DIR/work" "$DIR/root"
exec systemd-nspawn -q -D "$DIR/root" -M "$NAME" --register=no --keep-unit --notify-ready=yes \
    --kill-signal=SIGRTMIN+3 --console=pipe --link-journal=no \
    --timezone=off $NETWORK --system-call-filter="adjtimex clock_adjtime" $BINDS \
    /bin/sh -c "$INIT"
"""


class Box:
    """One machine, on top of `trees` (the uppermost first), which it never changes.

    `binds` are shown in it, read-only: path outside -> path inside. `unified`: with
    version 2 of control groups alone, whatever this host has. `network`: this host's; else
    none but its own loopback.
    """

    def __init__(
        self,
        trees: Sequence[Path],
        *,
        binds: Mapping[Path, str] | None = None,
        unified: bool = False,
        network: bool = False,
    ) -> None:
        sweep()
        self.name = f"box-{secrets.token_hex(4)}"
        self.dir = BOXES / self.name
        for folder in ("upper", "work", "root"):
            (self.dir / folder).mkdir(parents=True)
        self._lock = (self.dir / "lock").open("w")
        fcntl.flock(self._lock, fcntl.LOCK_EX)  # held: we live
        self._groups = groups.below_ours(self.name)
        (self.dir / "groups").write_text("\n".join(map(str, self._groups)))
        self._env = ENV | {
            "INNER": INNER,
            "INIT": groups.INIT,
            "GROUPS_OF_BOX": " ".join(map(str, self._groups)),
            "LOWER": ":".join(map(str, trees)),
            "DIR": str(self.dir),
            "NAME": self.name,
            "NETWORK": "--resolv-conf=copy-host"
            if network
            else "--resolv-conf=off --private-network",
            "BINDS": " ".join(f"--bind-ro={out}:{to}" for out, to in (binds or {}).items()),
        }
        if unified:
            self._env["SYSTEMD_NSPAWN_UNIFIED_HIERARCHY"] = "1"
        self._process: subprocess.Popen[bytes] | None = None
        self._leader = 0

    # Power.

    def boot(self, within_s: float = 60) -> None:
        """Return once everything that starts at boot has started, whether it worked or not."""
        ready = self.dir / "ready"
        ready.unlink(missing_ok=True)
        deadline = time.monotonic() + within_s
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as manager:
            manager.bind(str(ready))
            manager.settimeout(0.2)
            with (self.dir / "console").open("ab") as console:
                self._process = subprocess.Popen(
                    ["sh", "-ec", OUTER],
                    stdin=subprocess.DEVNULL,
                    stdout=console,
                    stderr=console,
                    env=self._env | {"NOTIFY_SOCKET": str(ready)},
                    start_new_session=True,
                )
            said = b""
            while b"READY=1" not in said.splitlines():
                if self._process.poll() is not None or time.monotonic() > deadline:
                    self.cut()
                    raise AssertionError(f"no boot:\n{self.console()[-3000:]}")
                with contextlib.suppress(TimeoutError):
                    said = manager.recv(4096)
        nspawn = only_child(self._process.pid)
        self._leader = only_child(nspawn)
        came_to = self.enter("systemctl", "is-system-running", "--wait", timeout=within_s)

        assert came_to.stdout.strip() in {"running", "degraded"}, came_to

    def off(self, how: str = "poweroff") -> int:
        """Shut it down in order. Returns nspawn's exit status."""
        assert self._process is not None
        self.enter("systemctl", "--no-block", how)
        return self._process.wait(60)

    def reboot(self) -> None:
        assert self.off("reboot") == REBOOT
        self.boot()

    def cut(self) -> None:
        """Cut the power. What it wrote so far stays, as if the disk had all of it."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
            self._process = None
        groups.remove(self._groups)

    def close(self) -> None:
        self.cut()
        self._lock.close()
        shutil.rmtree(self.dir, ignore_errors=True)

    # Inside.

    @property
    def root(self) -> Path:
        """Its files, with /tmp and /run; while it runs."""
        return Path(f"/proc/{self._leader}/root")

    @property
    def upper(self) -> Path:
        """What was changed in it."""
        return self.dir / "upper"

    def console(self) -> str:
        return (self.dir / "console").read_text(errors="replace")

    def enter(
        self, *command: str, timeout: float = 60, input: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run as an almighty root in its namespaces: to look and to give orders."""
        return subprocess.run(
            ["nsenter", "-t", str(self._leader), *EVERYTHING, "--", *command],
            env=ENV,
            text=True,
            input=input,
            capture_output=True,
            timeout=timeout,
            check=False,
        )

    def tries(
        self, script: str, *, user: str = "root", within_s: int = 60, input: str = ""
    ) -> subprocess.CompletedProcess[str]:
        """Run a shell script as this user, as a service of the box, and say how it went."""
        how = [f"-pUser={user}", f"-pRuntimeMaxSec={within_s}", "--quiet", "--wait", "--pipe"]
        # systemd expands $VARIABLES in arguments before the shell sees them.
        return self.enter(
            *["systemd-run", *how, "--collect", "sh", "-c", script.replace("$", "$$")],
            timeout=within_s + 10,
            input=input,
        )

    def run(self, script: str, *, user: str = "root", within_s: int = 60, input: str = "") -> str:
        """What the script says on stdout; it must succeed."""
        done = self.tries(script, user=user, within_s=within_s, input=input)
        how = f"{script!r}: exit status {done.returncode}\n{done.stdout}{done.stderr}"
        assert done.returncode == 0, how
        return done.stdout

    def __enter__(self) -> Self:
        self.boot()
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self.close()


def only_child(pid: int) -> int:
    return int(Path(f"/proc/{pid}/task/{pid}/children").read_text().split()[0])


def sweep() -> None:
    """Remove what boxes of killed runs have left."""
    BOXES.mkdir(parents=True, exist_ok=True)
    for folder in BOXES.glob("box-*"):
        # Gone meanwhile, or locked by its owner, who lives.
        with (
            contextlib.suppress(FileNotFoundError, BlockingIOError),
            (folder / "lock").open() as lock,
        ):
            fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
            groups.remove(groups_of(folder))
            shutil.rmtree(folder, ignore_errors=True)


def groups_of(folder: Path) -> list[Path]:
    """Of a box, by its folder."""
    file = folder / "groups"
    return list(map(Path, file.read_text().splitlines())) if file.exists() else []
