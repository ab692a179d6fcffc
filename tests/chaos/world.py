"""What outlives a run: a CA, a license server, the SNs with their chain. A fault may hit any of them."""

import asyncio
import contextlib
import json
import secrets
import shutil
import socket
import time
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from cryptography import x509

from services.identity.authority import Authority, IssuedFiles
from services.identity.identity import Identity
from services.identity.spiffe import ROLES
from services.local.process import Launch
from services.rpc import swarm_pb2 as pb
from services.rpc.client import SNClient
from tests.chaos import processes
from tests.chaos.ledger import signers_of
from tests.chaos.network import PLACES_OF_SLS, Network
from tests.chaos.processes import Forks, Process, base_environment
from tests.pacing import pause
from tests.revoking import revocation_list

HOST = "127.0.0.1"
TRUST, REVOKED = "trust.yaml", "revoked.crl"
PORTS = range(12_000, 32_000)

# Short enough for a run of seconds, long enough for two busy cores.
LEADER_TIMEOUT_S = 2.0
LOST_AFTER_S = 1.5
WHOLE_WITHIN_S = 40.0
QUORUM_WAIT_S = 0.7


@dataclass(frozen=True)
class Build:
    """How the nodes are built: ``before`` is called in each before it starts (planted bugs), empty for as they are."""

    sn: str = ""
    sl: str = ""
    environment: dict[str, str] = field(default_factory=dict)


@dataclass
class Node:
    """A process of the world, and how to start it again as it was."""

    launch: Launch
    process: Process
    host: str
    port: int


