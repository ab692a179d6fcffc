"""Attacks by an SN whose owner runs other software in its place, with its certificate, its account and its place among
the SNs. The other SN is a process with a real geth.
"""

import asyncio
import contextlib
import os
import re
import signal
import ssl
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest
from eth_abi.abi import encode
from org_network import OrgNetwork
from sn_swarm import config

from services.chain.abi import contract_abi
from services.chain.account import Account, SignedTransaction
from services.chain.ipc import IpcConnection
from services.chain.paths import ACCOUNT_KEY
from services.chain.relayed import BLOCK_LIMIT, WAITING_LIMIT
from services.chain.rpc import RpcError
from services.errors import MalformedCall, SNUnreachable, TooManyCalls
from services.identity.identity import Identity
from services.rpc import swarm_pb2 as pb
from services.rpc.client import SNClient
from services.rpc.server import RpcServer
from services.sn.peering import NEWCOMERS_AT_ONCE, OUTBOX_LIMIT
from services.sn.roles import ROLES

pytestmark = [pytest.mark.timeout(300), pytest.mark.needs("geth")]

WITHIN_S = 60.0
FAR_AHEAD = 2**60
FORGED = b"done\r\n2026-01-01 00:00:00 INFO    a-1  the training is over\x1b[2J\x00\xff"
NO_CHANGE, NOBODY = "0x" + "00" * 20, "0x" + "ab" * 20
ADMIT, _, REMOVE = range(3)
OPEN_PROPOSALS = 32  # per organization, as in the contract


class Liar:
    """Replaces an SN, and says what a test tells it to."""

    def __init__(self, network: OrgNetwork, name: str = "b-1") -> None:
        files = network._files.get(name) or network.organizations.issue("sn", name)
        self.identity = Identity.load(cert=files.cert, key=files.key, trust=network.organizations.trust)
        self.account = Account.load_or_create(network.directory / name / ACCOUNT_KEY)
        self._network = network
        self.greeting = pb.PeerHello()

    @contextlib.asynccontextmanager
    async def in_touch(self, account: str = "", port: int = 0) -> AsyncIterator["Line"]:
        """A stream with a-1, on which both have greeted each other. ``port``: the claimed port of the API."""
        async with self.to_a1() as client:
            line = Line(client)
            theirs = await line.heard("hello")
            self.greeting = pb.PeerHello(
                name=self.identity.name, chain_id=theirs.chain_id, account=account or self.account.address,
                host="localhost", port=port, genesis=theirs.genesis,
                enode=f"{theirs.enode.partition('@')[0]}@localhost:9",
            )  # fmt: skip
            line.says(hello=self.greeting)
            try:
                yield line
            finally:
                await line.close()

    def to_a1(self) -> SNClient:
        return SNClient(f"localhost:{self._network.ports['a-1']}", self.identity, "a-1")

    @contextlib.asynccontextmanager
    async def answering(self) -> AsyncIterator[None]:
        """Listens where a-1 looks for b-1."""
        server = RpcServer(self.identity, ROLES, {"Peering": NoBlocks(self.greeting)})
        await server.start("127.0.0.1", self._network.ports["b-1"], "--port")
        try:
            yield
        finally:
            await server.stop(0)


class NoBlocks:
    """Claims to have very many blocks, but sends none."""

    def __init__(self, greeting: pb.PeerHello) -> None:
        self.greeting = greeting

    async def GetBlocks(self, _request: pb.GetBlocksRequest, _context: Any) -> AsyncIterator[pb.BlocksPage]:
        for page in ():
            yield page

    async def Meet(self, news: AsyncIterator[pb.PeerNews], _context: Any) -> AsyncIterator[pb.PeerNews]:
        yield pb.PeerNews(hello=self.greeting)
        yield pb.PeerNews(standing=pb.PeerStanding(total_difficulty=FAR_AHEAD))
        said = FAR_AHEAD
        async for _ in news:
            said += 1
            yield pb.PeerNews(standing=pb.PeerStanding(total_difficulty=said))


