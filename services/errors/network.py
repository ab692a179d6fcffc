"""A node cannot be reached, or a port is in use: exit code 12."""

from typing import Any

from services.errors.base import Fact, SwarmError


class NetworkError(SwarmError):
    code = "network"
    grpc_status = "UNAVAILABLE"
    exit_code = 12
    problem = Fact(str, "problem")
    message = "{peer} at {address} cannot be reached: {problem}"
    remedy = "Check that it runs and that its port is open from here."


class SNUnreachable(NetworkError):
    code = "sn-unreachable"
    message = "The SN at {address} cannot be reached: {problem}"
    remedy = "Check that it runs (its log says 'Starting SWARM-API-SERVER'), and --sn-ip and --sn-api-port."


class SNSilent(SNUnreachable):
    """The SN does not answer; it may be cut off from the other SNs."""

    code = "sn-silent"
    message = "The SN at {address} cannot be reached: it did not answer in time"

    def __init__(self, **facts: Any) -> None:
        super().__init__(**{"problem": "it did not answer in time", **facts})


class PortInUse(NetworkError):
    code = "port-in-use"
    message = "Port {port} on {host} is in use by another program"
    remedy = "Stop that program or choose another port with {option}."


class TooManyCalls(SNUnreachable):
    """Too many calls of one member, which may continue in a moment."""

    code = "too-many-calls"
    grpc_status = "RESOURCE_EXHAUSTED"
    seconds = Fact(float, "seconds")
    message = "Too many {action} from {name}: {problem}"
    remedy = "Nodes try again by themselves; a program has to wait {seconds} s, or ask less often."


class SNOfAnotherVersion(NetworkError):
    code = "sn-of-another-version"
    grpc_status = "UNIMPLEMENTED"
    message = "The SN at {address} does not know this call: it runs another version"
    remedy = "Install the same release of swarm-learning on both sides."


class NotUpInTime(NetworkError):
    code = "not-up-in-time"
    grpc_status = "DEADLINE_EXCEEDED"
    message = "{peer} at {address} did not come up within {limit}: {problem}"
    remedy = "Check its log, or wait again with more retries."


class PeerUnreachable(NetworkError):
    code = "peer-unreachable"
