"""Nodes whose certificates come from a SPIFFE Workload API, and change while they run."""

import asyncio
import contextlib
import ssl
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pytest
from cryptography.hazmat.primitives.serialization import Encoding
from sl_swarm import swarm_of
from structlog.testing import capture_logs
from workload_api import WorkloadApi, workload_apis

from services.chain.events import CheckedIn
from services.errors import SwarmError
from services.identity.certificates import read_chain
from services.identity.identity import Identity
from services.identity.peers import identity_of_certificate
from services.identity.source import own_identity
from services.sl.settings import SLSettings

NO_FILES: dict[str, Any] = {"cert": None, "key": None, "cacert": None}
WITHIN_S = 30.0


class Renewed:
    """Wakes a test when a node has taken a new SVID."""

    def __init__(self, identity: Identity) -> None:
        assert identity.renewal is not None
        self.event = asyncio.Event()
        identity.renewal.followers.add(self)

    def renewed(self) -> None:
        self.event.set()


class Said:
    """Wakes a test when a node says that an SVID cannot be used."""

    def __init__(self) -> None:
        self.event, self.why = asyncio.Event(), ""

    def __call__(self, _logger: Any, _level: str, entry: Any) -> Any:
        if entry["event"] == "a new SVID cannot be used":
            self.why = entry["why"]
            self.event.set()
        return entry


def settings(api: WorkloadApi | Path, **changes: Any) -> SLSettings:
    path = api if isinstance(api, Path) else api.path
    return SLSettings.load("sl", {"socket_path": path, "host_ip": "localhost", **changes})


def handshake(server: ssl.SSLContext, client: ssl.SSLContext) -> tuple[bytes, bytes]:
    """The certificates that client and server were shown."""
    to_server, to_client = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [
        client.wrap_bio(to_client, to_server, server_hostname="localhost"),
        server.wrap_bio(to_server, to_client, server_side=True),
    ]
    pending = list(ends)
    while pending:
        for end in tuple(pending):
            with contextlib.suppress(ssl.SSLWantReadError):
                end.do_handshake()
                pending.remove(end)
    shown = [end.getpeercert(binary_form=True) for end in ends]
    return shown[0] or b"", shown[1] or b""


def der_of(files: Any) -> bytes:
    return read_chain(files.cert)[0].public_bytes(Encoding.DER)


def fingerprint(files: Any) -> str:
    return Identity.load(cert=files.cert, key=files.key, cacert=files.cacert).fingerprint


async def shown_at(port: int, identity: Identity, alpn: str) -> str:
    """Fingerprint of the certificate shown at a port."""
    context = identity.client_context()
    context.set_alpn_protocols([alpn])
    _, writer = await asyncio.open_connection("localhost", port, ssl=context)
    der = writer.get_extra_info("ssl_object").getpeercert(binary_form=True)
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()
    return identity_of_certificate(der).fingerprint


async def test_a_training_goes_on_while_every_node_gets_a_new_certificate(pki: Any, tmp_path: Path) -> None:
    names = ("sn-1", "sl-1", "sl-2")
    async with contextlib.AsyncExitStack() as stack:
        apis = stack.enter_context(workload_apis(*names))
        newest: dict[str, Any] = {}

        def rotate() -> None:
            for name in names:
                newest[name] = pki.issue(name.partition("-")[0], name)
                apis[name].give(newest[name])

        rotate()
        sn_settings = settings(apis["sn-1"])
        sn = await stack.enter_async_context(own_identity(sn_settings, "sn"))
        swarm = await stack.enter_async_context(swarm_of(pki, tmp_path, sn_identity=sn))
        for name in names[1:]:
            await swarm.sl(name, **NO_FILES, socket_path=apis[name].path)
        admin, rotated = pki.identity("admin", "ada"), asyncio.Event()
        loop, taken = asyncio.get_running_loop(), Renewed(sn)

        def between(number: int) -> None:
            if number in (1, 3):
                rotate()
                asyncio.run_coroutine_threadsafe(shown_everywhere(), loop).result(WITHIN_S)

        async def shown_everywhere() -> None:
            ports = {
                "sn-1": (swarm.sn_port, "h2"),
                **{n: (swarm.nodes[n].facts["port"], "http/1.1") for n in names[1:]},
            }
            for name, (port, alpn) in ports.items():
                async with asyncio.timeout(WITHIN_S):
                    while await shown_at(port, admin, alpn) != fingerprint(newest[name]):
                        pass  # the next look needs a handshake
            rotated.set()

        model = {"w": np.zeros(1_200_000, np.float32)}  # merged by all nodes, over connections between them
        programs = [
            swarm.ml(name, model, lambda arrays, n: {"w": arrays["w"] + n}, min_peers=2, rounds=4) for name in names[1:]
        ]
        programs[0].between = between
        digests = await asyncio.gather(*(program.run() for program in programs))
        assert rotated.is_set() and taken.event.is_set()
        assert len(set(digests)) == 1
        rounds: dict[int, set[str]] = {}
        for event in await swarm.events():
            if isinstance(event, CheckedIn):
                rounds.setdefault(event.round, set()).add(event.name)
        assert set(map(len, rounds.values())) == {2}, rounds


