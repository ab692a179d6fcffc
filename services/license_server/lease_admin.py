"""The leases as operators see and change them."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import insert, or_, select, update

from services.errors import AdminError, NoSuchThing
from services.license_server.actor import Actor
from services.license_server.audit_log import record
from services.license_server.database import Database
from services.license_server.leases import same_member
from services.license_server.rows import read_as
from services.license_server.schema import leases, revocations
from services.license_server.webhooks import queue

MAX_REASON = 300

Order = Literal["taken", "node", "feature", "expires", "renewed"]


@dataclass(frozen=True)
class LeaseView:
    """``expires_in_s``: seconds until the seat is freed unless it is renewed. ``certificate``: PEM; '' if unknown."""

    id: str
    token: int
    feature: str
    node: str
    role: str
    fingerprint: str
    address: str
    certificate: str
    taken_at: datetime
    renewed_at: datetime
    expires_in_s: float
    reserved: bool
    revoked_at: datetime | None
    revoke_reason: str | None


@dataclass(frozen=True)
class Revocation:
    """A node that gets no seat for the feature until it is readmitted, not even with another key."""

    id: int
    feature: str
    node: str
    fingerprint: str
    reason: str
    at: datetime
    by: str


class Leases:
    def __init__(self, database: Database) -> None:
        self._database = database

    def all(
        self, actor: Actor, *, feature: str = "", search: str = "", order: Order = "taken", descending: bool = True
    ) -> list[LeaseView]:
        """``search``: in the node's name, its address and the beginning of its fingerprint."""
        actor.require("leases:read")
        column = {
            "taken": leases.c.taken_at,
            "node": leases.c.node,
            "feature": leases.c.feature,
            "expires": leases.c.expires,
            "renewed": leases.c.renewed_at,
        }[order]
        statement = select(leases).order_by(column.desc() if descending else column.asc(), leases.c.token)
        if feature:
            statement = statement.where(leases.c.feature == feature)
        if search:
            inside = (leases.c.node, leases.c.address)
            found = (field.icontains(search, autoescape=True) for field in inside)
            begins = leases.c.fingerprint.istartswith(search, autoescape=True)
            statement = statement.where(or_(*found, begins))
        with self._database.read() as transaction:
            living = statement.where(leases.c.expires > transaction.now)
            return [_view(row, transaction.now) for row in transaction.rows(living)]

    def get(self, actor: Actor, lease_id: str) -> LeaseView:
        """Raises NoSuchThing."""
        actor.require("leases:read")
        with self._database.read() as transaction:
            row = transaction.row(select(leases).where(leases.c.id == lease_id))
            if row is None or row["expires"] <= transaction.now:
                raise NoSuchThing(what="lease", name=lease_id[:64])
            return _view(row, transaction.now)

    def revoke(self, actor: Actor, lease_id: str, reason: str) -> LeaseView:
        """The node of the lease ends after its round, and gets no seat again until it is readmitted.

        The seat becomes free when the node has ended, or one lease time after its last renewal. Raises NoSuchThing.
        """
        actor.require("leases:write")
        reason = reason.strip()
        if not 1 <= len(reason) <= MAX_REASON or not reason.isprintable():
            raise AdminError(problem=f"A reason is needed, of 1 to {MAX_REASON} characters: the node's log shows it")
        with self._database.write() as transaction:
            row = transaction.row(select(leases).where(leases.c.id == lease_id))
            if row is None or row["expires"] <= transaction.now:
                raise NoSuchThing(what="lease", name=lease_id[:64])
            who = {"feature": row["feature"], "node": row["node"], "fingerprint": row["fingerprint"]}
            if row["revoked_at"] is None:
                told = {"reason": reason, "at": transaction.wall, "by": actor.name, "certificate": row["certificate"]}
                transaction.write(insert(revocations).values(**who, **told))
            told = {"revoked_at": row["revoked_at"] or transaction.wall, "revoke_reason": reason}
            transaction.write(update(leases).where(leases.c.id == lease_id).values(told))
            queue(transaction, "revocation", {**who, "reason": reason, "by": actor.name})
            record(transaction, actor, "lease revoked", row["node"], {**who, "lease": lease_id, "reason": reason})
            return _view({**row, **told}, transaction.now)

    def revocations(self, actor: Actor) -> list[Revocation]:
        """Revocations in force, newest first."""
        actor.require("leases:read")
        statement = select(revocations).where(revocations.c.lifted_at.is_(None)).order_by(revocations.c.id.desc())
        with self._database.read() as transaction:
            return [read_as(Revocation, row) for row in transaction.rows(statement)]

    def readmit(self, actor: Actor, revocation_id: int) -> None:
        """The node may take a seat again. Raises NoSuchThing."""
        actor.require("leases:write")
        with self._database.write() as transaction:
            standing = (revocations.c.id == revocation_id) & revocations.c.lifted_at.is_(None)
            row = transaction.row(select(revocations).where(standing))
            if row is None:
                raise NoSuchThing(what="revocation", name=revocation_id)
            transaction.write(update(revocations).where(standing).values(lifted_at=transaction.wall))
            held = transaction.rows(select(leases).where(leases.c.feature == row["feature"]))
            theirs = [
                lease["id"]
                for lease in held
                if lease["fingerprint"] == row["fingerprint"] or same_member(lease["certificate"], row["certificate"])
            ]
            lifted = {"revoked_at": None, "revoke_reason": None}
            transaction.write(update(leases).where(leases.c.id.in_(theirs)).values(lifted))
            told = {"feature": row["feature"], "fingerprint": row["fingerprint"], "was": row["reason"]}
            record(transaction, actor, "node readmitted", row["node"], told)


def _view(row: Mapping[str, Any], now: float) -> LeaseView:
    left_s = round(max(row["expires"] - now, 0.0), 1)
    return read_as(LeaseView, row, expires_in_s=left_s, reserved=row["reservation"] is not None)
