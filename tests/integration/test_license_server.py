"""A license server over real TLS: who is let in, the answers, and what a node's lease makes of them."""

import asyncio
import json
import socket
import ssl
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager, suppress
from datetime import UTC, datetime, timedelta
from pathlib import Path

import aiohttp
import aiohttp.web
import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes
from cryptography.hazmat.primitives.serialization import Encoding

from services.errors import (
    LeaseUnknown,
    LicenseError,
    LicenseRevoked,
    LicenseServerUnreachable,
    NoSeatLeft,
    PeerNotAccepted,
    SwarmError,
    WrongRole,
)
from services.identity.identity import Identity
from services.license_server import schema
from services.license_server.actor import SYSTEM
from services.license_server.clock import LeaseClock
from services.license_server.database import Database
from services.license_server.lease_allocator import LeaseAllocator
from services.license_server.leases import LeaseHolder
from services.license_server.main import serve
from services.license_server.services import Services
from services.licensing.lease import Lease
from services.licensing.servers import Servers
from services.licensing.swarms import told

DEADLINE_S = 30
SEATS = {"SN": 1, "SL": 2, "SWOP": 1, "SWCI": 1}
SHORT_TTL_S = 0.3  # a renewal every 0.1 s; whether a lease is stale depends on the test's clock alone


class WatchedDesk(LeaseAllocator):
    """Reports every granted or renewed lease to the test. Its clock moves only when the test moves it."""

    def __init__(self, directory: Path, ttl_s: float) -> None:
        self.now = 0.0
        clock = LeaseClock(lambda: self.now, max_step_s=float("inf"))
        self._loop = asyncio.get_running_loop()
        self._events: asyncio.Queue[str] = asyncio.Queue()
        super().__init__(Database.in_directory(directory, clock), ttl_s)

    def _acquire(self, turn, holder, feature):
        granted = self._tried(holder, lambda: super(WatchedDesk, self)._acquire(turn, holder, feature))
        self._loop.call_soon_threadsafe(self._events.put_nowait, f"{holder.name} acquired")
        return granted

    def _renew(self, turn, holder, lease_id, token):
        granted = self._tried(holder, lambda: super(WatchedDesk, self)._renew(turn, holder, lease_id, token))
        self._loop.call_soon_threadsafe(self._events.put_nowait, f"{holder.name} renewed")
        return granted

    def _tried(self, holder, decide):
        try:
            return decide()
        except LeaseUnknown:
            raise
        except SwarmError:
            self._loop.call_soon_threadsafe(self._events.put_nowait, f"{holder.name} refused")
            raise

    def hand_over_to(self, holder: LeaseHolder, feature: str = "SL") -> None:
        """Acts as if all leases were stale and this holder had come first."""
        with self._database.write() as transaction:
            transaction.write(schema.leases.delete())
        self.acquire(holder, feature)

    def close(self) -> None:
        self._database.close()

    async def until(self, event: str) -> None:
        """Returns at the next such event that has not been waited for."""
        async with asyncio.timeout(DEADLINE_S):
            while await self._events.get() != event:
                pass


class Server:
    """A license server in this process, which can be restarted on its port and data."""

    def __init__(self, identity: Identity, data_dir: Path, ttl_s: float = 30.0, seats: dict[str, int] | None = None):
        self._identity, self._data_dir, self._ttl_s = identity, data_dir, ttl_s
        self._seats = seats or SEATS
        self._running: asyncio.Task[None] | None = None
        self.port = 0

    @property
    def address(self) -> str:
        return f"localhost:{self.port}"

    async def start(self) -> None:
        started = asyncio.Event()
        self._stop = asyncio.Event()
        self.allocator = WatchedDesk(self._data_dir, self._ttl_s)
        self.services = Services(self.allocator._database)
        self.services.allocator = self.allocator
        self.services.licenses.install_community(self._seats, None)
        listening = socket.create_server(("127.0.0.1", self.port))
        self.port = listening.getsockname()[1]
        self._running = asyncio.create_task(serve(self.services, self._identity, listening, self._stop, started.set))
        async with asyncio.timeout(DEADLINE_S):
            await started.wait()

    async def stop(self) -> None:
        if self._running is not None:
            self._stop.set()
            async with asyncio.timeout(DEADLINE_S):
                await self._running
            self._running = None
            self.allocator.close()

    def holders(self, feature: str = "SL") -> list[str]:
        return self.allocator.status()[feature][1]


