"""A listening TCP socket, or words that say why there is none."""

from __future__ import annotations

import contextlib
import errno
import socket
from collections.abc import Iterator

from appliance.config_http import Address
from appliance.errors import ConfigError

BACKLOG = 128


@contextlib.contextmanager
def listening(address: Address) -> Iterator[socket.socket]:
    """Raises ConfigError if another program listens there, or it is no address of this machine."""
    family = socket.AF_INET6 if ":" in address.host else socket.AF_INET
    both = not address.host and socket.has_dualstack_ipv6()
    try:
        listener = socket.create_server(
            tuple(address),
            family=socket.AF_INET6 if both else family,
            backlog=BACKLOG,
            dualstack_ipv6=both,
        )
    except OSError as error:
        why = "another program listens there; `ss -ltnp` shows which"
        if error.errno != errno.EADDRINUSE:
            why = error.strerror or str(error)
        raise ConfigError(f"http.listen: {address}: {why}") from error
    with listener:
        yield listener
