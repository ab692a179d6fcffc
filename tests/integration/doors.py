"""All servers of nodes that TLS guards, in this process. A caller is let in, or told why not."""

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator, Awaitable, Callable
from itertools import count
from pathlib import Path
from typing import Any

import httpx
from open_readers import everything
from sl_swarm import Ready
from stored_streams import put

from services.errors import LicenseServerUnreachable, NotOfOrganization, PeerNotAccepted, PeerUnreachable, SNUnreachable
from services.identity.identity import Identity
from services.license_server.database import Database
from services.license_server.main import serve as serve_licenses
from services.license_server.services import Services
from services.licensing.servers import Servers
from services.rpc import swarm_pb2 as pb
from services.rpc.client import SNClient
from services.rpc.server import RpcServer
from services.sl.transfer.file_server import FileServer, bind
from services.sl.transfer.peers import Peers
from services.sl.transfer.pulling import Pull, Source
from services.sl.transfer.store import Store, Stored
from services.sl.view import TrainingMember
from services.swci.contexts import SnContexts
from services.swci.session import CommandSession, WaitLimits
from services.swci.settings import SWCISettings
from services.swci.usr_dir import UsrDir
from services.swci.web.serving import serve as serve_swci

WITHIN_S = 30.0
LARGE = 600_000  # elements: more than fit into one request

# Returns what a caller is told; "" if it is let in.
Ask = Callable[[Identity], Awaitable[str]]


class Greeter:
    async def GetInfo(self, request: pb.GetInfoRequest, context: Any) -> pb.GetInfoReply:
        return pb.GetInfoReply()


@contextlib.asynccontextmanager
async def sn(identity: Identity, directory: Path) -> AsyncIterator[Ask]:
    roles = {"/swarm.v1.Network/GetInfo": frozenset({"sl", "admin"})}
    server = RpcServer(identity, roles, {"Network": Greeter()})
    port = await server.start("127.0.0.1", 0, "--sn-api-port")

    async def ask(caller: Identity) -> str:
        async with SNClient(f"localhost:{port}", caller) as client:
            try:
                await client.network.GetInfo(pb.GetInfoRequest())
            except (NotOfOrganization, PeerNotAccepted, SNUnreachable) as error:
                return str(error)
            return ""

    try:
        yield ask
    finally:
        await server.stop(0)


@contextlib.asynccontextmanager
async def file_server(
    identity: Identity, directory: Path, read: Callable[[Peers, TrainingMember, Stored], Awaitable[object]]
) -> AsyncIterator[Ask]:
    async def follow(peer: Any, line: Any) -> None:
        await line.send_str("hello")

    store, numbers = Store(directory / "theirs"), count()
    stored = put(store, LARGE)
    server = FileServer(identity, store, everything(), follow=follow)
    with bind("127.0.0.1", 0) as bound:
        await server.start(bound)
        holder = TrainingMember(identity.name, "localhost", bound.getsockname()[1], "", active=True)

        async def ask(caller: Identity) -> str:
            async with Peers(caller, Store(directory / f"mine-{next(numbers)}")) as peers:
                try:
                    await read(peers, holder, stored)
                except PeerUnreachable as error:
                    return str(error)
                return ""

        try:
            yield ask
        finally:
            await server.stop()


async def read_manifest(peers: Peers, holder: TrainingMember, stored: Stored) -> None:
    await peers.manifest(holder, stored.model.digest, stored.model.size)


async def read_bulk(peers: Peers, holder: TrainingMember, stored: Stored) -> None:
    partial = peers._store.begin(stored.manifest, stored.header())
    pull = Pull(partial, peers._store, peers.transfers, lambda _: None)
    try:
        pull.offer(Source(holder, f"/v1/models/{stored.model.digest}"), [0])
        await pull.until([0])
    finally:
        await pull.close()
        partial.end()


async def read_range(peers: Peers, holder: TrainingMember, stored: Stored) -> None:
    """Reads in bulk, over a connection that is kept."""
    path = f"/v1/models/{stored.model.digest}"
    await peers.transfers.read(holder, path, (0, [9]), lambda *_: None, lambda _: None)


