"""The traffic between the geths of two SNs goes through TLS between the SNs, and nobody else reaches them."""

import asyncio
import contextlib
import math
import os
import ssl
import subprocess
import sys
from collections.abc import AsyncIterator, Callable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest
from two_organizations import TwoOrganizations

from services.errors import PortInUse
from services.identity import organizations
from services.identity.authority import IssuedFiles
from services.identity.identity import Identity
from services.identity.peers import PeerIdentity
from services.runtime import loopback
from services.runtime.signals import ChangeSignal
from services.sn import chain_relay
from services.sn.chain_relay import ChainRelay
from services.sn.membership import DirectoryMember, Membership

WITHIN_S = 30.0
HOST = "localhost"
MUCH = bytes(range(256)) * 40_000


class Geth:
    """Echoes all that it receives, and remembers it."""

    def __init__(self) -> None:
        self.port = 0
        self.told = b""
        self.open = 0
        self._changed = ChangeSignal()

    async def start(self) -> asyncio.Server:
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        return server

    async def until(self, connections: int) -> None:
        """Returns once this many connections are open."""
        while self.open != connections:
            await self._changed.wait()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._count(1)
        with contextlib.suppress(ConnectionError):
            while said := await reader.read(65536):
                self.told += said
                writer.write(said)
                await writer.drain()
        writer.close()
        self._count(-1)

    def _count(self, change: int) -> None:
        self.open += change
        self._changed.notify()


@dataclass
class Node:
    """The part of an SN by which its geth is reached; this process holds both ends."""

    relay: ChainRelay
    geth: Geth
    port: int

    async def dial(self, name: str, port: int, said: bytes = b"hello") -> bytes:
        """Calls another node as geth does. Returns what comes back until the connection ends or all has been echoed."""
        way = await self.relay.way_to(name, HOST, port)
        reader, writer = await asyncio.open_connection("127.0.0.1", way)
        came = b""
        try:
            async with asyncio.timeout(WITHIN_S):
                writer.write(said)
                while len(came) < len(said) and (piece := await reader.read(65536)):
                    came += piece
        except ConnectionError:
            pass
        finally:
            writer.close()
        return came


@contextlib.asynccontextmanager
async def node(
    identity: Identity, port: int = 0, is_known: Callable[[PeerIdentity], bool] = lambda _: True
) -> AsyncIterator[Node]:
    geth = Geth()

    async def listens_on() -> int:
        return geth.port

    relay = ChainRelay(identity, listens_on, lambda connection: loopback.is_from(os.getpid(), connection), is_known)
    server = await geth.start()
    try:
        yield Node(relay, geth, await relay.open("127.0.0.1", port, (HOST, 0)))
    finally:
        await relay.close()
        server.close()


async def test_what_geth_says_comes_to_the_other_one_and_back(pki: Any) -> None:
    async with node(pki.identity("sn", "sn-1")) as one, node(pki.identity("sn", "sn-2")) as two:
        assert one.relay.reached_at == (HOST, one.port)
        await two.relay.way_to("sn-1", HOST, one.port)
        assert await one.dial("sn-2", two.port, MUCH) == MUCH
        assert two.geth.told == MUCH
        assert await two.dial("sn-1", one.port) == b"hello" == one.geth.told


async def test_an_sn_that_has_moved_is_reached_by_the_same_port_of_this_host(pki: Any) -> None:
    identity = pki.identity("sn", "sn-2")
    async with node(pki.identity("sn", "sn-1")) as one:
        async with node(identity) as before:
            await before.relay.way_to("sn-1", HOST, one.port)
            way = await one.relay.way_to("sn-2", HOST, before.port)
            assert await one.dial("sn-2", before.port) == b"hello"
        assert await one.dial("sn-2", before.port) == b""
        async with node(identity) as after:
            await after.relay.way_to("sn-1", HOST, one.port)
            assert await one.relay.way_to("sn-2", HOST, after.port) == way
            assert await one.dial("sn-2", after.port) == b"hello"


