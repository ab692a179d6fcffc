"""Two SNs stay in touch for as long as one stream between them is open, however many there were for a moment."""

import asyncio
import hashlib
from collections.abc import AsyncIterator, Callable
from types import SimpleNamespace
from typing import Any

import pytest

from services.chain.abi import checksummed
from services.chain.geth_peers import Enode
from services.chain.latest_value import LatestValue
from services.chain.pool import Pool
from services.errors import AnotherSwarm, MalformedCall, SNUnreachable, TooManyCalls
from services.rpc import swarm_pb2 as pb
from services.runtime.background import Background
from services.runtime.signals import ChangeSignal
from services.sn.accounts import AccountNames
from services.sn.peering import NEWCOMERS_AT_ONCE, ChainName, Peering

GENESIS = "aa" * 32

KEY = "ab" * 64


def account_of(name: str) -> str:
    return checksummed("0x" + hashlib.sha256(name.encode()).hexdigest()[:40])


class GethPeers:
    """A geth that takes its time where ``slow`` is cleared."""

    def __init__(self) -> None:
        self.quick = asyncio.Event()
        self.quick.set()
        self.asked = asyncio.Event()
        self.trusted: list[Enode] = []
        self.forgotten = ChangeSignal()

    async def enode(self, host: str, port: int) -> Enode:
        return Enode(KEY, host, port)

    async def trust(self, enode: Enode) -> None:
        self.trusted.append(enode)
        self.asked.set()
        await self.quick.wait()

    async def forget(self, enode: Enode) -> None:
        self.trusted.remove(enode)
        self.forgotten.notify()


class Ways:
    """One for each SN, whatever its address, as a relay has them."""

    reached_at = ("here", 30303)

    def __init__(self) -> None:
        self.to: dict[str, tuple[str, int]] = {}

    async def way_to(self, name: str, host: str, port: int) -> int:
        self.to[name] = (host, port)
        return 40_000 + list(self.to).index(name)

    def close_way(self, name: str) -> None:
        self.to.pop(name, None)


class Stream:
    """One that another SN opened."""

    def __init__(self, peering: Peering, name: str = "sn-2", organization: str = "") -> None:
        self._name = name
        self._organization = organization
        self._said: asyncio.Queue[pb.PeerNews | None] = asyncio.Queue()
        self._heard: asyncio.Queue[pb.PeerNews] = asyncio.Queue()
        self._done: list[Callable[[Any], object]] = []
        self._running = asyncio.create_task(self._run(peering))

    async def _news(self) -> AsyncIterator[pb.PeerNews]:
        while (news := await self._said.get()) is not None:
            yield news

    async def _run(self, peering: Peering) -> None:
        context = SimpleNamespace(add_done_callback=self._done.append)
        async for news in peering.serve(self._news(), self._name, context, organization=self._organization):
            self._heard.put_nowait(news)

    def hello(
        self, port: int = 0, genesis: str = GENESIS, enode: str = f"enode://{KEY}@h:30303", account: str = ""
    ) -> None:
        said = pb.PeerHello(
            name=self._name, chain_id=1, account=account or account_of(self._name), enode=enode, host="h", port=port,
            genesis=bytes.fromhex(genesis),
        )  # fmt: skip
        self._said.put_nowait(pb.PeerNews(hello=said))

    def says(self, news: pb.PeerNews) -> None:
        self._said.put_nowait(news)

    async def told(self, kind: str) -> Any:
        """The next news of that kind."""
        while (news := await self._heard.get()).WhichOneof("news") != kind:
            pass
        return getattr(news, kind)

    async def end(self) -> None:
        for call in self._done:
            call(None)
        await self._running

    def breaks(self) -> None:
        """What the other SN says ends, as if it had been killed."""
        self._said.put_nowait(None)

    async def cancelled(self) -> None:
        """What gRPC does with a call whose caller has gone, even if it is ending already."""
        self._running.cancel()
        await asyncio.gather(self._running, return_exceptions=True)


@pytest.fixture
async def geth_peers() -> GethPeers:
    return GethPeers()


@pytest.fixture
def ways() -> Ways:
    return Ways()