async def read_line(peers: Peers, holder: TrainingMember, stored: Stored) -> None:
    async with peers.line_to(holder) as line:
        assert await line.receive_str() == "hello"


async def ask_for_a_lease(servers: Servers) -> None:
    await servers.request("POST", "/v1/leases", "SL", {"feature": "SL"})


@contextlib.asynccontextmanager
async def license_server(
    identity: Identity, directory: Path, request: Callable[[Servers], Awaitable[None]] = ask_for_a_lease
) -> AsyncIterator[Ask]:
    with Database.in_directory(directory / "licenses") as database, socket.create_server(("127.0.0.1", 0)) as listening:
        services = Services(database)
        services.licenses.install_community({"SL": 9}, None)
        port, started, stop = listening.getsockname()[1], asyncio.Event(), asyncio.Event()
        serving = asyncio.create_task(serve_licenses(services, identity, listening, stop, started.set))
        await asyncio.wait_for(started.wait(), WITHIN_S)

        async def ask(caller: Identity) -> str:
            servers = Servers([f"localhost:{port}"], caller)
            try:
                await request(servers)
            except (NotOfOrganization, PeerNotAccepted, LicenseServerUnreachable) as error:
                return str(error)
            finally:
                await servers.close()
            return ""

        try:
            yield ask
        finally:
            stop.set()
            await serving


@contextlib.asynccontextmanager
async def license_administration(identity: Identity, directory: Path) -> AsyncIterator[Ask]:
    with Database.in_directory(directory / "licenses") as database, socket.create_server(("127.0.0.1", 0)) as listening:
        port, started, stop = listening.getsockname()[1], asyncio.Event(), asyncio.Event()
        serving = asyncio.create_task(serve_licenses(Services(database), identity, listening, stop, started.set))
        await asyncio.wait_for(started.wait(), WITHIN_S)
        try:
            yield lambda caller: _get(caller, port, "/api/v1/licenses")
        finally:
            stop.set()
            await serving


@contextlib.asynccontextmanager
async def swci(identity: Identity, directory: Path, get: Any = None) -> AsyncIterator[Ask]:
    usr = directory / "usr"
    usr.mkdir()
    first = CommandSession(identity, UsrDir(usr), WaitLimits(), SnContexts())
    flags = {"cert": identity.cert, "key": identity.key, "host": "127.0.0.1", "web_port": 0, "usr_dir": usr}
    ready: Any = Ready()
    serving = asyncio.create_task(serve_swci(SWCISettings.load("swci", flags), identity, first, ready))
    await asyncio.wait_for(ready.reported.wait(), WITHIN_S)
    try:
        yield lambda caller: (get or _get)(caller, ready.facts["port"], "/api/v1/files")
    finally:
        serving.cancel()
        await asyncio.gather(serving, return_exceptions=True)
        await first.close()


async def _get(caller: Identity, port: int, path: str) -> str:
    async with httpx.AsyncClient(verify=caller.client_context(), timeout=WITHIN_S, trust_env=False) as client:
        try:
            answer = await client.get(f"https://localhost:{port}{path}")
        except httpx.TransportError as error:
            return str(error) or "it hung up"
        return "" if answer.status_code == 200 else str(answer.json()["message"])


DOORS: dict[str, tuple[Callable[..., Any], str, tuple[str, str]]] = {
    "API of an SN": (sn, "sn", ("sl", "a-9")),
    "parameters": (lambda *it: file_server(*it, read_manifest), "sl", ("sl", "a-9")),
    "parameters in bulk": (lambda *it: file_server(*it, read_bulk), "sl", ("sl", "a-9")),
    "line of a merge": (lambda *it: file_server(*it, read_line), "sl", ("sl", "a-9")),
    "license server": (license_server, "license", ("sl", "a-9")),
    "administration of a license server": (license_administration, "license", ("admin", "b-9")),
    "REST of an SWCI": (swci, "swci", ("admin", "b-9")),
}
