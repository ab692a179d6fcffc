"""The way from gRPC to an SN: gRPC shows a client no certificate, so TLS is spoken here, and the SN judged."""

import asyncio
import contextlib
import os
import secrets
import socket
import struct
from collections.abc import Callable
from types import TracebackType
from typing import Self, cast

from services.identity.certificates import Expected
from services.identity.identity import Identity
from services.identity.live import LiveConnections
from services.identity.peer_context import judge_of
from services.runtime import logs
from services.runtime.background import Background

# An attempt to connect is given up after it. TCP and TLS take several round trips, and an SN may be far away or on a
# busy machine.
CONNECT_WITHIN_S = 3.0
NEXT_ADDRESS_AFTER_S = 0.25  # where a host has several, and one of them says nothing
VANISHED_AFTER_MS = 5_000  # an SN that acknowledges nothing of what it is sent
LEAVE_WITHIN_S = 1.0
EARLY_BYTES = 1024 * 1024  # more than HTTP/2 lets anybody send without an answer

_PEER = struct.Struct("3i")  # ucred: process, user, group
_log = logs.get("rpc")


class Tunnel:
    """``target``: an address for gRPC without TLS. A connection of this process to it goes on to the SN at ``address``
    (``host:port``) over TLS, with this node's certificate; one of another process is ended.

    ``expected``: who the SN has to be; nothing is said to anybody else. A connection ends when the SN is revoked.
    """

    def __init__(self, address: str, identity: Identity, expected: Expected) -> None:
        self._name = f"swarm-{secrets.token_hex(16)}"
        self.target = f"unix-abstract:{self._name}"
        self._address = address
        self._identity = identity
        self._expected = expected
        self._live = LiveConnections()
        self._background = Background("rpc")

    async def __aenter__(self) -> Self:
        self._context = self._identity.client_context(self._expected)
        self._context.set_alpn_protocols(["h2"])
        listening = socket.socket(socket.AF_UNIX, socket.SOCK_STREAM)
        listening.bind(f"\0{self._name}")  # in no file system: it is there for as long as the socket is open
        self._server = await asyncio.get_running_loop().create_unix_server(lambda: _Near(self._begin), sock=listening)
        if self._identity.credentials.trust.organizations is not None:
            self._background.keep(self._live.run, "looking at connections to the SN again")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        await self._background.close()

    def _begin(self, near: "_End") -> None:
        self._background.run(self._carry(near), f"the connection to {self._address}")

    async def _carry(self, near: "_End") -> None:
        """One connection, from its beginning to its end."""
        with contextlib.closing(near):
            try:
                async with asyncio.timeout(CONNECT_WITHIN_S):
                    far = await self._connect()
            except (OSError, ValueError) as error:  # the latter: no address
                _log.debug("no connection to the SN", address=self._address, why=str(error))
                return
            judge = judge_of(far.transport.get_extra_info("ssl_object"))
            with contextlib.closing(far), self._live.held(judge, lambda _: far.close()):
                near.join(far)
                await asyncio.wait((near.ended, far.ended), return_when=asyncio.FIRST_COMPLETED)
                for end in (near, far):
                    if not end.transport.is_closing():  # what is closed twice cannot be aborted any more
                        end.transport.close()  # once it has sent what came at the other
                await asyncio.wait((near.ended, far.ended))

    async def _connect(self) -> "_End":
        host, _, port = self._address.rpartition(":")
        host = host.strip("[]")
        _, far = await asyncio.get_running_loop().create_connection(
            _End,
            host,
            int(port),
            ssl=self._context,
            server_hostname=host,
            ssl_shutdown_timeout=LEAVE_WITHIN_S,
            happy_eyeballs_delay=NEXT_ADDRESS_AFTER_S,
        )
        plain = far.transport.get_extra_info("socket")
        plain.setsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT, VANISHED_AFTER_MS)
        return far


class _End(asyncio.Protocol):
    """One end of a connection: what comes in here goes out at the other, and no faster than that takes it."""

    transport: asyncio.Transport
    _other: asyncio.Transport

    def __init__(self) -> None:
        self._joined = False
        self._early = bytearray()
        self.ended: asyncio.Future[None] = asyncio.get_running_loop().create_future()

    def join(self, other: "_End") -> None:
        """Both begin to read."""
        self._other, other._other = other.transport, self.transport
        for end in (self, other):
            end._joined = True
            if end._early:
                end._other.write(bytes(end._early))
                end._early.clear()
            end.transport.resume_reading()

    def close(self) -> None:
        """At once, whatever is on its way."""
        if not self.ended.done():  # Python 3.11.2 raises an exception where a TLS connection has ended
            self.transport.abort()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)
        self.transport.pause_reading()  # until it is joined

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


class _Near(_End):
    """The end of gRPC. Whoever speaks through it speaks as this node."""

    def __init__(self, begin: Callable[[_End], object]) -> None:
        super().__init__()
        self._begin = begin

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        super().connection_made(transport)
        peer = transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
        process, user, _ = _PEER.unpack(peer)
        if process == os.getpid():
            self._begin(self)
        else:
            _log.warning("refused a local connection of another process", process=process, user=user)
            self.transport.abort()
