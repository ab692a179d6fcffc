"""The security of a license server, by the categories of OWASP's list."""

import asyncio
import contextlib
import io
import ssl
from collections.abc import AsyncIterator
from dataclasses import replace
from functools import partial
from pathlib import Path
from typing import Any

import httpx
import pytest
from license_servers import served
from starlette.requests import Request

from services.errors import (
    AdminError,
    CodeNeeded,
    LastAdmin,
    NotPermitted,
    SetupOver,
    SignInFailed,
    SignInLocked,
    SignInRequired,
    TooManyRequests,
)
from services.license_server import credentials
from services.license_server import main as license_server_main
from services.license_server.actor import SCOPES, SYSTEM, Actor
from services.license_server.clock import LeaseClock
from services.license_server.database import DATABASE, Database
from services.license_server.leases import LeaseHolder
from services.license_server.request_limits import SIGN_INS_PER_MINUTE, Rate, is_sign_in
from services.license_server.services import Services
from services.license_server.sign_in_locks import lock_s, network_of
from services.license_server.webhooks import MAX_ATTEMPTS
from services.runtime import logs
from services.web import peer_certificate
from services.web.server import NodeServer

PASSWORD = "correct horse battery"  # noqa: S105
HERE = "192.0.2.7"
ELSEWHERE = "198.51.100.9"


class Day:
    """The wall clock of a server, which the test moves."""

    def __init__(self) -> None:
        self.now = 0.0

    def clock(self) -> LeaseClock:
        return LeaseClock(lambda: self.now, lambda: 1_700_000_000.0)


@pytest.fixture
def day() -> Day:
    return Day()


@pytest.fixture
def services(tmp_path, day):
    with Database.in_directory(tmp_path, day.clock()) as database:
        found = Services(database)
        found.licenses.install_community({"SL": 2}, None)
        yield found


@pytest.fixture
def ada(services) -> Actor:
    """The first administrator, signed in."""
    services.accounts.set_up(services.accounts.setup_secret(), "ada", PASSWORD, HERE)
    return services.accounts.sign_in("ada", PASSWORD, "", HERE).actor(HERE)


async def ask(address: str, pki, method: str, path: str, **more: Any) -> httpx.Response:
    """Sends a request without a certificate."""
    context = ssl.create_default_context(cafile=pki.cacert)
    async with httpx.AsyncClient(base_url=address, verify=context, timeout=60) as client:
        return await client.request(method, path, **more)


# --- broken access control ---


async def test_every_operation_refuses_a_stranger_and_a_token_without_its_scope(services, ada, pki):
    _, token = services.tokens.create(ada, "little", ["leases:read"], 1)
    async with served(services, pki) as address:
        description = (await ask(address, pki, "GET", "/api/v1/openapi.json")).json()
        operations = [
            (method.upper(), path.replace("{feature}", "SL").replace("{", "").replace("}", ""), operation)
            for path, methods in description["paths"].items()
            for method, operation in methods.items()
        ]
        assert len(operations) > 30
        for method, template, _ in operations:
            path = "/".join("1" if part.endswith("_id") else part for part in template.split("/"))
            body = {"json": {}} if method in ("POST", "PUT", "PATCH") else {}
            stranger = await ask(address, pki, method, path, **body)
            assert stranger.status_code == 401, (method, path, stranger.text)
            forged = {"Authorization": "Bearer swl_0123456789abcdef_made-up"}
            assert (await ask(address, pki, method, path, headers=forged, **body)).status_code == 401, (method, path)
            little = await ask(address, pki, method, path, headers={"Authorization": f"Bearer {token}"}, **body)
            may = (path.startswith("/api/v1/leases") and method == "GET") or path in (
                "/api/v1/revocations",
                "/api/v1/expulsions",
            )
            assert little.status_code in ({200, 404} if may else {403, 422, 400}), (method, path, little.text)


@pytest.mark.parametrize(("role", "may"), [("viewer", 4), ("operator", 9), ("admin", len(SCOPES))])
def test_role_may_what_is_listed_and_nothing_else(services, ada, role, may):
    user = services.accounts.create(ada, f"a-{role}", PASSWORD, role)
    actor = services.accounts.sign_in(user.name, PASSWORD, "", HERE).actor(HERE)
    assert sum(actor.may([scope]) for scope in SCOPES) == may
    if role != "admin":
        for forbidden in (
            lambda: services.accounts.create(actor, "x", PASSWORD, "admin"),
            lambda: services.settings.change(actor, lease_s=10),
            lambda: services.backup.make(actor),
            lambda: services.tokens.create(actor, "x", ["users:write"], 1),
        ):
            with pytest.raises(NotPermitted):
                forbidden()


