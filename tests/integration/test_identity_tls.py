"""What real TLS sockets and a real gRPC server do with good and bad certificates, and our messages about it."""

import asyncio
import os
import socket
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import grpc
import pytest

from services.errors import SNUnreachable
from services.identity.diagnosis import NOTHING_WRONG, diagnose
from services.identity.identity import Identity, identity_of_grpc_context
from services.identity.peers import Expected, PeerIdentity, identity_of_certificate, read_trust
from services.rpc import swarm_pb2 as pb
from services.rpc.client import SNClient
from services.rpc.tunnel import Tunnel

DEADLINE_S = 20
ROOT = Path(__file__).parents[2]
NOW = datetime.now(UTC)
DAY = timedelta(days=1)
CLOSE_NOTIFY = bytes([21, 3, 3, 0, 2, 1, 0])  # an alert of TLS


class _WhoCalls(grpc.GenericRpcHandler):
    """Answers every call with its view of the caller."""

    def service(self, handler_call_details):
        async def answer(request, context):
            peer = identity_of_grpc_context(context)
            return f"{peer.role} {peer.name} {peer.fingerprint}".encode()

        return grpc.unary_unary_rpc_method_handler(answer)


@asynccontextmanager
async def grpc_server(identity: Identity) -> AsyncIterator[int]:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((_WhoCalls(),))
    port = server.add_secure_port("127.0.0.1:0", identity.grpc_server_credentials())
    await server.start()
    try:
        yield port
    finally:
        await server.stop(None)


@asynccontextmanager
async def https_server(context: ssl.SSLContext) -> AsyncIterator[int]:
    """Answers one line with its view of the caller, like a server that waits for a request."""

    async def answer(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if await reader.readline():
            der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
            writer.write(f"{identity_of_certificate(der) if der else None}\n".encode())
            await writer.drain()
        writer.close()

    server = await asyncio.start_server(answer, "127.0.0.1", 0, ssl=context)
    try:
        yield server.sockets[0].getsockname()[1]
    finally:
        server.close()


async def call_grpc(identity: Identity, port: int, host: str = "localhost") -> str:
    async with (
        Tunnel(f"{host}:{port}", identity, Expected("sn")) as tunnel,
        grpc.aio.insecure_channel(tunnel.target) as channel,
    ):
        return (await channel.unary_unary("/any/method")(b"", timeout=DEADLINE_S)).decode()


async def call_tls(context: ssl.SSLContext, port: int, host: str = "localhost") -> str:
    async with asyncio.timeout(DEADLINE_S):
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname=host)
        writer.write(b"hello\n")
        answer = (await reader.readline()).decode()
        writer.close()
        if not answer:
            raise ConnectionResetError("the server hung up")
        return answer


def unjudged(pki, role, name, *, trust=None, **validity) -> Identity:
    """An identity that ``load`` would refuse, for a peer that does not check its own."""
    files = pki.issue(role, name, **validity)
    bundle = read_trust(trust or files.cacert, None)
    return Identity(role=role, name=name, fingerprint="", cert=files.cert, key=files.key, trust=bundle)


def expired(pki) -> Identity:
    return unjudged(pki, "sl", "sl-old", not_before=NOW - 2 * DAY, not_after=NOW - DAY)


def not_yet_valid(pki) -> Identity:
    return unjudged(pki, "sl", "sl-new", not_before=NOW + DAY)


async def test_both_sides_of_grpc_know_each_other(pki):
    sl = pki.identity("sl", "sl-1")
    async with grpc_server(pki.identity("sn", "sn-1")) as port:
        for host in ("localhost", "127.0.0.1"):
            assert await call_grpc(sl, port, host) == f"sl sl-1 {sl.fingerprint}"
        assert is_in_order(await asyncio.to_thread(diagnose, "localhost", port, sl))


def is_in_order(diagnosis) -> bool:
    return diagnosis.reached and diagnosis.accepted and diagnosis.problem == NOTHING_WRONG


