"""Whether this node can reach others, and others can reach it: ports, certificates, clocks, seats."""

import asyncio
import contextlib
import errno
import secrets
import socket
import ssl
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from importlib.metadata import version

from pydantic import BaseModel, ValidationError

from services.errors import IdentityError, SwarmError
from services.identity.diagnosis import diagnose
from services.identity.identity import Identity
from services.identity.peers import identity_of_certificate
from services.licensing.features import FEATURE_OF_ROLE
from services.licensing.servers import Servers
from services.licensing.swarms import LeasingSwarm, LeasingSwarms
from services.preflight.report import Finding, State, failure
from services.preflight.settings import PreflightSettings
from services.rpc import swarm_pb2 as pb
from services.rpc.client import SNClient
from services.runtime.addresses import join_address, split_address

CONNECT_WITHIN_S = 3.0
# geth refuses a block 15 s in the future; certificates of our CA are valid from 5 minutes before they were made.
CLOCK_FAILS_S = 10.0
CLOCK_WARNS_S = 1.0
AT_ONCE = 32  # ports tried at the same time; a silent one takes some seconds
CHAIN = "p2p"
PORT_OF_ROLE = {"sn": 30304, "sl": 30305, "license": 5814, "swci": 30306}


class Seats(BaseModel):
    """The seats of one feature, as a license server reports them."""

    capacity: int = 0
    in_use: int = 0
    holders: list[str] = []


class Features(BaseModel):
    """The seats of all features."""

    features: dict[str, Seats]


@dataclass(frozen=True)
class ExpectedPeer:
    """``fingerprint``: of the key that it must have, hex; "" if any node of the role is accepted."""

    role: str
    host: str
    port: int
    name: str = ""
    fingerprint: str = ""

    @property
    def shown(self) -> str:
        """For people."""
        return f"{self.role} {self.name or ''} {join_address(self.host, self.port)}".replace("  ", " ")


async def look_at_sn(settings: PreflightSettings, identity: Identity) -> tuple[list[Finding], list[ExpectedPeer]]:
    """Clock and version of the SN, and the nodes that it knows, which must be reachable too."""
    assert settings.sn is not None  # noqa: S101 - the caller has checked
    address = join_address(*settings.sn)
    try:
        async with SNClient(address, identity) as client:
            await client.network.GetInfo(pb.GetInfoRequest())  # connects, so the next call takes one round trip
            before, started = time.time(), time.monotonic()
            info = await client.network.GetInfo(pb.GetInfoRequest())
            took = time.monotonic() - started
            nodes = (await client.network.ListNodes(pb.ListNodesRequest())).nodes
    except SwarmError as error:
        return [failure("SN", address, error)], []
    known = [
        ExpectedPeer(node.role, node.host, node.port, node.name, node.fingerprint.hex())
        for node in nodes
        if node.present and node.port and node.role in PORT_OF_ROLE and node.fingerprint.hex() != identity.fingerprint
    ]
    offset = info.now - (before + took / 2) if info.now else None
    return [_version(address, info), _clock(address, offset, took)], known


def reach(peer: ExpectedPeer, identity: Identity) -> Finding:
    """Checks that its port answers, that both sides accept each other's certificate, and that it is the expected one.

    The chain port of an SN disconnects nodes that are not in touch with that SN; whether it accepts the certificate is
    checked at its API.
    """
    diagnosis = diagnose(peer.host, peer.port, identity, CONNECT_WITHIN_S)
    if not diagnosis.reached:
        advice = "See that it runs, and that every firewall between lets this port through."
        return Finding("port", peer.shown, "failed", diagnosis.problem, advice)
    if not diagnosis.accepted and peer.role != CHAIN:
        advice = "Exchange the CA certificates of both organizations, and compare clocks and addresses."
        return Finding("port", peer.shown, "failed", diagnosis.problem, advice)
    try:
        found = identity_of_certificate(_certificate_at(peer.host, peer.port, identity))
    except (OSError, IdentityError) as error:
        return Finding("port", peer.shown, "failed", str(error), "See what listens on that port.")
    who = f"{found.role} {found.name} answers"
    if found.role != ("sn" if peer.role == CHAIN else peer.role) or (
        peer.fingerprint and peer.fingerprint not in (found.fingerprint, found.id_fingerprint)
    ):
        wanted = f"{peer.role} {peer.name}".strip()
        advice = "Correct the address, or the port mapping that leads there."
        return Finding("port", peer.shown, "failed", f"{who}, not the one that {wanted} should show", advice)
    return Finding("port", peer.shown, "ok", f"{who} with the right certificate")


