"""A peer that answers under the right host name with a good certificate, but is not the intended one, gets nothing."""

import asyncio
import contextlib
import socket
import ssl
import subprocess
import sys
import threading
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import pytest
from stored_streams import put, serving

from services.errors import PeerNotAccepted, PeerUnreachable, SNUnreachable
from services.identity.identity import Identity
from services.identity.peers import AnotherPeer, Expected
from services.licensing.servers import Servers
from services.rpc import swarm_pb2 as pb
from services.rpc.client import SNClient
from services.rpc.server import RpcServer
from services.rpc.tunnel import Tunnel
from services.runtime.splice import End
from services.sl.gateway import Shown
from services.sl.transfer.peers import Peers
from services.sl.transfer.pulling import Pull, Source
from services.sl.transfer.store import Store
from services.sl.view import TrainingMember

WITHIN_S = 30.0
LARGE = 600_000  # elements: more than fit into one request


@contextlib.contextmanager
def answering(identity: Identity) -> Iterator[int]:
    """A server that ends each connection after the handshake."""
    context = identity.server_context()
    with socket.create_server(("127.0.0.1", 0)) as listening:

        def serve() -> None:
            with contextlib.suppress(OSError):
                while True:
                    plain, _ = listening.accept()
                    with plain, contextlib.suppress(OSError), context.wrap_socket(plain, server_side=True) as tls:
                        tls.recv(1)

        thread = threading.Thread(target=serve, daemon=True)
        thread.start()
        yield listening.getsockname()[1]
        listening.shutdown(socket.SHUT_RDWR)
        thread.join()


@pytest.mark.parametrize(
    ("expected", "problem"),
    [
        (Expected("license"), "its certificate is that of sl sl-1, not of license"),
        (Expected("sl", "sl-2"), "its certificate is that of sl sl-1, not of sl sl-2"),
        (Expected("sl", "sl-1", ("0" * 64,)), "that of sl sl-1, with another key than it is known by"),
        (Expected("sl"), ""),
        (Expected("sl", "sl-1"), ""),
        (Expected("sl", "sl-1/gpu-0"), ""),  # one that shares the certificate
    ],
)
@pytest.mark.parametrize("blocking", [True, False])
async def test_a_handshake_is_only_with_whom_it_is_meant_for(
    pki: Any, expected: Expected, problem: str, blocking: bool
) -> None:
    context = pki.identity("sl", "sl-2").client_context(expected)

    def connect(port: int) -> None:
        with socket.create_connection(("127.0.0.1", port), WITHIN_S) as plain:
            context.wrap_socket(plain, server_hostname="localhost").close()

    with answering(pki.identity("sl", "sl-1")) as port:
        refused = pytest.raises(AnotherPeer, match=problem) if problem else contextlib.nullcontext()
        with refused:
            if blocking:
                await asyncio.to_thread(connect, port)
            else:
                _, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
                writer.close()


async def test_a_license_is_asked_of_a_license_server_alone(pki: Any) -> None:
    with answering(pki.identity("sl", "sl-1")) as port:
        servers = Servers([f"localhost:{port}"], pki.identity("sn", "sn-1"))
        with pytest.raises(PeerNotAccepted, match="its certificate is that of sl sl-1, not of license"):
            await servers.request("POST", "/v1/leases", "SN", {})
        await servers.close()


# --- SNs ----------------------------------------------------------------------------------------------------------


class Asked:
    """Counts the calls."""

    def __init__(self) -> None:
        self.times = 0

    async def GetInfo(self, request: pb.GetInfoRequest, context: Any) -> pb.GetInfoReply:
        self.times += 1
        return pb.GetInfoReply()


@contextlib.asynccontextmanager
async def answering_calls(identity: Identity, port: int = 0) -> AsyncIterator[tuple[int, Asked]]:
    """Answers calls like an SN, with any identity."""
    asked = Asked()
    roles = {"/swarm.v1.Network/GetInfo": frozenset({"sl"})}
    server = RpcServer(identity, roles, {"Network": asked})
    port = await server.start("127.0.0.1", port, "--sn-api-port")
    try:
        yield port, asked
    finally:
        await server.stop(0)


@pytest.mark.parametrize(
    ("role", "name", "meant", "problem"),
    [
        ("sl", "sl-3", "", "its certificate is that of sl sl-3, not of sn"),
        ("admin", "ada", "", "its certificate is that of admin ada, not of sn"),
        ("sn", "sn-2", "sn-1", "its certificate is that of sn sn-2, not of sn sn-1"),
    ],
)
async def test_the_api_of_an_sn_is_called_at_an_sn_alone(
    pki: Any, role: str, name: str, meant: str, problem: str
) -> None:
    async with (
        answering_calls(pki.identity(role, name)) as (port, asked),
        SNClient(f"localhost:{port}", pki.identity("sl", "sl-1"), meant) as client,
    ):
        with pytest.raises(PeerNotAccepted, match=f"^The SN at localhost:{port} was not accepted: {problem}"):
            await client.network.GetInfo(pb.GetInfoRequest())
        assert not asked.times


async def test_who_takes_the_place_of_an_sn_later_is_not_called_either(pki: Any) -> None:
    async with contextlib.AsyncExitStack() as stack:
        async with answering_calls(pki.identity("sn", "sn-1")) as (port, asked):
            address, sl = f"localhost:{port}", pki.identity("sl", "sl-1")
            client = await stack.enter_async_context(SNClient(address, sl, "sn-1"))
            await client.network.GetInfo(pb.GetInfoRequest())
            assert asked.times == 1
        async with answering_calls(pki.identity("sl", "sl-3"), port) as (_, asked):
            with pytest.raises(PeerNotAccepted, match="its certificate is that of sl sl-3, not of sn sn-1"):
                await client.network.GetInfo(pb.GetInfoRequest())
            assert not asked.times


