"""Who gets a seat, who keeps it, who has lost it: pure decisions over plain data, ``now`` passed in."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from services.errors import LeaseUnknown, LicenceError, LicenceRevoked, NoSeatLeft, WrongRole
from services.licensing.features import FEATURE_OF_ROLE, FEATURES

# A node renews three times in this time, so one lost message costs nothing, and a dead node's seat is free well
# within a minute.
LEASE_TTL_S = 30.0


@dataclass(frozen=True)
class Holder:
    """A node, by its certificate."""

    role: str
    name: str
    fingerprint: str


@dataclass(frozen=True)
class Lease:
    """A seat that is taken. ``token`` grows with every grant, so an earlier process of the same node is told apart."""

    id: str
    token: int
    feature: str
    node: str
    fingerprint: str
    since: str  # for people, ISO 8601


class Deadlines:
    """Until when each lease is good, in seconds of a clock that only goes forward.

    Kept in memory on purpose: wall clocks jump, and after a restart nobody is punished for the time in which
    renewing was not possible, so every lease that was kept starts with a whole TTL.
    """

    def __init__(self, ttl_s: float, kept: Sequence[Lease], now: float) -> None:
        self.ttl_s = ttl_s
        self._until = {lease.id: now + ttl_s for lease in kept}

    def extend(self, lease_id: str, now: float) -> None:
        self._until[lease_id] = now + self.ttl_s

    def drop(self, lease_id: str) -> None:
        self._until.pop(lease_id, None)

    def stale(self, leases: Sequence[Lease], now: float) -> list[Lease]:
        """The leases whose time is over."""
        return [lease for lease in leases if self._until.get(lease.id, now) <= now]


def require_feature(holder: Holder, feature: str) -> None:
    """Raises LicenceError for a feature that does not exist, WrongRole for one of another type of node."""
    if feature not in FEATURES:
        raise LicenceError(feature=feature, problem=f"that is not a feature (one of {', '.join(FEATURES)})")
    if FEATURE_OF_ROLE.get(holder.role) != feature:
        needed = next(role for role, its_feature in FEATURE_OF_ROLE.items() if its_feature == feature)
        raise WrongRole(name=holder.name, role=holder.role, action=f"a seat for {feature}", needed=needed)


def seat_of(holder: Holder, feature: str, taken: Sequence[Lease], capacity: int) -> Lease | None:
    """The lease this certificate holds already, or None: there is a free seat for it. Raises NoSeatLeft."""
    of_feature = [lease for lease in taken if lease.feature == feature]
    for lease in of_feature:
        if lease.fingerprint == holder.fingerprint:
            return lease
    if len(of_feature) >= capacity:
        holders = ", ".join(sorted(lease.node for lease in of_feature)) or "nobody"
        raise NoSeatLeft(feature=feature, capacity=capacity, holders=holders)
    return None


def require_current(lease: Lease | None, lease_id: str, token: int, holder: Holder) -> Lease:
    """The lease, where this holder and this token may act on it. Raises LeaseUnknown, LicenceRevoked."""
    if lease is None or lease.fingerprint != holder.fingerprint:  # somebody else's lease is not spoken of
        raise LeaseUnknown(lease=lease_id)
    if lease.token != token:
        problem = "another process with the same certificate has taken it over"
        raise LicenceRevoked(feature=lease.feature, problem=problem)
    return lease


def seats_in_use(taken: Sequence[Lease], capacities: Mapping[str, int]) -> dict[str, tuple[int, list[str]]]:
    """For each feature its capacity and the names of the nodes that hold a seat."""
    return {
        feature: (capacity, sorted(lease.node for lease in taken if lease.feature == feature))
        for feature, capacity in capacities.items()
    }
