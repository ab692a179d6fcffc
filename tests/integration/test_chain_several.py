"""Several chains on real geth keep one history although geths are killed and links are cut."""

import asyncio
import contextlib
import json
import os
import random
import signal
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from services.chain.geth import GethChain
from services.chain.geth_peers import Enode, GethPeers
from services.chain.network import NetworkGateway
from services.chain.receipts import Position
from services.errors import ChainError

pytestmark = [pytest.mark.timeout(300), pytest.mark.needs("geth")]

SNS = 3
WRITES = 24  # by each
FAULT_EVERY = 4
HOST = "127.0.0.1"


class Together:
    """Chains with one genesis in one process, and the streams between them, as SNs provide."""

    def __init__(self, directory: Path) -> None:
        self.directory = directory
        self.chains: list[GethChain] = []
        self._streams: dict[tuple[int, int], asyncio.Task[None]] = {}
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> NetworkGateway:
        first = GethChain(self.directory / "0")
        await first.start()
        network = await NetworkGateway.deploy(first)
        self.chains.append(first)
        for index in range(1, SNS):
            genesis = json.loads(first.federation.genesis)
            chain = GethChain(self.directory / str(index), genesis=genesis, has_others=True)
            self.chains.append(chain)
            await network.add_sn_account(chain.account, f"sn-{index + 1}")
            await first.federation.fund(chain.account)
            await chain.start()
        for one in range(SNS):
            self._tasks += [asyncio.create_task(self._introduce(one)), asyncio.create_task(self._fetch(one))]
            for other in range(one):
                self.join(one, other)
        for chain in self.chains:
            chain.federation.elect_from([chain.account for chain in self.chains])
        await asyncio.gather(*(self._all_seal(chain) for chain in self.chains))
        return network

    async def stop(self) -> None:
        for task in [*self._tasks, *self._streams.values()]:
            task.cancel()
        await asyncio.gather(*self._tasks, *self._streams.values(), return_exceptions=True)
        await asyncio.gather(*(chain.close() for chain in self.chains))

    def kill(self, index: int) -> None:
        with contextlib.suppress(FileNotFoundError, ProcessLookupError):  # it is being restarted
            os.kill(int((self.directory / str(index) / "eth" / "geth.pid").read_text()), signal.SIGKILL)

    def join(self, one: int, other: int) -> None:
        for here, there in ((one, other), (other, one)):
            self._streams[here, there] = asyncio.create_task(self._tell(self.chains[here], self.chains[there]))

    async def cut(self, one: int, other: int) -> None:
        """Cuts all links: neither the SNs nor their geths hear from each other."""
        for pair in ((one, other), (other, one)):
            self._streams[pair].cancel()
        with contextlib.suppress(ChainError):
            enodes = [await _enode(self.chains[index].federation.geth_peers) for index in (one, other)]
            await self.chains[one].federation.geth_peers.forget(enodes[1])
            await self.chains[other].federation.geth_peers.forget(enodes[0])

    async def heal(self, one: int, other: int) -> None:
        self.join(one, other)
        with contextlib.suppress(ChainError):
            await self._connect(one, other)

    async def _tell(self, here: GethChain, there: GethChain) -> None:
        reader = here.federation.pool.open_reader()

        async def standings() -> None:
            async for standing in here.federation.attestations.own.follow():
                there.federation.heard(here.account, standing)

        async def transactions() -> None:
            while True:
                there.federation.take(await reader.get())

        there.federation.connected(here.account)
        try:
            await asyncio.gather(standings(), transactions())
        finally:
            here.federation.pool.close_reader(reader)
            there.federation.disconnected(here.account)

    async def _introduce(self, index: int) -> None:
        async for _ in self.chains[index].federation.reopened.follow():
            for other in range(SNS):
                if other != index and not self._streams[index, other].done():
                    with contextlib.suppress(ChainError):
                        await self._connect(index, other)

    async def _connect(self, one: int, other: int) -> None:
        low, high = (self.chains[index].federation.geth_peers for index in sorted((one, other)))
        await high.trust(await _enode(low))
        await low.trust(await _enode(high))
        await low.dial(await _enode(high))

    async def _fetch(self, index: int) -> None:
        chain = self.chains[index]
        async for account in chain.federation.lagging.follow():
            other = next(other for other in self.chains if other.account == account)
            with contextlib.suppress(ChainError):
                pieces = [
                    piece async for piece in other.federation.geth_peers.raw_blocks(chain.federation.final_number)
                ]
                await chain.federation.geth_peers.import_blocks(self.directory / f"{index}.rlp", pieces)

    @staticmethod
    async def _all_seal(chain: GethChain) -> None:
        async for signers in chain.federation.voting.changed.follow():
            if len(signers) == SNS:
                return


async def _enode(of: GethPeers) -> Enode:
    return await of.enode(HOST, await of.listens_on())


@pytest.fixture
async def together(tmp_path: Path) -> AsyncIterator[Together]:
    started = Together(tmp_path)
    try:
        yield started
    finally:
        await started.stop()


@pytest.mark.parametrize("seed", [1, 2])
async def test_all_see_one_history_whatever_is_killed_and_cut(together: Together, seed: int) -> None:
    dice = random.Random(seed)
    network = await together.start()
    networks = [NetworkGateway.at(chain, network.address) for chain in together.chains]
    seen: list[list[tuple[Position, str]]] = [[] for _ in networks]
    faults: list[str] = []
    again: list[int] = []
    news = asyncio.Condition()
    cuts = asyncio.Semaphore(2)  # each ends with a write, and nobody could write if all three links were cut at once
    names = {f"sl-{index}-{number}" for index in range(SNS) for number in range(WRITES)}

    async def follow(index: int) -> None:
        async for log in together.chains[index].follow(network.address):
            async with news:
                seen[index].append((log.position, log.transaction))
                news.notify_all()

    async def write(index: int) -> None:
        for number in range(WRITES):
            await networks[index].register_member(f"sl-{index}-{number}", "sl", "h", 1, bytes([1]) * 32, "sn-1")
            if number % FAULT_EVERY == index:
                await fault(index)

    async def fault(index: int) -> None:
        other = dice.choice([there for there in range(SNS) if there != index])
        faults.append(dice.choice(["kill", "cut"]))
        if faults[-1] == "kill":
            together.kill(other)
            return
        async with cuts:
            await together.cut(index, other)
            third = next(there for there in range(SNS) if there not in (index, other))
            await networks[third].register_member("sl-0-0", "sl", "h", 1, bytes([1]) * 32, "sn-1")
            again.append(third)
            await together.heal(index, other)

    following = [asyncio.create_task(follow(index)) for index in range(SNS)]
    await asyncio.gather(*(write(index) for index in range(SNS)))
    for chain in together.chains:
        chain.federation.writer.push()  # followers may be one block behind
    written = 1 + SNS + len(names) + len(again)  # the organization, the accounts of the SNs, then the members
    async with asyncio.timeout(60), news:
        await news.wait_for(lambda: all(len(events) >= written for events in seen))
    for task in following:
        task.cancel()

    assert len(faults) == SNS * WRITES // FAULT_EVERY
    assert seen[0] == seen[1] == seen[2]
    assert len({transaction for _, transaction in seen[0]}) == len(seen[0]) - 1  # the first one founds: two events
    assert {member.name for member in await networks[0].members()} == names