class Line:
    """``heard_so_far``: how much the other SN has sent. The line reads only while ``reading`` is set."""

    def __init__(self, client: SNClient) -> None:
        self.heard_so_far = 0
        self.reading = asyncio.Event()
        self.reading.set()
        self._to_say: asyncio.Queue[pb.PeerNews | None] = asyncio.Queue()
        self._heard: asyncio.Queue[pb.PeerNews] = asyncio.Queue()
        self._listening = asyncio.create_task(self._listen(client))

    def says(self, **news: Any) -> None:
        self._to_say.put_nowait(pb.PeerNews(**news))

    async def heard(self, kind: str) -> Any:
        """The next news of this kind. Raises the error that ended the stream."""
        while True:
            news = asyncio.create_task(self._heard.get())
            await asyncio.wait({news, self._listening}, return_when=asyncio.FIRST_COMPLETED)
            if not news.done():
                news.cancel()
                self._listening.result()
                raise AssertionError("the stream has ended")
            if news.result().WhichOneof("news") == kind:
                return getattr(news.result(), kind)

    async def end(self) -> None:
        """Returns when the other SN has ended the stream. Raises its error."""
        async with asyncio.timeout(WITHIN_S):
            await self._listening

    async def close(self) -> None:
        self._to_say.put_nowait(None)
        self._listening.cancel()
        await asyncio.gather(self._listening, return_exceptions=True)

    async def _said(self) -> AsyncIterator[pb.PeerNews]:
        while (news := await self._to_say.get()) is not None:
            yield news

    async def _listen(self, client: SNClient) -> None:
        async with contextlib.aclosing(client.meet(self._said())) as meeting:
            async for news in meeting:
                self.heard_so_far += 1
                self._heard.put_nowait(news)
                await self.reading.wait()


class Chain:
    """The chain as a-1's geth has it, and the liar's writes to it through a-1."""

    def __init__(self, ipc: IpcConnection, account: Account, chain_id: int, network: str) -> None:
        self.ipc, self.network = ipc, network
        self._account, self._chain_id = account, chain_id

    async def count(self, account: str) -> int:
        """The number of transactions of an account."""
        return int(await self.ipc.request("eth_getTransactionCount", account, "latest"), 16)

    async def sign(self, *calls: bytes, to: str = "") -> list[SignedTransaction]:
        """Signs the next transactions of the liar's account. ``to``: by default the directory."""
        first = await self.count(self._account.address)
        return [
            self._account.sign(nonce, self._chain_id, to or self.network, call)
            for nonce, call in enumerate(calls, first)
        ]

    async def blocks(self, first: int, last: int) -> list[Any]:
        """Blocks with their transactions."""
        wanted = range(first, last + 1)
        return [await self.ipc.request("eth_getBlockByNumber", hex(number), True) for number in wanted]

    async def receipt(self, line: Line, signed: SignedTransaction) -> Any:
        """The receipt of a transaction, once a block has it."""
        async with asyncio.timeout(WITHIN_S):
            while (receipt := await self.ipc.request("eth_getTransactionReceipt", signed.hash)) is None:
                await line.heard("standing")
        return receipt

    async def write_all(self, line: Line, *calls: bytes, to: str = "") -> list[bool]:
        """Writes transactions; returns which were accepted and not reverted."""
        signed = await self.sign(*calls, to=to)
        for one in signed:
            line.says(transaction=one.raw)
        return [bool(int((await self.receipt(line, one))["status"], 16)) for one in signed]

    async def write(self, line: Line, function: str, *arguments: object) -> bool:
        return (await self.write_all(line, call(function, *arguments)))[0]


def call(function: str, *arguments: object, contract: str = "SwarmNetwork") -> bytes:
    """The data of a transaction. Texts may be any bytes."""
    known = contract_abi(contract).functions[function]
    return known.selector + encode([kind.replace("string", "bytes") for kind in known.inputs], arguments)


def admitting(organization: str) -> bytes:
    return call("propose", ADMIT, organization.encode(), [bytes(32)], b"", NO_CHANGE, b"admin/b-x")


@pytest.fixture
async def network(tmp_path: Path) -> AsyncIterator[OrgNetwork]:
    begun = OrgNetwork(tmp_path, "abc")
    await begun.license_server()
    await begun.sentinel("a-1")
    await begun.org("a-1", "propose", "hospital-b", "--trust", str(begun.organizations.trust))
    await begun.joins("b-1", "a-1", "a-1")
    await begun.kill("b-1")
    await begun.presence("a-1", b_1=False)
    yield begun
    await begun.stop()


