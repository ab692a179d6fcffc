"""What a license server promises about its database, both on SQLite and on PostgreSQL."""

import contextlib
import itertools
import shutil
import sqlite3
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from alembic.config import Config
from alembic.script import ScriptDirectory
from license_postgresql import cluster
from license_servers import callers, license_servers
from sqlalchemy import create_engine, inspect, text

from services.errors import BackupUnusable, NoSeatLeft, StorageError
from services.license_server import migrations, schema
from services.license_server.actor import SYSTEM
from services.license_server.clock import LeaseClock
from services.license_server.database import DATABASE, Database
from services.license_server.leases import LeaseHolder
from services.license_server.services import Services

SEATS = {"SN": 1, "SL": 5}
KINDS = ("sqlite", "postgresql")
_numbers = itertools.count()


@pytest.fixture(scope="session")
def postgresql() -> Iterator[str]:
    with cluster() as url:
        yield url


@dataclass
class Ticking:
    now: float = 50.0

    def clock(self) -> LeaseClock:
        return LeaseClock(lambda: self.now, max_step_s=float("inf"))


@pytest.fixture(params=KINDS)
def url(request, tmp_path) -> str:
    if request.param == "sqlite":
        return f"sqlite:///{tmp_path / DATABASE}"
    return new_database(request.getfixturevalue("postgresql"))


def new_database(server: str) -> str:
    name = f"swarm{next(_numbers)}"
    engine = create_engine(server.replace("postgresql:", "postgresql+psycopg:"), isolation_level="AUTOCOMMIT")
    with engine.connect() as connection:
        connection.execute(text(f"CREATE DATABASE {name}"))
    engine.dispose()
    return server.replace("/postgres?", f"/{name}?")


@pytest.fixture
def time() -> Ticking:
    return Ticking()


@pytest.fixture
def open_services(url, time) -> Iterator[Callable[[], Services]]:
    with contextlib.ExitStack() as stack:

        def opened() -> Services:
            services = Services(stack.enter_context(Database(url, time.clock())))
            services.licenses.install_community(SEATS, None)
            return services

        yield opened


def sl(number: int) -> LeaseHolder:
    return LeaseHolder("sl", f"sl-{number}", f"{number:064x}")


def test_capacity_holds_with_two_hundred_at_once_on_two_servers(open_services):
    allocators = [open_services().allocator, open_services().allocator]
    together = threading.Barrier(200, timeout=60)

    def ask(number: int) -> bool:
        together.wait()
        try:
            allocators[number % 2].acquire(sl(number), "SL")
        except NoSeatLeft:
            return False
        return True

    with ThreadPoolExecutor(200) as pool:
        assert sum(pool.map(ask, range(200))) == 5
    assert len(allocators[0].status()["SL"][1]) == 5


def test_same_node_asking_at_once_everywhere_has_one_seat(open_services):
    allocators = [open_services().allocator, open_services().allocator]
    together = threading.Barrier(20, timeout=60)

    def ask(number: int) -> str:
        together.wait()
        return allocators[number % 2].acquire(sl(1), "SL").lease

    with ThreadPoolExecutor(20) as pool:
        assert len(set(pool.map(ask, range(20)))) == 1


def test_stale_seat_is_freed_and_a_renewed_one_is_not(open_services, time):
    allocator = open_services().allocator
    allocator.acquire(sl(1), "SL")
    kept = allocator.acquire(sl(2), "SL")
    time.now += 20
    allocator.renew(sl(2), kept.lease, kept.token)
    time.now += 11
    assert allocator.sweep() == 1
    assert allocator.status()["SL"][1] == ["sl-2"]


@pytest.mark.parametrize("statement", ["DELETE FROM audit", "UPDATE audit SET actor = 'nobody'"])
def test_audit_log_takes_no_change(open_services, statement):
    services = open_services()
    with pytest.raises(StorageError, match="append-only"), services.database.write() as transaction:
        transaction.connection.execute(text(statement))
    assert services.audit.verify(SYSTEM).entries == 1