async def test_both_sides_of_https_know_each_other(pki):
    sl = pki.identity("sl", "sl-1")
    async with https_server(pki.identity("sl", "sl-2").server_context()) as port:
        peer = PeerIdentity(role="sl", name="sl-1", fingerprint=sl.fingerprint)
        assert await call_tls(sl.client_context(), port) == f"{peer}\n"
        assert is_in_order(await asyncio.to_thread(diagnose, "localhost", port, sl))


async def test_server_with_optional_certificates_sees_a_caller_without(pki):
    context = pki.identity("license", "license").server_context(client_certificate="optional")
    async with https_server(context) as port:
        assert await call_tls(ssl.create_default_context(cafile=pki.cacert), port) == "None\n"
        assert "name='sl-1'" in await call_tls(pki.identity("sl", "sl-1").client_context(), port)


@pytest.mark.parametrize("mode", ["required", "optional"])
@pytest.mark.parametrize(
    ("make", "words"), [(expired, "of sl-old expired at"), (not_yet_valid, "of sl-new is valid only from")]
)
async def test_https_refuses_certificates_outside_their_dates(pki, make, words, mode):
    client = make(pki)
    async with https_server(pki.identity("sl", "sl-2").server_context(client_certificate=mode)) as port:
        with pytest.raises(OSError):  # an alert or a reset: a refused client hears no reason from asyncio
            await call_tls(client.client_context(), port)
        assert words in await problem_of("localhost", port, client)


async def test_https_refuses_no_certificate_where_one_is_required(pki):
    async with https_server(pki.identity("sl", "sl-2").server_context()) as port:
        with pytest.raises(OSError):
            await call_tls(ssl.create_default_context(cafile=pki.cacert), port)


async def test_https_refuses_certificates_of_another_ca(pki, foreign_pki):
    stranger = unjudged(foreign_pki, "sl", "sl-1", trust=pki.cacert)
    async with https_server(pki.identity("sl", "sl-2").server_context()) as port:
        with pytest.raises(OSError):
            await call_tls(stranger.client_context(), port)
        problem = await problem_of("localhost", port, stranger)
        assert "hung up when it had seen our certificate" in problem


@pytest.mark.parametrize(
    ("make", "words"), [(expired, "of sl-old expired at"), (not_yet_valid, "of sl-new is valid only from")]
)
async def test_grpc_server_refuses_certificates_outside_their_dates(pki, make, words):
    client = make(pki)
    async with grpc_server(pki.identity("sn", "sn-1")) as port:
        with pytest.raises(grpc.aio.AioRpcError) as refused:
            await call_grpc(client, port)
        assert refused.value.code() == grpc.StatusCode.UNAVAILABLE
        diagnosis = await asyncio.to_thread(diagnose, "localhost", port, client)
        assert diagnosis.reached
        assert not diagnosis.accepted
        assert words in diagnosis.problem


async def test_grpc_server_refuses_certificates_of_another_ca(pki, foreign_pki):
    stranger = unjudged(foreign_pki, "sl", "sl-1", trust=pki.cacert)
    async with grpc_server(pki.identity("sn", "sn-1")) as port:
        with pytest.raises(grpc.aio.AioRpcError):
            await call_grpc(stranger, port)
        problem = await problem_of("localhost", port, stranger)
        assert "hung up when it had seen our certificate" in problem


async def test_grpc_server_refuses_no_certificate(pki):
    anonymous = grpc.ssl_channel_credentials(root_certificates=pki.cacert.read_bytes())
    async with (
        grpc_server(pki.identity("sn", "sn-1")) as port,
        grpc.aio.secure_channel(f"localhost:{port}", anonymous) as channel,
    ):
        with pytest.raises(grpc.aio.AioRpcError):
            await channel.unary_unary("/any/method")(b"", timeout=DEADLINE_S)