def strangers_context(who: str, pki: Any, foreign_pki: Any) -> ssl.SSLContext | None:
    """The TLS context of a client that accepts any server of the swarm; None for no TLS."""
    if who == "no TLS":
        return None
    context = ssl.create_default_context(cafile=pki.cacert)
    if who != "no certificate":
        ca, role, name = who.split()
        identity = {"ours": pki, "foreign": foreign_pki}[ca].identity(role, name)
        context.load_cert_chain(identity.cert, identity.key)
    return context


@pytest.mark.parametrize(
    "who", ["no TLS", "no certificate", "foreign sn sn-2", "ours sl sn-2", "ours admin sn-2", "ours sn sn-9"]
)
async def test_nobody_but_an_sn_that_this_one_has_met_reaches_geth(pki: Any, foreign_pki: Any, who: str) -> None:
    context = strangers_context(who, pki, foreign_pki)
    async with node(pki.identity("sn", "sn-1")) as one, node(pki.identity("sn", "sn-2")) as two:
        await one.relay.way_to("sn-2", HOST, two.port)
        async with asyncio.timeout(WITHIN_S):
            with contextlib.suppress(OSError):
                reader, writer = await asyncio.open_connection(HOST, one.port, ssl=context)
                writer.write(MUCH)
                assert await reader.read() == b""
        assert one.geth.told == b""
        assert await two.dial("sn-1", one.port) == b"hello"  # the very one that is let in


async def test_an_sn_is_let_in_with_the_key_by_which_the_swarm_knows_it_alone(pki: Any) -> None:
    before = pki.issue("sn", "sn-2")
    stolen = Identity.load(cert=before.cert, key=before.key, cacert=before.cacert)
    newest = pki.identity("sn", "sn-2")
    membership = Membership()
    membership.put(DirectoryMember("sn", "sn-2", HOST, 1, bytes.fromhex(newest.fingerprint), "sn-2"))
    async with node(pki.identity("sn", "sn-1"), is_known=membership.recognizes) as one:
        async with node(stolen) as thief:
            await one.relay.way_to("sn-2", HOST, thief.port)
            assert await thief.dial("sn-1", one.port) == b""
        assert one.geth.told == b""
        async with node(newest) as two:
            await one.relay.way_to("sn-2", HOST, two.port)
            assert await two.dial("sn-1", one.port) == b"hello"


