"""Who did what: an append-only log, in which each entry holds the hash of the one before."""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import func, insert, or_, select

from services.license_server.actor import Actor
from services.license_server.database import Database, Transaction
from services.license_server.rows import read_as
from services.license_server.schema import audit

FIRST = "0" * 64
MAX_DETAIL = 2_000  # characters of one detail; what a caller sends must not fill the disk


@dataclass(frozen=True)
class AuditEntry:
    seq: int
    at: datetime
    kind: str
    actor: str
    address: str
    action: str
    target: str
    details: dict[str, Any]
    hash: str


@dataclass(frozen=True)
class Verdict:
    """``broken_at``: number of the first entry that breaks the hash chain; None if the log is intact."""

    entries: int
    broken_at: int | None
    head: str

    @property
    def good(self) -> bool:
        return self.broken_at is None


class AuditLog:
    """Reads and verifies the log; ``record`` adds to it."""

    def __init__(self, database: Database) -> None:
        self._database = database

    def all(
        self, actor: Actor, *, search: str = "", action: str = "", before: int | None = None, limit: int = 100
    ) -> list[AuditEntry]:
        """Newest first. ``search``: in actor, target and details. ``before``: entries older than this number."""
        actor.require("audit:read")
        statement = select(audit).order_by(audit.c.seq.desc()).limit(limit)
        if action:
            statement = statement.where(audit.c.action == action)
        if before is not None:
            statement = statement.where(audit.c.seq < before)
        if search:
            fields = (audit.c.actor, audit.c.target, audit.c.details, audit.c.action)
            statement = statement.where(or_(*(field.icontains(search, autoescape=True) for field in fields)))
        with self._database.read() as transaction:
            return [_entry(row) for row in transaction.rows(statement)]

    def actions(self, actor: Actor) -> Sequence[str]:
        """The actions that occur, for a filter."""
        actor.require("audit:read")
        with self._database.read() as transaction:
            return list(transaction.connection.scalars(select(audit.c.action).distinct().order_by(audit.c.action)))

    def verify(self, actor: Actor) -> Verdict:
        """Follows the chain from its first entry. That the newest entries are missing shows only against a hash kept
        elsewhere.
        """
        actor.require("audit:read")
        with self._database.read() as transaction:
            return verify_chain(transaction)


def record(
    transaction: Transaction, actor: Actor, action: str, target: str = "", details: Mapping[str, Any] | None = None
) -> None:
    """Adds an entry, in the transaction of the change that it records. ``details`` must not contain secrets."""
    last = transaction.row(select(audit.c.seq, audit.c.hash).order_by(audit.c.seq.desc()).limit(1))
    row = {
        "seq": last["seq"] + 1 if last else 1,
        "at": round(transaction.wall, 3),
        "kind": actor.kind,
        "actor": actor.name,
        "address": actor.address,
        "action": action,
        "target": target[:MAX_DETAIL],
        "details": json.dumps({key: _short(value) for key, value in (details or {}).items()}, sort_keys=True),
        "previous": last["hash"] if last else FIRST,
    }
    transaction.write(insert(audit).values(**row, hash=hash_of(row)))


def verify_chain(transaction: Transaction) -> Verdict:
    previous, number = FIRST, 0
    for found in transaction.connection.execute(select(audit).order_by(audit.c.seq)).mappings():
        row = dict(found)
        number += 1
        if row["seq"] != number or row["previous"] != previous or row["hash"] != hash_of(row):
            count = transaction.connection.scalar(select(func.count()).select_from(audit))
            return Verdict(int(count or 0), int(row["seq"]), previous)
        previous = row["hash"]
    return Verdict(number, None, previous)


def hash_of(row: Mapping[str, Any]) -> str:
    """Hex SHA-256 over all of the entry except its own hash, including the previous entry's hash."""
    fields = ("seq", "at", "kind", "actor", "address", "action", "target", "details", "previous")
    text = json.dumps([row[field] for field in fields], separators=(",", ":"), ensure_ascii=True)
    return hashlib.sha256(text.encode()).hexdigest()


def _short(value: Any) -> Any:
    if isinstance(value, str):
        return value[:MAX_DETAIL]
    return value


def _entry(row: Mapping[str, Any]) -> AuditEntry:
    return read_as(AuditEntry, row, details=json.loads(row["details"]))
