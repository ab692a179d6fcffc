"""Grants, renews and takes back leases. Simultaneous requests are decided in one transaction, in order."""

import secrets
import threading
from collections import deque
from collections.abc import Callable, Sequence
from concurrent.futures import Future
from dataclasses import dataclass
from typing import Any, Literal

from sqlalchemy import Select, bindparam, delete, insert, select, update

from services.errors import Expelled, LeaseUnknown, LicenseError, LicenseExpired, LicenseRevoked, SwarmError
from services.license_server.database import Database, Transaction
from services.license_server.leases import (
    LeaseHolder,
    SeatPool,
    Taken,
    place_for,
    require_current,
    require_feature,
    same_member,
    seats_in_use,
)
from services.license_server.licenses import usable_grants
from services.license_server.pools import read_pools
from services.license_server.schema import checkouts, expulsions, leases, revocations
from services.license_server.server_settings import Values, read_values
from services.license_server.usage import note_denial
from services.runtime import logs

MAX_BATCH = 256  # requests per transaction

# How the use of a seat ended.
How = Literal["released", "stale", "revoked", "expelled"]

_log = logs.get("license-server")

_FIELDS = (
    leases.c.id,
    leases.c.token,
    leases.c.feature,
    leases.c.node,
    leases.c.fingerprint,
    leases.c.reservation,
    leases.c.revoke_reason.label("revoked"),
)
_EXTEND = (
    update(leases)
    .where(leases.c.id == bindparam("lease"))
    .values(expires=bindparam("until"), renewed_at=bindparam("at"))
)


@dataclass(frozen=True)
class Granted:
    """A seat, for another ``expires_in_s``. ``again``: the node already held it."""

    lease: str
    token: int
    expires_in_s: float
    capacity: int
    grace_s: float
    again: bool = False


Decision = Callable[["Turn"], Any]


@dataclass
class Turn:
    """One transaction, and what has been read in it so far."""

    transaction: Transaction
    values: Values
    lease_s: float
    _pools: dict[str, SeatPool] | None = None

    @property
    def pools(self) -> dict[str, SeatPool]:
        if self._pools is None:
            self._pools = read_pools(self.transaction)
        return self._pools

    @property
    def until(self) -> float:
        return self.transaction.now + self.lease_s


