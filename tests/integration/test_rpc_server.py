"""The server and the client of the API over real sockets and mutual TLS."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID
from grpc_health.v1 import health_pb2, health_pb2_grpc
from mapped_ports import mapped_port

from services.errors import (
    IdentityError,
    NotAcceptedAsExpired,
    PeerNotAccepted,
    PortInUse,
    SettingsError,
    SNUnreachable,
    SwarmError,
    TooManyCalls,
    UnknownContract,
    WrongRole,
)
from services.identity.identity import Identity
from services.identity.peers import Expected, read_trust
from services.rpc import server
from services.rpc import swarm_pb2 as pb
from services.rpc.client import SNClient
from services.rpc.limits import CallLimit
from services.rpc.server import RpcServer, caller
from services.rpc.tunnel import Tunnel

ALLOWED = {
    "/swarm.v1.Network/Register": frozenset({"sl"}),
    "/swarm.v1.Network/ListNodes": frozenset({"sl"}),
    "/swarm.v1.Network/ListContracts": frozenset({"sl"}),
    "/swarm.v1.Network/GetInfo": frozenset({"sl"}),
    "/swarm.v1.Training/Watch": frozenset({"sl"}),
}


class Network:
    """Each call shows one thing."""

    def __init__(self) -> None:
        self.never = asyncio.Event()

    async def Register(self, request: pb.RegisterRequest, context: Any) -> pb.RegisterReply:
        return pb.RegisterReply(sn=f"{caller().role} {caller().name} {caller().fingerprint}")

    async def ListNodes(self, request: pb.ListNodesRequest, context: Any) -> pb.ListNodesReply:
        raise UnknownContract(contract="x", known="a, b")

    async def ListContracts(self, request: pb.ListContractsRequest, context: Any) -> pb.ListContractsReply:
        raise RuntimeError("a secret")

    async def GetInfo(self, request: pb.GetInfoRequest, context: Any) -> pb.GetInfoReply:
        await self.never.wait()
        return pb.GetInfoReply()

    async def Deregister(self, request: pb.DeregisterRequest, context: Any) -> pb.DeregisterReply:
        return pb.DeregisterReply()  # not in the table of roles


class Training:
    """Yields bytes and messages, then an error."""

    async def Watch(self, request: pb.WatchRequest, context: Any) -> AsyncIterator[Any]:
        yield pb.TrainingStatus(contract=request.contract, version=1).SerializeToString()
        yield pb.TrainingStatus(contract=request.contract, version=2)
        if request.contract == "goes on":
            await asyncio.Event().wait()
        raise UnknownContract(contract=request.contract, known="")


@contextlib.asynccontextmanager
async def serving(
    identity: Identity, host: str = "127.0.0.1", port: int = 0, limits: dict[str, CallLimit] | None = None
) -> AsyncIterator[int]:
    server = RpcServer(
        identity,
        ALLOWED,
        {"Network": Network(), "Training": Training()},
        limits or {},
    )
    got = await server.start(host, port, "--sn-api-port")
    try:
        yield got
    finally:
        await server.stop(0)


@pytest.fixture
async def port(pki: Any) -> AsyncIterator[int]:
    async with serving(pki.identity("sn", "sn-1")) as got:
        yield got


async def register(address: str, identity: Identity) -> str:
    async with SNClient(address, identity) as client:
        return (await client.network.Register(pb.RegisterRequest())).sn


def unjudged(files: Any, like: Identity) -> Identity:
    """An identity with which a node would refuse to start, as a careless or hostile peer may have."""
    return Identity(like.role, like.name, "", files.cert, files.key, read_trust(files.cacert, None))


async def test_the_caller_is_known_by_its_certificate(pki: Any, port: int) -> None:
    sl = pki.identity("sl", "sl-1")
    assert await register(f"localhost:{port}", sl) == f"sl sl-1 {sl.fingerprint}"


@pytest.mark.parametrize("host", ["::", "[::]"])
async def test_an_sn_that_listens_on_every_address_is_reached_by_both_kinds_however_they_are_written(
    pki: Any, host: str
) -> None:
    files = pki.issue("sn", "sn-1", hosts=["127.0.0.1", "::1"])
    identity = Identity.load(cert=files.cert, key=files.key, cacert=files.cacert)
    sl = pki.identity("sl", "sl-1")
    async with serving(identity, host) as port:
        for there in (f"127.0.0.1:{port}", f"[::1]:{port}"):
            assert await register(there, sl) == f"sl sl-1 {sl.fingerprint}"


async def test_an_sn_is_called_directly_whatever_proxy_the_site_names(
    pki: Any, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in ("grpc_proxy", "https_proxy", "http_proxy", "all_proxy"):
        for variable in (name, name.upper()):
            monkeypatch.setenv(variable, "http://127.0.0.1:9")
    sl = pki.identity("sl", "sl-1")
    assert await register(f"localhost:{port}", sl) == f"sl sl-1 {sl.fingerprint}"


async def test_an_error_arrives_as_itself(pki: Any, port: int) -> None:
    async with SNClient(f"localhost:{port}", pki.identity("sl", "sl-1")) as client:
        with pytest.raises(UnknownContract, match="no training contract x; there are a, b"):
            await client.network.ListNodes(pb.ListNodesRequest())


async def test_a_bug_in_a_handler_tells_the_caller_no_more_than_its_kind(pki: Any, port: int) -> None:
    async with SNClient(f"localhost:{port}", pki.identity("sl", "sl-1")) as client:
        with pytest.raises(SwarmError, match="RuntimeError in /swarm") as raised:
            await client.network.ListContracts(pb.ListContractsRequest())
    assert type(raised.value) is SwarmError and "secret" not in str(raised.value)


async def test_a_node_that_calls_too_often_waits_and_gets_its_answer(pki: Any) -> None:
    method = "/swarm.v1.Network/Register"
    sl, other = pki.identity("sl", "sl-1"), pki.identity("sl", "sl-2")
    async with serving(pki.identity("sn", "sn-1"), limits={method: CallLimit("write calls", 2, 20)}) as port:
        async with SNClient(f"localhost:{port}", sl) as client:
            replies = await asyncio.gather(*(client.network.Register(pb.RegisterRequest()) for _ in range(5)))
        assert {reply.sn for reply in replies} == {f"sl sl-1 {sl.fingerprint}"}
    async with serving(pki.identity("sn", "sn-1"), limits={method: CallLimit("write calls", 1, 0.01)}) as port:
        await register(f"localhost:{port}", sl)
        with pytest.raises(TooManyCalls, match="Too many write calls from sl-1"):
            await register(f"localhost:{port}", sl)  # more than any deadline
        await register(f"localhost:{port}", other)


async def test_a_member_that_watches_too_often_is_told_so_and_the_end_of_a_stream_counts(pki: Any) -> None:
    limit = CallLimit("watch calls", 100, 100, open=1)
    sl = pki.identity("sl", "sl-1")
    async with (
        serving(pki.identity("sn", "sn-1"), limits={"/swarm.v1.Training/Watch": limit}) as port,
        SNClient(f"localhost:{port}", sl) as client,
        asyncio.timeout(20),
    ):
        first = client.watch("goes on")
        await anext(first)
        with pytest.raises(TooManyCalls, match="Too many watch calls from sl-1: it has 1"):
            await anext(client.watch("x"))
        await first.aclose()
        while True:  # the server hears of it in a moment
            with contextlib.suppress(TooManyCalls):
                await anext(client.watch("x"))
                break


async def test_a_role_that_may_not_is_refused_in_words(pki: Any, port: int) -> None:
    with pytest.raises(WrongRole, match="w has the role swop, but Register needs sl"):
        await register(f"localhost:{port}", pki.identity("swop", "w"))


async def test_a_call_that_is_not_in_the_table_is_denied_to_all(pki: Any, port: int) -> None:
    async with SNClient(f"localhost:{port}", pki.identity("sl", "sl-1")) as client:
        with pytest.raises(WrongRole, match="Deregister needs a role that nobody has"):
            await client.network.Deregister(pb.DeregisterRequest())


async def test_a_stream_carries_bytes_and_messages_and_ends_with_its_error(pki: Any, port: int) -> None:
    versions = []
    async with SNClient(f"localhost:{port}", pki.identity("sl", "sl-1")) as client:
        with pytest.raises(UnknownContract):
            async for status in client.watch("t"):
                versions.append(status.version)
    assert versions == [1, 2]


async def test_a_call_without_an_answer_ends_at_its_deadline(pki: Any, port: int) -> None:
    async with SNClient(f"localhost:{port}", pki.identity("sl", "sl-1")) as client:
        with pytest.raises(SNUnreachable, match="it did not answer in time"):
            await client.network.GetInfo(pb.GetInfoRequest(), timeout=0.2)


async def test_a_certificate_without_a_spiffe_uri_is_denied(pki: Any, port: int, tmp_path: Path) -> None:
    files = plain_certificate(pki, tmp_path)
    identity = Identity("sl", "plain", "", files[0], files[1], read_trust(pki.cacert, None))
    with pytest.raises(IdentityError):
        await register(f"localhost:{port}", identity)


async def test_a_client_of_a_foreign_ca_is_told_why_it_gets_no_connection(
    pki: Any, foreign_pki: Any, port: int
) -> None:
    with pytest.raises(PeerNotAccepted, match="its certificate was not issued by a CA of"):
        await register(f"localhost:{port}", foreign_pki.identity("sl", "sl-1"))


async def test_a_client_that_the_sn_does_not_trust_is_told_so(
    pki: Any, foreign_pki: Any, port: int, tmp_path: Path
) -> None:
    both = tmp_path / "both.pem"
    both.write_bytes(pki.cacert.read_bytes() + foreign_pki.cacert.read_bytes())
    files = foreign_pki.issue("sl", "sl-1")
    with pytest.raises(PeerNotAccepted, match="The SN at localhost"):
        await register(f"localhost:{port}", Identity.load(cert=files.cert, key=files.key, cacert=both))


@pytest.mark.parametrize(
    ("days", "words"), [((-9, -2), "its certificate has expired"), ((2, 9), "its certificate is not yet valid")]
)
async def test_an_sn_whose_certificate_is_out_of_date_is_not_accepted(
    pki: Any, days: tuple[int, int], words: str
) -> None:
    """The error for an expired certificate differs: running nodes then wait for the next certificate."""
    start, end = (datetime.now(UTC) + timedelta(days=day) for day in days)
    files = pki.issue("sn", "sn-old", not_before=start, not_after=end)
    async with serving(unjudged(files, pki.identity("sn", "sn-1"))) as port:
        with pytest.raises(PeerNotAccepted, match=words) as refused:
            await register(f"localhost:{port}", pki.identity("sl", "sl-1"))
    assert isinstance(refused.value, NotAcceptedAsExpired) == (end < datetime.now(UTC))


async def test_an_expired_client_gets_no_connection(pki: Any, port: int) -> None:
    start, end = (datetime.now(UTC) + timedelta(days=day) for day in (-9, -2))
    files = pki.issue("sl", "sl-old", not_before=start, not_after=end)
    with pytest.raises(NotAcceptedAsExpired, match="The SN at localhost"):
        await register(f"localhost:{port}", unjudged(files, pki.identity("sl", "sl-1")))


async def test_an_sn_under_another_host_name_is_not_accepted(pki: Any) -> None:
    files = pki.issue("sn", "sn-far", hosts=["sn.example.org"])
    async with serving(Identity.load(cert=files.cert, key=files.key, cacert=files.cacert)) as port:
        with pytest.raises(PeerNotAccepted, match=r"not for localhost, but for sn\.example\.org"):
            await register(f"localhost:{port}", pki.identity("sl", "sl-1"))


async def test_an_sn_that_is_not_there_is_named(pki: Any) -> None:
    with socket.create_server(("127.0.0.1", 0)) as free:
        port = free.getsockname()[1]
    with pytest.raises(
        SNUnreachable, match=f"The SN at localhost:{port} cannot be reached: the connection was refused"
    ):
        await register(f"localhost:{port}", pki.identity("sl", "sl-1"))


async def test_a_call_is_made_where_python_reads_before_the_sn_is_reached(
    pki: Any, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Like Python 3.11.2, the version in Debian 12, which reads a connection that is paused at its beginning."""

    def reads_although_paused(self: Any, fd: int, callback: Any, *args: Any) -> None:
        if not self._closing:
            self._loop._add_reader(fd, callback, *args)

    monkeypatch.setattr("asyncio.selector_events._SelectorTransport._add_reader", reads_although_paused)
    said = await register(f"localhost:{port}", pki.identity("sl", "sl-1"))
    assert said.startswith("sl sl-1 ")


