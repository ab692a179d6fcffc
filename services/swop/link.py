"""The SN that a SWOP works through: calls that are repeated until they are answered, and a stream that never ends."""

import asyncio
import contextlib
from collections.abc import AsyncIterator, Awaitable, Callable
from types import TracebackType
from typing import Self, TypeVar

from services.errors import EXPIRED, NetworkError, PeerNotAccepted, SwarmError
from services.identity.identity import Identity
from services.rpc import swarm_pb2 as pb
from services.rpc.client import SNClient
from services.rpc.name_holding import NameHolding
from services.runtime import logs
from services.runtime.addresses import join_address

FIRST_WAIT_S = 0.2
LONGEST_WAIT_S = 5.0

# These errors do not answer the request: the next SN may, or the same one later.
_GONE: tuple[type[SwarmError], ...] = (NetworkError, PeerNotAccepted, *EXPIRED)

Got = TypeVar("Got")
_log = logs.get("sn")


class SwopLink:
    """Uses one SN at a time: first the one at ``first``, then any of the swarm.

    ``pause(seconds)`` waits. Entering the context claims this node's name for this process alone. Raises NameInUse,
    SNUnreachable, or the SN's error.
    """

    def __init__(self, identity: Identity, first: str, pause: Callable[[float], Awaitable[object]]) -> None:
        self._identity = identity
        self._addresses = [first]
        self._client = SNClient(first, identity)
        self._moving = asyncio.Lock()
        self._pause = pause
        self.name = NameHolding(lambda: self._client, lambda _, work: work)

    async def __aenter__(self) -> Self:
        await self._client.__aenter__()
        try:
            await self.name.take(self._client)
        except BaseException:
            await self._client.__aexit__(None, None, None)
            raise
        self.name.keep()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.name.close()
        await self._client.__aexit__(kind, error, trace)

    @property
    def address(self) -> str:
        return self._client.address

    async def register(self) -> None:
        """Call once, at the start. Raises the SN's error, or SNUnreachable."""
        await self._client.network.Register(pb.RegisterRequest())
        await self._learn()

    async def call(self, ask: Callable[[SNClient], Awaitable[Got]], *settled: type[SwarmError]) -> Got | None:
        """The answer, from whichever SN gives one; None if it is one of the errors ``settled``."""
        wait = FIRST_WAIT_S
        while True:
            client = self._client
            try:
                return await ask(client)
            except settled:
                return None
            except _GONE as error:
                self._require_another(error)
                await self._elsewhere(client, error, wait)
                wait = min(2 * wait, LONGEST_WAIT_S)

    async def watch(self, runner: str) -> AsyncIterator[pb.RunnerStatus]:
        """Yields the newest state of a taskrunner after each change, without end. Raises an SN's refusal."""
        seen, wait = 0, FIRST_WAIT_S
        while True:
            client, error = self._client, None
            try:
                async for status in client.watch_runner(runner, seen):
                    seen, wait = status.version, FIRST_WAIT_S
                    yield status
            except _GONE as failed:
                self._require_another(failed)
                error = failed
            await self._elsewhere(client, error, wait)
            wait = min(2 * wait, LONGEST_WAIT_S)

    async def _elsewhere(self, failed: SNClient, error: SwarmError | None, wait: float) -> None:
        """Waits, then switches to the next SN and registers there, unless another call has already done so."""
        async with self._moving:
            if self._client is not failed:
                return
            _log.warning(
                "the SN cannot be reached, trying again", address=failed.address, why=str(error or "it stopped")
            )
            await self._pause(wait)
            self._addresses = [*self._addresses[1:], self._addresses[0]]
            await failed.__aexit__(None, None, None)
            self._client = SNClient(self._addresses[0], self._identity)
            await self._client.__aenter__()
            with contextlib.suppress(*_GONE):
                await self._client.network.Register(pb.RegisterRequest())
                _log.info("working through an SN again", address=self._client.address)

    def _require_another(self, error: SwarmError) -> None:
        """Raises the error if the peer is not, or no longer, accepted as an SN and no other address is known."""
        if isinstance(error, PeerNotAccepted) and not isinstance(error, EXPIRED) and len(self._addresses) == 1:
            raise error

    async def _learn(self) -> None:
        """Learns the addresses of the other SNs."""
        nodes = (await self._client.network.ListNodes(pb.ListNodesRequest())).nodes
        others = [join_address(node.host, node.port) for node in nodes if node.role == "sn" and node.present]
        self._addresses = list(dict.fromkeys([*self._addresses, *others]))
