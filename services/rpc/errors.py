"""Converts SwarmError to a gRPC status and back, by the code in the trailing metadata."""

import json
from typing import Any

import grpc

from services.errors import PeerNotAccepted, SNOfAnotherVersion, SNSilent, SNUnreachable, SwarmError, by_code

CODE_KEY = "swarm-error-code"
FACTS_KEY = "swarm-error-facts-bin"

# gRPC refuses trailing metadata above 8 KiB; a fact is a name, a number or a sentence.
FACT_LIMIT_CHARACTERS = 400
FACTS_LIMIT_BYTES = 4096

Metadata = tuple[tuple[str, str | bytes], ...]


def to_status(error: SwarmError) -> tuple[grpc.StatusCode, str, Metadata]:
    """Status, message and trailing metadata that carry ``error`` to the other side."""
    facts = json.dumps({name: _portable(value) for name, value in error.facts.items()}).encode()
    if len(facts) > FACTS_LIMIT_BYTES:
        facts = b"{}"
    metadata: Metadata = ((CODE_KEY, error.code), (FACTS_KEY, facts))
    return grpc.StatusCode[error.grpc_status], str(error)[: 2 * FACT_LIMIT_CHARACTERS], metadata


def from_rpc_error(error: grpc.aio.AioRpcError, address: str) -> SwarmError:
    """The SwarmError with which the SN at ``address`` answered, or one that says why there is no answer."""
    metadata = dict(error.trailing_metadata() or ())
    details = error.details() or error.code().name
    code = metadata.get(CODE_KEY)
    if code is not None:
        return by_code(_text(code))(**_facts(metadata.get(FACTS_KEY, b"{}"), details))
    match error.code():
        case grpc.StatusCode.UNAVAILABLE:
            return SNUnreachable(address=address, problem=_plain(details))
        case grpc.StatusCode.DEADLINE_EXCEEDED:
            return SNSilent(address=address)
        case grpc.StatusCode.CANCELLED:
            return SNUnreachable(address=address, problem="the connection was closed")
        case grpc.StatusCode.UNIMPLEMENTED:
            return SNOfAnotherVersion(address=address)
        case grpc.StatusCode.UNAUTHENTICATED | grpc.StatusCode.PERMISSION_DENIED:
            return PeerNotAccepted(peer="This node", address=address, problem=details)
        case grpc.StatusCode.INTERNAL | grpc.StatusCode.UNKNOWN:
            # A failing SN says why, with a code of ours. Without one, the connection broke during the call.
            return SNUnreachable(address=address, problem=_plain(details))
        case _:
            return SwarmError(detail=f"the SN at {address} answered {error.code().name}: {details}")


def _portable(value: Any) -> Any:
    """A fact as JSON: bytes as hex, unknown types as text, text cut to the length of a sentence."""
    if value is None or isinstance(value, bool | int | float):
        return value
    if isinstance(value, bytes):
        return value[:FACT_LIMIT_CHARACTERS].hex()
    if isinstance(value, list | tuple | set | frozenset):
        return [_portable(item) for item in value]
    return str(value)[:FACT_LIMIT_CHARACTERS]


def _facts(packed: str | bytes, details: str) -> dict[str, Any]:
    """The facts as sent; the message itself if they cannot be read."""
    try:
        facts = json.loads(packed)
    except ValueError:
        facts = None
    return facts if isinstance(facts, dict) and facts else {"detail": details, "problem": details}


def _text(value: str | bytes) -> str:
    return value.decode(errors="replace") if isinstance(value, bytes) else value


def _plain(details: str) -> str:
    """Reduces gRPC's ``failed to connect to all addresses; last error: UNKNOWN: ipv4:...: reason`` to the last part."""
    reason = details.split("last error:", 1)[-1].strip().removeprefix("UNKNOWN:").removeprefix("UNAVAILABLE:").strip()
    return reason or details
