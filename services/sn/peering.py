"""Stays in touch with the other SNs: one stream with each, by which the two keep their chains together."""

import asyncio
import contextlib
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator, Callable, Iterable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from services.chain.abi import checksummed
from services.chain.attestations import Standing
from services.chain.federation import Federation
from services.chain.finality import Attestation
from services.chain.geth_peers import Enode
from services.chain.pool import PendingTransaction
from services.chain.relayed import gas_of
from services.errors import AnotherSwarm, ChainError, MalformedCall, SwarmError, TooManyCalls
from services.identity.identity import Identity
from services.rpc import swarm_pb2 as pb
from services.rpc.client import SNClient
from services.runtime import logs
from services.runtime.addresses import join_address
from services.runtime.background import Background
from services.sn import requests
from services.sn.chain_relay import LOOPBACK, ChainRelay
from services.sn.fetching import BlockFetcher
from services.sn.names import Holder
from services.sn.state import KnownSN

FIRST_WAIT_S = 0.1
LONGEST_WAIT_S = 2.0
SECOND_DIAL_AFTER_S = 2.0
FIND_HOLDER_S = 3.0  # longer than a process has to answer

# SNs of one organization that say hello but are not in the directory, or whose entry has not arrived here yet.
NEWCOMERS_AT_ONCE = 16
OF_NEWCOMERS = ""  # transactions of all newcomers count together

# Messages that may wait for one SN: more than all SNs together may have waiting at once. One that reads nothing gets no
# more.
OUTBOX_LIMIT = 16_384

Outbox = asyncio.Queue[pb.PeerNews | None]

_log = logs.get("sn")


@dataclass(frozen=True)
class ChainName:
    """A chain's id and the hash of its first block. A chain that is founded anew keeps its id but not its hash."""

    id: int
    genesis: bytes

    def __str__(self) -> str:
        return f"{self.id}/{self.genesis.hex()[:8]}"


@dataclass
class _Other:
    """An SN at the other end of a stream. Until it has said hello, ``account`` is empty, and ``name`` may be.

    ``met``: this stream counts among those that keep the two in touch. ``ended``: it never will again.
    ``organization``: whose CA issued its certificate.
    """

    name: str
    outbox: Outbox
    organization: str = ""
    account: str = ""
    enode: Enode | None = None  # where this SN's geth reaches the other's geth
    met: bool = False
    ended: bool = False
    called: bool = False  # this SN opened the stream
    seen: pb.PeerSeen | None = None  # where its API is, as it says
    deaf: bool = False

    def tell(self, news: pb.PeerNews | None) -> None:
        """``None``: the end of the stream."""
        if self.deaf:
            return
        if self.outbox.qsize() >= OUTBOX_LIMIT:
            _log.warning("an SN does not read what it is sent", name=self.name, waiting=self.outbox.qsize())
            self.deaf, news = True, None
            while not self.outbox.empty():
                self.outbox.get_nowait()
        self.outbox.put_nowait(news)