def test_token_can_do_no_more_than_its_maker_still_may(services, ada):
    bob = services.accounts.create(ada, "bob", PASSWORD, "admin")
    as_bob = services.accounts.sign_in("bob", PASSWORD, "", HERE).actor(HERE)
    _, shown = services.tokens.create(as_bob, "ci", ["users:write", "leases:read"], 1)
    assert services.tokens.actor_of(shown, HERE).may(["users:write"])
    services.accounts.change(ada, bob.id, role="viewer")
    assert services.tokens.actor_of(shown, HERE).scopes == {"leases:read"}
    services.accounts.change(ada, bob.id, disabled=True)
    with pytest.raises(SignInRequired):
        services.tokens.actor_of(shown, HERE)


def test_last_administrator_can_neither_be_removed_nor_lowered(services, ada):
    for attempt in (
        lambda: services.accounts.remove(ada, ada.user_id),
        lambda: services.accounts.change(ada, ada.user_id, role="viewer"),
        lambda: services.accounts.change(ada, ada.user_id, disabled=True),
    ):
        with pytest.raises(LastAdmin):
            attempt()


# --- cryptographic failures, secrets in logs ---


def test_no_secret_is_stored_or_logged_in_the_clear(services, tmp_path):
    out = io.StringIO()
    logs.configure("json", "ls-1", stream=out)
    setup = services.accounts.setup_secret()
    services.accounts.set_up(setup, "ada", PASSWORD, HERE)
    with pytest.raises(SignInFailed):
        services.accounts.sign_in("ada", "a wrong password", "", HERE)
    session = services.accounts.sign_in("ada", PASSWORD, "", HERE)
    _, token = services.tokens.create(session.actor(HERE), "ci", ["leases:read"], 1)
    services.settings.change(session.actor(HERE), webhook_secret="hook-secret-value")  # noqa: S106
    stored = b"".join(path.read_bytes() for path in tmp_path.glob(f"{DATABASE}*"))
    entries = str(services.audit.all(SYSTEM)) + out.getvalue()
    for secret in (setup, PASSWORD, "a wrong password", session.secret, token, token.split("_", 2)[2]):
        assert secret.encode() not in stored
        assert secret not in entries
    assert "hook-secret-value" not in entries
    assert b"$argon2id$v=19$m=19456,t=2,p=1$" in stored


# --- injection ---


@pytest.mark.parametrize("text", ["' OR 1=1 --", "%", "_", "\\", '"; DROP TABLE leases; --'])
def test_search_is_text_and_nothing_more(services, text):
    services.allocator.acquire(LeaseHolder("sl", "sl-1", "01" * 32, "10.0.0.1"), "SL")
    assert services.leases.all(SYSTEM, search=text) == []
    assert services.audit.all(SYSTEM, search=text) == []
    assert len(services.leases.all(SYSTEM, search="SL-1")) == 1


# --- insecure design: attempts cost time ---


def test_failed_sign_ins_lock_for_twice_as_long_each_time_and_a_right_one_resets_it(services, ada, day):
    assert [lock_s(failures) for failures in range(1, 8)] == [0, 0, 1, 2, 4, 8, 16]
    assert lock_s(100) == 900
    for _ in range(3):
        with pytest.raises(SignInFailed):
            services.accounts.sign_in("ada", "a wrong password", "", HERE)
    with pytest.raises(SignInLocked):
        services.accounts.sign_in("ada", PASSWORD, "", HERE)
    day.now += 2
    services.accounts.sign_in("ada", PASSWORD, "", HERE)
    with pytest.raises(SignInFailed):
        services.accounts.sign_in("ada", "a wrong password", "", HERE)
    services.accounts.sign_in("ada", PASSWORD, "", HERE)


def test_whoever_keeps_failing_under_a_name_locks_its_owner_out_nowhere_else(services, ada):
    for _ in range(3):
        with pytest.raises(SignInFailed):
            services.accounts.sign_in("ada", "a wrong password", "", ELSEWHERE)
    with pytest.raises(SignInLocked):
        services.accounts.sign_in("ada", PASSWORD, "", ELSEWHERE)
    (shown,) = services.accounts.all(ada)
    assert shown.locked_until is not None  # an administrator sees that somebody is trying
    signed_in = services.accounts.sign_in("ada", PASSWORD, "", HERE)
    with pytest.raises(SignInLocked):  # which does not unlock the other address
        services.accounts.sign_in("ada", PASSWORD, "", ELSEWHERE)
    (still,) = services.accounts.all(ada)
    assert still.locked_until == signed_in.user.locked_until == shown.locked_until
    services.accounts.set_password(signed_in.actor(HERE), signed_in.user.id, PASSWORD)
    services.accounts.sign_in("ada", PASSWORD, "", ELSEWHERE)