async def test_contexts_that_are_in_use_show_and_accept_what_is_newest(pki: Any) -> None:
    with workload_apis("sl-1") as apis:
        first, second = pki.issue("sl", "sl-1"), pki.issue("sl", "sl-1")
        apis["sl-1"].give(first)
        async with own_identity(settings(apis["sl-1"]), "sl") as identity:
            server, client = identity.server_context(), identity.client_context()
            assert handshake(server, client) == (der_of(first),) * 2
            taken = Renewed(identity)
            apis["sl-1"].give(second)
            async with asyncio.timeout(WITHIN_S):
                await taken.event.wait()
            assert handshake(server, client) == (der_of(second),) * 2
            assert identity.fingerprint == identity_of_certificate(handshake(server, client)[0]).id_fingerprint


async def test_an_svid_that_cannot_be_used_is_said_and_the_one_before_stays(pki: Any) -> None:
    with workload_apis("sl-1") as apis:
        first, other = pki.issue("sl", "sl-1"), pki.issue("sn", "sl-1")
        apis["sl-1"].give(first)
        async with own_identity(settings(apis["sl-1"]), "sl") as identity:
            taken, third, said = Renewed(identity), pki.issue("sl", "sl-1"), Said()
            with capture_logs(processors=[said]):
                async with asyncio.timeout(WITHIN_S):
                    apis["sl-1"].give(other)
                    await said.event.wait()
                    apis["sl-1"].give(third)
                    await taken.event.wait()
            assert "has the role sn" in said.why
            assert identity.credentials.cert.read_bytes() == third.cert.read_bytes()


async def test_of_several_svids_the_one_of_the_role_is_taken(pki: Any) -> None:
    with workload_apis("both") as apis:
        apis["both"].give(pki.issue("sn", "sn-1"), more=[pki.issue("sl", "sl-1")])
        async with own_identity(settings(apis["both"]), "sl") as identity:
            assert (identity.role, identity.name) == ("sl", "sl-1")


async def sentence(api: WorkloadApi | Path, **changes: Any) -> str:
    """The error if there is no identity."""
    with pytest.raises(SwarmError) as refused:
        async with own_identity(settings(api, **changes), "sl"):
            pass
    assert "\n" not in str(refused.value) and "/proc/" not in str(refused.value)
    return str(refused.value)


async def test_what_is_wrong_with_the_socket_is_one_sentence(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    with workload_apis("empty") as apis:
        assert "no such file or directory" in await sentence(tmp_path / "nowhere.sock")
        assert "it is not a socket" in await sentence(tmp_path / "file")
        assert "no identity issued" in await sentence(apis["empty"])
    with pytest.raises(SwarmError, match="give no --cert, --key"):
        settings(tmp_path / "file", cert=tmp_path / "file")


async def test_what_is_wrong_with_an_svid_is_one_sentence(pki: Any, foreign_pki: Any) -> None:
    with workload_apis("sl") as apis:
        api = apis["sl"]
        api.give(pki.issue("sn", "sn-1"))
        assert "sn-1 has the role sn, but" in await sentence(api)
        ended = datetime.now(UTC) - timedelta(hours=1)
        api.give(pki.issue("sl", "sl-1", not_after=ended, not_before=ended - timedelta(hours=1)))
        assert "of sl-1 expired at" in await sentence(api)
        api.give(foreign_pki.issue("sl", "sl-1"), bundle=pki.cacert)
        assert "does not end in a CA of the bundle" in await sentence(api)