def lead_back(settings: PreflightSettings, identity: Identity) -> Finding:
    """Listens where the node will, and calls the announced address: this process itself must answer there."""
    port = settings.port or PORT_OF_ROLE.get(identity.role, 0)
    if not port:
        return Finding("announced address", settings.host_ip, "skipped", f"nobody calls a {identity.role}")
    subject = join_address(settings.host_ip, port)
    try:
        listening = socket.create_server(("", settings.bind_port or port))
    except OSError as error:
        if error.errno == errno.EADDRINUSE:
            return _already_there(settings.host_ip, port, subject, identity)
        problem = f"this user cannot listen there: {(error.strerror or str(error)).lower()}"
        return Finding("announced address", subject, "failed", problem, "Choose a port above 1023.")
    word = secrets.token_bytes(16)
    with listening:
        listening.settimeout(CONNECT_WITHIN_S)
        answering = threading.Thread(target=_answer, args=(listening, identity, word), daemon=True)
        answering.start()
        problem = _call(settings.host_ip, port, identity, word)
        listening.shutdown(socket.SHUT_RDWR)  # ends the wait for a further caller
        answering.join(2 * CONNECT_WITHIN_S)
    if problem:
        advice = "Correct --host-ip, the port mapping or the firewall; behind NAT, try it from another site."
        return Finding("announced address", subject, "failed", problem, advice)
    return Finding("announced address", subject, "ok", "it leads back to this host")


async def look_at_license(settings: PreflightSettings, identity: Identity) -> list[Finding]:
    """Checks that an active server has a seat for this node (takes none), and whether several swarms lease there."""
    feature = FEATURE_OF_ROLE.get(identity.role)
    subject = ", ".join(settings.license_servers)
    servers = Servers(settings.license_servers, identity)
    try:
        answer = await servers.request("GET", "/v1/status", feature or "any")
    except SwarmError as error:
        return [failure("license", subject, error)]
    finally:
        await servers.close()
    try:
        seats = Features.model_validate(answer).features.get(feature or "", Seats())
        swarms = LeasingSwarms.model_validate(answer).swarms
    except ValidationError:
        advice = "Correct its address."
        return [Finding("license", subject, "failed", "it answers, but not as a license server", advice)]
    return [_seats(subject, identity, feature, seats), *_several(subject, swarms)]


def _seats(subject: str, identity: Identity, feature: str | None, seats: Seats) -> Finding:
    if feature is None:
        return Finding("license", subject, "ok", f"it answers; a {identity.role} needs no seat")
    found = f"{seats.in_use} of {seats.capacity} seats for {feature} in use"
    if seats.in_use < seats.capacity or identity.name in seats.holders:
        return Finding("license", subject, "ok", found)
    return Finding("license", subject, "failed", found, "Stop a node, wait for its lease to end, or add seats.")


def _several(subject: str, swarms: Sequence[LeasingSwarm]) -> list[Finding]:
    """Two sentinels may be started for one swarm by mistake; they never meet."""
    if len(swarms) < 2:
        return []
    found = f"{len(swarms)} swarms lease there: {'; '.join(swarm.shown for swarm in swarms)}"
    advice = "If they are to be one, start one SN with --sentinel and all others with --sentinel-ip, with empty data."
    return [Finding("swarms", subject, "warning", found, advice)]


def peers_of(settings: PreflightSettings) -> Iterator[ExpectedPeer]:
    """The peers that the settings name."""
    for text in settings.peers:
        role, _, address = text.partition("@")
        yield ExpectedPeer(role, *split_address(address, 0))


def hosts_of(settings: PreflightSettings, peers: Sequence[ExpectedPeer]) -> list[str]:
    """All hosts that this node will talk to, without duplicates."""
    named = [settings.sn[0]] if settings.sn else []
    if settings.apls_ip:
        named += [split_address(address, 1)[0] for address in settings.license_servers]
    return list(dict.fromkeys([*named, *(peer.host for peer in peers)]))


