"""License servers hear from SNs which members were expelled: these lose their seats and get none again."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from doors import WITHIN_S
from sn_swarm import running_sn
from two_organizations import TwoOrganizations

from services.errors import Expelled, LicenseError, WrongRole
from services.identity import organizations
from services.identity.identity import Identity
from services.license_server import expulsions
from services.license_server.actor import SYSTEM
from services.license_server.database import Database
from services.license_server.lease_allocator import LeaseAllocator
from services.license_server.leases import LeaseHolder
from services.license_server.main import serve
from services.license_server.services import Services
from services.licensing.expulsions import report
from services.licensing.lease import Lease
from services.licensing.servers import Servers
from services.rpc import swarm_pb2 as pb
from services.rpc.client import SNClient
from services.sn import neighbors
from services.sn.neighbors import Neighbors
from services.sn.node import RunningSN

ADDRESS = pb.RegisterRequest(host="localhost", port=30305)
RENEWED_OFTEN_S = 0.3


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TwoOrganizations:
    """A issues SNs too."""
    monkeypatch.setattr(organizations, "LOOK_EVERY_S", 0.01)
    made = TwoOrganizations.create(tmp_path / "two")
    made.write(issues={"sl": ["a-*"], "sn": ["a-*"]})
    return made


@dataclass(frozen=True)
class LicenseServer:
    services: Services
    address: str

    @property
    def holders(self) -> list[str]:
        return self.services.allocator.status()["SL"][1]

    async def seat(self, node: Identity) -> Lease:
        return await Lease.acquire(self.address, node, "SL")

    async def refuses(self, node: Identity) -> bool:
        try:
            await (await self.seat(node)).release()
        except Expelled:
            return True
        return False

    async def hear(self, sn: Identity, *members: tuple[str, str]) -> None:
        async with contextlib.AsyncExitStack() as stack:
            servers = Servers([self.address], sn)
            stack.push_async_callback(servers.close)
            await report(servers, "SN", members)


@contextlib.asynccontextmanager
async def license_server(identity: Identity, data_dir: Path, lease_s: float = 30.0) -> AsyncIterator[LicenseServer]:
    with Database.in_directory(data_dir) as database, socket.create_server(("127.0.0.1", 0)) as listening:
        services = Services(database)
        services.allocator = LeaseAllocator(database, lease_s)
        services.licenses.install_community({"SL": 9}, None)
        started, stop = asyncio.Event(), asyncio.Event()
        serving = asyncio.create_task(serve(services, identity, listening, stop, started.set))
        await asyncio.wait_for(started.wait(), WITHIN_S)
        try:
            yield LicenseServer(services, f"localhost:{listening.getsockname()[1]}")
        finally:
            stop.set()
            await serving


@contextlib.asynccontextmanager
async def reporting(sn: RunningSN, identity: Identity, license_servers: Sequence[str]) -> AsyncIterator[None]:
    """What an SN does beside serving."""
    watch = Neighbors(sn.trainings.network.address, sn.address).watch(list(license_servers), identity, "SN")
    task = asyncio.create_task(watch)
    try:
        yield
    finally:
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)


@contextlib.asynccontextmanager
async def idle(caller: Identity, address: str) -> AsyncIterator[asyncio.StreamReader]:
    """A connection over which nothing is asked any more."""
    port = int(address.rpartition(":")[2])
    reader, writer = await asyncio.open_connection(
        "127.0.0.1", port, ssl=caller.client_context(), server_hostname="localhost"
    )
    writer.write(b"GET /v1/status HTTP/1.1\r\nHost: localhost\r\n\r\n")
    head = await reader.readuntil(b"\r\n\r\n")
    await reader.readexactly(int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]))
    try:
        yield reader
    finally:
        writer.close()


@pytest.mark.parametrize("with_trust_file", [True, False])
async def test_a_node_that_is_expelled_loses_its_seat_and_gets_none_again(
    two: TwoOrganizations, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, with_trust_file: bool
) -> None:
    monkeypatch.setattr(neighbors, "SAID_EVERY_S", 3600.0)  # an SN that told nothing at once would be too late
    server, sn_identity = two.identity("license", "b-3"), two.identity("sn", "b-0")
    if not with_trust_file:
        server = replace(server, organization="", trust=replace(server.trust, organizations=None))
    member, other = two.identity("sl", "b-1"), two.identity("sl", "b-2")
    async with (
        asyncio.timeout(WITHIN_S),
        license_server(server, tmp_path / "licenses", RENEWED_OFTEN_S) as licenses,
        running_sn(sn_identity, tmp_path / "sn") as sn,
        reporting(sn, sn_identity, [licenses.address]),
        SNClient(f"localhost:{sn.port}", two.identity("admin", "b-9")) as admin,
        SNClient(f"localhost:{sn.port}", member) as theirs,
        await licenses.seat(member) as lost,
        await licenses.seat(other) as held,
        idle(member, licenses.address) as ending,
        idle(other, licenses.address) as going_on,
    ):
        await theirs.network.Register(ADDRESS)
        assert licenses.holders == ["b-1", "b-2"]
        await admin.admin.Expel(pb.ExpelRequest(role="sl", name="b-1"))
        with contextlib.suppress(OSError):
            assert await ending.read(1) == b""
        await lost.lost.wait()
        assert "b-1 was expelled from the swarm" in str(lost.failure)
        assert licenses.holders == ["b-2"]
        assert await licenses.refuses(member)
        assert held.state == "held"
        assert not going_on.at_eof()


async def test_an_sn_is_believed_about_its_own_organization_and_one_of_the_servers_about_everybody(
    two: TwoOrganizations, tmp_path: Path
) -> None:
    files = two.files(two.a, "sl", "a-1")
    slot = Identity.load(cert=files.cert, key=files.key, trust=two.trust, slot="1")
    a_1, a_2, b_1 = (two.identity("sl", name) for name in ("a-1", "a-2", "b-1"))
    async with asyncio.timeout(WITHIN_S), license_server(two.identity("license", "b-3"), tmp_path / "it") as licenses:
        async with await licenses.seat(slot), await licenses.seat(b_1):
            await licenses.hear(two.identity("sn", "a-0"), ("sl", "a-1"), ("sl", "b-1"), ("swop", "a-2"))
            assert licenses.holders == ["b-1"]
            assert [await licenses.refuses(it) for it in (slot, a_1, a_2, b_1)] == [True, True, False, False]
        await licenses.hear(two.identity("sn", "b-0"), ("sl", "a-2"), ("sl", "b-1"))
        assert [await licenses.refuses(it) for it in (a_2, b_1)] == [True, True]
        with pytest.raises(WrongRole):
            await licenses.hear(two.identity("sl", "b-4"), ("sl", "b-5"))
        for members in ([("admin", "b-9")], [("sl", "b-5/1")], [("sl", "")]):
            with pytest.raises(LicenseError, match=r"body\.members"):
                await licenses.hear(two.identity("sn", "b-0"), *members)
        assert not await licenses.refuses(two.identity("sl", "b-5"))


async def test_it_stays_so_when_the_license_server_starts_again_until_an_administrator_readmits_the_node(
    two: TwoOrganizations, tmp_path: Path
) -> None:
    files = two.files(two.b, "license", "b-3")
    again = [Identity.load(cert=files.cert, key=files.key, trust=two.trust) for _ in range(2)]
    member = two.identity("sl", "b-1")
    async with asyncio.timeout(WITHIN_S):
        async with license_server(again[0], tmp_path / "it") as licenses:
            await licenses.hear(two.identity("sn", "b-0"), ("sl", "b-1"))
        async with license_server(again[1], tmp_path / "it") as licenses:
            with pytest.raises(Expelled):  # from every path, not only from that of seats
                await _status(licenses, member)
            assert await licenses.refuses(member)
            (standing,) = licenses.services.expulsions.all(SYSTEM)
            licenses.services.expulsions.readmit(SYSTEM, standing.id)
            assert not await licenses.refuses(member)
            await licenses.hear(two.identity("sn", "b-0"), ("sl", "b-1"))  # SNs repeat it
            assert not await licenses.refuses(member)


async def _status(licenses: LicenseServer, node: Identity) -> None:
    servers = Servers([licenses.address], node)
    try:
        await servers.request("GET", "/v1/status", "SL")
    finally:
        await servers.close()


def test_another_server_with_a_copy_of_the_data_gives_no_seat_either(tmp_path: Path) -> None:
    """As the standby of a pair has one."""
    sn, member = LeaseHolder("sn", "sn-1", "01" * 32), LeaseHolder("sl", "sl-1/2", "02" * 32)
    with Database.in_directory(tmp_path / "one") as one, Database.in_directory(tmp_path / "two") as another:
        first, second = Services(one), Services(another)
        first.licenses.install_community({"SL": 9}, None)
        first.expulsions.hear(sn, [("sl", "sl-1")])
        second.backup.restore(SYSTEM, first.backup.make(SYSTEM))
        with pytest.raises(Expelled):
            second.allocator.acquire(member, "SL")
        second.allocator.acquire(replace(member, name="sl-10"), "SL")


def test_an_organization_fills_no_database(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(expulsions, "MOST", 3)
    of_a = LeaseHolder("sn", "a-0", "01" * 32, organization="a")
    with Database.in_directory(tmp_path) as database:
        services = Services(database)
        services.expulsions.hear(of_a, [("sl", "a-1"), ("sl", "a-2")])
        with pytest.raises(LicenseError, match="more than 3"):
            services.expulsions.hear(of_a, [("sl", "a-3"), ("sl", "a-4")])
        services.expulsions.hear(of_a, [("sl", "a-1"), ("sl", "a-3")])
        services.expulsions.hear(replace(of_a, organization="b"), [("sl", "b-1")])
        actions = [it.target for it in services.audit.all(SYSTEM) if it.action == "node expelled"]
        assert sorted(actions) == ["a-1", "a-2", "a-3", "b-1"]