class LeaseAllocator:
    """Thread-safe. ``ask_*`` return at once a Future, which ``work`` completes; the other methods wait for it.

    ``lease_s`` replaces the value set in the database.
    """

    def __init__(self, database: Database, lease_s: float | None = None) -> None:
        self._database = database
        self._lease_s = lease_s
        self._waiting: deque[tuple[Decision, Future[Any]]] = deque()
        self._turn = threading.Lock()
        self._asked = threading.Event()

    # --- what nodes ask ---

    def acquire(self, holder: LeaseHolder, feature: str) -> Granted:
        """Grants a seat. The same node gets the same seat again, with a new token, so that a restart takes no second
        seat.

        Raises LicenseError, WrongRole, NoSeatLeft, SeatsReserved, LicenseExpired, LicenseNotYetValid, LicenseRevoked,
        NodeNotAllowed, Expelled.
        """
        granted: Granted = self._now(lambda turn: self._acquire(turn, holder, feature))
        return granted

    def renew(self, holder: LeaseHolder, lease_id: str, token: int) -> Granted:
        """Raises LeaseUnknown, LicenseRevoked."""
        granted: Granted = self._now(lambda turn: self._renew(turn, holder, lease_id, token))
        return granted

    def release(self, holder: LeaseHolder, lease_id: str, token: int) -> None:
        """Gives the seat back; a lease that is already gone is no error. Raises LicenseRevoked."""
        self._now(lambda turn: self._release(turn, holder, lease_id, token))

    def ask_acquire(self, holder: LeaseHolder, feature: str) -> Future[Granted]:
        return self._ask(lambda turn: self._acquire(turn, holder, feature))

    def ask_renew(self, holder: LeaseHolder, lease_id: str, token: int) -> Future[Granted]:
        return self._ask(lambda turn: self._renew(turn, holder, lease_id, token))

    def ask_release(self, holder: LeaseHolder, lease_id: str, token: int) -> Future[None]:
        return self._ask(lambda turn: self._release(turn, holder, lease_id, token))

    def status(self) -> dict[str, tuple[int, list[str]]]:
        """Feature -> (capacity, names of the holders)."""
        with self._database.read() as transaction:
            capacities = {feature: pool.capacity for feature, pool in read_pools(transaction).items()}
            living = _taken(transaction, select(*_FIELDS).where(leases.c.expires > transaction.now))
            return seats_in_use(living, capacities)

    def wait(self) -> None:
        """Waits for a request or ``wake``."""
        self._asked.wait()
        self._asked.clear()

    def wake(self) -> None:
        self._asked.set()

    def work(self) -> bool:
        """Decides up to one batch of waiting requests, in the caller's thread. Returns whether there were any."""
        with self._turn:
            batch = [self._waiting.popleft() for _ in range(min(len(self._waiting), MAX_BATCH))]
            if not batch:
                return False
            try:
                answers = self._decide([decision for decision, _ in batch])
            except Exception as error:
                for _, future in batch:
                    future.set_exception(error)
                return True
            for (_, future), answer in zip(batch, answers, strict=True):
                if isinstance(answer, SwarmError):
                    future.set_exception(answer)
                else:
                    future.set_result(answer)
        return True

    def sweep(self) -> int:
        """Frees stale leases and advances the lease clock. Returns how many were freed."""
        with self._database.write() as transaction:
            return self._free_stale(transaction)

    def _now(self, decision: Decision) -> Any:
        future = self._ask(decision)
        while not future.done():
            self.work()
        return future.result()

    def _ask(self, decision: Decision) -> Future[Any]:
        future: Future[Any] = Future()
        self._waiting.append((decision, future))
        self._asked.set()
        return future

    # --- decisions ---

    def _decide(self, decisions: Sequence[Decision]) -> list[Any]:
        """Decides all in one transaction. A refusal changes nothing except the record of denials."""
        answers: list[Any] = []
        with self._database.write() as transaction:
            values = read_values(transaction)
            turn = Turn(transaction, values, self._lease_s or float(values.lease_s))
            self._free_stale(transaction)
            for decision in decisions:
                try:
                    answers.append(decision(turn))
                except SwarmError as refusal:
                    answers.append(refusal)
        return answers

    def _acquire(self, turn: Turn, holder: LeaseHolder, feature: str) -> Granted:
        transaction = turn.transaction
        _require_not_expelled(transaction, holder)
        try:
            require_feature(holder, feature)
            _require_not_revoked(transaction, holder, feature)
            held = _held_by(transaction, holder, feature)
            if held is not None and held["fingerprint"] != holder.fingerprint and held["revoked"] is not None:
                raise LicenseRevoked(feature=feature, problem=held["revoked"])
            pool = turn.pools[feature]
            if held is None:
                taken = _taken(transaction, select(*_FIELDS).where(leases.c.feature == feature))
                reservation = place_for(holder, pool, taken, turn.lease_s)
        except LicenseError as refusal:
            note_denial(transaction, holder, feature, refusal)
            raise
        token = transaction.next("token")
        seen = {
            "address": holder.address, "certificate": holder.certificate, "renewed_at": transaction.wall,
            "organization": holder.organization,
        }  # fmt: skip
        if held is not None:
            again = {"token": token, "expires": turn.until, "fingerprint": holder.fingerprint, **seen}
            transaction.write(update(leases).where(leases.c.id == held["id"]).values(again))
            lease_id = held["id"]
        else:
            lease_id = secrets.token_hex(16)
            who = {"feature": feature, "node": holder.name, "fingerprint": holder.fingerprint}
            transaction.write(
                insert(leases).values(
                    id=lease_id, token=token, role=holder.role, taken_at=transaction.wall, expires=turn.until,
                    reservation=reservation, **who, **seen,
                )
            )  # fmt: skip
            transaction.write(insert(checkouts).values(lease=lease_id, taken_at=transaction.wall, **who))
        _log.info("seat taken again" if held else "seat taken", feature=feature, by=holder.name, token=token)
        return self._granted(turn, lease_id, token, pool.capacity, again=held is not None)

    def _renew(self, turn: Turn, holder: LeaseHolder, lease_id: str, token: int) -> Granted:
        transaction = turn.transaction
        lease = require_current(_moved(transaction, lease_id, holder), lease_id, token, holder)
        if lease.revoked is not None:
            # The node keeps its seat while it ends its round, but no longer than the grace time.
            if _revoked_for(transaction, lease_id) < turn.values.grace_h * 3600:
                self._extend(turn, lease_id)
            raise LicenseRevoked(feature=lease.feature, problem=lease.revoked)
        pool = turn.pools[lease.feature]
        if (
            pool.capacity == 0
            and pool.expired
            and _expired_for(transaction, lease.feature) > turn.values.grace_h * 3600
        ):
            raise LicenseExpired(feature=lease.feature, when=pool.expired)
        self._extend(turn, lease_id)
        return self._granted(turn, lease_id, token, pool.capacity)

    def _release(self, turn: Turn, holder: LeaseHolder, lease_id: str, token: int) -> None:
        try:
            lease = require_current(_one(turn.transaction, lease_id), lease_id, token, holder)
        except LeaseUnknown:
            return
        end_leases(turn.transaction, [lease.id], "revoked" if lease.revoked is not None else "released")
        _log.info("seat returned", feature=lease.feature, by=lease.node)

    def _extend(self, turn: Turn, lease_id: str) -> None:
        values = {"lease": lease_id, "until": turn.until, "at": turn.transaction.wall}
        turn.transaction.connection.execute(_EXTEND, values)

    def _granted(self, turn: Turn, lease_id: str, token: int, capacity: int, again: bool = False) -> Granted:
        grace_s = turn.values.grace_h * 3600
        return Granted(lease_id, token, turn.lease_s, capacity, grace_s, again)

    def _free_stale(self, transaction: Transaction) -> int:
        stale = _taken(transaction, select(*_FIELDS).where(leases.c.expires <= transaction.now))
        if stale:
            end_leases(transaction, [lease.id for lease in stale], "stale")
        for lease in stale:
            _log.warning("seat freed, as it was not renewed", feature=lease.feature, of=lease.node)
        return len(stale)