@asynccontextmanager
async def running(pki, data_dir: Path, **options) -> AsyncIterator[Server]:
    server = Server(pki.identity("license", "license-1"), data_dir, **options)
    await server.start()
    try:
        yield server
    finally:
        await server.stop()


@pytest.fixture
async def server(pki, tmp_path):
    async with running(pki, tmp_path / "licenses") as started:
        yield started


async def ask(
    server: Server, context: ssl.SSLContext, method: str = "GET", path: str = "/v1/status", **more
) -> tuple[int, dict]:
    async with (
        aiohttp.ClientSession(timeout=aiohttp.ClientTimeout(total=DEADLINE_S)) as session,
        session.request(method, f"https://{server.address}{path}", ssl=context, **more) as response,
    ):
        content = await response.json() if response.content_type == "application/json" else {}
        return response.status, content


def anonymous(pki) -> ssl.SSLContext:
    return ssl.create_default_context(cafile=pki.cacert)


# --- who is let in ---


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/v1/status"),
        ("POST", "/v1/leases"),
        ("POST", "/v1/leases/x/renew"),
        ("DELETE", "/v1/leases/x?token=1"),
    ],
)
async def test_caller_without_a_certificate_is_told_so_on_every_path(pki, server, method, path):
    body = {"json": {"feature": "SL"} if path == "/v1/leases" else {"token": 1}} if method == "POST" else {}
    status, answer = await ask(server, anonymous(pki), method, path, **body)
    assert status == 401
    assert "a client certificate is not given" in answer["message"]
    assert server.holders() == []


async def test_headers_cannot_stand_in_for_a_certificate(pki, server):
    forged = {"x-client-cert": "spiffe://swarm.local/sl/sl-1", "peer_certificate": "sl-1"}
    status, _ = await ask(server, anonymous(pki), "POST", "/v1/leases", json={"feature": "SL"}, headers=forged)
    assert status == 401


async def test_certificate_of_another_ca_does_not_pass_the_handshake(pki, foreign_pki, server):
    files = foreign_pki.issue("sl", "sl-1")
    context = anonymous(pki)
    context.load_cert_chain(files.cert, files.key)
    with pytest.raises(aiohttp.ClientError):
        await ask(server, context)


async def test_expired_certificate_does_not_pass_the_handshake(pki, server):
    past = datetime.now(UTC) - timedelta(days=1)
    files = pki.issue("sl", "sl-old", not_before=past - timedelta(days=1), not_after=past)
    context = anonymous(pki)
    context.load_cert_chain(files.cert, files.key)
    with pytest.raises(aiohttp.ClientError):
        await ask(server, context)


async def test_certificate_without_role_and_name_is_refused_in_words(pki, server, tmp_path):
    context = anonymous(pki)
    context.load_cert_chain(*without_role(pki, tmp_path))
    status, answer = await ask(server, context)
    assert status == 401
    assert "spiffe://" in answer["message"]


async def test_tls_1_2_is_not_spoken(pki, server):
    context = anonymous(pki)
    context.maximum_version = ssl.TLSVersion.TLSv1_2
    with pytest.raises(aiohttp.ClientError):
        await ask(server, context)


