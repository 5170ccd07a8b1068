"""From a fresh Debian to its first answer: what `sudo ./install.sh install` takes.

    sudo python -m bench.first_answer [--bind PATH]... [--env NAME=VALUE]...

Boots a Debian without Python and broker in a box, on this host's network, with this host's
files at each PATH (pip's configuration, say); needs port 1883 of this host to be free.
Everything is downloaded and installed as on a new machine. Prints one line of JSON.
"""

from __future__ import annotations

import argparse
import json
import socket
import time
from pathlib import Path

from tests.systemd.base_tree import base
from tests.systemd.box import Box
from tests.systemd.product import SOURCE, lay_source

# What is on a Debian that was installed from its own installer, as far as it matters here.
FRESH = ("systemd-sysv,dbus,libpam-systemd,procps", "ca-certificates")
PROMPT = "turn on the light in the kitchen"
LIMIT_S = 1800


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--bind", type=Path, action="append", default=[])
    parser.add_argument("--env", action="append", default=[])
    options = parser.parse_args()
    with socket.socket() as probe:
        assert probe.connect_ex(("127.0.0.1", 1883)) != 0, "port 1883 is taken"
    tree = base(FRESH)
    with Box((tree,), binds={path: str(path) for path in options.bind}, network=True) as box:
        lay_source(box.root)
        environment = " ".join(options.env)
        began_s = time.monotonic()
        said = box.tries(f"{environment} {SOURCE}/install.sh install 2>&1", within_s=LIMIT_S)
        installed_s = time.monotonic() - began_s
        print(said.stdout)
        assert said.returncode == 0, said.stderr
        answer = box.run(f"wattnap ask '{PROMPT}'", within_s=LIMIT_S)
        answered_s = time.monotonic() - began_s
        disk = box.run("du -sm /opt/wattnap /var/lib/wattnap")
    found = {"install_s": installed_s, "answer_s": answered_s, "answer": answer, "disk": disk}
    print(json.dumps(found))


if __name__ == "__main__":
    main()