@pytest.mark.parametrize(
    ("make", "words"),
    [
        (expired, "its certificate has expired"),
        (not_yet_valid, "its certificate is not yet valid"),
        (lambda pki: unjudged(pki, "sn", "far", hosts=["example.org", "10.1.2.3"]), "for example.org, 10.1.2.3"),
    ],
)
@pytest.mark.parametrize("host", ["localhost", "127.0.0.1"])
async def test_clients_refuse_servers_with_unfit_certificates(pki, make, words, host):
    server, sl = make(pki), pki.identity("sl", "sl-1")
    async with grpc_server(server) as port:
        with pytest.raises(grpc.aio.AioRpcError):
            await call_grpc(sl, port, host)
        assert words in await problem_of(host, port, sl)
    async with https_server(server.server_context()) as port:
        with pytest.raises(ssl.SSLCertVerificationError):
            await call_tls(sl.client_context(), port, host)
        assert words in await problem_of(host, port, sl)


async def test_clients_refuse_servers_of_another_ca(pki, foreign_pki):
    sl = pki.identity("sl", "sl-1")
    async with grpc_server(foreign_pki.identity("sn", "sn-1")) as port:
        with pytest.raises(grpc.aio.AioRpcError):
            await call_grpc(sl, port)
        problem = await problem_of("localhost", port, sl)
        assert problem.startswith("its certificate was not issued by a CA of /")


async def test_grpc_server_speaks_tls_1_3_only(pki):
    sl = pki.identity("sl", "sl-1")
    async with grpc_server(pki.identity("sn", "sn-1")) as port:
        assert await asyncio.to_thread(_version_agreed, sl, port, ssl.TLSVersion.TLSv1_3) == "TLSv1.3"
        with pytest.raises(ssl.SSLError):
            await asyncio.to_thread(_version_agreed, sl, port, ssl.TLSVersion.TLSv1_2)


async def test_https_server_speaks_tls_1_3_only(pki):
    sl = pki.identity("sl", "sl-1")
    async with https_server(pki.identity("sl", "sl-2").server_context()) as port:
        with pytest.raises(OSError):
            await asyncio.to_thread(_version_agreed, sl, port, ssl.TLSVersion.TLSv1_2)


async def test_clients_refuse_servers_that_offer_tls_1_2(pki):
    sl, sn = pki.identity("sl", "sl-1"), pki.identity("sn", "sn-1")
    old = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    old.maximum_version = ssl.TLSVersion.TLSv1_2
    old.load_cert_chain(sn.cert, sn.key)
    old.set_alpn_protocols(["h2"])
    async with https_server(old) as port:
        with pytest.raises(grpc.aio.AioRpcError):
            await call_grpc(sl, port)
        with pytest.raises(OSError):
            await call_tls(sl.client_context(), port)
        assert "TLS 1.3" in await problem_of("localhost", port, sl)