@pytest.mark.parametrize("body", [{}, {"feature": 7}, {"feature": "SL", "seats": 9}, {"feature": "S" * 65}])
async def test_malformed_request_is_refused_by_field(pki, server, body):
    context = pki.identity("sl", "sl-1").client_context()
    status, answer = await ask(server, context, "POST", "/v1/leases", json=body)
    assert status == 422
    assert answer["code"] == "license"
    assert "body." in answer["message"]


@pytest.mark.parametrize("size", ["Content-Length: 65537", "Transfer-Encoding: chunked"])
async def test_body_that_is_too_large_or_of_unknown_length_is_refused_before_it_is_read(pki, server, size):
    context = pki.identity("sl", "sl-1").client_context()
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port, ssl=context, server_hostname="localhost")
    async with asyncio.timeout(DEADLINE_S):
        writer.write(f"POST /v1/leases HTTP/1.1\r\nHost: here\r\n{size}\r\n\r\n".encode())
        assert b" 413 " in await reader.readline()
    writer.close()


async def test_status_shows_capacity_and_holders(pki, server):
    async with await Lease.acquire(server.address, pki.identity("sl", "sl-1"), "SL"):
        status, answer = await ask(server, pki.identity("admin", "admin").client_context())
    assert status == 200
    assert answer["features"]["SL"] == {"capacity": 2, "in_use": 1, "holders": ["sl-1"]}


# --- the lease of a node ---


async def test_lease_is_held_inside_the_block_and_given_back_after_it(pki, server):
    async with await Lease.acquire(server.address, pki.identity("sl", "sl-1"), "SL") as lease:
        assert server.holders() == ["sl-1"]
        assert not lease.lost.is_set()
    assert server.holders() == []


async def test_lease_is_given_back_when_the_node_fails(pki, server):
    with pytest.raises(RuntimeError):
        async with await Lease.acquire(server.address, pki.identity("sl", "sl-1"), "SL"):
            raise RuntimeError
    assert server.holders() == []


async def test_seats_exhausted_names_the_holders_and_the_server(pki, server):
    async with (
        await Lease.acquire(server.address, pki.identity("sl", "sl-1"), "SL"),
        await Lease.acquire(server.address, pki.identity("sl", "sl-2"), "SL"),
    ):
        with pytest.raises(NoSeatLeft) as refused:
            await Lease.acquire(server.address, pki.identity("sl", "sl-3"), "SL")
    sentence = str(refused.value)
    assert "All 2 seats for SL are in use (by sl-1, sl-2)" in sentence
    assert f"more seats on {server.address}. The seat of a killed node becomes free within " in sentence
    assert "?" not in sentence


async def test_seats_are_never_more_than_the_capacity_when_all_ask_at_once(pki, server):
    identities = [pki.identity("sl", f"sl-{number}") for number in range(12)]

    async def ask_for_one(identity: Identity) -> Lease | None:
        with suppress(NoSeatLeft):
            return await Lease.acquire(server.address, identity, "SL")
        return None

    leases = [lease for lease in await asyncio.gather(*map(ask_for_one, identities)) if lease]
    assert len(leases) == len(server.holders()) == 2
    await asyncio.gather(*(lease.release() for lease in leases))
    assert server.holders() == []


async def test_role_that_does_not_fit_the_feature_is_refused(pki, server):
    with pytest.raises(WrongRole, match="sl-1 has the role sl, but a seat for SN needs sn"):
        await Lease.acquire(server.address, pki.identity("sl", "sl-1"), "SN")


@asynccontextmanager
async def asking(server, identity):
    servers = Servers([server.address], identity)
    try:
        yield servers
    finally:
        await servers.close()