@pytest.fixture
def in_touch() -> set[str]:
    """Accounts that the chain takes for connected."""
    return set()


@pytest.fixture
async def peering(geth_peers: GethPeers, ways: Any, in_touch: set[str]) -> Peering:
    federation: Any = SimpleNamespace(
        pool=Pool(), geth_peers=geth_peers,
        attestations=SimpleNamespace(own=LatestValue(), forget=lambda _: None), account=account_of("sn-1"),
        connected=in_touch.add, disconnected=in_touch.discard, take=lambda _: None,
    )  # fmt: skip
    identity: Any = SimpleNamespace(name="sn-1")
    chain = ChainName(1, bytes.fromhex(GENESIS))
    return Peering(identity, federation, chain, "here", Background("sn"), relay=ways)


async def changed(peering: Peering) -> None:
    happened = asyncio.Event()
    peering.changed = happened.set
    await happened.wait()


async def test_a_second_stream_that_ends_while_it_is_greeted_does_not_end_the_first(
    peering: Peering, geth_peers: GethPeers
) -> None:
    first, second = Stream(peering), Stream(peering)
    first.hello()
    await changed(peering)
    assert peering.alive["sn-2"] == 1

    geth_peers.asked.clear()
    geth_peers.quick.clear()
    second.hello()
    await geth_peers.asked.wait()
    await second.end()
    assert peering.alive["sn-2"] == 1

    await first.end()
    assert not peering.alive["sn-2"]


@pytest.mark.parametrize("turns", range(12))
async def test_an_sn_that_is_killed_is_out_of_touch_whenever_its_call_is_cancelled(
    peering: Peering, in_touch: set[str], turns: int
) -> None:
    """Its stream ends by itself, and in some turn of the event loop, while it ends, gRPC cancels the call as well."""
    stream = Stream(peering)
    stream.hello()
    await changed(peering)
    stream.breaks()
    for _ in range(turns):
        await asyncio.sleep(0)  # noqa: TID251 - one turn
    await stream.cancelled()
    assert not peering.alive["sn-2"]
    assert not in_touch


async def test_an_unknown_sn_that_ends_while_it_is_greeted_leaves_nothing(
    peering: Peering, geth_peers: GethPeers, ways: Ways, in_touch: set[str]
) -> None:
    geth_peers.quick.clear()
    stream = Stream(peering)
    stream.hello()
    await geth_peers.asked.wait()
    await stream.cancelled()
    while geth_peers.trusted:
        await geth_peers.forgotten.wait()
    assert not (peering.alive["sn-2"] or in_touch or ways.to)


async def test_an_sn_that_came_back_with_another_account_leaves_neither_in_touch(
    peering: Peering, in_touch: set[str]
) -> None:
    """It lost its data, and its first stream ends last: the network between the two had broken."""
    first, second = Stream(peering), Stream(peering)
    first.hello()
    await changed(peering)
    second.hello(account=account_of("sn-2 again"))
    await second.told("welcome")
    assert in_touch == {account_of("sn-2 again")}
    await second.end()
    await first.end()
    assert not in_touch


async def test_an_sn_of_a_chain_that_was_founded_anew_is_of_another_swarm(peering: Peering) -> None:
    """It has the id that the chain before had."""
    stream = Stream(peering)
    stream.hello(genesis="bb" * 32)
    with pytest.raises(AnotherSwarm, match="its chain is 1/aaaaaaaa, ours is 1/bbbbbbbb"):
        await stream.end()
    assert not peering.alive["sn-2"]


async def test_two_streams_keep_in_touch_until_the_last_one_ends(peering: Peering, geth_peers: GethPeers) -> None:
    first, second = Stream(peering), Stream(peering)
    first.hello()
    await changed(peering)
    geth_peers.asked.clear()
    second.hello()
    await geth_peers.asked.wait()
    await first.end()
    assert peering.alive["sn-2"] == 1
    await second.end()
    assert not peering.alive["sn-2"]


async def test_a_transaction_that_no_sn_would_make_ends_the_stream_that_brings_it(
    peering: Peering, geth_peers: GethPeers
) -> None:
    stream = Stream(peering)
    stream.hello()
    await changed(peering)
    stream.says(pb.PeerNews(transaction=b"\x02" + bytes(1024 * 1024)))
    with pytest.raises(MalformedCall, match="transaction"):
        await stream.end()


