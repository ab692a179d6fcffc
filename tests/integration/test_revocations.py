"""A certificate that is revoked or expires is refused, and connections made with it end."""

import asyncio
import contextlib
from collections.abc import AsyncIterator
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding
from doors import (
    DOORS,
    WITHIN_S,
    Ask,
    ask_for_a_lease,
    file_server,
    license_server,
    read_manifest,
    read_range,
    swci,
)
from open_readers import everything
from structlog.testing import capture_logs
from two_organizations import TwoOrganizations

from services.errors import NotOfOrganization, PeerNotAccepted
from services.identity import organizations, peers
from services.identity.authority import IssuedFiles
from services.identity.identity import Identity
from services.identity.peer_context import judge
from services.rpc import swarm_pb2 as pb
from services.rpc.client import SNClient
from services.rpc.server import RpcServer
from services.runtime.metrics import Meter, served
from services.sl.transfer.connections import BULK
from services.sl.transfer.file_server import FileServer, bind
from services.sl.transfer.store import Store


@pytest.fixture
def with_lists(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> TwoOrganizations:
    monkeypatch.setattr(organizations, "LOOK_EVERY_S", 0.01)
    made = TwoOrganizations.create(tmp_path / "two")
    made.revoke()
    made.write(crls=["a.crl"], issues={"sl": ["a-*"], "admin": ["a-*"]})
    return made


def revoked(two: TwoOrganizations, caller: Identity) -> None:
    two.revoke(IssuedFiles(caller.cert, caller.key, two.a.cacert))


@dataclass
class Ending:
    """A certificate of hospital A becomes invalid, by the revocation list or by the clock of whoever checks it."""

    two: TwoOrganizations
    monkeypatch: pytest.MonkeyPatch
    expires: bool

    def identity(self, role: str, name: str) -> Identity:
        """An identity whose certificate ends before all others."""
        return self.two.identity(role, name, not_after=datetime.now(UTC) + timedelta(hours=1))

    def end(self, caller: Identity) -> None:
        if self.expires:
            later = (datetime.now(UTC) + timedelta(hours=2)).timestamp()
            self.monkeypatch.setattr(peers, "time", lambda: later)
        else:
            revoked(self.two, caller)

    def words(self, role: str, name: str) -> str:
        return f"of {role} {name} " + (
            "expired at" if self.expires else "is not accepted from hospital-a: it is revoked"
        )


@pytest.fixture(params=[False, True], ids=["revoked", "expired"])
def ending(with_lists: TwoOrganizations, monkeypatch: pytest.MonkeyPatch, request: pytest.FixtureRequest) -> Ending:
    return Ending(with_lists, monkeypatch, expires=request.param)


async def refused(ask: Ask, caller: Identity, words: str) -> None:
    """Returns once the caller is told these words: the list is read again only after a while."""
    async with asyncio.timeout(WITHIN_S):
        while words not in await ask(caller):
            pass


@pytest.mark.parametrize("door", DOORS)
async def test_a_certificate_is_refused_once_it_is_on_the_list_or_has_expired(
    with_lists: TwoOrganizations, ending: Ending, tmp_path: Path, door: str
) -> None:
    opened, role, (caller_role, _) = DOORS[door]
    caller, other = ending.identity(caller_role, "a-1"), with_lists.identity(caller_role, "a-2")
    async with opened(with_lists.identity(role, "b-0"), tmp_path) as ask:
        assert await ask(caller) == ""
        ending.end(caller)
        await refused(ask, caller, ending.words(caller_role, "a-1"))
        assert await ask(other) == ""


class Streams:
    async def Watch(self, request: pb.WatchRequest, context: Any) -> AsyncIterator[pb.TrainingStatus]:
        yield pb.TrainingStatus(contract="t", version=1)
        await asyncio.Event().wait()


@contextlib.asynccontextmanager
async def watched(identity: Identity) -> AsyncIterator[int]:
    """An SN whose training never changes."""
    roles = {"/swarm.v1.Training/Watch": frozenset({"sl"})}
    server = RpcServer(identity, roles, {"Training": Streams()})
    try:
        yield await server.start("127.0.0.1", 0, "--sn-api-port")
    finally:
        await server.stop(0)


async def test_a_stream_of_an_sn_ends_with_the_certificate_of_its_caller(
    with_lists: TwoOrganizations, ending: Ending
) -> None:
    caller = ending.identity("sl", "a-1")
    async with (
        asyncio.timeout(WITHIN_S),
        watched(with_lists.identity("sn", "b-0")) as port,
        SNClient(f"localhost:{port}", caller) as client,
        SNClient(f"localhost:{port}", with_lists.identity("sl", "a-2")) as another,
        contextlib.aclosing(client.watch("t")) as states,
        contextlib.aclosing(another.watch("t")) as theirs,
    ):
        assert (await anext(states)).version == (await anext(theirs)).version == 1
        ending.end(caller)
        going_on = asyncio.ensure_future(anext(theirs))
        with pytest.raises(NotOfOrganization, match=ending.words("sl", "a-1")):
            await anext(states)
        assert not going_on.done()
        going_on.cancel()
        await asyncio.gather(going_on, return_exceptions=True)


async def test_an_sn_is_called_no_more_once_its_certificate_ends(with_lists: TwoOrganizations, ending: Ending) -> None:
    """Its callers' open connections end too."""
    with_lists.write(crls=["a.crl"], issues={"sn": ["a-*"]})
    sn = ending.identity("sn", "a-0")
    async with (
        asyncio.timeout(WITHIN_S),
        watched(sn) as port,
        SNClient(f"localhost:{port}", with_lists.identity("sl", "b-1")) as client,
    ):
        async with contextlib.aclosing(client.watch("t")) as states:
            await anext(states)
            ending.end(sn)
            with pytest.raises(PeerNotAccepted, match=ending.words("sn", "a-0")):
                await anext(states)
        async with contextlib.aclosing(client.watch("t")) as states:
            with pytest.raises(PeerNotAccepted, match=ending.words("sn", "a-0")):
                await anext(states)


@pytest.mark.parametrize("protocol", [None, BULK])
async def test_connections_to_an_sl_end_with_the_certificate(
    with_lists: TwoOrganizations, ending: Ending, tmp_path: Path, protocol: str | None
) -> None:
    """A connection for messages of a merge, and an idle one for bulk transfer."""

    async def follow(peer: Any, line: Any) -> None:
        await line.send_str("hello")
        await line.receive()

    server = FileServer(with_lists.identity("sl", "b-0"), Store(tmp_path / "s"), everything(), follow=follow)
    caller = ending.identity("sl", "a-1")
    context = caller.client_context()
    context.set_alpn_protocols([protocol or "http/1.1"])
    with bind("127.0.0.1", 0) as bound:
        await server.start(bound)
        port = bound.getsockname()[1]
        async with asyncio.timeout(WITHIN_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
            if protocol is None:
                writer.write(
                    b"GET /v1/merge HTTP/1.1\r\nHost: x\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
                    b"Sec-WebSocket-Key: AAAAAAAAAAAAAAAAAAAAAA==\r\nSec-WebSocket-Version: 13\r\n\r\n"
                )
                await reader.readuntil(b"hello")
            else:
                writer.write(b"GET /x HTTP/1.1\r\n\r\n")
                await reader.readuntil(b"nothing but a range of a stream is served here")
            ending.end(caller)
            with contextlib.suppress(OSError):
                assert await reader.read(1) == b""
            writer.close()
        await server.stop()


async def test_connections_to_a_web_server_end_with_the_certificate(
    with_lists: TwoOrganizations, ending: Ending, tmp_path: Path
) -> None:
    caller, ends = ending.identity("admin", "a-1"), asyncio.Event()

    async def until_the_end(identity: Identity, port: int, path: str) -> str:
        context = identity.client_context()
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
        writer.write(f"GET {path} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
        head = await reader.readuntil(b"\r\n\r\n")
        await reader.readexactly(int(head.lower().partition(b"content-length:")[2].partition(b"\r\n")[0]))
        ends.set()
        with contextlib.suppress(OSError):
            assert await reader.read(1) == b""
        writer.close()
        return "ended"

    async with asyncio.timeout(WITHIN_S), swci(with_lists.identity("swci", "b-0"), tmp_path, until_the_end) as ask:
        told = asyncio.ensure_future(ask(caller))
        await ends.wait()
        ending.end(caller)
        assert await told == "ended"


@pytest.mark.parametrize("door", ["license server", "parameters", "parameters in bulk"])
async def test_nothing_more_is_asked_of_a_server_once_its_certificate_ends(
    with_lists: TwoOrganizations, ending: Ending, tmp_path: Path, door: str
) -> None:
    """Over an existing connection, which stays open for the next request."""
    opened, role, once = {
        "license server": (license_server, "license", ask_for_a_lease),
        "parameters": (file_server, "sl", read_manifest),
        "parameters in bulk": (file_server, "sl", read_range),
    }[door]
    answered = asyncio.Event()

    async def again_and_again(*with_: Any) -> None:
        while True:
            await once(*with_)
            answered.set()

    with_lists.write(crls=["a.crl"], issues={role: ["a-*"]})
    server = ending.identity(role, "a-0")
    async with asyncio.timeout(WITHIN_S), opened(server, tmp_path, again_and_again) as ask:
        told = asyncio.ensure_future(ask(with_lists.identity("sl", "b-1")))
        await answered.wait()
        ending.end(server)
        assert ending.words(role, "a-0") in await told


async def test_metrics_are_read_no_more_with_the_certificate(with_lists: TwoOrganizations, ending: Ending) -> None:
    """Not even over a connection that was made before."""

    def tls() -> Any:
        return with_lists.identity("sn", "b-0").server_context(strict=True)

    caller = ending.identity("sl", "a-1")
    context = caller.client_context()
    async with (
        asyncio.timeout(WITHIN_S),
        served(Meter(on=True), "sn", "0.0.0.0", 0, tls, judge=judge) as facts,  # noqa: S104  # on loopback it needs no TLS
        aiohttp.ClientSession(f"https://localhost:{facts['metrics_port']}") as session,
    ):
        first = await session.get("/metrics", ssl=context)
        assert first.status == 200
        await first.read()
        ending.end(caller)
        while (answer := await session.get("/metrics", ssl=context)).status == 200:
            await answer.read()
        assert answer.status == 403
        assert ending.words("sl", "a-1") in await answer.text()


def test_a_list_that_cannot_be_used_leaves_the_one_before_in_force(with_lists: TwoOrganizations) -> None:
    caller = with_lists.identity("sl", "a-1")
    revoked(with_lists, caller)
    trust = with_lists.identity("sl", "b-1").trust
    der = x509.load_pem_x509_certificate(caller.cert.read_bytes()).public_bytes(Encoding.DER)
    for content in (b"", b"-----BEGIN X509 CRL-----", None):
        with_lists.crl.unlink()
        if content is not None:
            with_lists.crl.write_bytes(content)
        assert trust.organizations is not None
        with capture_logs() as logs:
            trust.organizations.look()
        assert [entry["log_level"] for entry in logs] == ["error"]
        with pytest.raises(NotOfOrganization, match="it is revoked"):
            trust.peer(der)