async def test_an_sn_that_lies_gets_nowhere_and_ends_nobody(network: OrgNetwork) -> None:
    liar = Liar(network)
    ipc = await IpcConnection.open(network.directory / "a-1" / "eth" / "geth.ipc", lambda _: None)
    async with liar.to_a1() as client:
        info = await client.network.GetInfo(pb.GetInfoRequest())
    chain = Chain(ipc, liar.account, info.chain_id, info.network_contract)
    sentinel, newest = info.account, Account.load_or_create(network.directory / "stranger.key")
    async with liar.in_touch() as line:
        await line.heard("welcome")
        # With its account, but not by our software: what only all organizations together may do.
        assert not await chain.write(line, "addSNAccount", newest.address, b"b-2", b"hospital-b")
        assert not await chain.write(line, "addSNAccount", newest.address, b"b-1", b"hospital-b")
        assert not await chain.write(line, "addSNAccount", newest.address, b"a-1", b"hospital-a")
        assert not await chain.write(line, "removeSNAccount", sentinel)
        for _ in range(2):  # it has one vote, however often it votes
            assert await chain.write_all(line, admitting("hospital-c")) == [True]
            assert await chain.write(line, "propose", REMOVE, b"hospital-a", [], b"", NO_CHANGE, b"admin/b-y")
        more = [admitting(f"hospital-{number}") for number in range(OPEN_PROPOSALS - 1)]
        assert await chain.write_all(line, *more) == [True] * (OPEN_PROPOSALS - 2) + [False]
        listed = await network.org("a-1", "list", as_json=True)
        assert {it["name"] for it in listed["organizations"]} == {"hospital-a", "hospital-b"}
        # A text that is not UTF-8, which every SN reads from now on.
        assert await chain.write(line, "registerMember", b"\xff", 2, b"\xfe", 1, b"\x01" * 32, b"b-1", b"hospital-b")
        # A reason that looks like a log event of the SN that shows it.
        await leaves_with_a_forged_reason(network, chain, line)
        # An account that belongs to no SN, and has no funds.
        vote, proposal = admitting("hospital-c"), admitting("hospital-d")
        line.says(transaction=newest.sign(0, info.chain_id, info.network_contract, vote).raw)
        await network.create("a-1", "meanwhile")
        assert await chain.count(newest.address) == 0
        for one in (vote, proposal):
            asked = {"from": newest.address, "to": info.network_contract, "data": "0x" + one.hex()}
            with pytest.raises(RpcError, match="reverted"):
                await ipc.request("eth_call", asked, "latest")

    # A message that no honest SN sends ends that stream, whatever came before on it.
    for odd in (
        {"transaction": b"\x02" + bytes(1024 * 1024)},
        {"transaction": b"\x02\xc0"},
        {"hello": pb.PeerHello(name="b-1", account=newest.address)},
        {"hello": pb.PeerHello(name="a-1", account=liar.account.address)},
        {"seen": pb.PeerSeen(name="a-1", host="x" * 300, port=1)},
    ):
        async with liar.in_touch() as line:
            await line.heard("welcome")
            line.says(**odd)
            with pytest.raises(MalformedCall):
                await line.end()
    for account in (sentinel, sentinel.lower(), "0x12"):
        async with liar.in_touch(account) as line:
            with pytest.raises(MalformedCall, match="account"):
                await line.end()
    await more_transactions_than_may_wait(network, liar, chain)
    await ipc.close()

    await sns_that_the_directory_does_not_have(network)
    await garbage_for_geth(network, liar)
    await blocks_that_there_are_not(network, liar)
    assert "failed unexpectedly" not in network.log("a-1")
    assert "Traceback" not in network.log("a-1")


async def leaves_with_a_forged_reason(network: OrgNetwork, chain: Chain, line: Line) -> None:
    """The forged reason of an SL for which the liar writes."""
    location = await network.create("a-1", "forged")
    async with network.client("a-1", "sl", "b-5") as sl:
        await sl.network.Register(pb.RegisterRequest(host="localhost", port=30305))
        await sl.training.Enrol(pb.EnrolRequest(contract="forged", config=config()))
        so_far = len(network.log("a-1"))
        leave = call("leave", b"b-5", FORGED, contract="TrainingContract")
        assert await chain.write_all(line, leave, to=location) == [True]
    await network.said("a-1", "the training is over", since=so_far)
    told = network.log("a-1")[so_far:]
    (shown,) = [one for one in told.split("\n") if "the training is over" in one]
    assert shown.startswith("    ")  # events begin at the left
    assert all(letter.isprintable() or letter == "\n" for letter in told)


