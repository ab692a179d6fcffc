"""The SN through which this node works, and the others to which it moves when that one is gone."""

import asyncio
import contextlib
import math
from collections.abc import Awaitable, Callable
from time import monotonic
from types import TracebackType
from typing import Self, TypeVar

from services.errors import EXPIRED, ChainError, ContractRevert, PeerNotAccepted, SNSilent, SNUnreachable, SwarmError
from services.identity.identity import Identity
from services.rpc import swarm_pb2 as pb
from services.rpc.client import DEADLINE_S, SNClient
from services.rpc.name_holding import NameHolding
from services.runtime import logs
from services.runtime.addresses import join_address
from services.runtime.background import Background
from services.runtime.signals import ChangeSignal
from services.sl.memory import Memory
from services.sl.own_address import OwnAddress
from services.sl.patience import Patience

FIRST_WAIT_S = 0.2
LONGEST_WAIT_S = 2.0  # less than the time for which others serve after the end

# The present SN answers at once; another one may first have to record that this node has moved to it.
STAY_DEADLINE_S = 2.0
MOVE_DEADLINE_S = 10.0

# How often the list of SNs is read again.
LEARN_EVERY_S = 60.0

# How often it is said that no SN can be reached.
TELL_EVERY_S = 60.0

Got = TypeVar("Got")
_log = logs.get("sn")


