"""A node that its organization expels is refused at once and for good, by its SN and by all nodes that work through an
SN.
"""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import replace
from pathlib import Path

import pytest
from doors import WITHIN_S, file_server, read_range
from open_readers import everything
from sn_swarm import config, running_sn, scripted_sl
from structlog.testing import capture_logs
from two_organizations import TwoOrganizations

from services.errors import Expelled, MalformedCall, NotAMember
from services.identity import organizations
from services.identity.identity import Identity
from services.rpc import swarm_pb2 as pb
from services.rpc.client import SNClient
from services.sl.transfer.connections import BULK
from services.sl.transfer.file_server import FileServer, bind
from services.sl.transfer.store import Store
from services.sn.node import RunningSN

ADDRESS = pb.RegisterRequest(host="localhost", port=30305)


@pytest.fixture
def two(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TwoOrganizations:
    monkeypatch.setattr(organizations, "LOOK_EVERY_S", 0.01)
    return TwoOrganizations.create(tmp_path / "two")


def client(sn: RunningSN, identity: Identity) -> SNClient:
    return SNClient(f"localhost:{sn.port}", identity)


@contextlib.asynccontextmanager
async def swarm(two: TwoOrganizations, tmp_path: Path) -> AsyncIterator[tuple[RunningSN, SNClient]]:
    """An SN of hospital-b, and an administrator of it."""
    async with (
        asyncio.timeout(WITHIN_S),
        running_sn(two.identity("sn", "b-0"), tmp_path / "sn") as sn,
        client(sn, two.identity("admin", "b-9")) as admin,
    ):
        yield sn, admin


async def expel(admin: SNClient, name: str, role: str = "sl") -> pb.ExpelReply:
    return await admin.admin.Expel(pb.ExpelRequest(role=role, name=name))


async def test_a_node_that_is_expelled_is_out_of_its_training_and_comes_back_nowhere(
    two: TwoOrganizations, tmp_path: Path
) -> None:
    member = two.identity("sl", "b-1")
    async with (
        swarm(two, tmp_path) as (sn, admin),
        scripted_sl(two.identity("sl", "b-2"), sn.port) as other,
        scripted_sl(member, sn.port, watching=False) as expelled,
    ):
        for sl in (other, expelled):
            await sl.enrol(config())
        async with contextlib.aclosing(expelled.client.watch(expelled.contract)) as states:
            await anext(states)
            with capture_logs() as logs:
                assert not (await expel(admin, "b-1")).HasField("vote")
            with pytest.raises(Expelled, match="b-1 was expelled from the swarm"):
                while True:
                    await anext(states)
        assert [it["by"] for it in logs if it["event"] == "expelled"] == ["admin/b-9"]
        stands = await other.until(lambda it: any(not who.active for who in it.participants))
        left = {who.name: who.left_reason for who in stands.participants if not who.active}
        assert left == {"b-1": "expelled"}
        for call in (expelled.register(), expelled.status()):
            with pytest.raises(Expelled):
                await call
        nodes = (await admin.network.ListNodes(pb.ListNodesRequest())).nodes
        assert [it.name for it in nodes if it.role == "sl" and not it.present] == ["b-1"]
    async with running_sn(two.identity("sn", "b-7"), tmp_path / "another") as another, client(another, member) as still:
        await still.network.Register(ADDRESS)  # of another swarm


async def test_all_slots_of_a_certificate_are_expelled_with_it(two: TwoOrganizations, tmp_path: Path) -> None:
    files = two.files(two.b, "sl", "b-1")
    slots = [Identity.load(cert=files.cert, key=files.key, trust=two.trust, slot=slot) for slot in ("1", "2")]
    async with swarm(two, tmp_path) as (sn, admin), client(sn, slots[0]) as first, client(sn, slots[1]) as second:
        await first.network.Register(ADDRESS)
        with pytest.raises(MalformedCall):
            await expel(admin, "b-1/1")
        await expel(admin, "b-1")
        for node in (first, second):
            with pytest.raises(Expelled):
                await node.network.Register(ADDRESS)


@pytest.mark.parametrize("with_trust_file", [True, False])
async def test_those_who_hold_a_name_hear_of_it_and_end_their_connections(
    two: TwoOrganizations, tmp_path: Path, with_trust_file: bool
) -> None:
    caller, server = two.identity("sl", "b-1"), two.identity("sl", "b-2")
    if not with_trust_file:
        server = replace(server, trust=replace(server.trust, organizations=None))
    async with (
        swarm(two, tmp_path) as (sn, admin),
        client(sn, server) as theirs,
        client(sn, caller) as own,
        contextlib.aclosing(theirs.hold_name()) as held,
        connected_in_bulk(server, caller, tmp_path) as going_on,
        file_server(server, tmp_path, read_range) as ask,
    ):
        await own.network.Register(ADDRESS)
        await anext(held)
        told = asyncio.ensure_future(anext(held))
        assert await ask(caller) == ""
        await expel(admin, "b-1")
        with contextlib.suppress(OSError):
            assert await going_on.read(1) == b""
        await told
        assert "b-1 was expelled from the swarm" in await ask(caller)
        assert await ask(two.identity("sl", "b-3")) == ""


@contextlib.asynccontextmanager
async def connected_in_bulk(server: Identity, caller: Identity, directory: Path) -> AsyncIterator[asyncio.StreamReader]:
    """An idle connection to the file server of an SL."""
    context = caller.client_context()
    context.set_alpn_protocols([BULK])
    files = FileServer(server, Store(directory / "files"), everything())
    with bind("127.0.0.1", 0) as bound:
        await files.start(bound)
        port = bound.getsockname()[1]
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
        writer.write(b"GET /x HTTP/1.1\r\n\r\n")
        await reader.readuntil(b"nothing but a range of a stream is served here")
        try:
            yield reader
        finally:
            writer.close()
            await files.stop()


async def test_a_process_that_holds_its_name_ends(two: TwoOrganizations, tmp_path: Path) -> None:
    async with (
        swarm(two, tmp_path) as (sn, admin),
        client(sn, two.identity("sl", "b-1")) as member,
        contextlib.aclosing(member.hold_name()) as held,
    ):
        await anext(held)
        await member.network.Register(ADDRESS)
        await expel(admin, "b-1")
        with pytest.raises(Expelled):
            while True:
                await anext(held)


async def test_who_is_not_a_member_cannot_be_expelled(two: TwoOrganizations, tmp_path: Path) -> None:
    async with swarm(two, tmp_path) as (_, admin):
        for role, name in (("sl", "b-1"), ("nobody", "b-0"), ("admin", "b-9")):
            with pytest.raises(NotAMember):
                await expel(admin, name, role)


async def test_it_stays_so_when_the_sn_starts_again(two: TwoOrganizations, tmp_path: Path) -> None:
    sn_files = two.files(two.b, "sn", "b-0")
    again = [Identity.load(cert=sn_files.cert, key=sn_files.key, trust=two.trust) for _ in range(2)]
    member = two.identity("sl", "b-1")
    async with (
        running_sn(again[0], tmp_path / "sn") as sn,
        client(sn, two.identity("admin", "b-9")) as admin,
        client(sn, member) as expelled,
    ):
        await expelled.network.Register(ADDRESS)
        await expel(admin, "b-1")
    async with running_sn(again[1], tmp_path / "sn") as sn, client(sn, member) as expelled:
        with pytest.raises(Expelled):
            await expelled.network.Register(ADDRESS)