async def test_a_connection_ends_once_the_key_of_its_sn_was_replaced(pki: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """While both keys are valid, it goes on."""
    monkeypatch.setattr(organizations, "LOOK_EVERY_S", 0.01)
    before = pki.issue("sn", "sn-2")
    old = Identity.load(cert=before.cert, key=before.key, cacert=before.cacert)
    keys = [bytes.fromhex(one.fingerprint) for one in (old, pki.identity("sn", "sn-2"))]
    membership = Membership()
    known = DirectoryMember("sn", "sn-2", HOST, 1, keys[0], "sn-2")
    membership.put(known)
    async with node(pki.identity("sn", "sn-1"), is_known=membership.recognizes) as one, node(old) as two:
        await one.relay.way_to("sn-2", HOST, two.port)
        way = await two.relay.way_to("sn-1", HOST, one.port)
        async with asyncio.timeout(WITHIN_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", way)
            replaced = replace(known, fingerprint=keys[1], previous=keys[0], previous_until=math.inf)
            membership.put(replaced)
            for _ in range(20):
                writer.write(b"hello")
                assert await reader.readexactly(5) == b"hello"
            membership.put(replace(replaced, previous_until=0.0))
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()
            await one.geth.until(0)


@pytest.mark.parametrize("who", [("sn", "sn-3"), ("sl", "sn-2")])
async def test_geth_says_nothing_to_another_member_in_the_place_of_an_sn(pki: Any, who: tuple[str, str]) -> None:
    heard = b""

    async def take(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal heard
        heard += await reader.read(65536)
        writer.close()

    there = await asyncio.start_server(take, "127.0.0.1", 0, ssl=pki.identity(*who).server_context())
    async with node(pki.identity("sn", "sn-1")) as one:
        assert await one.dial("sn-2", there.sockets[0].getsockname()[1]) == b""
    there.close()
    assert heard == b""


async def test_another_process_of_the_host_does_not_speak_as_this_sn(pki: Any) -> None:
    async with node(pki.identity("sn", "sn-1")) as one, node(pki.identity("sn", "sn-2")) as two:
        await two.relay.way_to("sn-1", HOST, one.port)
        way = await one.relay.way_to("sn-2", HOST, two.port)
        program = (
            f"import socket; s = socket.create_connection(('127.0.0.1', {way})); s.sendall(b'x'); print(s.recv(1))"
        )
        run = await asyncio.create_subprocess_exec(
            sys.executable, "-c", program, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL
        )
        async with asyncio.timeout(WITHIN_S):
            said, _ = await run.communicate()
        assert said in (b"", b"b''\n")  # reset, or closed
        assert two.geth.told == b""
        assert await one.dial("sn-2", two.port) == b"hello"


async def test_an_sn_that_this_one_has_parted_from_is_let_in_no_more(pki: Any) -> None:
    """Its open connections end."""
    async with node(pki.identity("sn", "sn-1")) as one, node(pki.identity("sn", "sn-2")) as two:
        await one.relay.way_to("sn-2", HOST, two.port)
        way = await two.relay.way_to("sn-1", HOST, one.port)
        async with asyncio.timeout(WITHIN_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", way)
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"
            one.relay.close_way("sn-2")
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()
            await one.geth.until(0)
        assert await two.dial("sn-1", one.port) == b""


async def test_who_says_nothing_keeps_no_sn_out(pki: Any) -> None:
    async with node(pki.identity("sn", "sn-1")) as one, node(pki.identity("sn", "sn-2")) as two:
        await two.relay.way_to("sn-1", HOST, one.port)
        await one.relay.way_to("sn-2", HOST, two.port)
        async with asyncio.timeout(WITHIN_S), contextlib.AsyncExitStack() as silent:
            for _ in range(3 * chain_relay.GREETED_AT_ONCE):
                _, writer = await asyncio.open_connection("127.0.0.1", one.port)
                silent.callback(writer.close)
            assert await two.dial("sn-1", one.port) == b"hello"


async def test_of_one_sn_the_newest_connections_stay(pki: Any) -> None:
    async with node(pki.identity("sn", "sn-1")) as one, node(pki.identity("sn", "sn-2")) as two:
        await one.relay.way_to("sn-2", HOST, two.port)
        way = await two.relay.way_to("sn-1", HOST, one.port)
        async with asyncio.timeout(WITHIN_S), contextlib.AsyncExitStack() as stack:
            made = []
            for count in range(1, chain_relay.FROM_ONE_SN + 1):
                reader, writer = await asyncio.open_connection("127.0.0.1", way)
                stack.callback(writer.close)
                made.append(reader)
                await one.geth.until(count)
            assert await two.dial("sn-1", one.port) == b"hello"
            assert await made[0].read() == b""


async def test_a_connection_ends_with_the_certificate_of_its_sn(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(organizations, "LOOK_EVERY_S", 0.01)
    two = TwoOrganizations.create(tmp_path / "two")
    two.revoke()
    two.write(crls=["a.crl"], issues={"sn": ["a-*"]})
    theirs = two.identity("sn", "a-1")
    async with node(two.identity("sn", "b-0")) as ours, node(theirs) as far:
        await ours.relay.way_to("a-1", HOST, far.port)
        way = await far.relay.way_to("b-0", HOST, ours.port)
        async with asyncio.timeout(WITHIN_S):
            reader, writer = await asyncio.open_connection("127.0.0.1", way)
            writer.write(b"hello")
            assert await reader.readexactly(5) == b"hello"
            two.revoke(IssuedFiles(theirs.cert, theirs.key, two.a.cacert))
            with contextlib.suppress(ConnectionError):
                assert await reader.read() == b""
            writer.close()
            await ours.geth.until(0)
        assert await far.dial("b-0", ours.port) == b""


async def test_a_port_that_is_taken_is_named_with_its_option(pki: Any) -> None:
    async with node(pki.identity("sn", "sn-1")) as one:
        with pytest.raises(PortInUse, match="--sn-p2p-port"):
            async with node(pki.identity("sn", "sn-2"), one.port):
                pass