async def test_swarms_that_lease_here_are_told_of_by_their_sns_alone(pki, server):
    ours, theirs = "0x" + "aa" * 20, "0x" + "bb" * 20
    one, two, three = (pki.identity(role, name) for role, name in (("sn", "sn-1"), ("sn", "sn-2"), ("sl", "sl-1")))
    async with asking(server, one) as first, asking(server, two) as second:
        assert await told(first, "SN", ours, "one.example:30304") == []
        [other] = await told(second, "SN", theirs, "two.example:30304")
        assert (other.network, other.shown) == (ours, "sn-1 at one.example:30304")
        [other] = await told(first, "SN", ours, "one.example:30304")
        assert (other.network, other.shown) == (theirs, "sn-2 at two.example:30304")
        assert await told(second, "SN", ours, "two.example:30304") == []  # it has joined
        with pytest.raises(LicenseError, match="address"):
            await told(second, "SN", ours, "two.example:1\nsn-3 is gone")
    async with asking(server, three) as sl:
        with pytest.raises(WrongRole, match="sl-1 has the role sl, but speaking for a swarm needs sn"):
            await told(sl, "SL", ours, "three.example:30304")


async def test_unknown_feature_is_refused(pki, server):
    with pytest.raises(LicenseError, match="No license for GPU"):
        await Lease.acquire(server.address, pki.identity("sl", "sl-1"), "GPU")


async def test_server_that_is_down_at_start_is_named(pki):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        port = closed.getsockname()[1]
    with pytest.raises(
        LicenseServerUnreachable, match=f"localhost:{port} cannot be reached: the connection was refused"
    ):
        await Lease.acquire(f"localhost:{port}", pki.identity("sl", "sl-1"), "SL")


async def test_server_of_another_ca_is_not_accepted(pki, foreign_pki, tmp_path):
    async with running(foreign_pki, tmp_path) as server:
        with pytest.raises(PeerNotAccepted, match=r"The license server at .* was not issued by a CA of"):
            await Lease.acquire(server.address, pki.identity("sl", "sl-1"), "SL")


async def test_node_whose_ca_the_server_does_not_know_hears_why(pki, foreign_pki, server, tmp_path):
    bundle = tmp_path / "bundle.pem"
    bundle.write_bytes(pki.cacert.read_bytes() + foreign_pki.cacert.read_bytes())
    files = foreign_pki.issue("sl", "sl-1")
    stranger = Identity.load(cert=files.cert, key=files.key, cacert=bundle)
    with pytest.raises(PeerNotAccepted, match="it does not trust the CA that issued it"):
        await Lease.acquire(server.address, stranger, "SL")


@pytest.mark.parametrize(
    ("role", "error", "words"),
    [
        ("sl", PeerNotAccepted, "its certificate is that of sl sl-9, not of license"),
        ("license", LicenseError, "it answered HTTP 404"),
    ],
)
async def test_some_other_server_on_that_port_is_not_taken_for_a_license_server(pki, role, error, words):
    async def answer(_request: aiohttp.web.BaseRequest) -> aiohttp.web.Response:
        return aiohttp.web.Response(status=404, text="not here")

    runner = aiohttp.web.ServerRunner(aiohttp.web.Server(answer))
    await runner.setup()
    site = aiohttp.web.TCPSite(runner, "127.0.0.1", 0, ssl_context=pki.identity(role, f"{role}-9").server_context())
    await site.start()
    try:
        port = runner.addresses[0][1]
        with pytest.raises(error, match=words):
            await Lease.acquire(f"localhost:{port}", pki.identity("sl", "sl-1"), "SL")
    finally:
        await runner.cleanup()


async def test_lease_outlives_its_term_by_being_renewed(pki, tmp_path):
    async with (
        running(pki, tmp_path, ttl_s=SHORT_TTL_S) as server,
        await Lease.acquire(server.address, pki.identity("sl", "sl-1"), "SL") as lease,
    ):
        for _ in range(3):
            await server.allocator.until("sl-1 renewed")
            server.allocator.now += 0.7 * SHORT_TTL_S
            await server.allocator.until("sl-1 renewed")
        assert server.holders() == ["sl-1"]
        assert not lease.lost.is_set()


