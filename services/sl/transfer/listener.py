"""One port for two protocols: connections whose TLS hello names the bulk protocol go to threads, others to HTTP."""

import asyncio
import contextlib
import socket
import ssl
from collections.abc import Callable

from services.runtime import logs
from services.runtime.background import Background
from services.sl.transfer.bulk import HANDSHAKE_S
from services.sl.transfer.connections import BULK

# Bytes read of a hello, which names the protocol in its first packet.
_HELLO_BYTES = 16 * 1024
ACCEPT_AGAIN_S = 0.1
_WAITING = 256  # connections that have not sent anything yet
_BULK = bytes([len(BULK)]) + BULK.encode("ascii")

_log = logs.get("file server")


class AlpnListener:
    """``bulk`` takes a socket; ``protocol`` makes the HTTP protocol over ``context``."""

    def __init__(
        self,
        bound: socket.socket,
        context: ssl.SSLContext,
        protocol: Callable[[], asyncio.BaseProtocol],
        bulk: Callable[[socket.socket], object],
    ) -> None:
        self._bound = bound
        self._context = context
        self._protocol = protocol
        self._bulk = bulk
        self._room = asyncio.Semaphore(_WAITING)
        self._background = Background("file server")

    def open(self) -> None:
        self._bound.setblocking(False)
        self._background.keep(self._accept, "taking connections")

    async def close(self) -> None:
        await self._background.close()

    async def _accept(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await self._room.acquire()
            try:
                connection, _ = await loop.sock_accept(self._bound)
            except OSError as error:  # too many open files, or it was gone already
                self._room.release()
                _log.warning("a connection could not be accepted", why=str(error))
                await asyncio.sleep(ACCEPT_AGAIN_S)  # room for one more connection takes time to appear
                continue
            self._background.run(self._let_in(connection), "letting a connection in")

    async def _let_in(self, connection: socket.socket) -> None:
        ours = True  # to close; not once a transport has it, which would go on with a reused descriptor
        try:
            async with asyncio.timeout(HANDSHAKE_S):
                await _readable(connection)
                hello = connection.recv(_HELLO_BYTES, socket.MSG_PEEK)
            ours = False
            if _BULK in hello:
                connection.setblocking(True)
                self._bulk(connection)
                return
            await asyncio.get_running_loop().connect_accepted_socket(
                self._protocol, connection, ssl=self._context, ssl_handshake_timeout=HANDSHAKE_S
            )
        except (OSError, TimeoutError) as error:  # no member, or silent
            _log.debug("a connection was not admitted", why=str(error) or "it said nothing")
        finally:
            if ours:
                connection.close()
            self._room.release()


async def _readable(connection: socket.socket) -> None:
    loop = asyncio.get_running_loop()
    there: asyncio.Future[None] = loop.create_future()
    loop.add_reader(connection, lambda: None if there.done() else there.set_result(None))
    try:
        await there
    finally:
        with contextlib.suppress(ValueError, OSError):
            loop.remove_reader(connection)
