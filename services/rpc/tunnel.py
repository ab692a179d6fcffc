"""Connects gRPC to an SN: gRPC does not let a client see the server's certificate, so TLS and checks are done here."""

import asyncio
import contextlib
import os
import secrets
import socket
import struct
from types import TracebackType
from typing import Self, cast

from services.identity.identity import Identity
from services.identity.live import LiveConnections
from services.identity.peer_context import judge_of
from services.identity.peers import Expected
from services.runtime import logs
from services.runtime.background import Background
from services.runtime.splice import End, connect

# After this, an attempt to connect is given up. TCP and TLS take several round trips, and an SN may be far away or on a
# busy machine.
CONNECT_WITHIN_S = 3.0

_PEER = struct.Struct("3i")  # ucred: process, user, group
_log = logs.get("rpc")


class Tunnel:
    """``target``: an address for gRPC without TLS. Connections of this process to it are passed on to the SN at
    ``address`` (``host:port``) over TLS, with this node's certificate; those of other processes are closed.

    ``expected``: who the SN must be; nothing is sent to anybody else. A connection ends when the SN is revoked.
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
        listening.bind(f"\0{self._name}")  # in no file system: it exists only while the socket is open
        self._server = await asyncio.get_running_loop().create_unix_server(lambda: _Near(self._begin), sock=listening)
        self._background.keep(self._live.run, "looking at connections to the SN again")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        await self._background.close()

    def _begin(self, near: End) -> None:
        carrying = self._background.run(self._carry(near), f"the connection to {self._address}")
        carrying.add_done_callback(lambda _: near.close())  # also if it was cancelled before it began

    async def _carry(self, near: End) -> None:
        """Carries one connection until either side ends it."""
        try:
            async with asyncio.timeout(CONNECT_WITHIN_S):
                far = await self._connect()
        except (OSError, ValueError) as error:  # ValueError: not an address
            _log.debug("no connection to the SN", address=self._address, why=str(error))
            return
        judge = judge_of(far.transport.get_extra_info("ssl_object"))
        with contextlib.closing(far), self._live.held(judge, lambda _: far.close()):
            await near.carry(far)

    async def _connect(self) -> End:
        host, _, port = self._address.rpartition(":")
        return await connect(host.strip("[]"), int(port), self._context)


class _Near(End):
    """gRPC's end. Whatever is sent through it is sent as this node."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        peer = transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
        process, user, _ = _PEER.unpack(peer)
        if process == os.getpid():
            super().connection_made(transport)
        else:
            _log.warning("refused a local connection from another process", process=process, user=user)
            cast(asyncio.Transport, transport).abort()
