"""Turns requests into what the chain's gateways take, and refuses malformed ones before a transaction is sent."""

import re
from collections.abc import Sequence
from urllib.parse import unquote

from services.chain.events import TrainingConfig
from services.chain.geth_peers import Enode
from services.chain.training import CheckInCall
from services.errors import MalformedCall, TooLong
from services.identity.organizations import MOST_CAS, ORGANIZATION_NAME
from services.rpc import swarm_pb2 as pb
from services.rpc.measures import measure
from services.runtime import escaping
from services.runtime.addresses import join_address
from services.sn.reports import NodeReport

DIGEST_BYTES = 32
PROCESS_BYTES = 16
MAX_PORT = 65535
QUORUM_WAIT_LIMIT_S = 86_400  # as in the settings of an SL
MIN_PEERS_LIMIT = 1000  # the most participants with which a round is known to close in time
HOST_LIMIT_CHARACTERS = 253
METHOD_LIMIT_CHARACTERS = 32
VERSION_LIMIT_CHARACTERS = 200
REASON_LIMIT_CHARACTERS = 400
LEFT_OUT_LIMIT_BYTES = 64 * 1024  # of names and reasons, which go into one transaction
FIXED = "fixed"


def config(message: pb.Config) -> TrainingConfig:
    """Raises MalformedCall."""
    if message.min_peers > MIN_PEERS_LIMIT:
        raise MalformedCall(field=f"minPeers (at most {MIN_PEERS_LIMIT})")
    if message.quorum_wait_ms > QUORUM_WAIT_LIMIT_S * 1000:
        raise MalformedCall(field=f"quorumWaitMs (at most {QUORUM_WAIT_LIMIT_S} s)")
    if not 0 < len(message.merge_method) <= METHOD_LIMIT_CHARACTERS:
        raise MalformedCall(field="mergeMethod")
    if not 0 < len(message.transfer_compression) <= METHOD_LIMIT_CHARACTERS:
        raise MalformedCall(field="transferCompression")
    if not 0 < len(message.first_merge) <= METHOD_LIMIT_CHARACTERS:
        raise MalformedCall(field="firstMerge")
    if len(message.model_version) > VERSION_LIMIT_CHARACTERS:
        raise MalformedCall(field="modelVersion")
    if message.weighting not in {"", FIXED, "samples"}:
        raise MalformedCall(field="nodeWeightage")
    return TrainingConfig(
        min_peers=message.min_peers,
        sync_frequency=message.sync_frequency,
        merge_method=message.merge_method,
        adaptive_sync=message.adaptive_sync,
        quorum_wait_ms=message.quorum_wait_ms,
        transfer_compression=message.transfer_compression,
        first_merge=message.first_merge,
        model_version=message.model_version,
        weighting=message.weighting or FIXED,
        patience=message.patience,
        metric_down=message.metric_down,
    )


def enode(text: str) -> Enode:
    """The enode of a geth, at the address where its SN relays to it. Raises MalformedCall."""
    try:
        found = Enode.parse(text)
    except ValueError as error:
        raise MalformedCall(field=f"enode ({error})") from None
    address(found.host, found.port)
    return found


def check_in(request: pb.CheckInRequest, name: str) -> CheckInCall:
    """Raises MalformedCall."""
    address(request.host, request.port)
    return CheckInCall(
        round=request.round,
        base=request.base,
        name=name,
        digest=digest(request.digest, "digest"),
        size=request.size,
        layout=digest(request.layout, "layout"),
        weight=request.weight,
        finished=request.finished,
        host=request.host,
        port=request.port,
    )


def report(request: pb.ReportRequest, name: str) -> NodeReport:
    return NodeReport(
        round=request.round,
        name=name,
        loss=measure(request, "loss"),
        metric=measure(request, "metric"),
        epochs_done=request.epochs_done,
        epochs_total=request.epochs_total,
    )


def address(host: str, port: int) -> None:
    """Raises MalformedCall if no peer could reach this address."""
    if not 0 < len(host) <= HOST_LIMIT_CHARACTERS or not host.isascii() or not host.isprintable():
        raise MalformedCall(field="host")
    if not 0 <= port <= MAX_PORT:
        raise MalformedCall(field="port")


def process(said: bytes) -> bytes:
    """The id of the calling process. Raises MalformedCall if it is not one."""
    if len(said) != PROCESS_BYTES:
        raise MalformedCall(field="swarm-process (16 bytes in hexadecimal, in the metadata)")
    return said


def place(request: pb.HoldNameRequest, source: str) -> str:
    """Where a process runs, for people. ``source``: the address from which gRPC got the call. Raises MalformedCall."""
    if not request.host:
        return unquote(source).removeprefix("ipv4:").removeprefix("ipv6:")
    address(request.host, request.port)
    return join_address(request.host, request.port)


def digest(value: bytes, field: str) -> bytes:
    """Raises MalformedCall."""
    if len(value) != DIGEST_BYTES:
        raise MalformedCall(field=field)
    return value


def organization(name: str) -> str:
    """Raises MalformedCall."""
    if name.endswith("\n") or not re.match(ORGANIZATION_NAME, name):
        raise MalformedCall(field="organization")
    return name


def cas(fingerprints: Sequence[bytes]) -> list[bytes]:
    """Fingerprints of CAs, each once and sorted, so that their order makes no other proposal. Raises MalformedCall."""
    if not 0 < len(fingerprints) <= MOST_CAS:
        raise MalformedCall(field=f"cas (1 to {MOST_CAS})")
    return sorted({digest(one, "cas") for one in fingerprints})


def left_out(message: list[pb.LeftOut]) -> list[tuple[str, str, bool]]:
    """As the chain's gateway takes them; reasons are cut to a readable length. Raises MalformedCall, TooLong."""
    if (
        size := sum(
            len(entry.name.encode()) + len(entry.reason[:REASON_LIMIT_CHARACTERS].encode()) for entry in message
        )
    ) > LEFT_OUT_LIMIT_BYTES:
        raise TooLong(field="left_out", size=size, limit=LEFT_OUT_LIMIT_BYTES)
    if len(message) > MIN_PEERS_LIMIT:
        raise MalformedCall(field=f"left_out (at most {MIN_PEERS_LIMIT})")
    return [(entry.name, reason(entry.reason), entry.not_finite) for entry in message]


def reason(text: str) -> str:
    """The text as one readable line."""
    return escaping.replaced(" ".join(text[:REASON_LIMIT_CHARACTERS].splitlines()))
