"""Licences that are installed, and the keys of issuers that are trusted."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import delete, insert, select

from services.errors import LicenceForged, LicenceUnreadable, LockCodeDiffers, NoSuchThing, ThingExists
from services.license_server.actor import SYSTEM, Actor
from services.license_server.audit_log import record
from services.license_server.database import Database, Transaction
from services.license_server.schema import grants, issuers, licences
from services.license_server.server_settings import read_lock_code, read_values
from services.licensing import licence_file

COMMUNITY = "community"

Signature = Literal["good", "untrusted", "bad", "built-in"]
State = Literal["valid", "expiring", "expired", "not-yet-valid"]


@dataclass(frozen=True)
class GrantView:
    feature: str
    capacity: int
    valid_from: datetime
    valid_until: datetime | None
    state: State


@dataclass(frozen=True)
class Preview:
    """What a file holds, before it is accepted. ``problem``: why it cannot be installed; '' where it can."""

    id: str
    issuer: str
    licensee: str
    issued: datetime
    lock_code: str | None
    key_id: str
    signature: Signature
    issuer_name: str  # under which the key is trusted here; '' where it is not
    grants: tuple[GrantView, ...]
    replaces: bool  # a licence with this id is installed
    problem: str

    @property
    def acceptable(self) -> bool:
        return not self.problem


@dataclass(frozen=True)
class InstalledLicence:
    id: str
    issuer: str
    key_id: str
    licensee: str
    issued: datetime
    lock_code: str | None
    signature: Signature
    grants: tuple[GrantView, ...]
    installed_at: datetime
    installed_by: str


@dataclass(frozen=True)
class Issuer:
    key_id: str
    name: str
    public_key: str
    added_at: datetime
    added_by: str


class Licences:
    def __init__(self, database: Database) -> None:
        self._database = database

    def preview(self, actor: Actor, file: bytes) -> Preview:
        """What it holds and whether its signature is good; nothing is installed. Raises LicenceUnreadable."""
        actor.require("licences:read")
        signed = licence_file.read(file)
        with self._database.read() as transaction:
            return _preview(transaction, signed)

    def install(self, actor: Actor, file: bytes) -> InstalledLicence:
        """Installs it, or replaces the one with its id that the same key signed.

        Raises LicenceUnreadable, LicenceForged, LockCodeDiffers, ThingExists.
        """
        actor.require("licences:write")
        signed = licence_file.read(file)
        licence = signed.licence
        with self._database.write() as transaction:
            licence_file.verify(signed, _trusted(transaction))
            ours = read_lock_code(transaction)
            if licence.lock_code not in (None, ours):
                raise LockCodeDiffers(licence=licence.id, theirs=licence.lock_code, ours=ours)
            before = transaction.row(select(licences).where(licences.c.id == licence.id))
            if before is not None and before["key_id"] != signed.key_id:
                raise ThingExists(what="licence of another issuer with the id", name=licence.id)
            _store(transaction, licence, signed.key_id, file.decode(), actor)
            told = {"issuer": licence.issuer, "key": signed.key_id[:16], "grants": _in_words(licence)}
            record(transaction, actor, "licence replaced" if before else "licence installed", licence.id, told)
            return _find(transaction, licence.id)

    def remove(self, actor: Actor, licence_id: str) -> None:
        """Nodes that hold a seat keep it for the grace period. Raises NoSuchThing."""
        actor.require("licences:write")
        with self._database.write() as transaction:
            gone = _find(transaction, licence_id)
            transaction.write(delete(licences).where(licences.c.id == licence_id))
            record(transaction, actor, "licence removed", licence_id, {"issuer": gone.issuer})

    def all(self, actor: Actor) -> list[InstalledLicence]:
        actor.require("licences:read")
        with self._database.read() as transaction:
            return _all(transaction)

    def get(self, actor: Actor, licence_id: str) -> InstalledLicence:
        """Raises NoSuchThing."""
        actor.require("licences:read")
        with self._database.read() as transaction:
            return _find(transaction, licence_id)

    def install_community(self, default: Mapping[str, int], wanted: Mapping[str, int] | None) -> None:
        """On the first start with ``wanted`` over ``default`` seats; later only where ``wanted`` says so."""
        with self._database.write() as transaction:
            present = transaction.connection.scalar(select(licences.c.id).limit(1)) is not None
            if present and wanted is None:
                return
            seats = {**default, **(wanted or {})}
            begin = datetime.fromtimestamp(0, UTC)
            given = tuple(licence_file.Grant(name, count, begin, None) for name, count in seats.items())
            if present and _seats_of(transaction, COMMUNITY) == seats:
                return
            licence = licence_file.Licence(COMMUNITY, "swarm-learning", "everyone", begin, None, given)
            _store(transaction, licence, "", "", SYSTEM)
            record(transaction, SYSTEM, "licence installed", COMMUNITY, {"grants": _in_words(licence)})

    # --- issuers ---

    def issuers(self, actor: Actor) -> list[Issuer]:
        actor.require("licences:read")
        with self._database.read() as transaction:
            return [_issuer(row) for row in transaction.rows(select(issuers).order_by(issuers.c.name))]

    def trust(self, actor: Actor, name: str, public_key: bytes) -> Issuer:
        """From now on licences that this key (PEM, Ed25519) signed can be installed. Raises LicenceUnreadable."""
        actor.require("settings:write")
        if not 1 <= len(name.strip()) <= licence_file.MAX_TEXT or not name.isprintable():
            raise LicenceUnreadable(problem="the name of the issuer is empty, too long or not printable")
        key = licence_file.read_public_key(public_key)
        key_id = licence_file.key_id(key)
        with self._database.write() as transaction:
            if transaction.row(select(issuers.c.key_id).where(issuers.c.key_id == key_id)):
                raise ThingExists(what="issuer with the key", name=key_id[:16])
            row = {
                "key_id": key_id,
                "name": name.strip(),
                "public_key": licence_file.public_pem(key),
                "added_at": transaction.wall,
                "added_by": actor.name,
            }
            transaction.write(insert(issuers).values(row))
            record(transaction, actor, "issuer trusted", name.strip(), {"key": key_id})
            return _issuer(row)

    def distrust(self, actor: Actor, key_id: str) -> None:
        """Its licences that are installed give no seats any more. Raises NoSuchThing."""
        actor.require("settings:write")
        with self._database.write() as transaction:
            found = transaction.row(select(issuers).where(issuers.c.key_id == key_id))
            if found is None:
                raise NoSuchThing(what="issuer with the key", name=key_id[:64])
            transaction.write(delete(issuers).where(issuers.c.key_id == key_id))
            record(transaction, actor, "issuer distrusted", found["name"], {"key": key_id})


def usable_grants(transaction: Transaction) -> list[Mapping[str, Any]]:
    """Of the built-in licence and of licences whose key is trusted, valid now or not."""
    trusted = select(issuers.c.key_id)
    statement = (
        select(grants)
        .join(licences, licences.c.id == grants.c.licence)
        .where((licences.c.key_id == "") | licences.c.key_id.in_(trusted))
    )
    return transaction.rows(statement)


def _store(transaction: Transaction, licence: licence_file.Licence, key_id: str, document: str, actor: Actor) -> None:
    transaction.write(delete(licences).where(licences.c.id == licence.id))
    transaction.write(
        insert(licences).values(
            id=licence.id,
            issuer=licence.issuer,
            key_id=key_id,
            licensee=licence.licensee,
            issued_at=licence.issued.timestamp(),
            lock_code=licence.lock_code,
            document=document,
            installed_at=transaction.wall,
            installed_by=actor.name,
        )
    )
    rows = [
        {
            "licence": licence.id,
            "position": position,
            "feature": grant.feature,
            "capacity": grant.capacity,
            "valid_from": grant.valid_from.timestamp(),
            "valid_until": grant.valid_until.timestamp() if grant.valid_until else None,
        }
        for position, grant in enumerate(licence.grants)
    ]
    transaction.write(insert(grants), rows)


def _preview(transaction: Transaction, signed: licence_file.SignedLicence) -> Preview:
    licence = signed.licence
    names = {row["key_id"]: row["name"] for row in transaction.rows(select(issuers.c.key_id, issuers.c.name))}
    problem, signature = "", "good"
    try:
        licence_file.verify(signed, _trusted(transaction))
    except LicenceForged as error:
        signature = "bad" if signed.key_id in names else "untrusted"
        problem = str(error)
    ours = read_lock_code(transaction)
    if not problem and licence.lock_code not in (None, ours):
        problem = str(LockCodeDiffers(licence=licence.id, theirs=licence.lock_code, ours=ours))
    before = transaction.row(select(licences.c.key_id).where(licences.c.id == licence.id))
    if not problem and before is not None and before["key_id"] != signed.key_id:
        problem = str(ThingExists(what="licence of another issuer with the id", name=licence.id))
    soon = read_values(transaction).expiry_warning_days * 86_400
    return Preview(
        id=licence.id,
        issuer=licence.issuer,
        licensee=licence.licensee,
        issued=licence.issued,
        lock_code=licence.lock_code,
        key_id=signed.key_id,
        signature=signature,  # type: ignore[arg-type]  # one of three words above
        issuer_name=names.get(signed.key_id, ""),
        grants=tuple(
            _grant_view(
                grant.feature,
                grant.capacity,
                grant.valid_from.timestamp(),
                grant.valid_until.timestamp() if grant.valid_until else None,
                transaction.wall,
                soon,
            )
            for grant in licence.grants
        ),
        replaces=before is not None,
        problem=problem,
    )


def _trusted(transaction: Transaction) -> dict[str, str]:
    rows = transaction.connection.execute(select(issuers.c.key_id, issuers.c.public_key))
    return {row.key_id: row.public_key for row in rows}


def _find(transaction: Transaction, licence_id: str) -> InstalledLicence:
    for found in _all(transaction):
        if found.id == licence_id:
            return found
    raise NoSuchThing(what="licence", name=licence_id[:64])


def _all(transaction: Transaction) -> list[InstalledLicence]:
    trusted = _trusted(transaction)
    soon = read_values(transaction).expiry_warning_days * 86_400
    given: dict[str, list[GrantView]] = {}
    for row in transaction.rows(select(grants).order_by(grants.c.licence, grants.c.position)):
        view = _grant_view(
            row["feature"], row["capacity"], row["valid_from"], row["valid_until"], transaction.wall, soon
        )
        given.setdefault(row["licence"], []).append(view)
    return [
        InstalledLicence(
            id=row["id"],
            issuer=row["issuer"],
            key_id=row["key_id"],
            licensee=row["licensee"],
            issued=datetime.fromtimestamp(row["issued_at"], UTC),
            lock_code=row["lock_code"],
            signature=_signature(row["key_id"], trusted),
            grants=tuple(given.get(row["id"], [])),
            installed_at=datetime.fromtimestamp(row["installed_at"], UTC),
            installed_by=row["installed_by"],
        )
        for row in transaction.rows(select(licences).order_by(licences.c.installed_at))
    ]


def _signature(key_id: str, trusted: Mapping[str, str]) -> Signature:
    if not key_id:
        return "built-in"
    return "good" if key_id in trusted else "untrusted"


def _grant_view(  # noqa: PLR0917  # a row of the table, and now
    feature: str, capacity: int, begin: float, end: float | None, now: float, soon_s: float
) -> GrantView:
    state: State = "valid"
    if now < begin:
        state = "not-yet-valid"
    elif end is not None and now >= end:
        state = "expired"
    elif end is not None and end - now < soon_s:
        state = "expiring"
    until = None if end is None else datetime.fromtimestamp(end, UTC)
    return GrantView(feature, capacity, datetime.fromtimestamp(begin, UTC), until, state)


def _seats_of(transaction: Transaction, licence_id: str) -> dict[str, int]:
    rows = transaction.connection.execute(
        select(grants.c.feature, grants.c.capacity).where(grants.c.licence == licence_id)
    )
    return {row.feature: row.capacity for row in rows}


def _in_words(licence: licence_file.Licence) -> str:
    return ", ".join(f"{grant.feature}={grant.capacity}" for grant in licence.grants)


def _issuer(row: Mapping[str, Any]) -> Issuer:
    same = ("key_id", "name", "public_key", "added_by")
    return Issuer(**{name: row[name] for name in same}, added_at=datetime.fromtimestamp(row["added_at"], UTC))
