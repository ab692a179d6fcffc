"""Installed licenses, and the trusted keys of issuers."""

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Literal

from sqlalchemy import delete, insert, select

from services.errors import LicenseForged, LicenseUnreadable, LockCodeDiffers, NoSuchThing, ThingExists
from services.license_server.actor import SYSTEM, Actor
from services.license_server.audit_log import record
from services.license_server.database import Database, Transaction
from services.license_server.rows import read_as, utc
from services.license_server.schema import grants, issuers, licenses
from services.license_server.server_settings import read_lock_code, read_values
from services.licensing import license_file

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
    """The contents of a license file before it is installed. ``problem``: why it cannot be; '' if it can."""

    id: str
    issuer: str
    licensee: str
    issued: datetime
    lock_code: str | None
    key_id: str
    signature: Signature
    issuer_name: str  # name under which the key is trusted here; '' if it is not
    grants: tuple[GrantView, ...]
    replaces: bool  # whether a license with this id is installed
    problem: str

    @property
    def acceptable(self) -> bool:
        return not self.problem


@dataclass(frozen=True)
class InstalledLicense:
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


class Licenses:
    def __init__(self, database: Database) -> None:
        self._database = database

    def preview(self, actor: Actor, file: bytes) -> Preview:
        """What a file holds and whether its signature is good; nothing is installed. Raises LicenseUnreadable."""
        actor.require("licenses:read")
        signed = license_file.read(file)
        with self._database.read() as transaction:
            return _preview(transaction, signed)

    def install(self, actor: Actor, file: bytes) -> InstalledLicense:
        """Installs a license, or replaces the one with its id that the same key signed.

        Raises LicenseUnreadable, LicenseForged, LockCodeDiffers, ThingExists.
        """
        actor.require("licenses:write")
        signed = license_file.read(file)
        license = signed.license
        with self._database.write() as transaction:
            license_file.verify(signed, _trusted(transaction))
            ours = read_lock_code(transaction)
            if license.lock_code not in (None, ours):
                raise LockCodeDiffers(license=license.id, theirs=license.lock_code, ours=ours)
            before = transaction.row(select(licenses).where(licenses.c.id == license.id))
            if before is not None and before["key_id"] != signed.key_id:
                raise ThingExists(what="license of another issuer with the id", name=license.id)
            _store(transaction, license, signed.key_id, file.decode(), actor)
            told = {"issuer": license.issuer, "key": signed.key_id[:16], "grants": _in_words(license)}
            record(transaction, actor, "license replaced" if before else "license installed", license.id, told)
            return _find(transaction, license.id)

    def remove(self, actor: Actor, license_id: str) -> None:
        """Removes a license; nodes that hold a seat keep it for the grace period. Raises NoSuchThing."""
        actor.require("licenses:write")
        with self._database.write() as transaction:
            gone = _find(transaction, license_id)
            transaction.write(delete(licenses).where(licenses.c.id == license_id))
            record(transaction, actor, "license removed", license_id, {"issuer": gone.issuer})

    def all(self, actor: Actor) -> list[InstalledLicense]:
        actor.require("licenses:read")
        with self._database.read() as transaction:
            return _all(transaction)

    def get(self, actor: Actor, license_id: str) -> InstalledLicense:
        """Raises NoSuchThing."""
        actor.require("licenses:read")
        with self._database.read() as transaction:
            return _find(transaction, license_id)

    def install_community(self, default: Mapping[str, int], wanted: Mapping[str, int] | None) -> None:
        """On the first start, installs ``default`` seats, overridden by ``wanted``; later does so only if ``wanted`` is
        given.
        """
        with self._database.write() as transaction:
            present = transaction.connection.scalar(select(licenses.c.id).limit(1)) is not None
            if present and wanted is None:
                return
            seats = {**default, **(wanted or {})}
            begin = utc(0)
            given = tuple(license_file.Grant(name, count, begin, None) for name, count in seats.items())
            if present and _seats_of(transaction, COMMUNITY) == seats:
                return
            license = license_file.License(COMMUNITY, "swarm-learning", "everyone", begin, None, given)
            _store(transaction, license, "", "", SYSTEM)
            record(transaction, SYSTEM, "license installed", COMMUNITY, {"grants": _in_words(license)})

    # --- issuers ---

    def issuers(self, actor: Actor) -> list[Issuer]:
        actor.require("licenses:read")
        with self._database.read() as transaction:
            return [read_as(Issuer, row) for row in transaction.rows(select(issuers).order_by(issuers.c.name))]

    def trust(self, actor: Actor, name: str, public_key: bytes) -> Issuer:
        """Allows licenses signed by this key (PEM, Ed25519) to be installed. Raises LicenseUnreadable, ThingExists."""
        actor.require("settings:write")
        if not 1 <= len(name.strip()) <= license_file.MAX_TEXT or not name.isprintable():
            raise LicenseUnreadable(problem="the name of the issuer is empty, too long or not printable")
        key = license_file.read_public_key(public_key)
        key_id = license_file.key_id(key)
        with self._database.write() as transaction:
            if transaction.row(select(issuers.c.key_id).where(issuers.c.key_id == key_id)):
                raise ThingExists(what="issuer with the key", name=key_id[:16])
            row = {
                "key_id": key_id,
                "name": name.strip(),
                "public_key": license_file.public_pem(key),
                "added_at": transaction.wall,
                "added_by": actor.name,
            }
            transaction.write(insert(issuers).values(row))
            record(transaction, actor, "issuer trusted", name.strip(), {"key": key_id})
            return read_as(Issuer, row)

    def distrust(self, actor: Actor, key_id: str) -> None:
        """Distrusts a key; installed licenses that it signed give no seats any more. Raises NoSuchThing."""
        actor.require("settings:write")
        with self._database.write() as transaction:
            found = transaction.row(select(issuers).where(issuers.c.key_id == key_id))
            if found is None:
                raise NoSuchThing(what="issuer with the key", name=key_id[:64])
            transaction.write(delete(issuers).where(issuers.c.key_id == key_id))
            record(transaction, actor, "issuer distrusted", found["name"], {"key": key_id})