def test_an_administrator_unlocks_a_user_at_all_addresses(services, ada, day):
    for address in (HERE, ELSEWHERE):
        for _ in range(3):
            with pytest.raises(SignInFailed):
                services.accounts.sign_in("ada", "a wrong password", "", address)
        day.now += 0.5
    (locked,) = services.accounts.all(ada)
    with pytest.raises(NotPermitted):
        services.accounts.unlock(replace(ada, scopes=frozenset({"users:read"})), locked.id)
    services.accounts.unlock(ada, locked.id)
    for address in (HERE, ELSEWHERE):
        services.accounts.sign_in("ada", PASSWORD, "", address)
    (unlocked,) = services.accounts.all(ada)
    assert unlocked.locked_until is None
    assert "user unlocked" in [entry.action for entry in services.audit.all(ada)]


class SignInPage:
    """The sign-in page of a real server, as in a browser."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def sign_in(self, name: str, password: str, **headers: str) -> tuple[int, str]:
        """The status, and the page's message."""
        page = await self._client.get("/sign-in")
        token = page.text.partition('name="form_token" value="')[2].partition('"')[0]
        assert token
        form = {"name": name, "password": password, "form_token": token}
        answer = await self._client.post("/sign-in", data=form, headers=headers)
        return answer.status_code, answer.text.partition('role="alert"')[2].partition("</p>")[0]


@contextlib.asynccontextmanager
async def sign_in_page(address: str, pki: Any, at: str = "127.0.0.1") -> AsyncIterator[SignInPage]:
    """``at``: the loopback address to call from."""
    context = ssl.create_default_context(cafile=pki.cacert)
    transport = httpx.AsyncHTTPTransport(verify=context, local_address=at)
    async with httpx.AsyncClient(base_url=address, transport=transport, timeout=60) as client:
        yield SignInPage(client)


async def test_headers_that_name_another_address_open_no_lock(services, ada, pki):
    """The server cannot tell whether a proxy or an attacker has set them."""
    async with served(services, pki) as address, sign_in_page(address, pki) as page:
        for number in range(3):
            status, _ = await page.sign_in("ada", "a wrong password", **{"X-Forwarded-For": f"192.0.2.{number}"})
            assert status == 401
        for headers in ({"X-Forwarded-For": HERE}, {"Forwarded": f"for={HERE}"}, {"X-Real-IP": HERE}, {}):
            status, said = await page.sign_in("ada", PASSWORD, **headers)
            assert status == 429, said
            assert "Too many failed attempts" in said
        for number in range(SIGN_INS_PER_MINUTE):
            status, _ = await page.sign_in("eve", PASSWORD, **{"X-Forwarded-For": f"198.51.100.{number}"})
        assert status == 429


async def test_a_lock_is_for_one_name_at_one_address_and_names_nobody(services, ada, pki):
    async with (
        served(services, pki) as address,
        sign_in_page(address, pki, "127.0.0.2") as guessing,
        sign_in_page(address, pki, "127.0.0.3") as her_own,
    ):
        told = [await guessing.sign_in(name, "a wrong password") for name in ("ada", "nobody-of-that-name")]
        assert told[0] == told[1]
        for _ in range(2):
            await guessing.sign_in("ada", "a wrong password")
        assert (await guessing.sign_in("ada", PASSWORD))[0] == 429
        (shown,) = services.accounts.all(ada)
        assert shown.locked_until is not None
        assert (await her_own.sign_in("ada", PASSWORD))[0] == 303


class Node:
    """Requests seats like a node, with one of its certificates."""

    def __init__(self, client: httpx.AsyncClient) -> None:
        self._client = client

    async def acquire(self, slot: str = "") -> httpx.Response:
        headers = {"swarm-slot": slot} if slot else {}
        return await self._client.post("/v1/leases", json={"feature": "SL"}, headers=headers)

    async def renew(self, granted: httpx.Response) -> httpx.Response:
        lease = granted.json()
        return await self._client.post(f"/v1/leases/{lease['lease']}/renew", json={"token": lease["token"]})