@pytest.mark.parametrize("last_words", [b"", CLOSE_NOTIFY])
async def test_one_that_hangs_up_before_its_certificate_is_absent_not_hostile(pki, last_words):
    """As Docker does at a published port while the node behind it starts, or a node that is ending."""
    sl = pki.identity("sl", "sl-1")

    async def hang_up(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        if not last_words:
            writer.transport.abort()
            return
        await reader.read(1 << 16)
        writer.write(last_words)
        writer.close()

    async with await asyncio.start_server(hang_up, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        found = await asyncio.to_thread(diagnose, "127.0.0.1", port, sl)
        assert not found.reached
        async with SNClient(f"127.0.0.1:{port}", sl) as client:
            with pytest.raises(SNUnreachable, match="starting or ending"):
                await client.network.GetInfo(pb.GetInfoRequest())


async def test_diagnosis_tells_a_closed_port_from_an_unknown_name_and_from_plain_text(pki):
    sl = pki.identity("sl", "sl-1")
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    refused = await asyncio.to_thread(diagnose, "127.0.0.1", port, sl)
    assert not refused.reached
    assert "nothing listens" in refused.problem
    unknown = await asyncio.to_thread(diagnose, "nowhere.invalid", port, sl)
    assert not unknown.reached
    assert "nowhere.invalid is not known" in unknown.problem

    async def plain(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.write(b"HTTP/1.1 400 Bad Request\r\n\r\n")
        await reader.read(1)
        writer.close()

    async with await asyncio.start_server(plain, "127.0.0.1", 0) as server:
        port = server.sockets[0].getsockname()[1]
        assert "does not speak TLS" in await problem_of("127.0.0.1", port, sl)


async def test_diagnosis_does_not_wait_for_ever_for_a_silent_peer(pki):
    with socket.create_server(("127.0.0.1", 0)) as silent:
        port = silent.getsockname()[1]
        found = await asyncio.to_thread(diagnose, "127.0.0.1", port, pki.identity("sl", "sl-1"), 0.1)
    assert not found.reached
    assert "did not answer the TLS handshake" in found.problem


@pytest.mark.parametrize(("first", "works"), [("services.errors", True), ("grpc", False)])
def test_grpc_that_was_loaded_before_the_tls_floor_was_set_is_not_used(pki, first, works):
    files = pki.issue("sn", "sn-1")
    code = (
        f"import {first}\n"
        "from pathlib import Path\n"
        "from services.identity.identity import Identity\n"
        f"cert, key, cacert = (Path(name) for name in {[str(files.cert), str(files.key), str(files.cacert)]})\n"
        "Identity.load(cert=cert, key=key, cacert=cacert).grpc_server_credentials()"
    )
    environment = {name: value for name, value in os.environ.items() if name != "GRPC_SSL_CIPHER_SUITES"}
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, env=environment, capture_output=True, text=True, timeout=60, check=False
    )
    assert (done.returncode == 0) is works
    assert works or "import services first" in done.stderr


async def problem_of(host: str, port: int, identity: Identity) -> str:
    return (await asyncio.to_thread(diagnose, host, port, identity)).problem


def _version_agreed(identity: Identity, port: int, version: ssl.TLSVersion) -> str | None:
    context = ssl.create_default_context(cafile=identity.trust.source)
    context.load_cert_chain(identity.cert, identity.key)
    context.minimum_version = context.maximum_version = version
    context.set_alpn_protocols(["h2"])
    with (
        socket.create_connection(("127.0.0.1", port), timeout=DEADLINE_S) as raw,
        context.wrap_socket(raw, server_hostname="localhost") as tls,
    ):
        return tls.version()


async def test_who_called_is_still_known_when_the_call_has_ended(pki: Any) -> None:
    """gRPC crashes if it is asked at that time."""
    sn, callers = pki.identity("sn", "sn-1"), asyncio.Queue[Callable[[], PeerIdentity]]()

    class Stream(grpc.GenericRpcHandler):
        def service(self, _details: Any) -> Any:
            async def answer(_request: bytes, context: Any) -> AsyncIterator[bytes]:
                callers.put_nowait(sn.caller_of_grpc(context))
                yield b"first"
                await asyncio.Event().wait()

            return grpc.unary_stream_rpc_method_handler(answer)

    server = grpc.aio.server()
    server.add_generic_rpc_handlers((Stream(),))
    port = server.add_secure_port("127.0.0.1:0", sn.grpc_server_credentials())
    await server.start()
    sl = pki.identity("sl", "sl-1")
    credentials = grpc.ssl_channel_credentials(sl.trust.pem, sl.key.read_bytes(), sl.cert.read_bytes())
    async with asyncio.timeout(DEADLINE_S), grpc.aio.secure_channel(f"localhost:{port}", credentials) as channel:
        call = channel.unary_stream("/swarm/Watch")(b"")
        assert await call.read() == b"first"
        call.cancel()
    await server.stop(None)
    assert (await callers.get())().name == "sl-1"
