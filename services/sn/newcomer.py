"""Before it meets the others, a new SN fetches the chain from the SN that let it in, and reads it meanwhile.

Its geth executes all transactions again, one after the other; this process reads the events on another processor.
"""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import TypeVar

from services.chain.backend import ChainBackend
from services.chain.events import ContractRegistered
from services.chain.federation import Federation
from services.chain.gateway import Gateway
from services.chain.network import NetworkGateway
from services.chain.training import TrainingGateway
from services.errors import SwarmError
from services.identity.identity import Identity
from services.rpc.client import SNClient
from services.runtime import logs
from services.sn.directory import TRAINING_KIND
from services.sn.event_fold import NOWHERE
from services.sn.fetching import IMPORT_FILE, fetch_blocks
from services.sn.snapshots import Snapshots
from services.sn.state import SNState
from services.sn.training import TrainingView

STEPS = 20  # a history that is still coming is read in so many parts

E = TypeVar("E")

_log = logs.get("sn")


async def take_chain(identity: Identity, chain: ChainBackend, data_dir: Path, state: SNState, through: str) -> None:
    """Fetches all blocks of the SN at the address ``through``. If that breaks off, the rest comes from all SNs."""
    federation = chain.federation
    if federation is None or federation.tail.head.number >= state.joined_at:
        return
    early = EarlyHistory(chain, state.network, Snapshots(data_dir, chain), state.joined_at)
    reading = asyncio.create_task(early.follow(federation))
    oldest = federation.tail.links[0].number  # the oldest block here that might still be replaced
    try:
        with federation.importing():
            async with SNClient(through, identity) as client:
                into = data_dir / IMPORT_FILE
                await fetch_blocks(client, federation.geth_peers, oldest, into, of=through, taken=early.more)
        early.end()
        await reading
    except SwarmError as error:
        _log.warning("not all of the chain was fetched at once; the rest comes from all SNs", reason=str(error))
    finally:
        reading.cancel()
        await asyncio.gather(reading, return_exceptions=True)


class EarlyHistory:
    """The state of trainings after blocks that geth has but that are not known to be final yet.

    It is kept like other snapshots, with the hash of its block: it counts once that block is final; if another block
    has replaced it, everything is read again. ``until``: the block that this SN waits for before it continues.
    """

    def __init__(self, chain: ChainBackend, network: str, snapshots: Snapshots, until: int) -> None:
        self._chain = chain
        self._network = NetworkGateway.at(chain, network)
        self._snapshots = snapshots
        self._until = until
        self._views: dict[str, TrainingView] = {}
        self._next: dict[str, int] = {}  # the first block whose events are unread, by contract
        self._pages = 0
        self._come = asyncio.Event()
        self._ended = False

    def more(self) -> None:
        """geth has more blocks. A chain of one page is not read early: that would save nothing."""
        self._pages += 1
        if self._pages > 1:
            self._come.set()

    def end(self) -> None:
        """No more blocks come; what is unread is read later, as after any start."""
        self._ended = True
        self._come.set()

    async def follow(self, federation: Federation) -> None:
        """Reads the blocks so far, whenever another part of the whole is there, until ``end``. Raises ChainError."""
        read, block_hash, step = 0, "", max(1, self._until // STEPS)
        while not self._ended and read < self._until:
            await self._come.wait()
            self._come.clear()
            newest = min(self._until, await federation.geth_peers.newest())
            if newest - read < step:
                continue
            if read and await self._chain.block_hash(read) != block_hash:
                return  # blocks that were read have been replaced
            read, block_hash = newest, await self._chain.block_hash(newest)
            await self.read(newest)
        if read and await self._chain.block_hash(read) == block_hash:
            for view in self._views.values():
                if view.position != NOWHERE:
                    await self._snapshots.save(view)

    async def read(self, until: int) -> None:
        """Reads all trainings up to and including this block. Raises ChainError."""
        async for entries in self._unread(self._network, until):
            for entry in entries:
                if isinstance(entry, ContractRegistered) and entry.kind == TRAINING_KIND:
                    location = TrainingGateway.at(self._chain, entry.location).address
                    self._views.setdefault(location, TrainingView(entry.name, location))
        for location, view in self._views.items():
            async for events in self._unread(TrainingGateway.at(self._chain, location), until):
                for event in events:
                    view.apply(event)

    async def _unread(self, gateway: Gateway[E], until: int) -> AsyncIterator[list[E]]:
        async for page in gateway.history(self._next.get(gateway.address, 0), until, settled=False):
            yield page
        self._next[gateway.address] = until + 1