@contextlib.asynccontextmanager
async def node_at(address: str, pki: Any, name: str) -> AsyncIterator[Node]:
    """A node with a new key each time."""
    files = pki.issue("sl", name)
    context = ssl.create_default_context(cafile=pki.cacert)
    context.load_cert_chain(files.cert, files.key)
    async with httpx.AsyncClient(base_url=address, verify=context, timeout=60) as client:
        yield Node(client)


async def test_a_seat_follows_its_node_to_another_key_of_its_name_alone(services, pki):
    async with (
        served(services, pki) as address,
        node_at(address, pki, "sl-1") as old,
        node_at(address, pki, "sl-1") as new,
        node_at(address, pki, "sl-2") as other,
    ):
        seat = await old.acquire()
        assert (await new.renew(seat)).status_code == 200
        assert (await other.renew(seat)).status_code == 404
        again = await new.acquire()
        assert again.json()["lease"] == seat.json()["lease"]


async def test_a_node_whose_seat_was_revoked_gets_none_by_any_certificate_of_its_name(services, ada, pki):
    async with (
        served(services, pki) as address,
        node_at(address, pki, "sl-1") as old,
        node_at(address, pki, "sl-1") as new,
        node_at(address, pki, "sl-2") as other,
    ):
        seat = (await old.acquire()).json()
        services.leases.revoke(ada, seat["lease"], "left the study")
        for answer in (await old.acquire(), await new.acquire(), await new.acquire("0")):
            assert answer.status_code == 403
            assert "left the study" in answer.text
        assert (await other.acquire()).status_code == 200


@pytest.mark.parametrize(
    "said", [b"", b"GET /v1/sta", b"POST /sign-in HTTP/1.1\r\nHost: x\r\nContent-Length: 9\r\n\r\nx"]
)
async def test_who_does_not_come_to_the_end_of_a_request_is_cut_off(services, pki, monkeypatch, said):
    monkeypatch.setattr(peer_certificate, "HEAD_WITHIN_S", 0.2)
    monkeypatch.setattr(peer_certificate, "PIECE_WITHIN_S", 0.2)
    async with served(services, pki) as address:
        context = ssl.create_default_context(cafile=pki.cacert)
        port = int(address.rpartition(":")[2])
        reader, writer = await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost")
        writer.write(said)
        async with asyncio.timeout(60):
            while await reader.read(65536):
                pass
        writer.transport.abort()
        assert (await ask(address, pki, "GET", "/sign-in")).status_code == 200


def test_failures_of_an_address_are_forgotten_after_a_day(services, ada, day):
    for _ in range(2):
        with pytest.raises(SignInFailed):
            services.accounts.sign_in("ada", "a wrong password", "", ELSEWHERE)
    day.now += 25 * 3600
    services.accounts.forget_sessions()
    for _ in range(2):
        with pytest.raises(SignInFailed):
            services.accounts.sign_in("ada", "a wrong password", "", ELSEWHERE)
    services.accounts.sign_in("ada", PASSWORD, "", ELSEWHERE)


def test_all_addresses_that_somebody_with_one_of_ipv6_has_count_as_one():
    assert network_of("2001:db8:1:2:3:4:5:6") == network_of("2001:db8:1:2::9") == "2001:db8:1:2::/64"
    assert network_of("2001:db8:1:3::1") != network_of("2001:db8:1:2::1")
    assert network_of("::ffff:192.0.2.7") == network_of("192.0.2.7") == "192.0.2.7"
    assert network_of("?") == "?"


def test_answer_does_not_tell_whether_there_is_such_a_user(services, ada):
    told = []
    for name in ("ada", "nobody-of-that-name"):
        with pytest.raises(SignInFailed) as failed:
            services.accounts.sign_in(name, "a wrong password", "", HERE)
        told.append(str(failed.value))
    assert told[0] == told[1]


def test_address_that_asks_too_often_is_told_when_to_come_back():
    rate = Rate(SIGN_INS_PER_MINUTE)
    for _ in range(SIGN_INS_PER_MINUTE):
        rate.count(HERE)
    with pytest.raises(TooManyRequests, match=r"Try again in \d+ s"):
        rate.count(HERE)
    rate.count("192.0.2.8")
    assert is_sign_in("/sign-in")
    assert not is_sign_in("/leases")


# --- misconfiguration ---