async def test_a_connection_that_has_ended_is_not_aborted_once_more(
    pki: Any, foreign_pki: Any, port: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """In Python 3.11.2, the version in Debian 12, that raises an exception."""
    had_ended = []

    def abort(self: Any) -> None:
        self._closed = True
        had_ended.append(self._ssl_protocol is None)
        if self._ssl_protocol is not None:
            self._ssl_protocol._abort()

    monkeypatch.setattr("asyncio.sslproto._SSLProtocolTransport.abort", abort)
    files = foreign_pki.issue("sl", "sl-1")
    stranger = replace(unjudged(files, pki.identity("sl", "sl-1")), trust=read_trust(pki.cacert, None))
    with pytest.raises(PeerNotAccepted):
        await register(f"localhost:{port}", stranger)
    assert True not in had_ended


async def test_an_sn_on_another_continent_is_reached(pki: Any, port: int) -> None:
    """Even for calls that are not repeated: setting up a connection takes several round trips."""
    async with mapped_port(delay_s=0.15) as far:
        far.target = port
        async with SNClient(f"localhost:{far.port}", pki.identity("sl", "sl-1")) as client:
            with pytest.raises(UnknownContract):  # the SN's answer, at the end of the stream
                async for _ in client.watch("t"):
                    pass
        assert far.connections == 1
        await asyncio.gather(*far.passing)


async def test_a_retried_call_survives_a_restart_of_the_sn(pki: Any) -> None:
    sn = pki.identity("sn", "sn-1")
    async with SNClient("", pki.identity("sl", "sl-1")):
        pass  # a client that never calls needs no SN
    async with serving(sn) as port:
        client = await SNClient(f"localhost:{port}", pki.identity("sl", "sl-1")).__aenter__()
        await client.network.Register(pb.RegisterRequest())
    async with serving(sn, port=port):  # the previous connection is dead, but the caller does not notice
        await client.network.Register(pb.RegisterRequest())
    await client.__aexit__(None, None, None)


async def test_a_port_in_use_names_port_and_flag(pki: Any, port: int) -> None:
    with pytest.raises(PortInUse, match=f"Port {port} on 127.0.0.1 is in use.*--sn-api-port"):
        async with serving(pki.identity("sn", "sn-2"), port=port):
            pass


async def test_an_address_that_is_not_ours_is_refused(pki: Any) -> None:
    with pytest.raises(SettingsError, match=r"cannot be opened on 192\.0\.2\.1"):
        async with serving(pki.identity("sn", "sn-2"), host="192.0.2.1"):
            pass


async def test_health_is_open_to_every_certificate(pki: Any, port: int) -> None:
    async with (
        Tunnel(f"localhost:{port}", pki.identity("license", "ls-1"), Expected("sn")) as tunnel,
        grpc.aio.insecure_channel(tunnel.target) as channel,
    ):
        stub = health_pb2_grpc.HealthStub(channel)
        answer = await stub.Check(health_pb2.HealthCheckRequest())
        assert answer.status == health_pb2.HealthCheckResponse.SERVING
        watching = stub.Watch(health_pb2.HealthCheckRequest())
        assert (await watching.read()).status == health_pb2.HealthCheckResponse.SERVING
        watching.cancel()


def changed(option: str, value: int) -> tuple[tuple[str, int], ...]:
    """The options of a server, with this one changed."""
    return tuple({**dict(server.OPTIONS), option: value}.items())


@pytest.mark.parametrize("said", [b"", b"\x16\x03\x01\x02\x00\x01"], ids=["nothing", "half a hello"])
async def test_who_does_not_come_to_the_end_of_a_handshake_is_let_go(
    pki: Any, monkeypatch: pytest.MonkeyPatch, said: bytes
) -> None:
    monkeypatch.setattr(server, "OPTIONS", changed("grpc.server_handshake_timeout_ms", 500))
    async with serving(pki.identity("sn", "sn-1")) as port, asyncio.timeout(30):
        silent = [await asyncio.open_connection("localhost", port) for _ in range(200)]
        for _, writer in silent:
            writer.write(said)
        await register(f"localhost:{port}", pki.identity("sl", "sl-1"))
        for reader, writer in silent:
            with contextlib.suppress(ConnectionError):
                await reader.read()
            writer.close()


async def test_more_connections_than_there_may_be_are_ended(pki: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(server, "OPTIONS", changed("grpc.max_allowed_incoming_connections", 5))
    async with serving(pki.identity("sn", "sn-1")) as port, asyncio.timeout(30):
        held = [await asyncio.open_connection("localhost", port) for _ in range(5)]
        reader, writer = await asyncio.open_connection("localhost", port)
        with contextlib.suppress(ConnectionError):
            assert await reader.read() == b""
        for _, each in (*held, (reader, writer)):
            each.close()


async def test_without_tls_there_is_no_answer(port: int) -> None:
    async with grpc.aio.insecure_channel(f"localhost:{port}") as channel:
        call = channel.unary_unary("/swarm.v1.Network/Register")
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call(b"", timeout=5)
    assert refused.value.code() is grpc.StatusCode.UNAVAILABLE


def plain_certificate(pki: Any, directory: Path) -> tuple[Path, Path]:
    """A certificate from the trusted CA for localhost, but without the URI with role and name."""
    ca = x509.load_pem_x509_certificate(pki.cacert.read_bytes())
    ca_key = serialization.load_pem_private_key((pki.authority.directory / "ca-key.pem").read_bytes(), None)
    key = ec.generate_private_key(ec.SECP256R1())
    now = datetime.now(UTC)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, "plain")]))
        .issuer_name(ca.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(now - timedelta(hours=1))
        .not_valid_after(now + timedelta(hours=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName("localhost")]), critical=False)
        .sign(ca_key, hashes.SHA256())
    )
    cert_path, key_path = directory / "plain-cert.pem", directory / "plain-key.pem"
    cert_path.write_bytes(certificate.public_bytes(serialization.Encoding.PEM))
    key_path.write_bytes(
        key.private_bytes(serialization.Encoding.PEM, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    )
    return cert_path, key_path
