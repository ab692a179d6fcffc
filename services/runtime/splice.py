"""Joins two connections: what comes in on one goes out on the other."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import Any, cast

from aiohappyeyeballs import start_connection

NEXT_ADDRESS_AFTER_S = 0.25  # if a host has several addresses and one does not answer
VANISHED_AFTER_MS = 5_000  # a peer that acknowledges nothing for so long is gone
LEAVE_WITHIN_S = 1.0
EARLY_BYTES = 1024 * 1024  # more than HTTP/2 allows without an answer


class End(asyncio.Protocol):
    """One of the two connections. It reads nothing before it is joined, and then no faster than the other can send.

    ``made`` is called once the connection is open.
    """

    transport: asyncio.Transport
    _other: asyncio.Transport

    def __init__(self, made: Callable[["End"], object] = lambda _: None) -> None:
        self._made = made
        self._joined = False
        self._early = bytearray()
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def carry(self, other: "End") -> None:
        """Joins the two and returns when both have ended; when one ends, the other is closed."""
        self._join(other)
        await asyncio.wait((self.ended, other.ended), return_when=asyncio.FIRST_COMPLETED)
        for end in (self, other):
            if not end.transport.is_closing():  # a transport that is closed twice cannot be aborted any more
                end.transport.close()  # after it has sent what came in on the other
        await asyncio.wait((self.ended, other.ended))

    def close(self) -> None:
        """Closes at once, even if data is still to be sent."""
        if not self.ended.done():  # Python 3.11.2 raises an exception if a TLS connection has ended
            self.transport.abort()

    def _join(self, other: "End") -> None:
        self._other, other._other = other.transport, self.transport
        for end in (self, other):
            end._joined = True
            if end._early:
                end._other.write(bytes(end._early))
                end._early.clear()
            end.transport.resume_reading()

    # --- called by the transport --------------------------------------------------------------------

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.pause_reading()  # until it is joined
        self._made(self)

    def data_received(self, data: bytes) -> None:
        if not self._joined:  # Python before 3.11.5 ignores a pause of reading as early as this
            self._early += data
            if len(self._early) > EARLY_BYTES:
                self.close()
        elif not self._other.is_closing():
            self._other.write(data)

    def pause_writing(self) -> None:
        self._other.pause_reading()

    def resume_writing(self) -> None:
        self._other.resume_reading()

    def connection_lost(self, error: Exception | None) -> None:
        if not self.ended.done():
            self.ended.set_result(None)


async def connect(host: str, port: int, context: ssl.SSLContext | None = None) -> End:
    """The near end of a new connection, with TLS if there is a context. Raises OSError, which includes TLS errors."""
    # asyncio can do the same, but before Python 3.12 it loses a socket if it is cancelled as that has just connected.
    near = await start_connection(await _addresses(host, port), happy_eyeballs_delay=NEXT_ADDRESS_AFTER_S)
    _, end = await asyncio.get_running_loop().create_connection(
        End,
        sock=near,
        ssl=context,
        server_hostname=host if context else None,
        ssl_shutdown_timeout=LEAVE_WITHIN_S if context else None,
    )
    end.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, VANISHED_AFTER_MS)
    return end


async def _addresses(host: str, port: int) -> list[Any]:
    """As ``getaddrinfo`` returns them, at least one. Raises OSError."""
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_NUMERICHOST)
    except socket.gaierror:  # a name
        return await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
