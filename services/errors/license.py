"""No lease, no seat, no license server: exit code 11."""

from services.errors.base import Fact, SwarmError


class LicenseError(SwarmError):
    code = "license"
    grpc_status = "FAILED_PRECONDITION"
    exit_code = 11
    problem = Fact(str, "problem")
    message = "No license for {feature}: {problem}"
    remedy = "Check the license server {address}."


class LicenseServerUnreachable(LicenseError):
    code = "license-server-unreachable"
    grpc_status = "UNAVAILABLE"
    message = "The license server {address} cannot be reached: {problem}"
    remedy = "Start it (`swarm license-server`) or correct --apls-ip and --apls-port."


class NoSeatLeft(LicenseError):
    code = "no-seat-left"
    grpc_status = "RESOURCE_EXHAUSTED"
    message = "All {capacity} seats for {feature} are in use (by {holders})"
    remedy = (
        "Stop a node that is not needed, or install a license with more seats on {address}. "
        "The seat of a killed node becomes free within {free_within}."
    )


class LicenseRevoked(LicenseError):
    code = "license-revoked"
    grpc_status = "PERMISSION_DENIED"
    message = "The lease for {feature} was revoked: {problem}"
    remedy = "Ask the operator of the license server {address}."


class LeaseUnknown(LicenseError):
    code = "lease-unknown"
    grpc_status = "NOT_FOUND"
    message = "The license server {address} does not know the lease {lease}"
    remedy = "It was freed because it was not renewed in time; the node takes a new one by itself."


class LicenseUnreadable(LicenseError):
    code = "license-unreadable"
    grpc_status = "INVALID_ARGUMENT"
    message = "This is not a license file: {problem}"
    remedy = "Install the file as its issuer gave it; `swarm license issue` makes one."


class LicenseForged(LicenseError):
    code = "license-forged"
    grpc_status = "FAILED_PRECONDITION"
    message = "The signature of license {license} is not valid: {problem}"
    remedy = "Ask its issuer for the file; an operator decides whose keys are trusted (`swarm license trust`)."


class LicenseExpired(LicenseError):
    code = "license-expired"
    grpc_status = "FAILED_PRECONDITION"
    message = "The license for {feature} expired at {when}"
    remedy = "Install a new license on {address}."


class LicenseNotYetValid(LicenseError):
    code = "license-not-yet-valid"
    grpc_status = "FAILED_PRECONDITION"
    message = "The license for {feature} is valid only from {when}"
    remedy = "Wait until then, or check the clock of the license server {address}."


class LockCodeDiffers(LicenseError):
    code = "lock-code-differs"
    grpc_status = "FAILED_PRECONDITION"
    message = "License {license} is for the server with the lock code {theirs}; this one has {ours}"
    remedy = "Give the issuer the lock code of this server, and install the file made for it."


class NodeNotAllowed(LicenseError):
    code = "node-not-allowed"
    grpc_status = "PERMISSION_DENIED"
    message = "The pool for {feature} does not serve {name}; it serves {allowed}"
    remedy = "An operator of {address} decides which nodes a pool serves."


class SeatsReserved(NoSeatLeft):
    code = "seats-reserved"
    message = "All free seats for {feature} are reserved for others ({capacity} in all, used by {holders})"
    remedy = "Stop a node that is not needed, or have an operator of {address} change the reservations."


class NotActive(LicenseError):
    code = "not-active"
    grpc_status = "UNAVAILABLE"
    message = "The license server {address} is on standby for another one"
    remedy = "Use the one that is active ({active}); nodes find it by themselves if they are given both."