async def test_answers_carry_security_headers_and_tell_nothing_of_the_software(services, pki):
    async with served(services, pki) as address:
        for path in ("/healthz", "/api/v1/openapi.json", "/api/v1/leases", "/api/none"):
            headers = (await ask(address, pki, "GET", path)).headers
            policy = headers["content-security-policy"]
            assert "default-src 'none'" in policy
            assert "unsafe" not in policy
            assert headers["x-content-type-options"] == "nosniff"
            assert headers["cache-control"] == "no-store"
            assert headers["strict-transport-security"].startswith("max-age=")
            assert "server" not in headers
        assert (await ask(address, pki, "GET", "/docs")).status_code != 200
        assert (await ask(address, pki, "GET", "/api/docs")).status_code == 404


async def test_more_connections_than_there_may_be_are_told_to_come_back(services, pki, monkeypatch):
    monkeypatch.setattr(license_server_main, "NodeServer", partial(NodeServer, connections=3))
    async with served(services, pki) as address:
        context, port = ssl.create_default_context(cafile=pki.cacert), int(address.rpartition(":")[2])
        held = [
            await asyncio.open_connection("127.0.0.1", port, ssl=context, server_hostname="localhost") for _ in range(3)
        ]
        assert (await ask(address, pki, "GET", "/sign-in")).status_code == 503
        for _, writer in held:
            writer.close()
        async with asyncio.timeout(60):
            while (await ask(address, pki, "GET", "/sign-in")).status_code == 503:
                pass


async def test_body_that_is_too_large_or_of_unknown_length_is_refused_before_it_is_read(services, pki):
    async def endless():
        yield b"x"

    async with served(services, pki) as address:
        large = await ask(address, pki, "POST", "/api/v1/licenses", content=b"x" * (1 << 20) + b"x")
        assert large.status_code == 413
        assert (await ask(address, pki, "POST", "/api/v1/licenses", content=endless())).status_code == 413


# --- identification ---


def test_setup_link_works_once_for_a_day_and_the_newest_one_only(services, day):
    first, second = services.accounts.setup_secret(), services.accounts.setup_secret()
    with pytest.raises(SetupOver):
        services.accounts.set_up(first, "ada", PASSWORD, HERE)
    for _ in range(3):
        day.now += 24 * 3600 / 3
    with pytest.raises(SetupOver, match="older than a day"):
        services.accounts.set_up(second, "ada", PASSWORD, HERE)
    third = services.accounts.setup_secret()
    services.accounts.set_up(third, "ada", PASSWORD, HERE)
    with pytest.raises(SetupOver, match="has users already"):
        services.accounts.set_up(third, "eve", PASSWORD, HERE)
    assert services.accounts.setup_secret() is None


@pytest.mark.parametrize("password", ["", "short", "aaaaaaaaaaaaaaaa", "x" * 257])
def test_weak_password_is_refused(services, password):
    with pytest.raises(AdminError):
        services.accounts.set_up(services.accounts.setup_secret(), "ada", password, HERE)


def test_session_ends_when_idle_old_signed_out_or_its_user_is_disabled(services, ada, day):
    def signed_in() -> str:
        return services.accounts.sign_in("bob", PASSWORD, "", HERE).secret

    bob = services.accounts.create(ada, "bob", PASSWORD, "viewer")
    first, second = signed_in(), signed_in()
    assert first != second
    day.now += 20 * 60
    assert services.accounts.session(second).user.name == "bob"
    day.now += 20 * 60
    with pytest.raises(SignInRequired, match="expired"):
        services.accounts.session(first)
    for _ in range(12 * 6):
        day.now += 10 * 60
        with contextlib.suppress(SignInRequired):
            services.accounts.session(second)
    with pytest.raises(SignInRequired, match="expired"):
        services.accounts.session(second)
    third = signed_in()
    services.accounts.sign_out(third, HERE)
    fourth = signed_in()
    services.accounts.change(ada, bob.id, disabled=True)
    for secret in (third, fourth, "made-up"):
        with pytest.raises(SignInRequired):
            services.accounts.session(secret)
    with pytest.raises(SignInFailed):
        services.accounts.sign_in("bob", PASSWORD, "", HERE)