async def test_server_that_is_away_for_a_while_is_ridden_out(pki, tmp_path):
    async with (
        running(pki, tmp_path, ttl_s=SHORT_TTL_S) as server,
        await Lease.acquire(server.address, pki.identity("sl", "sl-1"), "SL") as lease,
    ):
        await server.stop()
        await two_callers_turned_away(server.port)
        assert not lease.lost.is_set()
        await server.start()
        await server.allocator.until("sl-1 renewed")
        assert server.holders() == ["sl-1"]


async def test_server_that_stays_away_is_given_up_after_the_grace_period(pki, tmp_path):
    async with running(pki, tmp_path, ttl_s=SHORT_TTL_S) as server:
        lease = await Lease.acquire(server.address, pki.identity("sl", "sl-1"), "SL", grace_s=0.1)
        await server.stop()
        async with asyncio.timeout(DEADLINE_S):
            with pytest.raises(LicenseRevoked, match="no license server gave it a seat"):
                await lease.raise_when_lost()
        await lease.release()


async def test_lease_that_the_server_freed_is_taken_anew(pki, tmp_path):
    async with (
        running(pki, tmp_path, ttl_s=SHORT_TTL_S) as server,
        await Lease.acquire(server.address, pki.identity("sl", "sl-1"), "SL") as lease,
    ):
        await server.allocator.until("sl-1 acquired")
        server.allocator.now += 2 * SHORT_TTL_S
        await server.allocator.until("sl-1 acquired")
        await server.allocator.until("sl-1 renewed")
        assert server.holders() == ["sl-1"]
        assert not lease.lost.is_set()


async def test_node_whose_seat_went_to_another_goes_on_and_gets_one_again_when_one_is_free(pki, tmp_path):
    async with (
        running(pki, tmp_path, ttl_s=SHORT_TTL_S, seats={**SEATS, "SL": 1}) as server,
        await Lease.acquire(server.address, pki.identity("sl", "sl-1"), "SL", data_dir=tmp_path) as lease,
    ):
        server.allocator.hand_over_to(other := LeaseHolder("sl", "sl-2", "02" * 32))
        await two_denials(server)
        assert lease.state == "grace"
        assert 0 < lease.grace_left_s < 24 * 3600
        note = json.loads((tmp_path / "license.json").read_text())
        assert note["state"] == "grace"
        assert "All 1 seats for SL are in use (by sl-2)" in note["why"]
        with server.allocator._database.read() as transaction:
            held = transaction.rows(schema.leases.select())[0]
        server.allocator.release(other, held["id"], held["token"])
        await server.allocator.until("sl-1 acquired")
        await server.allocator.until("sl-1 renewed")
        assert (lease.state, server.holders()) == ("held", ["sl-1"])


async def test_node_whose_seat_stays_with_another_is_lost_after_the_grace_period(pki, tmp_path):
    async with running(pki, tmp_path, ttl_s=SHORT_TTL_S, seats={**SEATS, "SL": 1}) as server:
        lease = await Lease.acquire(server.address, pki.identity("sl", "sl-1"), "SL", grace_s=0.1)
        server.allocator.hand_over_to(LeaseHolder("sl", "sl-2", "02" * 32))
        async with asyncio.timeout(DEADLINE_S):
            await lease.lost.wait()
        assert isinstance(lease.failure, LicenseRevoked)
        assert "All 1 seats for SL are in use (by sl-2)" in str(lease.failure)
        await lease.release()
        assert server.holders() == ["sl-2"]


