"""A client's connection to its SN: renewed when the node's certificate changes; the old one stays while it is used."""

import asyncio
from collections import Counter
from collections.abc import Sequence
from typing import Any

import grpc

from services.identity.identity import Identity
from services.identity.peers import Expected
from services.rpc.tunnel import Tunnel
from services.runtime.background import Background

# A call that is under way when the certificate changes has ended by then.
CALLS_END_S = 60.0


class Channels:
    """New calls use ``newest``. Older channels stay open while used: closing one cancels the calls on it."""

    def __init__(
        self, address: str, identity: Identity, expected: Expected, options: Sequence[tuple[str, int | str]]
    ) -> None:
        self.newest: Any = None
        self._tunnel = Tunnel(address, identity, expected)
        self._options = (*options, ("grpc.default_authority", address))
        self._older: list[tuple[float, Any]] = []  # with the time since when
        self._streams: Counter[int] = Counter()
        self._background = Background("connection to the SN")

    async def open(self) -> Any:
        """Opens the first channel. Raises IdentityError if this node's certificate cannot be used."""
        await self._tunnel.__aenter__()
        return self.renew()

    def renew(self) -> Any:
        """Opens a channel with the current certificate, and closes those that are no longer needed."""
        now = asyncio.get_running_loop().time()
        if self.newest is not None:
            self._older.append((now, self.newest))
        self.newest = grpc.aio.insecure_channel(self._tunnel.target, options=self._options)
        for entry in list(self._older):
            since, channel = entry
            if now - since > CALLS_END_S and not self._streams[id(channel)]:
                self._older.remove(entry)
                del self._streams[id(channel)]
                self._background.run(channel.close(), "closing an older connection")
        return self.newest

    def held_by(self, call: Any) -> Any:
        """Returns ``call``, a stream on the newest channel, and keeps that channel open until the stream ends."""
        number = id(self.newest)
        self._streams[number] += 1
        call.add_done_callback(lambda _: self._streams.subtract((number,)))
        return call

    async def close(self) -> None:
        channels, self._older, newest, self.newest = self._older, [], self.newest, None
        for channel in (*(channel for _, channel in channels), newest):
            await channel.close()
        await self._background.close()
        await self._tunnel.__aexit__(None, None, None)