def test_changed_audit_entry_is_found_where_the_guard_was_taken_away(open_services):
    services = open_services()
    for hours in (1, 2, 3):
        services.settings.change(SYSTEM, session_max_h=hours)
    assert services.audit.verify(SYSTEM).good
    with services.database.write() as transaction, services.database.unguarded_audit(transaction):
        transaction.connection.execute(text("UPDATE audit SET actor = 'somebody else' WHERE seq = 3"))
    assert services.audit.verify(SYSTEM).broken_at == 3


@pytest.mark.needs("postgresql")
def test_backup_goes_from_one_kind_of_database_to_the_other_while_nodes_go_on(open_services, request, tmp_path, time):
    services = open_services()
    lease = services.allocator.acquire(sl(1), "SL")
    services.accounts.set_up(services.accounts.setup_secret(), "ada", "correct horse battery", "127.0.0.1")
    services.pools.reserve(SYSTEM, "SL", "sl-*", 2)
    stop = threading.Event()

    def go_on() -> None:
        while not stop.is_set():
            services.allocator.renew(sl(1), lease.lease, lease.token)
            with contextlib.suppress(NoSeatLeft):
                other = services.allocator.acquire(sl(2), "SL")
                services.allocator.release(sl(2), other.lease, other.token)

    with ThreadPoolExecutor(1) as pool:
        going = pool.submit(go_on)
        file = services.backup.make(SYSTEM)
        stop.set()
        going.result()
    other_url = (
        new_database(request.getfixturevalue("postgresql"))
        if services.database.is_sqlite
        else f"sqlite:///{tmp_path / 'other'}"
    )
    with Database(other_url, time.clock()) as database:
        fresh = Services(database)
        fresh.licenses.install_community(SEATS, None)
        fresh.backup.restore(SYSTEM, file)
        assert fresh.allocator.renew(sl(1), lease.lease, lease.token).lease == lease.lease
        assert fresh.accounts.sign_in("ada", "correct horse battery", "", "127.0.0.1").user.role == "admin"
        assert fresh.pools.all(SYSTEM)[1].reserved == 2
        fresh.pools.reserve(SYSTEM, "SL", "x", 1)  # numbers continue after those in the backup
        assert fresh.allocator.acquire(sl(3), "SL").token > lease.token
        assert fresh.audit.verify(SYSTEM).good
        assert "first administrator made" in fresh.audit.actions(SYSTEM)


def test_restored_leases_last_as_long_as_the_restored_settings_say(open_services, time):
    services = open_services()
    services.settings.change(SYSTEM, lease_s=5)
    services.allocator.acquire(sl(1), "SL")
    services.backup.restore(SYSTEM, services.backup.make(SYSTEM))
    time.now += 4
    assert services.allocator.sweep() == 0
    time.now += 2
    assert services.allocator.sweep() == 1


@pytest.mark.parametrize("damage", [b"", b"no gzip", None, "flip"])
def test_backup_that_is_damaged_changes_nothing(open_services, damage):
    services = open_services()
    services.allocator.acquire(sl(1), "SL")
    whole = services.backup.make(SYSTEM)
    middle = len(whole) // 2
    flipped = whole[:middle] + bytes([whole[middle] ^ 1]) + whole[middle + 1 :]
    with pytest.raises(BackupUnusable):
        services.backup.restore(SYSTEM, {None: whole[:-20], "flip": flipped}.get(damage, damage))
    assert services.allocator.status()["SL"][1] == ["sl-1"]


def test_history_counts_seats_and_denials(open_services):
    services = open_services()
    for number in range(1, 6):
        services.allocator.acquire(sl(number), "SL")
    for _ in range(3):
        with pytest.raises(NoSeatLeft):
            services.allocator.acquire(sl(9), "SL")
    services.usage.sample()
    end = datetime.now(UTC) + timedelta(seconds=5)
    points = services.usage.history(SYSTEM, "SL", end - timedelta(hours=1), end, points=6)
    assert [point.used for point in points] == [0, 0, 0, 0, 0, 5]
    assert points[-1].denied == 3
    assert points[-1].capacity == 5
    (denial,) = services.usage.denials(SYSTEM, end - timedelta(hours=1), end)
    assert (denial.node, denial.count, denial.code) == ("sl-9", 3, "no-seat-left")
    lines = list(services.usage.csv(SYSTEM, end - timedelta(hours=1), end))
    assert len(lines) == 6
    assert lines[1].startswith("SL,sl-1,")