def end_leases(transaction: Transaction, ids: Sequence[str], how: How) -> None:
    transaction.write(delete(leases).where(leases.c.id.in_(ids)))
    transaction.write(
        update(checkouts)
        .where(checkouts.c.lease.in_(ids), checkouts.c.ended_at.is_(None))
        .values(ended_at=transaction.wall, how=how)
    )


def _require_not_expelled(transaction: Transaction, holder: LeaseHolder) -> None:
    """The connection was accepted, perhaps a moment before the expulsion was heard."""
    it = expulsions.c
    named = (it.role == holder.role) & (it.name == holder.name.partition("/")[0]) & it.lifted_at.is_(None)
    if transaction.row(select(it.name).where(named, it.organization.in_({"", holder.organization}))) is not None:
        raise Expelled(name=holder.name)


def _require_not_revoked(transaction: Transaction, holder: LeaseHolder, feature: str) -> None:
    standing = (
        select(revocations.c.fingerprint, revocations.c.certificate, revocations.c.reason)
        .where(revocations.c.feature == feature, revocations.c.lifted_at.is_(None))
        .order_by(revocations.c.id.desc())
    )
    for row in transaction.rows(standing):
        if row["fingerprint"] == holder.fingerprint or same_member(row["certificate"], holder.certificate):
            raise LicenseRevoked(feature=feature, problem=row["reason"])


def _revoked_for(transaction: Transaction, lease_id: str) -> float:
    at = transaction.connection.scalar(select(leases.c.revoked_at).where(leases.c.id == lease_id))
    return transaction.wall - (at or transaction.wall)


def _expired_for(transaction: Transaction, feature: str) -> float:
    """Seconds since the last license for the feature ended."""
    ends = [grant["valid_until"] or 0.0 for grant in usable_grants(transaction) if grant["feature"] == feature]
    return transaction.wall - max(ends, default=transaction.wall)


def _held_by(transaction: Transaction, holder: LeaseHolder, feature: str) -> Any:
    """The holder's lease, taken with its current key or an earlier one."""
    mine = select(*_FIELDS, leases.c.certificate).where(leases.c.feature == feature, leases.c.node == holder.name)
    found = transaction.rows(mine)
    by_key = [row for row in found if row["fingerprint"] == holder.fingerprint]
    return next(iter(by_key or [row for row in found if same_member(row["certificate"], holder.certificate)]), None)


def _moved(transaction: Transaction, lease_id: str, holder: LeaseHolder) -> Taken | None:
    """The lease. If the holder has a new key, the lease is moved to it first."""
    row = transaction.row(select(*_FIELDS, leases.c.certificate).where(leases.c.id == lease_id))
    another = row is not None and row["fingerprint"] != holder.fingerprint and row["node"] == holder.name
    if another and row is not None and same_member(row["certificate"], holder.certificate):
        now = {"fingerprint": holder.fingerprint, "certificate": holder.certificate}
        transaction.write(update(leases).where(leases.c.id == lease_id).values(now))
    return _one(transaction, lease_id)


def _one(transaction: Transaction, lease_id: str) -> Taken | None:
    found = _taken(transaction, select(*_FIELDS).where(leases.c.id == lease_id))
    return found[0] if found else None


def _taken(transaction: Transaction, statement: Select[Any]) -> list[Taken]:
    return [Taken(*row) for row in transaction.connection.execute(statement)]