@dataclass
class World:
    """``nodes``: "license" and the SNs by name, the sentinel first."""

    directory: Path
    host: str
    forks: Forks
    authority: Authority
    build: Build
    admin: Identity
    traps: Path
    nodes: dict[str, Node] = field(default_factory=dict)
    several: bool = False
    network: Network | None = None
    revoked: list[x509.Certificate] = field(default_factory=list)
    runs: int = 0
    restarts: list[tuple[float, str]] = field(default_factory=list)

    @classmethod
    async def open(cls, directory: Path, *, sns: int = 1, build: Build | None = None, apart: bool = False) -> Self:
        """Starts it all; returns when everything is ready. ``apart``: with a network of namespaces for SLs."""
        directory.mkdir(parents=True, exist_ok=True)  # noqa: ASYNC240 - nothing else runs yet
        authority = Authority.create(directory / "ca", "chaos")
        files = authority.issue("admin", "admin", ["localhost"], directory / "certs")
        admin = Identity.load(cert=files.cert, key=files.key, cacert=files.cacert)
        traps = directory / "traps"
        traps.mkdir()
        _trust(directory, authority)
        network = await Network.open() if apart else None
        host = network.host if network else HOST
        forks = await Forks.open(directory)
        world = cls(directory, host, forks, authority, build or Build(), admin, traps, several=sns > 1, network=network)
        try:
            await world._start_license()
            for number in range(sns):
                await world._start_sn(f"sn-{number + 1}")
        except BaseException:
            await world.close()
            raise
        return world

    async def close(self) -> list[str]:
        """Stops all in order; names those that had to be killed."""
        try:
            return [name for name, node in reversed(self.nodes.items()) if await node.process.stop()]
        finally:
            await self.forks.close()
            if self.network is not None:
                await self.network.close()

    @property
    def sns(self) -> list[str]:
        return [name for name in self.nodes if name.startswith("sn-")]

    def certificate(self, role: str, name: str, *hosts: str) -> IssuedFiles:
        out = self.directory / "certs"
        return self.authority.issue(role, name, ["localhost", HOST, self.host, *hosts], out, force=True)

    def files(self, role: str, name: str) -> IssuedFiles:
        """What a node was given."""
        certs = self.directory / "certs"
        return IssuedFiles(certs / f"{role}-{name}-cert.pem", certs / f"{role}-{name}-key.pem", self.authority.cacert)

    def identity_flags(self, files: IssuedFiles) -> list[str]:
        return ["--cert", str(files.cert), "--key", str(files.key), "--trust", str(self.directory / TRUST)]

    def revoke(self, *certificates: x509.Certificate) -> None:
        """Puts a new revocation list in the place of the one that nodes read, with these too."""
        self.revoked += certificates
        _put(self.directory, revocation_list(self.authority, *self.revoked))

    def address(self, sn: str) -> str:
        node = self.nodes[sn]
        return f"{node.host}:{node.port}"

    def client(self, sn: str) -> SNClient:
        return SNClient(self.address(sn), self.admin)

    async def restart(self, name: str) -> None:
        """Starts a node that has ended again, on its own data and ports; returns when it is ready."""
        node = self.nodes[name]
        if node.process.alive:  # another fault has started it again before this one was healed
            return
        node.process = self.forks.start(node.launch)
        self.restarts.append((time.monotonic(), name))
        await node.process.ready()

    async def forget(self, name: str) -> None:
        """Everything that a node has on its disk."""
        await asyncio.to_thread(shutil.rmtree, self.directory / name)

    def geth_pid(self, sn: str) -> int:
        return int((self.directory / sn / "eth" / "geth.pid").read_text())

    async def sound(self) -> None:
        """Whether every node of the world is alive and answers. Raises what is wrong."""
        for name, node in self.nodes.items():
            if not node.process.alive or node.process.is_stopped:
                raise RuntimeError(f"{name} does not run:\n{node.process.tail()}")
        for sn in self.sns:
            async with self.client(sn) as client:
                await client.network.GetInfo(pb.GetInfoRequest())
        if self.several:
            await self._whole()

    async def _whole(self) -> None:
        """Returns when all SNs seal again, as the fault of a next run needs it. Raises RuntimeError."""
        deadline = time.monotonic() + WHOLE_WITHIN_S
        while True:
            signers = [await signers_of(self.geth_pid(sn)) for sn in self.sns]
            if all(found == signers[0] and len(found) == len(self.sns) for found in signers):
                return
            if time.monotonic() > deadline:
                raise RuntimeError(f"the SNs do not all seal after {WHOLE_WITHIN_S:g} s: {signers}")
            await pause(0.2)

    async def _start_license(self) -> None:
        port = _free_port()
        argv = ["license-server", "--host", "0.0.0.0", "--port", str(port)]  # noqa: S104 - namespaces reach it
        await self._start("license", "license", argv, self.host, port)

    async def _start_sn(self, name: str) -> None:
        """Several SNs that are apart have namespaces of their own, as they may be cut off from each other."""
        number, port, host, namespace = len(self.sns), _free_port(), self.host, ""
        if self.network is not None and self.several:
            place = place_of_sn(number)
            host, namespace = self.network.address(place), self.network.namespace(place)
        join = ["--sentinel-ip", self.address(self.sns[0])] if number else ["--sentinel"]
        argv = [
            "sn", *join, "--host", "0.0.0.0", "--host-ip", host, "--chain", "geth",  # noqa: S104
            "--sn-api-port", str(port), "--sn-p2p-port", str(_free_port()),
            "--apls-ip", self.host, "--apls-port", str(self.nodes["license"].port),
        ]  # fmt: skip
        await self._start("sn", name, argv, host, port, namespace, self.build.sn)

    async def _start(  # noqa: PLR0917
        self, role: str, name: str, argv: list[str], host: str, port: int, namespace: str = "", before: str = ""
    ) -> None:
        files = self.certificate(role, name, host)
        more = ["--data-dir", str(self.directory / name), *self.identity_flags(files), "--log-format", "json"]
        timing = {"SN_LOST_AFTER_SECONDS": str(LOST_AFTER_S)}
        environment = base_environment(SWARM_LOG_LEVEL="DEBUG", **timing, **self.build.environment)
        log = self.directory / "logs" / f"{name}.log"
        launch = processes.node(name, [*argv, *more], log, environment, self.traps, namespace, before)
        process = self.forks.start(launch)
        self.nodes[name] = Node(launch, process, host, port)
        await process.ready()


def place_of_sn(number: int) -> int:
    """In the network of a world whose SNs are apart."""
    return PLACES_OF_SLS + number


def _trust(directory: Path, authority: Authority) -> None:
    """The trust file of all nodes."""
    organization = {
        "name": "chaos", "trust_domain": authority.trust_domain, "cas": [str(authority.cacert)],
        "issues": {role: ["*"] for role in ROLES}, "crls": [REVOKED],
    }  # fmt: skip
    (directory / TRUST).write_text(json.dumps({"organizations": [organization]}))  # which is YAML too
    _put(directory, revocation_list(authority))


def _put(directory: Path, revoked: bytes) -> None:
    """Whole, or not there."""
    new = directory / f"{REVOKED}.new"
    new.write_bytes(revoked)
    new.replace(directory / REVOKED)


def _free_port() -> int:
    """Free now, and none that the kernel lends to outgoing connections: a restarted node needs the port it had."""
    while True:
        port = secrets.choice(PORTS)
        with contextlib.closing(socket.socket()) as probe, contextlib.suppress(OSError):
            probe.bind(("", port))
            return port
