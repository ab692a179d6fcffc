"""After too many failures, sign-in is locked for a while for the given name from the caller's address.

With locks by name alone, anybody who knows an administrator's name could lock that administrator out.
"""

import ipaddress
from collections.abc import Mapping
from typing import Any

from sqlalchemy import delete, func, insert, select, update

from services.errors import SignInLocked
from services.license_server.database import Transaction
from services.license_server.schema import sign_in_locks, users

FREE_FAILURES = 3  # before sign-in is locked, first for a second, then twice as long each time
LONGEST_LOCK_S = 900.0

# Failures of an address are forgotten when its lock has been over for so long without a new failure.
FORGOTTEN_AFTER_S = 24 * 3600.0

# For IPv6, whole networks are locked: the owner of one address has all others with this prefix.
_NETWORK_BITS = 64


def lock_s(failures: int) -> float:
    """How many seconds sign-in is locked after this many failures in a row."""
    return 0.0 if failures < FREE_FAILURES else min(2.0 ** (failures - FREE_FAILURES), LONGEST_LOCK_S)


def require_unlocked(transaction: Transaction, row: Mapping[str, Any], address: str) -> None:
    """``row``: the user's. Raises SignInLocked."""
    locked_until = _locked(transaction, row, address).get("locked_until", 0.0)
    if locked_until > transaction.wall:
        raise SignInLocked(seconds=int(locked_until - transaction.wall) + 1)


def note_failure(transaction: Transaction, row: Mapping[str, Any], address: str) -> int:
    """Notes a failure. Returns how many there were in a row from this address."""
    found = _locked(transaction, row, address)
    failures = int(found.get("failures", 0)) + 1
    changes = {"failures": failures, "locked_until": transaction.wall + lock_s(failures)}
    if found:
        transaction.write(update(sign_in_locks).where(*_key(row, address)).values(changes))
    else:
        key = {"user": row["id"], "address": network_of(address)}
        transaction.write(insert(sign_in_locks).values(key | changes))
    _note_worst(transaction, row["id"])
    return failures


def unlock(transaction: Transaction, row: Mapping[str, Any], address: str) -> None:
    """To be called after a right password. Locks of other addresses stay."""
    transaction.connection.execute(delete(sign_in_locks).where(*_key(row, address)))
    _note_worst(transaction, row["id"])


def unlock_everywhere(transaction: Transaction, user_id: int) -> None:
    transaction.connection.execute(delete(sign_in_locks).where(sign_in_locks.c.user == user_id))
    _note_worst(transaction, user_id)


def forget_old(transaction: Transaction) -> None:
    """Forgets old failures; call this now and then."""
    old = sign_in_locks.c.locked_until < transaction.wall - FORGOTTEN_AFTER_S
    transaction.connection.execute(delete(sign_in_locks).where(old))


def network_of(address: str) -> str:
    """The address or network to lock for this address."""
    try:
        parsed = ipaddress.ip_address(address)
    except ValueError:
        return address[:64]
    if isinstance(parsed, ipaddress.IPv4Address):
        return str(parsed)
    return str(parsed.ipv4_mapped or ipaddress.IPv6Network((int(parsed), _NETWORK_BITS), strict=False))


def _locked(transaction: Transaction, row: Mapping[str, Any], address: str) -> Mapping[str, Any]:
    return transaction.row(select(sign_in_locks).where(*_key(row, address))) or {}


def _note_worst(transaction: Transaction, user_id: int) -> None:
    """For the list of users, which shows whether a name is locked for any address, and until when."""
    locks = sign_in_locks.c
    worst = select(func.max(locks.failures).label("failures"), func.max(locks.locked_until).label("locked_until"))
    found = transaction.row(worst.where(locks.user == user_id)) or {}
    shown = {"failures": found.get("failures") or 0, "locked_until": found.get("locked_until") or 0.0}
    transaction.write(update(users).where(users.c.id == user_id).values(shown))


def _key(row: Mapping[str, Any], address: str) -> tuple[Any, Any]:
    return sign_in_locks.c.user == row["id"], sign_in_locks.c.address == network_of(address)