class Calls:
    """In the place of a client: notes where it would have called, and reaches nobody."""

    def __init__(self) -> None:
        self.addresses: list[str] = []
        self._changed = ChangeSignal()

    def __call__(self, address: str, *_: object) -> "Calls":
        self.addresses.append(address)
        self._changed.notify()
        return self

    async def at(self, address: str) -> None:
        """Returns once that address was called."""
        while address not in self.addresses:
            await self._changed.wait()

    async def __aenter__(self) -> "Calls":
        raise SNUnreachable(address=self.addresses[-1], problem="nobody is there")

    async def __aexit__(self, *_: object) -> None:
        pass


async def test_an_sn_is_called_where_it_says_it_is_whatever_the_directory_says(
    peering: Peering, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = Calls()
    monkeypatch.setattr("services.sn.peering.SNClient", calls)
    claim: Any = SimpleNamespace(who=SimpleNamespace(role="sl", name="sl-1"), process=b"p", address="h:9")

    async def called() -> str:
        await peering.holder_elsewhere(claim)
        return calls.addresses[-1]

    peering.know("sn-2", "h", 1)
    stream = Stream(peering)
    stream.hello(port=2)
    await changed(peering)
    peering.know("sn-2", "h", 1)
    assert await called() == "h:2"
    peering.know("sn-2", "h", 3)  # an entry on its way from before it was started again
    assert await called() == "h:2"
    await stream.end()


async def test_an_sn_that_came_back_elsewhere_is_looked_for_where_another_one_has_seen_it(
    peering: Peering, monkeypatch: pytest.MonkeyPatch
) -> None:
    calls = Calls()
    monkeypatch.setattr("services.sn.peering.SNClient", calls)
    peering.know("sn-3", "h", 1)
    await calls.at("h:1")
    stream = Stream(peering)
    stream.hello()
    await changed(peering)
    stream.says(pb.PeerNews(seen=pb.PeerSeen(name="sn-9", host="h", port=9)))  # whom the directory does not have
    stream.says(pb.PeerNews(seen=pb.PeerSeen(name="sn-3", host="h", port=3)))
    await calls.at("h:3")
    assert "h:9" not in calls.addresses
    await stream.end()


async def test_sns_that_are_both_in_touch_with_this_one_are_told_where_the_other_is(peering: Peering) -> None:
    first, second = Stream(peering), Stream(peering, "sn-3")
    first.hello(port=2)
    await changed(peering)
    second.hello(port=3)
    assert await first.told("seen") == pb.PeerSeen(name="sn-3", host="h", port=3)
    assert await second.told("seen") == pb.PeerSeen(name="sn-2", host="h", port=2)
    await first.end()
    await second.end()


@pytest.mark.parametrize(("host", "port"), [("h", 70_000), ("", 3), ("h" * 300, 3), ("h\n", 3)])
async def test_an_address_that_nobody_could_reach_ends_the_stream_that_tells_it(
    peering: Peering, host: str, port: int
) -> None:
    peering.know("sn-3", "h", 1)
    stream = Stream(peering)
    stream.hello()
    await changed(peering)
    stream.says(pb.PeerNews(seen=pb.PeerSeen(name="sn-3", host=host, port=port)))
    with pytest.raises(MalformedCall):
        await stream.end()


async def test_a_greeting_from_where_nobody_could_be_reached_ends_its_stream(peering: Peering) -> None:
    stream = Stream(peering)
    stream.hello(port=70_000)
    with pytest.raises(MalformedCall, match="port"):
        await stream.end()


async def test_geth_is_told_of_another_one_by_a_port_of_this_host_alone(
    peering: Peering, geth_peers: GethPeers, ways: Ways
) -> None:
    stream = Stream(peering)
    stream.hello()
    await changed(peering)
    assert geth_peers.trusted == [Enode(KEY, "127.0.0.1", 40_000)]
    assert ways.to == {"sn-2": ("h", 30303)}
    assert (await stream.told("hello")).enode == f"enode://{KEY}@here:30303"

    other = "cd" * 64
    geth_peers.asked.clear()
    stream.hello(enode=f"enode://{other}@[fd00::7]:443")
    await geth_peers.asked.wait()
    assert geth_peers.trusted == [Enode(other, "127.0.0.1", 40_000)]
    assert ways.to == {"sn-2": ("fd00::7", 443)}
    await stream.end()


@pytest.mark.parametrize(
    "enode",
    [
        "", "enode://two", f"enode://{KEY}@h", f"enode://{KEY}@h:70000", f"enode://{KEY}@h:0", f"enode://{KEY[1:]}@h:1",
        f"enode://{KEY}@h:1?discport=0", f"enode://{KEY}@{'h' * 300}:1", f"enode://{KEY}@h\n:1",
    ],
)  # fmt: skip
async def test_a_geth_that_nobody_could_reach_ends_the_stream_that_tells_of_it(
    peering: Peering, geth_peers: GethPeers, enode: str
) -> None:
    stream = Stream(peering)
    stream.hello(enode=enode)
    with pytest.raises(MalformedCall, match="enode"):
        await stream.end()
    assert geth_peers.trusted == []


@pytest.mark.parametrize("second", ["another", "other letters", "none"])
async def test_an_sn_speaks_for_one_account_from_its_first_word_to_its_last(peering: Peering, second: str) -> None:
    accounts = {"another": account_of("sn-9"), "other letters": account_of("sn-2").lower(), "none": "0x12"}
    stream = Stream(peering)
    stream.hello()
    await changed(peering)
    stream.hello(account=accounts[second])
    with pytest.raises(MalformedCall, match="account"):
        await stream.end()


async def test_an_sn_does_not_speak_for_the_account_of_another_one_that_was_removed(peering: Peering) -> None:
    """It may seal for a while yet."""
    accounts = AccountNames()
    accounts.added(account_of("sn-3"), "sn-3")
    accounts.removed(account_of("sn-3"))
    peering.owner_of = accounts.belongs_to
    stream = Stream(peering)
    stream.hello(account=account_of("sn-3"))
    with pytest.raises(MalformedCall, match="account"):
        await stream.end()


async def test_sns_that_the_directory_does_not_have_are_few_and_leave_nothing(
    peering: Peering, geth_peers: GethPeers, ways: Ways, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each of them with a certificate of its organization's CA, which may issue any number."""
    calls = Calls()
    monkeypatch.setattr("services.sn.peering.SNClient", calls)
    newcomers = [Stream(peering, f"b-{number}", "b") for number in range(NEWCOMERS_AT_ONCE)]
    for newcomer in newcomers:
        newcomer.hello(port=9)
        await changed(peering)
    one_more, other = Stream(peering, "b-99", "b"), Stream(peering, "c-1", "c")
    one_more.hello()
    with pytest.raises(TooManyCalls, match="16 SNs of its organization"):
        await one_more.end()
    peering.know("b-88", "h", 1)
    known = Stream(peering, "b-88", "b")
    for stream in (other, known):
        stream.hello()
        await changed(peering)
    gone = [*newcomers, other]
    for stream in gone:
        await stream.end()
    while len(geth_peers.trusted) > 1:
        await geth_peers.forgotten.wait()
    assert set(peering.alive) == {"b-88"}
    assert list(ways.to) == ["b-88"]
    assert set(calls.addresses) <= {"h:1"}
    await known.end()


async def test_for_an_sn_that_reads_nothing_no_more_is_kept_than_may_wait(
    peering: Peering, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("services.sn.peering.OUTBOX_LIMIT", 10)
    context: Any = SimpleNamespace(add_done_callback=lambda _: None)
    stream = peering.serve(_silence(), "sn-2", context)
    assert (await anext(stream)).WhichOneof("news") == "hello"  # and reads nothing more
    (other,) = peering._others
    for _ in range(100):
        other.tell(pb.PeerNews(welcome=pb.PeerWelcome()))
        assert other.outbox.qsize() <= 10
    with pytest.raises(StopAsyncIteration):
        await anext(stream)


async def _silence() -> AsyncIterator[pb.PeerNews]:
    await asyncio.Event().wait()
    yield pb.PeerNews()
