"""Holds a node's name with its SN as long as its process runs: a second process with that name is refused."""

import asyncio
import contextlib
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import NoReturn

from services.errors import Expelled, NameInUse, SNSilent, SwarmError
from services.rpc.client import SNClient
from services.runtime import logs

FIRST_WAIT_S = 0.2
LONGEST_WAIT_S = 2.0
TAKE_DEADLINE_S = 10.0  # the SN may have to wait for another process and for other SNs

Within = Callable[[SNClient, Awaitable[None]], Awaitable[None]]
_log = logs.get("sn")


class NameHolding:
    """``current()``: the SN that the node uses now. ``within(client, work)`` awaits ``work``, or raises a SwarmError
    once the node uses another SN. ``host``, ``port``: where peers reach the process, if they do. ``is_lost``: another
    process has the name now, or the node was expelled.
    """

    def __init__(
        self,
        current: Callable[[], SNClient],
        within: Within,
        host: str = "",
        port: int = 0,
    ) -> None:
        self.is_lost = False
        self._current = current
        self._within = within
        self._place = host, port
        self._held: tuple[SNClient, AsyncGenerator[None]] | None = None
        self._keeping: asyncio.Task[NoReturn] | None = None

    async def take(self, client: SNClient) -> None:
        """Returns once the name is held with this SN. Raises NameInUse, SNSilent."""
        stream = client.hold_name(*self._place)
        try:
            async with asyncio.timeout(TAKE_DEADLINE_S):
                await anext(stream)
        except (TimeoutError, StopAsyncIteration):
            await stream.aclose()
            raise SNSilent(address=client.address) from None
        self._held = client, stream

    def keep(self) -> None:
        """Keeps holding the name until ``close``, with whichever SN the node uses."""
        self._keeping = asyncio.create_task(self._keep())

    async def lost(self) -> None:
        """Waits; for ever if all is well. Raises NameInUse once another process has taken the name, which may happen if
        this one was frozen or cut off for a while; Expelled.
        """
        if self._keeping is not None:
            await asyncio.shield(self._keeping)

    async def close(self) -> None:
        if self._keeping is not None:
            self._keeping.cancel()
            await asyncio.gather(self._keeping, return_exceptions=True)
        if self._held is not None:
            await self._held[1].aclose()

    async def _keep(self) -> NoReturn:
        wait = FIRST_WAIT_S
        while True:
            client = self._current()
            try:
                if self._held is None or self._held[0] is not client:
                    await self._within(client, self.take(client))
                    wait = FIRST_WAIT_S
                await self._within(client, self._ended())
            except (NameInUse, Expelled):
                self.is_lost = True
                raise
            except SwarmError as error:
                _log.debug("the name is not held for now", address=client.address, why=str(error))
            self._held = None
            await asyncio.sleep(wait)
            wait = min(2 * wait, LONGEST_WAIT_S)

    async def _ended(self) -> None:
        """Answers the SN until it ends the stream. Raises the reason, if there is one."""
        if self._held is not None:
            async with contextlib.aclosing(self._held[1]) as stream:
                async for _ in stream:
                    pass