class Peering:
    """``alive``: names of the connected SNs. ``changed`` is called when that set changes; before it, ``met`` if one has
    come. ``owner_of`` returns the owner of an account, if the chain knows it.
    """

    def __init__(
        self,
        identity: Identity,
        federation: Federation,
        chain: ChainName,
        host: str,
        background: Background,
        *,
        relay: ChainRelay,
    ) -> None:
        self.alive: Counter[str] = Counter()
        self.changed: Callable[[], None] = lambda: None
        self.met: Callable[[], object] = lambda: None
        self.owner_of: Callable[[str], str | None] = lambda _: None
        self._name = identity.name
        self._identity = identity
        self._federation = federation
        self._chain = chain
        self._host = host
        self._relay = relay
        self._port = 0
        self._background = background
        self._listed: dict[str, str] = {}  # addresses as in the directory
        self._addresses: dict[str, str] = {}
        self._seen_at: dict[str, tuple[str, int]] = {}  # as others say; tried if the address does not answer
        self._others: list[_Other] = []
        self._enodes: dict[str, Enode] = {}
        self._accounts: dict[str, str] = {}
        self._gone: dict[str, asyncio.Event] = {}
        self._stopped = asyncio.Event()

    def start(self, peers: Iterable[KnownSN], fetch_into: Path, through: str) -> None:
        """Looks for the SNs known from before, and for the one at the address ``through``, if that is given."""
        self._background.keep(self._greet_again, "telling other SNs of this node's geth")
        fetcher = BlockFetcher(self._identity, self._federation, self._api_of, fetch_into)
        self._background.keep(fetcher.run, "fetching blocks")
        for peer in peers:
            self.know(peer.name, peer.host, peer.port)
        if through:
            self._background.keep(lambda: self._find(through), f"looking for the SN at {through}")

    def know(self, name: str, host: str, port: int) -> None:
        """The address of an SN according to the directory; from now on this SN keeps in touch with it.

        A restarted SN says where it is before the directory can: its own word counts until the entry changes while the
        two are out of touch.
        """
        listed = join_address(host, port)
        if not port or self._listed.get(name) == listed:
            return
        self._listed[name] = listed
        if not (self.alive[name] and name in self._addresses):
            self._reached_at(name, listed)

    def part_from(self, name: str) -> None:
        """It is no longer an SN of this swarm."""
        if self._addresses.pop(name, None) is None:
            return
        self._listed.pop(name, None)
        self._seen_at.pop(name, None)
        self._gone.pop(name).set()
        for other in self._others:
            if other.name == name:
                other.tell(None)
        self._forget(name)

    def _forget(self, name: str) -> None:
        """Its geth is no longer let in."""
        self._relay.close_way(name)
        self._accounts.pop(name, None)
        if enode := self._enodes.pop(name, None):
            self._background.run(self._federation.geth_peers.forget(enode), f"parting from the geth of {name}")

    def _seen(self, seen: pb.PeerSeen) -> None:
        """Notes where another SN says that an SN of the directory is: that may be outdated, or a lie. Raises
        MalformedCall.

        If all SNs have come back at other addresses, none of them can read these in the directory before they are in
        touch: blocks become final only with attestations of SNs that may know only one SN in common.
        """
        requests.address(seen.host, seen.port)
        if seen.name in self._addresses and seen.port:
            self._seen_at[seen.name] = (seen.host, seen.port)

    def _reached_at(self, name: str, address: str) -> None:
        if name == self._name:
            return
        is_new = name not in self._addresses
        self._addresses[name] = address
        if is_new:
            self._gone[name] = asyncio.Event()
            if not self.alive[name]:
                self._gone[name].set()
            self._background.keep(lambda: self._stay_in_touch(name), f"staying in touch with {name}")

    async def opened(self, port: int) -> None:
        """This node's API is open now."""
        self._port = port
        await self._greet_all()

    def end_streams(self) -> None:
        """Before the API stops."""
        self._stopped.set()
        for other in self._others:
            other.tell(None)

    # --- streams ------------------------------------------------------------------------------------

    async def serve(
        self, incoming: AsyncIterator[pb.PeerNews], name: str, context: Any, *, organization: str = ""
    ) -> AsyncIterator[pb.PeerNews]:
        """Serves a stream that another SN opened. Raises AnotherSwarm, MalformedCall, TooManyCalls."""
        other = _Other(name, asyncio.Queue(), organization)
        context.add_done_callback(lambda _: other.tell(None))
        reading = asyncio.create_task(self._read(incoming, other))
        reading.add_done_callback(lambda _: other.tell(None))
        try:
            async for news in self._outgoing(other):
                yield news
            if reading.done() and not reading.cancelled() and (error := reading.exception()) is not None:
                raise error
        finally:
            reading.cancel()
            self._left(other)  # before any wait: gRPC may cancel this call although it is ending already
            await asyncio.gather(reading, return_exceptions=True)

    async def _stay_in_touch(self, name: str) -> None:
        wait, told, tries = FIRST_WAIT_S, False, 0
        gone = self._gone[name]
        while not self._stopped.is_set():
            await gone.wait()
            if self._gone.get(name) is not gone:  # this SN has parted from it
                return
            address = self._addresses[name]
            if tries % 2 and name in self._seen_at:
                address = join_address(*self._seen_at[name])
            tries += 1
            try:
                await self._visit(_Other(name, asyncio.Queue(), called=True), address)
                wait, told, tries = FIRST_WAIT_S, False, 0
            except SwarmError as error:
                if not told:
                    _log.warning("out of touch with an SN", name=name, reason=str(error))
                    told = True
            await self._pause(wait)
            wait = min(2 * wait, LONGEST_WAIT_S)

    async def _find(self, address: str) -> None:
        """Looks for the SN at an address, whatever its name: all the others may have moved."""
        wait, told = FIRST_WAIT_S, ""
        while not self._stopped.is_set():
            other = _Other("", asyncio.Queue(), called=True)
            try:
                await self._visit(other, address)
            except SwarmError as error:
                if error.code != told:
                    _log.warning(
                        "no SN of this swarm at this address, looking again", address=address, reason=str(error)
                    )
                    told = error.code
            if other.account:  # found: known from now on
                return
            await self._pause(wait)
            wait = min(2 * wait, LONGEST_WAIT_S)

    async def _pause(self, seconds: float) -> None:
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(seconds):
                await self._stopped.wait()

    async def _visit(self, other: _Other, address: str) -> None:
        """Opens a stream to another SN and takes what comes, until it ends."""
        async with SNClient(address, self._identity, other.name) as client:
            try:
                async for news in client.meet(self._outgoing(other)):
                    await self._take(news, other)
                    if self.alive[other.name] > 1 and self._name > other.name:
                        return  # both SNs opened a stream: one is enough
            finally:
                self._left(other)

    async def _read(self, incoming: AsyncIterator[pb.PeerNews], other: _Other) -> None:
        async for news in incoming:
            await self._take(news, other)

    async def _outgoing(self, other: _Other) -> AsyncGenerator[pb.PeerNews]:
        federation = self._federation
        reader = federation.pool.open_reader()
        # If one of them fails, the stream ends and is opened again.
        tasks = [
            self._background.run(work, f"telling {other.name or 'an SN'} {what}", lambda _: other.tell(None))
            for work, what in (
                (self._standings(other), "how far the chain is"),
                (_transactions(reader, other), "of transactions"),
            )
        ]
        self._others.append(other)
        try:
            yield await self._hello()
            while not self._stopped.is_set() and (news := await other.outbox.get()) is not None:
                yield news
        finally:
            self._others.remove(other)
            federation.pool.close_reader(reader)
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    async def _standings(self, other: _Other) -> None:
        async for standing in self._federation.attestations.own.follow():
            news = pb.PeerStanding(total_difficulty=standing.total)
            if standing.attestation is not None:
                said = standing.attestation
                news.attestation.CopyFrom(pb.Attestation(number=said.number, hash=said.hash, floor=said.floor))
            other.tell(pb.PeerNews(standing=news))

    # --- what is said -------------------------------------------------------------------------------

    async def _take(self, news: pb.PeerNews, other: _Other) -> None:
        kind = news.WhichOneof("news")
        if kind == "hello":
            await self._greeted(news.hello, other)
        elif not other.account:
            raise MalformedCall(field="hello")
        elif kind == "standing":
            self._federation.heard(other.account, _standing(news.standing))
        elif kind == "transaction":
            by = other.name if self._is_known(other) else OF_NEWCOMERS
            self._federation.take(_relayed(news.transaction, by))
        elif kind == "seen":
            self._seen(news.seen)
        elif kind == "welcome":
            self._background.run(self._dial(other), f"connecting geth with that of {other.name}")

    async def _greeted(self, hello: pb.PeerHello, other: _Other) -> None:
        other.name = other.name or hello.name
        if hello.name != other.name:
            raise MalformedCall(field="name")
        self._check_account(hello.account, other)
        enode = requests.enode(hello.enode)
        if (theirs := ChainName(hello.chain_id, hello.genesis)) != self._chain:
            if other.called:
                raise AnotherSwarm(name=hello.name, theirs=str(theirs), ours=str(self._chain))
            raise AnotherSwarm(name=self._name, theirs=str(self._chain), ours=str(theirs))  # worded for the other SN
        first = not other.account
        other.account = hello.account
        if first and not self._is_known(other):
            self._require_room(other)
        if hello.port:  # its API is open
            requests.address(hello.host, hello.port)
            if self._is_known(other):
                self._reached_at(hello.name, join_address(hello.host, hello.port))
            other.seen = pb.PeerSeen(name=hello.name, host=hello.host, port=hello.port)
        self._introduce(other)
        with contextlib.suppress(ChainError):
            await self._trust(other, enode)
            other.tell(pb.PeerNews(welcome=pb.PeerWelcome()))
        if first and not other.ended:
            self._met(other)

    def _check_account(self, account: str, other: _Other) -> None:
        """Raises MalformedCall if it is not an account, belongs to another SN, or differs from this stream's."""
        try:
            is_one = checksummed(account) == account
        except ValueError:
            is_one = False
        if not is_one or other.account not in ("", account) or self.owner_of(account) not in (None, other.name):
            raise MalformedCall(field="account")

    def _is_known(self, other: _Other) -> bool:
        """Whether this SN has looked for it, or the directory has it. Nothing is kept of others."""
        return other.called or other.name in self._addresses or self.owner_of(other.account) == other.name

    def _require_room(self, other: _Other) -> None:
        """Raises TooManyCalls if there are too many unknown SNs of its organization already."""
        alike = [one for one in self._others if one.met and one.organization == other.organization]
        if sum(not self._is_known(one) for one in alike) >= NEWCOMERS_AT_ONCE:
            problem = f"{NEWCOMERS_AT_ONCE} SNs of its organization that the directory does not have are in touch"
            raise TooManyCalls(name=other.name, action="newcomers", problem=problem, seconds=1)

    async def _trust(self, other: _Other, said: Enode) -> None:
        """Lets in the geth of an SN. Raises MalformedCall."""
        port = await self._relay.way_to(other.name, said.host, said.port)
        other.enode = Enode(said.key, LOOPBACK, port)
        before = self._enodes.get(other.name)
        if before and before != other.enode:
            await self._federation.geth_peers.forget(before)
        self._enodes[other.name] = other.enode
        try:
            await self._federation.geth_peers.trust(other.enode)
        except ValueError:
            raise MalformedCall(field="enode") from None

    def _introduce(self, newcomer: _Other) -> None:
        """Tells the newcomer where the others are, and the others where it is."""
        for other in self._others:
            if other.name in ("", newcomer.name):
                continue
            for whom, of in ((newcomer, other), (other, newcomer)):
                if of.seen is not None:
                    whom.tell(pb.PeerNews(seen=of.seen))

    async def _dial(self, other: _Other) -> None:
        """Connects the two geths; one SN dials first. If both dial at once, both may give up, and geth waits 35 s to
        retry.
        """
        if self._name > other.name:
            await self._pause(SECOND_DIAL_AFTER_S)
        if other.enode is None:  # it has not said where its geth is
            return
        with contextlib.suppress(ChainError):  # a geth that is back says so itself
            await self._federation.geth_peers.dial(other.enode)

    def _met(self, other: _Other) -> None:
        before = self._accounts.get(other.name)
        if before and before != other.account:  # it lost its data
            self._federation.disconnected(before)
        self._accounts[other.name] = other.account
        other.met = True
        self.alive[other.name] += 1
        if other.name in self._gone:
            self._gone[other.name].clear()
        self._federation.connected(other.account)
        if self.alive[other.name] == 1:
            _log.info("in touch with an SN", name=other.name)
            self.met()
            self.changed()

    def _left(self, other: _Other) -> None:
        other.ended = True
        if other.met:
            self.alive[other.name] -= 1
        if self.alive[other.name]:
            return
        account = self._accounts.get(other.name, other.account)  # of its last stream
        if not self._is_known(other) and not self._greets_again(other):
            self._federation.attestations.forget(account)
            self._forget(other.name)
        if not other.met:  # it ended during the greeting
            return
        del self.alive[other.name]
        if other.name in self._gone:
            self._gone[other.name].set()
        self._federation.disconnected(account)
        if not self._stopped.is_set():
            _log.warning("an SN has disconnected", name=other.name)
            self.changed()

    def _greets_again(self, other: _Other) -> bool:
        """Whether it has another stream, which may not have been met yet."""
        return any(one.name == other.name and not one.ended for one in self._others)

    async def _hello(self) -> pb.PeerNews:
        return pb.PeerNews(
            hello=pb.PeerHello(
                name=self._name,
                chain_id=self._chain.id,
                account=self._federation.account,
                enode=str(await self._federation.geth_peers.enode(*self._relay.reached_at)),
                host=self._host,
                port=self._port,
                genesis=self._chain.genesis,
            )
        )

    async def _greet_all(self) -> None:
        hello = await self._hello()
        for other in self._others:
            other.tell(hello)

    async def _greet_again(self) -> None:
        """A restarted geth has forgotten whom it may talk to, and may have another port."""
        async for _ in self._federation.reopened.follow():
            with contextlib.suppress(ChainError):
                for other in self._others:
                    if other.enode:
                        await self._federation.geth_peers.trust(other.enode)
                        other.tell(pb.PeerNews(welcome=pb.PeerWelcome()))
                await self._greet_all()

    def _api_of(self, account: str) -> tuple[str, str] | None:
        """Name and API address of an SN in touch, the address empty if its API is not open yet."""
        other = next((other for other in self._others if other.account == account), None)
        if other is None:
            return None
        address = self._addresses.get(other.name, "")
        if not address and other.seen is not None:
            address = join_address(other.seen.host, other.seen.port)
        return other.name, address

    # --- what all SNs are asked -------------------------------------------------------------------------

    async def holder_elsewhere(self, claim: Holder) -> str:
        """Address of another process that holds the name with a connected SN; empty if no SN reports one in time."""
        request = pb.FindHolderRequest(
            role=claim.who.role, name=claim.who.name, process=claim.process, address=claim.address
        )
        asked = [self._find_holder(sn, request) for sn in self.alive]
        return next((address for address in await asyncio.gather(*asked) if address), "")

    async def _find_holder(self, sn: str, request: pb.FindHolderRequest) -> str:
        if sn not in self._addresses:
            return ""
        try:
            async with SNClient(self._addresses[sn], self._identity, sn) as client:
                found = await client.peering.FindHolder(request, timeout=FIND_HOLDER_S)
                return requests.reason(found.address)
        except SwarmError as error:
            _log.debug("an SN does not say who holds a name", sn=sn, why=str(error))
            return ""


def _relayed(raw: bytes, by: str) -> PendingTransaction:
    """Raises MalformedCall."""
    try:
        return PendingTransaction.of(raw, by, gas_of(raw))
    except ValueError as error:
        raise MalformedCall(field=f"transaction ({error})") from None


async def _transactions(reader: asyncio.Queue[PendingTransaction], other: _Other) -> None:
    while True:
        other.tell(pb.PeerNews(transaction=(await reader.get()).raw))


def _standing(said: pb.PeerStanding) -> Standing:
    attestation = (
        Attestation(said.attestation.number, said.attestation.hash, said.attestation.floor)
        if said.HasField("attestation")
        else None
    )
    return Standing(said.total_difficulty, attestation)
