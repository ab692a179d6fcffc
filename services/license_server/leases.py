"""Who gets, keeps or has lost a seat: pure decisions over plain data."""

import fnmatch
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache

from cryptography import x509
from cryptography.hazmat.primitives.serialization import Encoding

from services.errors import (
    LeaseUnknown,
    LicenseError,
    LicenseExpired,
    LicenseNotYetValid,
    LicenseRevoked,
    NodeNotAllowed,
    NoSeatLeft,
    SeatsReserved,
    WrongRole,
)
from services.identity.certificates import authority_of
from services.identity.peers import identity_of_certificate
from services.licensing.features import FEATURE_OF_ROLE, FEATURES

NAMED_HOLDERS = 12  # listed in the error if a pool is full


@dataclass(frozen=True)
class LeaseHolder:
    """A node, as identified by its certificate. ``organization``: '' without a trust file."""

    role: str
    name: str
    fingerprint: str
    address: str = ""
    certificate: str = ""  # PEM
    organization: str = ""


@dataclass(frozen=True)
class Reservation:
    """``seats`` reserved for nodes that match ``clients``."""

    id: int
    clients: str
    seats: int


@dataclass(frozen=True)
class SeatPool:
    """A feature's seats at one moment. ``expired``, ``begins``: when seats ended or will begin, for
    errors; '' if none.
    """

    feature: str
    capacity: int
    allowed: tuple[str, ...] = ()
    reservations: tuple[Reservation, ...] = ()
    expired: str = ""
    begins: str = ""


@dataclass(frozen=True)
class Taken:
    """A seat in use. ``token`` grows with every grant, so that an earlier process of the same node is recognized."""

    id: str
    token: int
    feature: str
    node: str
    fingerprint: str
    reservation: int | None = None
    revoked: str | None = None


def require_feature(holder: LeaseHolder, feature: str) -> None:
    """Raises LicenseError for an unknown feature, WrongRole for the feature of another kind of node."""
    if feature not in FEATURES:
        raise LicenseError(feature=feature, problem=f"that is not a feature (one of {', '.join(FEATURES)})")
    if FEATURE_OF_ROLE.get(holder.role) != feature:
        needed = next(role for role, its_feature in FEATURE_OF_ROLE.items() if its_feature == feature)
        raise WrongRole(name=holder.name, role=holder.role, action=f"a seat for {feature}", needed=needed)


def same_member(certificate: str, other: str) -> bool:
    """Whether two certificates (PEM, '' if none was shown) have the same name and CA. The keys may differ."""
    return bool(certificate and other) and _member_of(certificate) == _member_of(other)


@lru_cache(maxsize=1024)
def _member_of(certificate: str) -> tuple[str, str]:
    parsed = x509.load_pem_x509_certificate(certificate.encode("ascii"))
    return identity_of_certificate(parsed.public_bytes(Encoding.DER)).spiffe_id, authority_of(parsed)


def matches(pattern: str, name: str, fingerprint: str) -> bool:
    """Whether a pattern matches a node: its name with * and ?, or ``sha256:`` and the beginning of its key's digest.

    The name of a certificate matches all its slots.
    """
    if pattern.startswith("sha256:"):
        digest = pattern.removeprefix("sha256:").lower()
        return len(digest) >= 8 and fingerprint.startswith(digest)
    return any(fnmatch.fnmatchcase(known, pattern) for known in (name, name.partition("/")[0]))


def place_for(holder: LeaseHolder, pool: SeatPool, taken: Sequence[Taken], lease_s: float) -> int | None:
    """The reservation whose seat the newcomer gets; None: an unreserved seat. ``taken``: all seats of this feature in
    use. ``lease_s``: seconds after which a seat that is not renewed becomes free.

    Raises NodeNotAllowed, LicenseExpired, LicenseNotYetValid, NoSeatLeft, SeatsReserved.
    """
    if pool.allowed and not any(matches(pattern, holder.name, holder.fingerprint) for pattern in pool.allowed):
        raise NodeNotAllowed(feature=pool.feature, name=holder.name, allowed=", ".join(pool.allowed))
    if pool.capacity == 0 and pool.expired:
        raise LicenseExpired(feature=pool.feature, when=pool.expired)
    if pool.capacity == 0 and pool.begins:
        raise LicenseNotYetValid(feature=pool.feature, when=pool.begins)
    names = sorted(lease.node for lease in taken)
    more = f" and {len(names) - NAMED_HOLDERS} more" if len(names) > NAMED_HOLDERS else ""
    facts = {
        "feature": pool.feature,
        "capacity": pool.capacity,
        "holders": (", ".join(names[:NAMED_HOLDERS]) or "nobody") + more,
        "free_within": f"{lease_s:g} s",
    }
    if len(taken) >= pool.capacity:
        raise NoSeatLeft(**facts)
    used = {place.id: sum(lease.reservation == place.id for lease in taken) for place in pool.reservations}
    for place in pool.reservations:
        if used[place.id] < place.seats and matches(place.clients, holder.name, holder.fingerprint):
            return place.id
    kept_free = sum(max(place.seats - used[place.id], 0) for place in pool.reservations)
    if len(taken) + kept_free >= pool.capacity:
        raise SeatsReserved(**facts)
    return None


def require_current(lease: Taken | None, lease_id: str, token: int, holder: LeaseHolder) -> Taken:
    """The lease, if this holder with this token may act on it. Raises LeaseUnknown, LicenseRevoked."""
    # Nobody is told whether somebody else's lease exists.
    if lease is None or (lease.fingerprint, lease.node) != (holder.fingerprint, holder.name):
        raise LeaseUnknown(lease=lease_id[:64])
    if lease.token != token:
        problem = "another process with the same certificate has taken it over"
        raise LicenseRevoked(feature=lease.feature, problem=problem)
    return lease


def seats_in_use(taken: Sequence[Taken], capacities: Mapping[str, int]) -> dict[str, tuple[int, list[str]]]:
    """For each feature its capacity and the names of the nodes that hold a seat."""
    return {
        feature: (capacity, sorted(lease.node for lease in taken if lease.feature == feature))
        for feature, capacity in capacities.items()
    }