class SNLink:
    """Registers this node with one SN at a time: first with the one at ``first``, later with any SN of the swarm. Peers
    reach the node at ``address``.

    ``lost`` is called when no SN can be reached, each minute while that lasts, and when an SN becomes ``needed()``: the
    node cannot continue without. Entering the context claims this node's name for this process alone. Raises NameInUse,
    SNUnreachable if neither ``first`` nor a remembered SN can be reached, and errors of the SN.
    """

    def __init__(
        self,
        identity: Identity,
        first: str,
        address: OwnAddress,
        memory: Memory,
    ) -> None:
        self.client = SNClient(first, identity)
        self.lost: Callable[[SwarmError], object] = lambda _: None
        self.needed: Callable[[], bool] = lambda: True
        self._identity = identity
        self._first = first
        self._address = address
        self.name = NameHolding(lambda: self.client, self.while_here, address.host, address.port)
        self._registered_with: SNClient | None = None
        self._memory = memory
        self._moving = asyncio.Lock()
        self._moved = ChangeSignal()
        self._clients = [self.client]
        self._background = Background("sn")
        self._learning: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        await self.client.__aenter__()
        try:
            await self._hold_name()
        except BaseException:
            await self._close()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self._close()

    async def enter(self) -> None:
        """Registers this node for the first time. Raises SNUnreachable, and errors of the SN."""
        try:
            await self._register(self.client, DEADLINE_S)
        except SNUnreachable:
            if not await self._found(self._others()):
                raise
        else:
            self._learn_anew()

    async def while_here(self, client: SNClient, work: Awaitable[Got]) -> Got:
        """The result of ``work``, which asks ``client``. Raises SNUnreachable if the node moves to another SN
        meanwhile.
        """
        doing, moved = asyncio.ensure_future(work), asyncio.ensure_future(self._moved.wait())
        try:
            if self.client is client:
                await asyncio.wait((doing, moved), return_when=asyncio.FIRST_COMPLETED)
            if doing.done():
                return doing.result()
            raise SNUnreachable(address=client.address, problem="this node goes on through another one")
        finally:
            for task in (doing, moved):
                task.cancel()
            await asyncio.gather(doing, moved, return_exceptions=True)

    def ends(self, error: SwarmError) -> bool:
        """Whether this error means that the SN cannot serve now; another one may, or the same one later."""
        if isinstance(error, EXPIRED):
            return True
        if isinstance(error, PeerNotAccepted):
            return bool(self._others())
        return isinstance(error, SNUnreachable | ChainError) and not isinstance(error, ContractRevert)

    async def ask_another(self, call: Callable[[SNClient], Awaitable[Got]]) -> Got | None:
        """The reply of the next SN of the ring that answers; None if none does."""
        for address in self._others():
            async with SNClient(address, self._identity) as client:
                with contextlib.suppress(SwarmError):
                    return await call(client)
        return None

    async def register(self, client: SNClient) -> None:
        """Registers this node again."""
        await self._register(client, DEADLINE_S)

    async def elsewhere(self, failed: SNClient, error: SwarmError, attempt: int, patience: Patience) -> None:
        """Returns when ``client`` can be used again, with the same SN or another one.

        ``attempt`` counts from 0 how often the same call or stream has failed. Raises ``error`` when the ``patience``
        is over.
        """
        async with self._moving:
            if self.client is not failed:
                return
            wait = 0.0 if not attempt else min(FIRST_WAIT_S * 2 ** (attempt - 1), LONGEST_WAIT_S)
            stays_first = not attempt and not isinstance(error, SNSilent)
            told_at, told_needed = -math.inf, False
            while True:
                if wait:
                    await asyncio.sleep(min(wait, patience.left_s))
                if stays_first and await self._stays():
                    return
                if await self._found(self._others()) or (not stays_first and await self._stays()):
                    return
                if not patience.left_s:
                    raise error
                needed = self.needed()
                if monotonic() - told_at >= TELL_EVERY_S or (needed and not told_needed):
                    self.lost(error)
                    told_at, told_needed = monotonic(), needed
                wait = min(max(FIRST_WAIT_S, 2 * wait), LONGEST_WAIT_S)

    async def _hold_name(self) -> None:
        """Returns once this process holds the name of this node with an SN."""
        try:
            await self.name.take(self.client)
        except SNUnreachable:
            if not await self._found(self._others(), self.name.take):
                raise
        self.name.keep()

    def _learn_anew(self) -> None:
        if self._learning is not None:
            self._learning.cancel()
        self._learning = self._background.run(self._keep_learning(), "learning which SNs there are")

    def _others(self) -> list[str]:
        """The other SNs, in ring order after the present one, so that nodes do not all move to the same SN."""
        known = list(dict.fromkeys((*self._memory.sns, self._first)))
        here = self.client.address
        behind = known.index(here) + 1 if here in known else 0
        return [address for address in known[behind:] + known[:behind] if address != here]

    async def _stays(self) -> bool:
        try:
            await self._register(self.client, STAY_DEADLINE_S)
        except SwarmError as error:
            if not self.ends(error):
                raise
            return False
        return True

    async def _found(self, addresses: list[str], take: Callable[[SNClient], Awaitable[None]] | None = None) -> bool:
        """Moves to the first of them that accepts this node, by ``take`` or else by registering it."""
        for address in addresses:
            client = SNClient(address, self._identity)
            await client.__aenter__()
            try:
                await (take(client) if take else self._register(client, MOVE_DEADLINE_S))
            except SwarmError as error:
                await client.__aexit__(None, None, None)
                if not self.ends(error):  # the swarm does not accept this node
                    raise
                _log.debug("not this one", address=address, why=str(error))
                continue
            _log.warning("continuing through another SN", address=address, instead_of=self.client.address)
            self.client = client
            # Old clients are closed at the end: gRPC would cancel a task that still waits for their answer.
            self._clients.append(client)
            self._moved.notify()
            self._learn_anew()
            return True
        return False

    async def _register(self, client: SNClient, deadline_s: float) -> None:
        await asyncio.to_thread(self._address.look, client.address)
        announcement = pb.RegisterRequest(host=self._address.host, port=self._address.port)
        registered = await client.network.Register(announcement, timeout=deadline_s)
        if client is not self._registered_with:
            judged = {"organization": registered.organization} if registered.organization else {}
            _log.info("registered", sn=registered.sn, address=client.address, **judged)
        self._registered_with = client

    async def _close(self) -> None:
        await self._background.close()
        await self.name.close()
        for client in self._clients:
            await client.__aexit__(None, None, None)

    async def _keep_learning(self) -> None:
        """Reads the list of SNs again and again."""
        while True:
            try:
                await self._learn()
            except SwarmError as error:
                _log.debug("the SNs of the swarm are not known", why=str(error))
            await asyncio.sleep(LEARN_EVERY_S)

    async def _learn(self) -> None:
        reply = await self.client.network.ListNodes(pb.ListNodesRequest())
        there = [join_address(node.host, node.port) for node in reply.nodes if node.role == "sn" and node.present]
        await asyncio.to_thread(self._memory.keep_sns, tuple(sorted(there)))
