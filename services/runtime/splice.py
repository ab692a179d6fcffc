"""Two connections that are one: what comes in at one end goes out at the other."""

import asyncio
import socket
import ssl
from collections.abc import Callable
from typing import cast

NEXT_ADDRESS_AFTER_S = 0.25  # where a host has several, and one of them says nothing
VANISHED_AFTER_MS = 5_000  # whoever acknowledges nothing of what it is sent
LEAVE_WITHIN_S = 1.0
EARLY_BYTES = 1024 * 1024  # more than HTTP/2 lets anybody send without an answer


class End(asyncio.Protocol):
    """One of the two. It reads nothing before it is joined with the other, and no faster than that takes it.

    ``made`` is called once it is open.
    """

    transport: asyncio.Transport
    _other: asyncio.Transport

    def __init__(self, made: Callable[["End"], object] = lambda _: None) -> None:
        self._made = made
        self._joined = False
        self._early = bytearray()
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    async def carry(self, other: "End") -> None:
        """Both begin to read; returns when both have ended, which one does once the other has."""
        self._join(other)
        await asyncio.wait((self.ended, other.ended), return_when=asyncio.FIRST_COMPLETED)
        for end in (self, other):
            if not end.transport.is_closing():  # what is closed twice cannot be aborted any more
                end.transport.close()  # once it has sent what came at the other
        await asyncio.wait((self.ended, other.ended))

    def close(self) -> None:
        """At once, whatever is on its way."""
        if not self.ended.done():  # Python 3.11.2 raises an exception where a TLS connection has ended
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
        if not self._joined:  # Python before 3.11.5 forgets that reading was paused as early as this
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
    """The near end of a new connection, under TLS where there is a context. Raises OSError, also those of TLS."""
    _, end = await asyncio.get_running_loop().create_connection(
        End,
        host,
        port,
        ssl=context,
        server_hostname=host if context else None,
        ssl_shutdown_timeout=LEAVE_WITHIN_S if context else None,
        happy_eyeballs_delay=NEXT_ADDRESS_AFTER_S,
    )
    end.transport.get_extra_info("socket").setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, VANISHED_AFTER_MS)
    return end
