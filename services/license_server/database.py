"""The database: SQLite by default, PostgreSQL by URL. There is one writer at a time, across all processes."""

import json
import secrets
import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Self

from sqlalchemy import Connection, create_engine, event, insert, inspect, select, update
from sqlalchemy.engine import URL, make_url
from sqlalchemy.exc import ArgumentError, DBAPIError, SQLAlchemyError

from services.errors import SettingsError, StorageError
from services.license_server import schema
from services.license_server.clock import LeaseClock

DATABASE = "licenses.sqlite3"
BUSY_TIMEOUT_MS = 10_000
COUNTERS = ("token", "changes", "term")


class Transaction:
    """An atomic transaction. ``now``: lease clock; ``wall``: seconds since 1970."""

    def __init__(self, connection: Connection, now: float, wall: float) -> None:
        self.connection = connection
        self.now = now
        self.wall = wall
        self.changed = False  # a standby must hear of it: everything except renewals

    def next(self, counter: str) -> int:
        """A number larger than all before, even across restarts."""
        row = schema.counters.c
        statement = update(schema.counters).where(row.name == counter).values(value=row.value + 1)
        return int(self.connection.scalars(statement.returning(row.value)).one())

    def rows(self, statement: Any) -> list[Mapping[str, Any]]:
        return [dict(row) for row in self.connection.execute(statement).mappings()]

    def row(self, statement: Any) -> Mapping[str, Any] | None:
        found = self.connection.execute(statement).mappings().first()
        return None if found is None else dict(found)

    def write(self, statement: Any, values: Any = None) -> Any:
        """Executes a statement, and marks that a standby must hear of it."""
        self.changed = True
        return self.connection.execute(statement, values) if values is not None else self.connection.execute(statement)