async def test_revoked_node_ends_after_its_round_and_keeps_its_seat_until_then(pki, tmp_path):
    async with running(pki, tmp_path, ttl_s=SHORT_TTL_S) as server:
        lease = await Lease.acquire(server.address, pki.identity("sl", "sl-1"), "SL")
        held = server.services.leases.all(SYSTEM)[0]
        server.services.leases.revoke(SYSTEM, held.id, "needed elsewhere")
        over, asked = asyncio.Event(), asyncio.Event()

        async def round_over() -> None:
            asked.set()
            await over.wait()

        ending = asyncio.create_task(lease.raise_when_lost(round_over))
        async with asyncio.timeout(DEADLINE_S):
            await asked.wait()
        for _ in range(3):
            await two_denials(server)
            server.allocator.now += 0.7 * SHORT_TTL_S
        await two_denials(server)
        assert not ending.done()
        assert server.holders() == ["sl-1"]
        over.set()
        async with asyncio.timeout(DEADLINE_S):
            with pytest.raises(LicenseRevoked, match="needed elsewhere"):
                await ending
        await lease.release()
        assert server.holders() == []
        with pytest.raises(LicenseRevoked, match="needed elsewhere"):
            await Lease.acquire(server.address, pki.identity("sl", "sl-1"), "SL")
        server.services.leases.readmit(SYSTEM, server.services.leases.revocations(SYSTEM)[0].id)
        async with await Lease.acquire(server.address, pki.identity("sl", "sl-1"), "SL"):
            assert server.holders() == ["sl-1"]


async def test_node_of_two_servers_takes_the_second_where_the_first_does_not_answer(pki, server):
    with socket.create_server(("127.0.0.1", 0)) as closed:
        gone = f"localhost:{closed.getsockname()[1]}"
    async with await Lease.acquire([gone, server.address], pki.identity("sl", "sl-1"), "SL"):
        assert server.holders() == ["sl-1"]
    with pytest.raises(LicenseServerUnreachable, match=f"{gone} and {gone}"):
        await Lease.acquire([gone, gone], pki.identity("sl", "sl-1"), "SL")


async def test_second_process_with_the_same_certificate_takes_the_lease_over(pki, tmp_path):
    async with running(pki, tmp_path, ttl_s=SHORT_TTL_S) as server:
        first = await Lease.acquire(server.address, pki.identity("sl", "sl-1"), "SL")
        async with await Lease.acquire(server.address, pki.identity("sl", "sl-1"), "SL") as second:
            async with asyncio.timeout(DEADLINE_S):
                with pytest.raises(LicenseRevoked, match="another process with the same certificate"):
                    await first.raise_when_lost()
            await first.release()
            assert server.holders() == ["sl-1"]
            assert not second.lost.is_set()


async def test_end_of_a_node_does_not_hang_on_a_server_that_is_gone(pki, tmp_path):
    async with running(pki, tmp_path) as server:
        lease = await Lease.acquire(server.address, pki.identity("sl", "sl-1"), "SL")
        await server.stop()
        async with asyncio.timeout(DEADLINE_S):
            await lease.release()
            await lease.release()


async def two_denials(server: Server) -> None:
    """Waits for two denials: the second comes after the effects of the first."""
    await server.allocator.until("sl-1 refused")
    await server.allocator.until("sl-1 refused")


async def two_callers_turned_away(port: int) -> None:
    """Listens in place of the license server, until two calls have failed."""
    called: asyncio.Queue[None] = asyncio.Queue()

    async def hang_up(_reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.close()
        called.put_nowait(None)

    async with await asyncio.start_server(hang_up, "127.0.0.1", port), asyncio.timeout(DEADLINE_S):
        for _ in range(2):
            await called.get()


def without_role(pki, directory: Path) -> tuple[Path, Path]:
    """Certificate and key from a CA that knows nothing of swarms."""
    files = pki.issue("sl", "plain", out_dir=directory)
    issued = x509.load_pem_x509_certificate(files.cert.read_bytes())
    plain = (
        x509.CertificateBuilder()
        .subject_name(issued.subject)
        .issuer_name(issued.issuer)
        .public_key(issued.public_key())
        .serial_number(issued.serial_number)
        .not_valid_before(issued.not_valid_before_utc)
        .not_valid_after(issued.not_valid_after_utc)
        .sign(pki.authority.key, hashes.SHA256())
    )
    files.cert.write_bytes(plain.public_bytes(Encoding.PEM))
    return files.cert, files.key