def test_code_of_the_second_factor_is_needed_and_taken_once(services, ada, day):
    secret, address = services.accounts.new_totp(ada)
    assert secret in address

    def code(steps: int = 0) -> str:
        return credentials.totp_code(secret, int((1_700_000_000 + day.now) // 30) + steps)

    with pytest.raises(SignInFailed):
        services.accounts.enable_totp(ada, secret, "000000", PASSWORD)
    services.accounts.enable_totp(ada, secret, code(), PASSWORD)
    with pytest.raises(CodeNeeded):
        services.accounts.sign_in("ada", PASSWORD, "", HERE)
    with pytest.raises(SignInFailed):
        services.accounts.sign_in("ada", PASSWORD, code(), HERE)  # this code has enabled the second factor
    day.now += 30
    services.accounts.sign_in("ada", PASSWORD, code(), HERE)
    with pytest.raises(SignInFailed):
        services.accounts.sign_in("ada", PASSWORD, code(), HERE)


def test_codes_are_those_of_rfc_6238():
    secret = "GEZDGNBVGY3TQOJQGEZDGNBVGY3TQOJQ"  # noqa: S105  # its test vector
    assert [credentials.totp_code(secret, at // 30) for at in (59, 1111111109, 20000000000)] == [
        "287082",
        "081804",
        "353130",
    ]


# --- server-side requests ---


@pytest.mark.parametrize(
    "url", ["http://example.org/", "file:///etc/passwd", "https://u:p@example.org/", "ftp://x/", "x"]
)
def test_webhook_goes_to_https_alone(services, url):
    with pytest.raises(AdminError, match="https"):
        services.settings.change(SYSTEM, webhook_url=url)


def test_webhook_is_signed_tried_again_and_given_up(services, day):
    services.settings.change(SYSTEM, webhook_url="https://example.org/hook", webhook_secret="k" * 20)
    for number in range(3):
        with contextlib.suppress(Exception):
            services.allocator.acquire(LeaseHolder("sl", f"sl-{number}", f"{number:064x}"), "SL")
    posted: list[tuple[bytes, dict[str, str]]] = []

    def post(_address: str, body: bytes, headers: Any) -> str:
        posted.append((body, dict(headers)))
        return "" if len(posted) > 1 else "HTTP 500"

    assert services.webhooks.deliver_due(post) == 1
    assert services.webhooks.all(SYSTEM)[0].problem == "HTTP 500"
    assert services.webhooks.deliver_due(post) == 0
    day.now += 60
    assert services.webhooks.deliver_due(post) == 1
    assert services.webhooks.all(SYSTEM)[0].delivered_at is not None
    assert posted[0] == posted[1]
    assert b'"code": "no-seat-left"' in posted[0][0]
    assert posted[0][1]["X-Swarm-Signature"].startswith("sha256=")
    services.webhooks.test(SYSTEM)
    for _ in range(MAX_ATTEMPTS + 2):
        services.webhooks.deliver_due(lambda *_: "HTTP 500")
        day.now += 3_000
    assert services.webhooks.all(SYSTEM)[0].attempts == MAX_ATTEMPTS


def test_certificate_is_replaced_by_one_that_fits_only(services, pki, tmp_path: Path):
    files, other = pki.issue("license", "ls-1"), pki.issue("license", "ls-1")
    taken = []
    services.tls.serve(tmp_path, files.cert, taken.append, cacert=pki.cacert, capath=None)
    before = services.tls.current().fingerprint
    wrong = pki.issue("sl", "sl-1")
    for cert, key in ((other.cert, files.key), (wrong.cert, wrong.key), (files.key, files.key)):
        with pytest.raises(AdminError):
            services.tls.replace(SYSTEM, cert.read_bytes(), key.read_bytes())
    assert services.tls.current().fingerprint == before and not taken
    assert services.tls.replace(SYSTEM, other.cert.read_bytes(), other.key.read_bytes()).fingerprint != before
    assert services.tls.current().names
    assert [one.cert.read_bytes() for one in taken] == [other.cert.read_bytes()]
    assert all(path.stat().st_mode & 0o077 == 0 for path in (tmp_path / "tls").iterdir())


# --- what is taken in ---


@pytest.mark.parametrize("headers", [{}, {"Sec-Fetch-Site": "cross-site"}])
async def test_form_of_nobody_or_of_another_site_is_not_taken_in(services, ada, pki, headers, monkeypatch):
    """Refused before its body is read."""
    read: list[str] = []

    async def form(self: Request, **limits: Any) -> None:
        read.append(self.url.path)

    monkeypatch.setattr(Request, "_get_form", form)
    async with served(services, pki) as address:
        path = "/users/new" if not headers else "/sign-in"
        answer = await ask(address, pki, "POST", path, data={"name": "x" * 9}, headers=headers)
    assert answer.status_code in {303, 400, 403}
    assert not read