async def test_no_other_process_gets_through_to_an_sn_with_the_certificate_of_a_node(pki: Any) -> None:
    """Within the node, gRPC is used without TLS."""
    ask = "import socket, sys; s = socket.socket(socket.AF_UNIX); s.connect('\\0' + sys.argv[1]); print(s.recv(9))"
    async with (
        answering_calls(pki.identity("sn", "sn-1")) as (port, _),
        Tunnel(f"localhost:{port}", pki.identity("sl", "sl-1"), Expected("sn")) as tunnel,
    ):
        name = tunnel.target.removeprefix("unix-abstract:")
        command = (sys.executable, "-c", ask, name)
        other = await asyncio.create_subprocess_exec(*command, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        said, failed = await asyncio.wait_for(other.communicate(), WITHIN_S)
        assert said == b"b''\n" or b"ConnectionResetError" in failed
        reader, writer = await asyncio.open_unix_connection(f"\0{name}")
        assert await asyncio.wait_for(reader.readexactly(3), WITHIN_S)  # an SN speaks first
        writer.close()


async def test_a_way_to_an_sn_that_is_closed_leaves_no_connection_open(pki: Any) -> None:
    """Not even one that was just accepted and not yet handled."""
    ours, theirs = socket.socketpair()
    with ours:
        _, near = await asyncio.get_running_loop().connect_accepted_socket(End, theirs)
        async with Tunnel("localhost:1", pki.identity("sl", "sl-1"), Expected("sn")) as tunnel:
            tunnel._begin(near)
        await asyncio.wait_for(near.ended, WITHIN_S)


# --- parameters --------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("elements", [5, LARGE])
@pytest.mark.parametrize("known_by", ["name", "certificate"])
async def test_parameters_are_fetched_from_the_member_that_holds_them(
    pki: Any, tmp_path: Path, elements: int, known_by: str
) -> None:
    """Not from another member that has taken its address, even with the same bytes."""
    store, mine = Store(tmp_path / "theirs"), Store(tmp_path / "mine")
    stored = put(store, elements)
    async with serving(pki, store, name="sl-3") as port, Peers(pki.identity("sl", "sl-2"), mine) as peers:
        true = TrainingMember("sl-3", "localhost", port, pki.identity("sl", "sl-3").fingerprint, active=True)
        name, fingerprint = ("sl-1", "") if known_by == "name" else ("sl-3", "0" * 64)
        meant = TrainingMember(name, "localhost", port, fingerprint, active=True)
        with pytest.raises(PeerUnreachable, match="its certificate is that of sl sl-3"):
            await peers.fetch(stored.model.digest, stored.model.size, lambda: [meant])
        assert (await peers.fetch(stored.model.digest, stored.model.size, lambda: [true])).model == stored.model


async def test_segments_come_from_the_member_that_offers_them(pki: Any, tmp_path: Path) -> None:
    """Even if there is a connection to somebody else at its address."""
    store, mine = Store(tmp_path / "theirs"), Store(tmp_path / "mine")
    stored = put(store, LARGE)
    path = f"/v1/models/{stored.model.digest}"
    async with (
        serving(pki, store, name="sl-3") as port,
        Peers(pki.identity("sl", "sl-2"), mine) as peers,
    ):
        true = TrainingMember("sl-3", "localhost", port, "", active=True)
        partial = await peers.begin(true, stored.model.digest, stored.model.size)
        pull = Pull(partial, mine, peers.transfers, lambda _: None)
        pull.offer(Source(true, path), [0])
        await pull.until([0])
        pull.offer(Source(TrainingMember("sl-1", "localhost", port, "", active=True), path), [1])
        with pytest.raises(PeerUnreachable, match="its certificate is that of sl sl-3, not of sl sl-1"):
            await pull.until([1])
        await pull.close()


async def test_a_line_is_opened_to_the_merger_it_is_for(pki: Any, tmp_path: Path) -> None:
    store = Store(tmp_path / "mine")
    with answering(pki.identity("sl", "sl-3")) as port:
        async with Peers(pki.identity("sl", "sl-2"), store) as peers:
            merger = TrainingMember("sl-1", "localhost", port, "", active=True)
            with pytest.raises(PeerUnreachable, match="its certificate is that of sl sl-3, not of sl sl-1"):
                async with peers.line_to(merger):
                    pass


def test_the_error_is_one_of_verification() -> None:
    """So that every TLS library treats it as one."""
    assert issubclass(AnotherPeer, ssl.SSLCertVerificationError)


async def test_an_sn_that_tells_of_changes_to_what_it_has_not_shown_is_one_that_cannot_be_reached(pki: Any) -> None:
    class Lies:
        async def Watch(self, _request: pb.WatchRequest, _context: Any) -> AsyncIterator[pb.TrainingStatus]:
            yield pb.TrainingStatus(contract="t", version=1)
            yield pb.TrainingStatus(contract="t", version=2, since=1, round=7)
            yield pb.TrainingStatus(contract="t", version=9, since=8, round=9)

    server = RpcServer(
        pki.identity("sn", "sn-1"), {"/swarm.v1.Training/Watch": frozenset({"sl"})}, {"Training": Lies()}
    )
    port = await server.start("127.0.0.1", 0, "--port")
    async with SNClient(f"localhost:{port}", pki.identity("sl", "sl-1")) as client:
        shown, rounds = Shown(client.address), []
        with pytest.raises(SNUnreachable, match="it has not shown"):
            async for status in client.watch("t", changes=True):
                rounds.append(shown.take(status).round)
    await server.stop(0)
    assert rounds == [0, 7]
