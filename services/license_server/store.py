"""Licences and leases in SQLite. One process at a time owns a data directory."""

import fcntl
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any, Self

from sqlalchemy import Connection, ForeignKey, create_engine, delete, event, func, select, update
from sqlalchemy.engine import URL
from sqlalchemy.exc import DatabaseError
from sqlalchemy.orm import DeclarativeBase, Mapped, Session, mapped_column

from services.errors import StorageError
from services.license_server.leases import Lease

DATABASE = "licences.sqlite3"
SCHEMA_VERSION = 1
BUSY_TIMEOUT_MS = 5_000

COMMUNITY = "community"


class _Base(DeclarativeBase):
    pass


class _Licence(_Base):
    """One row per installed licence; signed files of other issuers will stand beside the community licence."""

    __tablename__ = "licences"

    id: Mapped[str] = mapped_column(primary_key=True)
    issuer: Mapped[str]


class _Seats(_Base):
    __tablename__ = "seats"

    licence: Mapped[str] = mapped_column(ForeignKey("licences.id"), primary_key=True)
    feature: Mapped[str] = mapped_column(primary_key=True)
    capacity: Mapped[int]


class _Lease(_Base):
    __tablename__ = "leases"

    id: Mapped[str] = mapped_column(primary_key=True)
    token: Mapped[int]
    feature: Mapped[str]
    node: Mapped[str]
    fingerprint: Mapped[str]
    since: Mapped[str]


class _Counter(_Base):
    __tablename__ = "counters"

    name: Mapped[str] = mapped_column(primary_key=True)
    value: Mapped[int]


class Transaction:
    """What can be read and written in one transaction that nobody else writes in between."""

    def __init__(self, session: Session) -> None:
        self._session = session

    def capacities(self) -> dict[str, int]:
        """Feature -> seats of all licences together."""
        rows = self._session.execute(select(_Seats.feature, func.sum(_Seats.capacity)).group_by(_Seats.feature))
        return {feature: int(capacity) for feature, capacity in rows}

    def leases(self) -> list[Lease]:
        return [_lease(row) for row in self._session.scalars(select(_Lease).order_by(_Lease.token))]

    def lease(self, lease_id: str) -> Lease | None:
        row = self._session.get(_Lease, lease_id)
        return None if row is None else _lease(row)

    def next_token(self) -> int:
        """Larger than every one before, also across restarts."""
        statement = update(_Counter).where(_Counter.name == "token").values(value=_Counter.value + 1)
        return self._session.scalars(statement.returning(_Counter.value)).one()

    def save(self, lease: Lease) -> None:
        self._session.merge(_Lease(**asdict(lease)))
        self._session.flush()

    def remove(self, lease_id: str) -> None:
        self._session.execute(delete(_Lease).where(_Lease.id == lease_id))

    def has_licence(self) -> bool:
        return self._session.scalars(select(_Licence.id).limit(1)).first() is not None

    def install(self, licence: str, issuer: str, seats: Mapping[str, int]) -> None:
        """Installs a licence, or replaces the one with this id."""
        self._session.merge(_Licence(id=licence, issuer=issuer))
        self._session.execute(delete(_Seats).where(_Seats.licence == licence))
        self._session.flush()
        self._session.add_all(_Seats(licence=licence, feature=name, capacity=count) for name, count in seats.items())
        self._session.flush()


class Store:
    """The database of a data directory. Raises StorageError where it cannot be used."""

    def __init__(self, data_dir: Path) -> None:
        self._path = data_dir / DATABASE
        self._lock = _lock(data_dir)
        self._engine = create_engine(URL.create("sqlite", database=str(self._path)))
        event.listen(self._engine, "connect", _configure)
        event.listen(self._engine, "begin", _begin)
        try:
            with self._engine.begin() as connection:
                self._prepare(connection)
        except DatabaseError as error:
            self.close()
            raise StorageError(path=self._path, problem=str(error.orig)) from None
        except StorageError:
            self.close()
            raise

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_failure: object) -> None:
        self.close()

    def close(self) -> None:
        self._engine.dispose()
        self._lock.close()

    @contextmanager
    def transaction(self) -> Iterator[Transaction]:
        """Commits at the end, or undoes everything where the block raises."""
        try:
            with Session(self._engine) as session, session.begin():
                yield Transaction(session)
        except DatabaseError as error:
            raise StorageError(path=self._path, problem=str(error.orig)) from None

    def _prepare(self, connection: Connection) -> None:
        version = connection.exec_driver_sql("PRAGMA user_version").scalar_one()
        if version > SCHEMA_VERSION:
            raise StorageError(path=self._path, problem=f"it is of a newer release (format {version})")
        _Base.metadata.create_all(connection)
        connection.exec_driver_sql("INSERT OR IGNORE INTO counters (name, value) VALUES ('token', 0)")
        connection.exec_driver_sql(f"PRAGMA user_version = {SCHEMA_VERSION}")


def _lock(data_dir: Path) -> Any:
    """A second server on the same directory would give away the same seats again."""
    try:
        data_dir.mkdir(parents=True, exist_ok=True)
        lock = (data_dir / "lock").open("w")
    except OSError as error:
        raise StorageError(path=data_dir, problem=error.strerror) from None
    try:
        fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        lock.close()
        raise StorageError(path=data_dir, problem="another license server uses it") from None
    return lock


def _configure(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions are begun by _begin, not by the driver's guess
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA foreign_keys = ON")
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")


def _begin(connection: Connection) -> None:
    """IMMEDIATE: a transaction that reads and then writes must not find that another wrote in between."""
    connection.exec_driver_sql("BEGIN IMMEDIATE")


def _lease(row: _Lease) -> Lease:
    return Lease(
        id=row.id, token=row.token, feature=row.feature, node=row.node, fingerprint=row.fingerprint, since=row.since
    )