def test_formula_in_a_name_does_not_reach_a_spreadsheet(open_services):
    services = open_services()
    services.allocator.acquire(LeaseHolder("sl", "=HYPERLINK(1)", "ab" * 32), "SL")
    end = datetime.now(UTC) + timedelta(seconds=5)
    assert "SL,'=HYPERLINK(1)," in "".join(services.usage.csv(SYSTEM, end - timedelta(hours=1), end))


async def test_two_servers_on_one_postgresql_lend_the_same_seats_and_outlive_a_kill(pki, tmp_path, postgresql):
    shared = ("--database", new_database(postgresql))
    async with license_servers(pki, tmp_path) as servers, callers(pki, range(1, 5)) as nodes:
        await servers.start("ls-1", "--seats", "SL=3", *shared)
        await servers.start("ls-2", *shared)
        one, other = servers.address("ls-1"), servers.address("ls-2")
        assert [await node.acquire((one, other)[number % 2]) for number, node in enumerate(nodes)] == [200] * 3 + [409]
        await servers.kill("ls-1")
        assert [await node.renew(other) for node in nodes[:3]] == [200] * 3
        assert await nodes[3].acquire(other) == 409
        await servers.start("ls-1", *shared)
        assert [await node.renew(one) for node in nodes[:3]] == [200] * 3
        assert await nodes[0].release(one) == 204
        assert await nodes[3].acquire(other) == 200


# --- the schema ---


def test_database_from_before_the_first_release_is_left_alone(tmp_path):
    with contextlib.closing(sqlite3.connect(tmp_path / DATABASE)) as connection:
        connection.execute("CREATE TABLE leases (id VARCHAR NOT NULL, since VARCHAR NOT NULL, PRIMARY KEY (id))")
    with pytest.raises(StorageError, match="before the first release"):
        Database.in_directory(tmp_path)
    with contextlib.closing(sqlite3.connect(tmp_path / DATABASE)) as connection:
        assert connection.execute("SELECT name FROM sqlite_master WHERE type = 'table'").fetchall() == [("leases",)]


def test_database_of_an_older_revision_is_migrated_and_keeps_its_leases(url, time, tmp_path, monkeypatch):
    with Database(url, time.clock()) as database:
        services = Services(database)
        services.licenses.install_community(SEATS, None)
        lease = services.allocator.acquire(sl(1), "SL")
    scripts = tmp_path / "migrations"
    shutil.copytree(Path(migrations.__file__).parent, scripts)
    following = f"""
import sqlalchemy as sa
from alembic import op
revision, down_revision = "9999", "{schema.REVISION}"
def upgrade():
    op.create_table("notes", sa.Column("text", sa.Text))
"""
    (scripts / "versions" / "r9999_notes.py").write_text(following)
    monkeypatch.setattr("services.license_server.migrations.run.SCRIPTS", scripts)
    monkeypatch.setattr(schema, "REVISION", "9999")
    for _ in range(2):  # once
        with Database(url, time.clock()) as database, database.read() as transaction:
            assert transaction.rows(text("SELECT version_num FROM alembic_version")) == [{"version_num": "9999"}]
            assert transaction.rows(text("SELECT * FROM notes")) == []
            assert [row["id"] for row in transaction.rows(text("SELECT id FROM leases"))] == [lease.lease]


def test_newest_migration_is_the_revision_that_new_databases_are_stamped_with():
    config = Config()
    config.set_main_option("script_location", str(Path(migrations.__file__).parent))
    assert ScriptDirectory.from_config(config).get_heads() == [schema.REVISION]


def test_tables_are_the_same_on_both_kinds(open_services):
    engine = open_services().database._engine
    assert set(inspect(engine).get_table_names()) == set(schema.metadata.tables)
