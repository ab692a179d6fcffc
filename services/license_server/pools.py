"""The pool of each feature: its seats, the nodes that it serves, and reservations."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime

from sqlalchemy import delete, func, insert, select

from services.errors import AdminError, NoSuchThing
from services.license_server.actor import Actor
from services.license_server.audit_log import record
from services.license_server.database import Database, Transaction
from services.license_server.leases import Reservation, SeatPool
from services.license_server.licenses import usable_grants
from services.license_server.rows import utc
from services.license_server.schema import leases, pools, reservations
from services.licensing.features import FEATURES

MAX_PATTERNS = 100
MAX_PATTERN = 200


@dataclass(frozen=True)
class PoolView:
    """``valid_until``: the end of the currently valid grant that ends first."""

    feature: str
    capacity: int
    used: int
    reserved: int
    allowed: tuple[str, ...]
    reservations: tuple[Reservation, ...]
    valid_until: datetime | None
    expired: str
    begins: str

    @property
    def free(self) -> int:
        return max(self.capacity - self.used, 0)


class Pools:
    def __init__(self, database: Database) -> None:
        self._database = database

    def all(self, actor: Actor) -> list[PoolView]:
        """One for each feature, in the order SN, SL, SWOP, SWCI."""
        actor.require("pools:read")
        with self._database.read() as transaction:
            return views(transaction)

    def restrict(self, actor: Actor, feature: str, allowed: Sequence[str]) -> PoolView:
        """Serves only nodes that match one of the patterns; []: every node. Nobody loses a seat.

        A pattern is a node's name with * and ?, or ``sha256:`` and at least 8 hex digits of its public key's digest.
        """
        actor.require("pools:write")
        _require_feature(feature)
        patterns = _checked(allowed)
        with self._database.write() as transaction:
            transaction.write(delete(pools).where(pools.c.feature == feature))
            transaction.write(insert(pools).values(feature=feature, allowed=json.dumps(patterns)))
            record(transaction, actor, "pool restricted", feature, {"allowed": ", ".join(patterns) or "every node"})
            return _view(transaction, feature)

    def reserve(self, actor: Actor, feature: str, clients: str, seats: int) -> PoolView:
        """Keeps seats for nodes that match the pattern. Raises AdminError if there are not enough."""
        actor.require("pools:write")
        _require_feature(feature)
        pattern = _checked([clients])[0]
        if isinstance(seats, bool) or not isinstance(seats, int) or seats < 1:
            raise AdminError(problem="A reservation has at least one seat")
        with self._database.write() as transaction:
            pool = read_pools(transaction)[feature]
            reserved = sum(place.seats for place in pool.reservations)
            if reserved + seats > pool.capacity:
                problem = f"{reserved} of {pool.capacity} seats for {feature} are reserved; {seats} more are too many"
                raise AdminError(problem=problem)
            transaction.write(insert(reservations).values(feature=feature, clients=pattern, seats=seats))
            record(transaction, actor, "seats reserved", feature, {"clients": pattern, "seats": seats})
            return _view(transaction, feature)

    def unreserve(self, actor: Actor, reservation_id: int) -> PoolView:
        """Removes a reservation; nobody loses a seat. Raises NoSuchThing."""
        actor.require("pools:write")
        with self._database.write() as transaction:
            found = transaction.row(select(reservations).where(reservations.c.id == reservation_id))
            if found is None:
                raise NoSuchThing(what="reservation", name=reservation_id)
            transaction.write(delete(reservations).where(reservations.c.id == reservation_id))
            told = {"clients": found["clients"], "seats": found["seats"]}
            record(transaction, actor, "reservation removed", found["feature"], told)
            return _view(transaction, found["feature"])


def read_pools(transaction: Transaction) -> dict[str, SeatPool]:
    """The pools by feature, at the transaction's wall time."""
    allowed = {row["feature"]: tuple(json.loads(row["allowed"])) for row in transaction.rows(select(pools))}
    places: dict[str, list[Reservation]] = {}
    for row in transaction.rows(select(reservations).order_by(reservations.c.id)):
        places.setdefault(row["feature"], []).append(Reservation(row["id"], row["clients"], row["seats"]))
    given = usable_grants(transaction)
    found: dict[str, SeatPool] = {}
    for feature in FEATURES:
        mine = [grant for grant in given if grant["feature"] == feature]
        ended = [grant["valid_until"] for grant in mine if _over(grant["valid_until"], transaction.wall)]
        coming = [grant["valid_from"] for grant in mine if grant["valid_from"] > transaction.wall]
        valid = [
            grant["capacity"]
            for grant in mine
            if grant["valid_from"] <= transaction.wall and not _over(grant["valid_until"], transaction.wall)
        ]
        found[feature] = SeatPool(
            feature,
            sum(valid),
            allowed.get(feature, ()),
            tuple(places.get(feature, ())),
            expired=_words(max(ended)) if ended else "",
            begins=_words(min(coming)) if coming else "",
        )
    return found


def views(transaction: Transaction) -> list[PoolView]:
    count = select(leases.c.feature, func.count()).group_by(leases.c.feature)
    used = {feature: int(number) for feature, number in transaction.connection.execute(count)}
    ends: dict[str, float] = {}
    for grant in usable_grants(transaction):
        end = grant["valid_until"]
        if end is not None and end > transaction.wall and grant["valid_from"] <= transaction.wall:
            ends[grant["feature"]] = min(end, ends.get(grant["feature"], end))
    return [
        PoolView(
            feature=feature,
            capacity=pool.capacity,
            used=used.get(feature, 0),
            reserved=sum(place.seats for place in pool.reservations),
            allowed=pool.allowed,
            reservations=pool.reservations,
            valid_until=utc(ends[feature]) if feature in ends else None,
            expired=pool.expired,
            begins=pool.begins,
        )
        for feature, pool in read_pools(transaction).items()
    ]


def _view(transaction: Transaction, feature: str) -> PoolView:
    return next(view for view in views(transaction) if view.feature == feature)


def _over(end: float | None, now: float) -> bool:
    return end is not None and end <= now


def _words(at: float) -> str:
    return f"{utc(at):%Y-%m-%d %H:%M:%S} UTC"


def _require_feature(feature: str) -> None:
    if feature not in FEATURES:
        raise NoSuchThing(what="feature", name=feature[:40])


def _checked(patterns: Sequence[str]) -> list[str]:
    if len(patterns) > MAX_PATTERNS:
        raise AdminError(problem=f"{len(patterns)} patterns are more than {MAX_PATTERNS}")
    found = [pattern.strip() for pattern in patterns]
    for pattern in found:
        if not 1 <= len(pattern) <= MAX_PATTERN or not pattern.isprintable():
            raise AdminError(problem=f"A pattern has 1 to {MAX_PATTERN} printable characters, such as hospital-a-*")
        if pattern.startswith("sha256:") and not _is_digest(pattern.removeprefix("sha256:")):
            raise AdminError(problem="After sha256: come 8 to 64 hex digits of a certificate's digest")
    return found


def _is_digest(text: str) -> bool:
    return 8 <= len(text) <= 64 and all(letter in "0123456789abcdefABCDEF" for letter in text)
