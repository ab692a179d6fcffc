"""Members that were expelled, as SNs report: they lose their seats, and every call of theirs is refused."""

import threading
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from sqlalchemy import func, insert, or_, select, update

from services.errors import LicenseError, NoSuchThing, WrongRole
from services.identity.expulsions import Expulsions
from services.license_server.actor import SYSTEM, Actor
from services.license_server.audit_log import record
from services.license_server.database import Database, Transaction
from services.license_server.lease_allocator import end_leases
from services.license_server.leases import LeaseHolder
from services.license_server.rows import read_as
from services.license_server.schema import expulsions, leases
from services.runtime import logs

if TYPE_CHECKING:
    from services.identity.identity import Identity

MOST = 4096  # of one organization's reports: an SN that lies must not fill the database
ANY = ""  # in place of an organization

_log = logs.get("license-server")

Member = tuple[str, str]  # role and name in the certificate


@dataclass(frozen=True)
class Expulsion:
    """A member that gets no seat until it is readmitted. ``organization``: of the member; '' if of any.

    ``said_by``: the SN that reported it first.
    """

    id: int
    organization: str
    role: str
    name: str
    said_by: str
    at: datetime


class ReportedExpulsions:
    """Thread-safe. An SN of the server's own organization is believed about everybody, any other SN about members of
    its own organization only. Without a trust file, all are one organization.
    """

    def __init__(self, database: Database) -> None:
        self._database = database
        self._organization = ""
        self._gate = Expulsions()
        self._looking = threading.Lock()

    def guard(self, identity: "Identity") -> None:
        """From now on, connections of expelled members are refused where this identity is shown."""
        self._organization = identity.organization
        self._gate = identity.credentials.trust.expulsions
        self.look()

    def look(self) -> None:
        """Takes over what is in the database: another server may have written it."""
        with self._looking:
            with self._database.read() as transaction:
                rows = transaction.rows(select(expulsions).where(expulsions.c.lifted_at.is_(None)))
            self._gate.replace([(row["organization"], row["role"], row["name"]) for row in rows])

    def hear(self, sn: LeaseHolder, members: Sequence[Member]) -> None:
        """Takes an SN's report. Whoever was readmitted stays so.

        Raises WrongRole, LicenseError if its organization has reported too many.
        """
        if sn.role != "sn":
            raise WrongRole(name=sn.name, role=sn.role, action="reporting expulsions", needed="sn")
        whose = ANY if sn.organization == self._organization else sn.organization
        with self._database.read() as transaction:
            if not _unknown(transaction, whose, members):
                return  # the usual case: SNs repeat what they know
        with self._database.write() as transaction:
            new = _unknown(transaction, whose, members)
            theirs = select(func.count()).select_from(expulsions).where(expulsions.c.organization == whose)
            if (transaction.connection.scalar(theirs) or 0) + len(new) > MOST:
                problem = f"more than {MOST} expelled members are not taken from one organization"
                raise LicenseError(feature="this report", problem=problem)
            for role, name in new:
                _expel(transaction, sn, whose, role, name)
        self.look()

    def all(self, actor: Actor) -> list[Expulsion]:
        """Expulsions in force, newest first."""
        actor.require("leases:read")
        statement = select(expulsions).where(expulsions.c.lifted_at.is_(None)).order_by(expulsions.c.id.desc())
        with self._database.read() as transaction:
            return [read_as(Expulsion, row) for row in transaction.rows(statement)]

    def readmit(self, actor: Actor, expulsion_id: int) -> None:
        """The member may take seats here again, for example for another swarm. Raises NoSuchThing."""
        actor.require("leases:write")
        standing = (expulsions.c.id == expulsion_id) & expulsions.c.lifted_at.is_(None)
        with self._database.write() as transaction:
            row = transaction.row(select(expulsions).where(standing))
            if row is None:
                raise NoSuchThing(what="expulsion", name=expulsion_id)
            transaction.write(update(expulsions).where(standing).values(lifted_at=transaction.wall))
            told = {"role": row["role"], "organization": row["organization"], "was": "expelled"}
            record(transaction, actor, "node readmitted", row["name"], told)
        self.look()


def _unknown(transaction: Transaction, whose: str, members: Sequence[Member]) -> list[Member]:
    theirs = select(expulsions.c.role, expulsions.c.name).where(expulsions.c.organization == whose)
    known = {(row["role"], row["name"]) for row in transaction.rows(theirs)}
    return [it for it in dict.fromkeys(members) if it not in known]


def _expel(transaction: Transaction, sn: LeaseHolder, whose: str, role: str, name: str) -> None:
    """The slots of its certificate have seats of their own."""
    told = {"role": role, "organization": whose}
    transaction.write(insert(expulsions).values(**told, name=name, said_by=sn.name, at=transaction.wall))
    named = or_(leases.c.node == name, leases.c.node.startswith(f"{name}/", autoescape=True))
    held = select(leases.c.id, leases.c.organization).where(leases.c.role == role, named)
    ids = [row["id"] for row in transaction.rows(held) if whose in (ANY, row["organization"])]
    end_leases(transaction, ids, "expelled")
    record(transaction, SYSTEM, "node expelled", name, {**told, "said by": sn.name, "seats": len(ids)})
    _log.warning("a node was expelled from its swarm", **told, name=name, said_by=sn.name, seats_freed=len(ids))
