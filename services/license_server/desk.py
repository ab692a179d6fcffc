"""Grants, renews and takes back leases: each request is one decision in one transaction."""

import secrets
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import AbstractContextManager
from dataclasses import replace
from datetime import UTC, datetime

from services.errors import LeaseUnknown
from services.license_server.leases import (
    LEASE_TTL_S,
    Deadlines,
    Holder,
    Lease,
    require_current,
    require_feature,
    seat_of,
    seats_in_use,
)
from services.license_server.store import COMMUNITY, Store, Transaction
from services.licensing.features import FEATURES
from services.runtime import logs

Clock = Callable[[], float]

_log = logs.get("license-server")


class LicenseDesk:
    """Thread-safe. ``clock`` gives seconds and only goes forward."""

    def __init__(self, store: Store, ttl_s: float = LEASE_TTL_S, clock: Clock = time.monotonic) -> None:
        self._store = store
        self._clock = clock
        self._turn: AbstractContextManager[object] = threading.Lock()
        with store.transaction() as transaction:
            self._deadlines = Deadlines(ttl_s, transaction.leases(), clock())

    @property
    def ttl_s(self) -> float:
        return self._deadlines.ttl_s

    def install_community_licence(self, default: Mapping[str, int], wanted: Mapping[str, int] | None) -> None:
        """On the first start with ``wanted`` over ``default`` seats; later only where ``wanted`` says so."""
        with self._turn, self._store.transaction() as transaction:
            if wanted is not None or not transaction.has_licence():
                transaction.install(COMMUNITY, "swarm-learning", {**default, **(wanted or {})})
            _log.info("licence", **{name: transaction.capacities().get(name, 0) for name in FEATURES})

    def acquire(self, holder: Holder, feature: str) -> tuple[Lease, int]:
        """A lease and the capacity of its feature. The same certificate gets the same seat again, with a new token.

        Raises LicenceError, WrongRole, NoSeatLeft.
        """
        require_feature(holder, feature)
        with self._turn, self._store.transaction() as transaction:
            self._free_stale(transaction)
            capacity = transaction.capacities().get(feature, 0)
            held = seat_of(holder, feature, transaction.leases(), capacity)
            token = transaction.next_token()
            if held is None:
                since = datetime.now(UTC).isoformat(timespec="seconds")
                lease = Lease(secrets.token_hex(16), token, feature, holder.name, holder.fingerprint, since)
            else:
                lease = replace(held, token=token)
            transaction.save(lease)
            self._deadlines.extend(lease.id, self._clock())
        _log.info("seat taken" if held is None else "seat taken again", feature=feature, by=holder.name, token=token)
        return lease, capacity

    def renew(self, holder: Holder, lease_id: str, token: int) -> Lease:
        """Raises LeaseUnknown, LicenceRevoked."""
        with self._turn, self._store.transaction() as transaction:
            self._free_stale(transaction)
            lease = require_current(transaction.lease(lease_id), lease_id, token, holder)
            self._deadlines.extend(lease.id, self._clock())
        return lease

    def release(self, holder: Holder, lease_id: str, token: int) -> None:
        """Gives the seat back; a lease that is gone already is no error. Raises LicenceRevoked."""
        with self._turn, self._store.transaction() as transaction:
            try:
                lease = require_current(transaction.lease(lease_id), lease_id, token, holder)
            except LeaseUnknown:
                return
            transaction.remove(lease.id)
            self._deadlines.drop(lease.id)
        _log.info("seat given back", feature=lease.feature, by=lease.node)

    def status(self) -> dict[str, tuple[int, list[str]]]:
        """Feature -> (capacity, names of the holders)."""
        with self._turn, self._store.transaction() as transaction:
            self._free_stale(transaction)
            return seats_in_use(transaction.leases(), transaction.capacities())

    def _free_stale(self, transaction: Transaction) -> None:
        """In the transaction of whoever asks next: a seat that nobody asks for need not be free any earlier."""
        for lease in self._deadlines.stale(transaction.leases(), self._clock()):
            transaction.remove(lease.id)
            self._deadlines.drop(lease.id)
            _log.warning("seat freed, it was not renewed", feature=lease.feature, of=lease.node, after_s=self.ttl_s)
