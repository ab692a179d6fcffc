"""The way from gRPC to an SN: gRPC shows a client no certificate, so TLS is spoken here, and the SN judged."""

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

# An attempt to connect is given up after it. TCP and TLS take several round trips, and an SN may be far away or on a
# busy machine.
CONNECT_WITHIN_S = 3.0

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
        self._background.keep(self._live.run, "looking at connections to the SN again")
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self._server.close()
        await self._background.close()

    def _begin(self, near: End) -> None:
        carrying = self._background.run(self._carry(near), f"the connection to {self._address}")
        carrying.add_done_callback(lambda _: near.close())  # also of one that was cancelled before it began

    async def _carry(self, near: End) -> None:
        """One connection until it ends at the other side."""
        try:
            async with asyncio.timeout(CONNECT_WITHIN_S):
                far = await self._connect()
        except (OSError, ValueError) as error:  # the latter: no address
            _log.debug("no connection to the SN", address=self._address, why=str(error))
            return
        judge = judge_of(far.transport.get_extra_info("ssl_object"))
        with contextlib.closing(far), self._live.held(judge, lambda _: far.close()):
            await near.carry(far)

    async def _connect(self) -> End:
        host, _, port = self._address.rpartition(":")
        return await connect(host.strip("[]"), int(port), self._context)


class _Near(End):
    """The end of gRPC. Whoever speaks through it speaks as this node."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        peer = transport.get_extra_info("socket").getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, _PEER.size)
        process, user, _ = _PEER.unpack(peer)
        if process == os.getpid():
            super().connection_made(transport)
        else:
            _log.warning("refused a local connection from another process", process=process, user=user)
            cast(asyncio.Transport, transport).abort()