class Database:
    """Thread-safe. Raises StorageError if it cannot be used, SettingsError for an invalid URL."""

    def __init__(self, url: str | URL, clock: LeaseClock | None = None) -> None:
        try:
            self.url = make_url(url)
        except ArgumentError as error:
            raise SettingsError(name="--database", problem=str(error), command="license-server") from None
        self._clock = clock or LeaseClock()
        self._turn = threading.Lock()
        self.last_version = 0  # of the last change by this process
        self.on_change: Callable[[], None] = lambda: None
        self.is_sqlite = self.url.get_backend_name() == "sqlite"
        self._engine = self._make_engine()
        try:
            with self._guarded(), self._engine.begin() as connection:
                self._prepare(connection)
        except BaseException:
            self.close()
            raise

    @classmethod
    def in_directory(cls, data_dir: Path, clock: LeaseClock | None = None) -> Self:
        """The SQLite database of a data directory, made if missing; only its owner may read it."""
        path = data_dir / DATABASE
        try:
            data_dir.mkdir(parents=True, exist_ok=True)
            path.touch(mode=0o600)
        except OSError as error:
            raise StorageError(path=data_dir, problem=error.strerror) from None
        return cls(URL.create("sqlite", database=str(path)), clock)

    @property
    def place(self) -> str:
        """The address for messages, without a password."""
        if self.is_sqlite:
            return str(self.url.database)
        return self.url.render_as_string(hide_password=True)

    @property
    def clock_turned_back_s(self) -> float:
        return self._clock.turned_back_s

    def trust_wall_clock(self) -> float:
        """Seconds since 1970 by the system clock. Call this in a transaction that stores them."""
        return self._clock.trust_wall()

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *_failure: object) -> None:
        self.close()

    def close(self) -> None:
        self._engine.dispose()

    @contextmanager
    def write(self) -> Iterator[Transaction]:
        """Commits at the end, or rolls back if the block raises. Nobody else writes meanwhile."""
        clock, version = schema.clock.c, 0
        with self._turn, self._guarded(), self._engine.begin() as connection:
            stored = connection.execute(select(clock.now, clock.wall).with_for_update()).one()
            transaction = Transaction(connection, self._clock.advance(stored.now), self._clock.wall(stored.wall))
            yield transaction
            times = {"now": transaction.now, "wall": transaction.wall}
            connection.execute(update(schema.clock).values(times))
            if transaction.changed:
                version = transaction.next("changes")
        if transaction.changed:
            self.last_version = version
            self.on_change()

    @contextmanager
    def read(self) -> Iterator[Transaction]:
        """One consistent view, which does not block writers."""
        options: dict[str, Any] = {"swarm_read_only": True}
        if not self.is_sqlite:
            options["isolation_level"] = "REPEATABLE READ"
        engine = self._engine.execution_options(**options)
        with self._guarded(), engine.connect() as connection, connection.begin():
            stored = connection.execute(select(schema.clock)).one()
            yield Transaction(connection, self._clock.advance(stored.now), self._clock.wall(stored.wall))

    def version(self) -> int:
        """A number that grows with every change except renewals."""
        row = schema.counters.c
        with self._guarded(), self._engine.connect() as connection:
            return int(connection.scalar(select(row.value).where(row.name == "changes")) or 0)

    @contextmanager
    def unguarded_audit(self, transaction: Transaction) -> Iterator[None]:
        """Within this context the audit log can be replaced: for a restore, and for a standby that copies
        the other's.
        """
        dialect = transaction.connection.dialect.name
        for statement in schema.lifted(dialect):
            transaction.connection.exec_driver_sql(statement)
        yield
        for statement in schema.audit_guards(dialect):
            transaction.connection.exec_driver_sql(statement)

    def _make_engine(self) -> Any:
        if self.is_sqlite:
            engine = create_engine(self.url, pool_size=8, max_overflow=32)
            event.listen(engine, "connect", _configure_sqlite)
            event.listen(engine, "begin", _begin_sqlite)
            return engine
        try:
            return create_engine(self.url.set(drivername="postgresql+psycopg"), pool_pre_ping=True, pool_size=8)
        except ImportError:
            problem = "psycopg is not installed (pip install 'swarm-learning[postgresql]')"
            raise SettingsError(name="--database", problem=problem, command="license-server") from None

    @contextmanager
    def _guarded(self) -> Iterator[None]:
        try:
            yield
        except DBAPIError as error:
            problem = " ".join(str(error.orig).split())
            raise StorageError(path=self.place, problem=problem) from None
        except SQLAlchemyError as error:
            raise StorageError(path=self.place, problem=str(error)) from None

    def _prepare(self, connection: Connection) -> None:
        """Makes a new database in today's form; migrates an older one, and only then loads Alembic."""
        if not self.is_sqlite:  # two servers may start at once
            connection.exec_driver_sql("SELECT pg_advisory_xact_lock(581400)")
        tables = set(inspect(connection).get_table_names())
        if "alembic_version" in tables:
            found = connection.scalars(select(schema.version.c.version_num)).one()
        elif "leases" in tables:
            raise StorageError(path=self.place, problem="it was made before the first release")
        else:
            create(connection)
            return
        if found == schema.REVISION:
            return
        from services.license_server.migrations.run import upgrade  # noqa: PLC0415  # Alembic, only if needed

        upgrade(connection, found, self.place)


def create(connection: Connection) -> None:
    """Makes all tables in today's form, and the rows that must exist."""
    schema.metadata.create_all(connection, checkfirst=False)
    connection.execute(insert(schema.version).values(version_num=schema.REVISION))
    connection.execute(insert(schema.counters), [{"name": name, "value": 0} for name in COUNTERS])
    connection.execute(insert(schema.clock).values(id=1, now=0.0, wall=0.0))
    connection.execute(insert(schema.settings).values(name="lock_code", value=json.dumps(new_lock_code())))


def new_lock_code() -> str:
    """Identifies this server. It belongs to the database, so the standby has the same."""
    digits = secrets.token_hex(8).upper()
    return "-".join(digits[start : start + 4] for start in range(0, 16, 4))


def _configure_sqlite(connection: Any, _record: object) -> None:
    connection.isolation_level = None  # transactions are begun by _begin_sqlite, not by the driver
    connection.execute(f"PRAGMA busy_timeout = {BUSY_TIMEOUT_MS}")
    connection.execute("PRAGMA journal_mode = WAL")
    connection.execute("PRAGMA synchronous = NORMAL")
    connection.execute("PRAGMA foreign_keys = ON")


def _begin_sqlite(connection: Connection) -> None:
    """IMMEDIATE, as nobody may write between the reads and writes of one transaction."""
    reads_only = connection.get_execution_options().get("swarm_read_only")
    connection.exec_driver_sql("BEGIN" if reads_only else "BEGIN IMMEDIATE")