async def more_transactions_than_may_wait(network: OrgNetwork, liar: Liar, chain: Chain) -> None:
    """They come while geth is suspended. The kept ones then go into blocks in portions, and a-1 can write
    beside them.
    """
    geth = int((network.directory / "a-1" / "eth" / "geth.pid").read_text())
    flood = await chain.sign(*[b""] * (WAITING_LIMIT + 9), to=liar.account.address)
    async with liar.in_touch() as line:
        await line.heard("welcome")
        os.kill(geth, signal.SIGSTOP)
        try:
            for one in flood:
                line.says(transaction=one.raw)
            line.says(transaction=b"")  # when this ends the stream, all before it has been read
            with pytest.raises(MalformedCall):
                await line.end()
        finally:
            os.kill(geth, signal.SIGCONT)
    async with liar.in_touch() as line:
        last, _ = await asyncio.gather(
            chain.receipt(line, flood[WAITING_LIMIT - 1]), network.create("a-1", "beside-a-flood")
        )
        first = await chain.receipt(line, flood[0])
        shares = [
            sum(int(one["from"], 16) == int(liar.account.address, 16) for one in block["transactions"])
            for block in await chain.blocks(int(first["blockNumber"], 16), int(last["blockNumber"], 16))
        ]
        assert sum(shares) == WAITING_LIMIT
        assert max(shares) <= BLOCK_LIMIT
        assert await chain.count(liar.account.address) == flood[WAITING_LIMIT].nonce
        line.says(transaction=flood[WAITING_LIMIT].raw)  # there is room again
        await chain.receipt(line, flood[WAITING_LIMIT])


async def sns_that_the_directory_does_not_have(network: OrgNetwork) -> None:
    """Each has a certificate of its organization's CA; one of them does not read what it receives."""
    names = [f"b-{number}" for number in range(10, 10 + NEWCOMERS_AT_ONCE)]
    async with contextlib.AsyncExitStack() as stack:
        for name in names:
            newcomer = Liar(network, name)
            line = await stack.enter_async_context(newcomer.in_touch(port=0 if name == names[-1] else 9))
            await line.heard("welcome")
        async with Liar(network, "b-99").in_touch() as one_more:
            with pytest.raises(TooManyCalls, match="16 SNs of its organization"):
                await one_more.end()

        line.reading.clear()

        async def deaf() -> bool:
            for _ in range(100):
                line.says(hello=newcomer.greeting)  # each is told again the addresses of all others
            return f"does not read what it is sent  name={names[-1]}" in network.log("a-1")

        await network.until(deaf, "a-1 keeps all that an SN does not read")
        line.reading.set()
        with contextlib.suppress(SNUnreachable):  # it still has more to send, on a stream that has ended
            await line.end()
        assert line.heard_so_far < OUTBOX_LIMIT
    for name in names:
        await network.said("a-1", f"an SN has disconnected  name={name}")
    async with Liar(network, "b-99").in_touch() as line:  # nothing remains of the others
        await line.heard("welcome")


async def garbage_for_geth(network: OrgNetwork, liar: Liar) -> None:
    """By geth's peer protocol, which is open to a connected SN; geth accepts it and goes on."""
    port = int(re.findall(r"listening for other SNs' geth +port=(\d+)", network.log("a-1"))[-1])
    geth = (network.directory / "a-1" / "eth" / "geth.pid").read_text()
    context = liar.identity.client_context()
    async with liar.in_touch() as line:
        await line.heard("welcome")
        for said in (b"", b"\x00" * 307, bytes(range(256)) * 400, b"\xff\xff" + b"\x04" * 65535):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
            with contextlib.suppress(ConnectionError, ssl.SSLError):
                writer.write(said)
                if said:
                    async with asyncio.timeout(WITHIN_S):
                        await reader.read()
            writer.close()
    await network.create("a-1", "after-garbage")
    assert (network.directory / "a-1" / "eth" / "geth.pid").read_text() == geth


async def blocks_that_there_are_not(network: OrgNetwork, liar: Liar) -> None:
    """The only signer restarts, and somebody claims that there are more blocks than it has."""
    await network.kill("a-1")
    so_far = len(network.log("a-1"))
    async with liar.answering():
        await network.again("a-1")
        await network.create("a-1", "after-a-lie")
        await network.said("a-1", "does not have the blocks that it announced", since=so_far)