def _version(address: str, info: pb.GetInfoReply) -> Finding:
    ours = version("swarm-learning")
    if info.version == ours:
        return Finding("version", f"SN {address}", "ok", info.version)
    advice = "Run the same version on all nodes."
    return Finding("version", f"SN {address}", "failed", f"{info.version}, here it is {ours}", advice)


def _clock(address: str, offset: float | None, took: float) -> Finding:
    if offset is None:
        return Finding("clock", f"SN {address}", "skipped", "that SN does not tell the time")
    found = f"{abs(offset):.2f} s {'behind' if offset > 0 else 'ahead of'} it (±{took / 2:.2f} s)"
    beyond = abs(offset) - took / 2
    if beyond < CLOCK_WARNS_S:
        return Finding("clock", f"SN {address}", "ok", found)
    state: State = "failed" if beyond >= CLOCK_FAILS_S else "warning"
    return Finding("clock", f"SN {address}", state, found, "Let NTP set both clocks (timedatectl set-ntp true).")


def _certificate_at(host: str, port: int, identity: Identity) -> bytes:
    context = identity.client_context()
    context.set_alpn_protocols(["h2", "http/1.1"])
    with (
        socket.create_connection((host, port), timeout=CONNECT_WITHIN_S) as raw,
        context.wrap_socket(raw, server_hostname=host) as tls,
    ):
        return tls.getpeercert(binary_form=True) or b""


def _already_there(host: str, port: int, subject: str, identity: Identity) -> Finding:
    """The port is in use: by this node itself, if its certificate answers."""
    try:
        found = identity_of_certificate(_certificate_at(host, port, identity))
    except (OSError, IdentityError) as error:
        problem = f"the port is in use on this host, and {subject} does not answer as this node: {error}"
        return Finding("announced address", subject, "failed", problem, "Stop what uses the port, or choose another.")
    if identity.fingerprint in (found.fingerprint, found.id_fingerprint):
        return Finding("announced address", subject, "ok", f"{found.role} {found.name} runs there already")
    problem = f"the port is in use on this host by {found.role} {found.name}"
    return Finding("announced address", subject, "failed", problem, "Choose another port for this node.")


def _answer(listening: socket.socket, identity: Identity, word: bytes) -> None:
    """Sends the word to each caller with a certificate of the swarm, until the socket is closed."""
    context = identity.server_context()
    while True:
        try:
            raw, _ = listening.accept()
        except OSError:
            return
        raw.settimeout(CONNECT_WITHIN_S)
        with contextlib.suppress(OSError), context.wrap_socket(raw, server_side=True) as tls:
            tls.sendall(word)


def _call(host: str, port: int, identity: Identity, word: bytes) -> str:
    """What is wrong; "" if the word came back."""
    context = identity.client_context()
    context.check_hostname = False  # a separate check compares the host name
    try:
        with (
            socket.create_connection((host, port), timeout=CONNECT_WITHIN_S) as raw,
            context.wrap_socket(raw) as tls,
        ):
            said = b""
            while len(said) < len(word) and (piece := tls.recv(len(word) - len(said))):
                said += piece
    except ssl.SSLError as error:
        return f"something else answers there: {(error.reason or str(error)).lower().replace('_', ' ')}"
    except OSError as error:
        return (error.strerror or str(error)).lower()
    return "" if said == word else "another node answers there, not this host"


async def look(settings: PreflightSettings, identity: Identity) -> tuple[list[Finding], list[ExpectedPeer]]:
    """All checks of the network; ports are tried at the same time."""
    findings: list[Finding] = []
    peers = list(peers_of(settings))
    if settings.sn is not None:
        said, known = await look_at_sn(settings, identity)
        findings += said
        peers += known
    loop = asyncio.get_running_loop()
    with ThreadPoolExecutor(AT_ONCE) as threads:
        tried = [loop.run_in_executor(threads, reach, peer, identity) for peer in dict.fromkeys(peers)]
        findings += await asyncio.gather(*tried)
    if settings.host_ip:
        findings.append(await asyncio.to_thread(lead_back, settings, identity))
    if settings.apls_ip:
        findings += await look_at_license(settings, identity)
    return findings, peers