def usable_grants(transaction: Transaction) -> list[Mapping[str, Any]]:
    """Grants of the built-in license and of licenses with a trusted key, whether valid now or not."""
    trusted = select(issuers.c.key_id)
    statement = (
        select(grants)
        .join(licenses, licenses.c.id == grants.c.license)
        .where((licenses.c.key_id == "") | licenses.c.key_id.in_(trusted))
    )
    return transaction.rows(statement)


def _store(transaction: Transaction, license: license_file.License, key_id: str, document: str, actor: Actor) -> None:
    transaction.write(delete(licenses).where(licenses.c.id == license.id))
    transaction.write(
        insert(licenses).values(
            id=license.id,
            issuer=license.issuer,
            key_id=key_id,
            licensee=license.licensee,
            issued_at=license.issued.timestamp(),
            lock_code=license.lock_code,
            document=document,
            installed_at=transaction.wall,
            installed_by=actor.name,
        )
    )
    rows = [
        {
            "license": license.id,
            "position": position,
            "feature": grant.feature,
            "capacity": grant.capacity,
            "valid_from": grant.valid_from.timestamp(),
            "valid_until": grant.valid_until.timestamp() if grant.valid_until else None,
        }
        for position, grant in enumerate(license.grants)
    ]
    transaction.write(insert(grants), rows)


def _preview(transaction: Transaction, signed: license_file.SignedLicense) -> Preview:
    license = signed.license
    names = {row["key_id"]: row["name"] for row in transaction.rows(select(issuers.c.key_id, issuers.c.name))}
    problem, signature = "", "good"
    try:
        license_file.verify(signed, _trusted(transaction))
    except LicenseForged as error:
        signature = "bad" if signed.key_id in names else "untrusted"
        problem = str(error)
    ours = read_lock_code(transaction)
    if not problem and license.lock_code not in (None, ours):
        problem = str(LockCodeDiffers(license=license.id, theirs=license.lock_code, ours=ours))
    before = transaction.row(select(licenses.c.key_id).where(licenses.c.id == license.id))
    if not problem and before is not None and before["key_id"] != signed.key_id:
        problem = str(ThingExists(what="license of another issuer with the id", name=license.id))
    soon = read_values(transaction).expiry_warning_days * 86_400
    return Preview(
        id=license.id,
        issuer=license.issuer,
        licensee=license.licensee,
        issued=license.issued,
        lock_code=license.lock_code,
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
            for grant in license.grants
        ),
        replaces=before is not None,
        problem=problem,
    )


def _trusted(transaction: Transaction) -> dict[str, str]:
    rows = transaction.connection.execute(select(issuers.c.key_id, issuers.c.public_key))
    return {row.key_id: row.public_key for row in rows}


def _find(transaction: Transaction, license_id: str) -> InstalledLicense:
    for found in _all(transaction):
        if found.id == license_id:
            return found
    raise NoSuchThing(what="license", name=license_id[:64])


def _all(transaction: Transaction) -> list[InstalledLicense]:
    trusted = _trusted(transaction)
    soon = read_values(transaction).expiry_warning_days * 86_400
    given: dict[str, list[GrantView]] = {}
    for row in transaction.rows(select(grants).order_by(grants.c.license, grants.c.position)):
        view = _grant_view(
            row["feature"], row["capacity"], row["valid_from"], row["valid_until"], transaction.wall, soon
        )
        given.setdefault(row["license"], []).append(view)
    return [
        read_as(
            InstalledLicense,
            row,
            issued=utc(row["issued_at"]),
            signature=_signature(row["key_id"], trusted),
            grants=tuple(given.get(row["id"], [])),
        )
        for row in transaction.rows(select(licenses).order_by(licenses.c.installed_at))
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
    return GrantView(feature, capacity, utc(begin), None if end is None else utc(end), state)


def _seats_of(transaction: Transaction, license_id: str) -> dict[str, int]:
    rows = transaction.connection.execute(
        select(grants.c.feature, grants.c.capacity).where(grants.c.license == license_id)
    )
    return {row.feature: row.capacity for row in rows}


def _in_words(license: license_file.License) -> str:
    return ", ".join(f"{grant.feature}={grant.capacity}" for grant in license.grants)
