"""A connected socket to the broker, without a thread that outlives a cancelled attempt."""

from __future__ import annotations

import asyncio
import socket
import ssl


async def connect(host: str, port: int, tls: ssl.SSLContext | None) -> socket.socket:
    """Return a non-blocking socket, with Nagle's algorithm off and TLS agreed.

    Raises OSError, of which ssl.SSLError is one. Cancelling leaves nothing open.
    """
    loop = asyncio.get_running_loop()
    failed: OSError | None = None
    for family, kind, protocol, _, address in await loop.getaddrinfo(
        host, port, type=socket.SOCK_STREAM
    ):
        connection = socket.socket(family, kind, protocol)
        try:
            connection.setblocking(False)
            # Nagle's algorithm and delayed acknowledgements cost 40 ms a message together.
            connection.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            await loop.sock_connect(connection, address)
            return connection if tls is None else await _agree(connection, tls, host)
        except OSError as error:
            connection.close()
            failed = error
        except BaseException:
            connection.close()
            raise
    raise failed or OSError(f"{host} has no address")


async def _agree(connection: socket.socket, tls: ssl.SSLContext, host: str) -> ssl.SSLSocket:
    """Shake hands. `connection` belongs to what is returned."""
    wrapped = tls.wrap_socket(connection, server_hostname=host, do_handshake_on_connect=False)
    try:
        while True:
            try:
                wrapped.do_handshake()
            except ssl.SSLWantReadError:
                await _until(wrapped, "read")
            except ssl.SSLWantWriteError:
                await _until(wrapped, "write")
            else:
                return wrapped
    except BaseException:
        wrapped.close()
        raise


async def _until(connection: socket.socket, what: str) -> None:
    loop = asyncio.get_running_loop()
    possible = asyncio.Event()
    reading = what == "read"
    (loop.add_reader if reading else loop.add_writer)(connection, possible.set)
    try:
        await possible.wait()
    finally:
        (loop.remove_reader if reading else loop.remove_writer)(connection)
