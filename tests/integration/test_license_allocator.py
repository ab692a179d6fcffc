"""Leases over a real database, with a clock that the test controls."""

import sqlite3
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
from cryptography.hazmat.primitives.serialization import Encoding

from services.errors import LeaseUnknown, LicenseRevoked, NoSeatLeft, StorageError
from services.identity.certificates import key_fingerprint, read_chain
from services.license_server.actor import SYSTEM
from services.license_server.clock import LeaseClock
from services.license_server.database import DATABASE, Database
from services.license_server.lease_allocator import LeaseAllocator
from services.license_server.leases import LeaseHolder
from services.license_server.services import Services

DEFAULT = {"SN": 1, "SL": 2}


@dataclass
class Clock:
    """Both clocks of a server, controlled by the test. Housekeeping runs at every tick, as in a server."""

    now: float = 1000.0
    date: float = 1_700_000_000.0
    allocators: list[LeaseAllocator] = field(default_factory=list)

    def pass_(self, seconds: float) -> None:
        for _ in range(round(seconds)):
            self.now += 1
            self.date += 1
            for allocator in self.allocators:
                allocator.sweep()

    def lease_clock(self) -> LeaseClock:
        return LeaseClock(lambda: self.now, lambda: self.date)


@pytest.fixture
def clock() -> Clock:
    return Clock()


@contextmanager
def opened(directory: Path, clock: Clock, seats: dict[str, int] | None = None) -> Iterator[LeaseAllocator]:
    with Database.in_directory(directory, clock.lease_clock()) as database:
        services = Services(database)
        services.licenses.install_community(DEFAULT, seats)
        clock.allocators.append(services.allocator)
        yield services.allocator
        clock.allocators.remove(services.allocator)


@pytest.fixture
def allocator(tmp_path, clock) -> Iterator[LeaseAllocator]:
    with opened(tmp_path, clock) as found:
        yield found


def sl(number: int) -> LeaseHolder:
    return LeaseHolder(role="sl", name=f"sl-{number}", fingerprint=f"{number:064x}")


def holders(allocator: LeaseAllocator) -> list[str]:
    return allocator.status()["SL"][1]


def test_seats_are_given_until_there_are_none_and_again_when_one_is_given_back(allocator):
    first = allocator.acquire(sl(1), "SL")
    assert first.capacity == 2
    allocator.acquire(sl(2), "SL")
    with pytest.raises(NoSeatLeft):
        allocator.acquire(sl(3), "SL")
    allocator.release(sl(1), first.lease, first.token)
    allocator.acquire(sl(3), "SL")
    assert holders(allocator) == ["sl-2", "sl-3"]


def test_same_node_has_one_seat_however_often_it_asks(allocator):
    leases = [allocator.acquire(sl(1), "SL") for _ in range(3)]
    assert len({lease.lease for lease in leases}) == 1
    assert [lease.token for lease in leases] == sorted({lease.token for lease in leases})
    assert holders(allocator) == ["sl-1"]


def test_earlier_process_of_a_node_can_neither_renew_nor_give_back_the_seat(allocator):
    old = allocator.acquire(sl(1), "SL")
    new = allocator.acquire(sl(1), "SL")
    with pytest.raises(LicenseRevoked):
        allocator.renew(sl(1), old.lease, old.token)
    with pytest.raises(LicenseRevoked):
        allocator.release(sl(1), old.lease, old.token)
    allocator.renew(sl(1), new.lease, new.token)
    assert holders(allocator) == ["sl-1"]


def test_another_node_can_neither_renew_nor_give_back_a_seat(allocator):
    lease = allocator.acquire(sl(1), "SL")
    with pytest.raises(LeaseUnknown):
        allocator.renew(sl(2), lease.lease, lease.token)
    allocator.release(sl(2), lease.lease, lease.token)
    assert holders(allocator) == ["sl-1"]


def holder(files, name="sl-1"):
    """The holder with these certificate files."""
    (certificate,) = read_chain(files.cert)
    pem = certificate.public_bytes(Encoding.PEM).decode("ascii")
    return LeaseHolder("sl", name, key_fingerprint(certificate), certificate=pem)


def test_a_node_whose_seat_is_revoked_gets_none_with_a_new_key_nor_in_a_slot(tmp_path, clock, pki, foreign_pki):
    with Database.in_directory(tmp_path, clock.lease_clock()) as database:
        services = Services(database)
        services.licenses.install_community({"SL": 5}, None)
        allocator = services.allocator
        old, new = (holder(pki.issue("sl", "sl-1")) for _ in range(2))
        lease = allocator.acquire(old, "SL")
        services.leases.revoke(SYSTEM, lease.lease, "left the study")
        with pytest.raises(LicenseRevoked, match="left the study"):
            allocator.renew(new, lease.lease, lease.token)
        allocator.release(new, lease.lease, lease.token)
        in_slot = holder(pki.issue("sl", "sl-1"), "sl-1/0")
        for banned in (old, new, in_slot):
            with pytest.raises(LicenseRevoked, match="left the study"):
                allocator.acquire(banned, "SL")
        allocator.acquire(holder(foreign_pki.issue("sl", "sl-1")), "SL")  # another CA, so another holder
        allocator.acquire(holder(pki.issue("sl", "sl-2"), "sl-2"), "SL")
        (standing,) = services.leases.revocations(SYSTEM)
        services.leases.readmit(SYSTEM, standing.id)
        for readmitted in (new, in_slot):
            allocator.acquire(readmitted, "SL")


def test_a_node_that_is_readmitted_goes_on_with_the_key_that_it_has_now(tmp_path, clock, pki):
    with Database.in_directory(tmp_path, clock.lease_clock()) as database:
        services = Services(database)
        services.licenses.install_community({"SL": 5}, None)
        old, new = (holder(pki.issue("sl", "sl-1")) for _ in range(2))
        lease = services.allocator.acquire(old, "SL")
        services.leases.revoke(SYSTEM, lease.lease, "left the study")
        with pytest.raises(LicenseRevoked):
            services.allocator.renew(new, lease.lease, lease.token)
        services.leases.readmit(SYSTEM, services.leases.revocations(SYSTEM)[0].id)
        assert services.allocator.renew(new, lease.lease, lease.token).lease == lease.lease


def test_a_seat_follows_its_node_to_a_new_key_and_to_nobody_else(allocator, pki, foreign_pki):
    old, new = (holder(pki.issue("sl", "sl-1")) for _ in range(2))
    lease = allocator.acquire(old, "SL")
    allocator.renew(new, lease.lease, lease.token)
    again = allocator.acquire(new, "SL")
    assert again.lease == lease.lease
    namesake = holder(foreign_pki.issue("sl", "sl-1"))
    with pytest.raises(LeaseUnknown):
        allocator.renew(namesake, again.lease, again.token)
    assert allocator.acquire(namesake, "SL").lease != again.lease
    assert holders(allocator) == ["sl-1", "sl-1"]


def test_seat_of_a_silent_node_is_free_within_a_minute(allocator, clock):
    silent = allocator.acquire(sl(1), "SL")
    alive = allocator.acquire(sl(2), "SL")
    clock.pass_(20)
    allocator.renew(sl(2), alive.lease, alive.token)
    with pytest.raises(NoSeatLeft):
        allocator.acquire(sl(3), "SL")
    clock.pass_(10)
    allocator.acquire(sl(3), "SL")
    assert holders(allocator) == ["sl-2", "sl-3"]
    with pytest.raises(LeaseUnknown):
        allocator.renew(sl(1), silent.lease, silent.token)


def test_restarted_server_keeps_the_seats_and_frees_those_that_stay_silent(tmp_path, clock):
    with opened(tmp_path, clock) as allocator:
        kept = allocator.acquire(sl(1), "SL")
        allocator.acquire(sl(2), "SL")
        clock.pass_(5)
    clock.now = 3.0  # a clock that counts from the boot of the machine starts over
    with opened(tmp_path, clock) as allocator:
        with pytest.raises(NoSeatLeft):
            allocator.acquire(sl(3), "SL")
        clock.pass_(20)
        allocator.renew(sl(1), kept.lease, kept.token)
        clock.pass_(6)
        newcomer = allocator.acquire(sl(3), "SL")
        assert holders(allocator) == ["sl-1", "sl-3"]
        assert newcomer.token > kept.token


def test_time_in_which_no_server_ran_makes_no_lease_older(tmp_path, clock):
    with opened(tmp_path, clock) as allocator:
        kept = allocator.acquire(sl(1), "SL")
    clock.now += 86_400
    clock.date += 86_400
    with opened(tmp_path, clock) as allocator:
        allocator.sweep()
        allocator.renew(sl(1), kept.lease, kept.token)
        assert holders(allocator) == ["sl-1"]


@pytest.mark.parametrize("jump", [-10_000_000.0, 10_000_000.0])
def test_changed_system_clock_neither_frees_nor_extends_a_lease(allocator, clock, jump):
    allocator.acquire(sl(1), "SL")
    clock.date += jump
    clock.pass_(29)
    assert holders(allocator) == ["sl-1"]
    clock.date -= 2 * jump
    clock.pass_(2)
    assert holders(allocator) == []


def all_at_once(ask, nodes: int) -> list[bool]:
    """Which of this many simultaneous callers got a seat."""
    together = threading.Barrier(nodes, timeout=30)

    def one(number: int) -> bool:
        together.wait()
        try:
            ask(number)
        except NoSeatLeft:
            return False
        return True

    with ThreadPoolExecutor(nodes) as pool:
        return list(pool.map(one, range(nodes)))


def test_capacity_holds_when_all_ask_at_once(tmp_path, clock):
    with opened(tmp_path, clock, {"SL": 5}) as allocator:
        granted = all_at_once(lambda number: allocator.acquire(sl(number), "SL"), 200)
        assert sum(granted) == 5 == len(holders(allocator))


def test_capacity_holds_when_two_servers_on_one_database_are_asked_at_once(tmp_path, clock):
    with opened(tmp_path, clock, {"SL": 5}) as one, opened(tmp_path, clock) as other:
        granted = all_at_once(lambda number: (one, other)[number % 2].acquire(sl(number), "SL"), 100)
        assert sum(granted) == 5 == len(holders(one)) == len(holders(other))


def test_seat_of_one_server_is_renewed_and_freed_by_another_on_the_same_database(tmp_path, clock):
    with opened(tmp_path, clock) as one, opened(tmp_path, clock) as other:
        lease = one.acquire(sl(1), "SL")
        clock.pass_(20)
        other.renew(sl(1), lease.lease, lease.token)
        clock.pass_(20)
        assert holders(one) == ["sl-1"]
        clock.pass_(11)
        assert holders(one) == holders(other) == []


def test_transactions_of_two_connections_do_not_interleave(tmp_path, clock):
    """Reads, then writes, from many threads and two servers: a lost update would repeat a token."""
    together = threading.Barrier(8, timeout=30)
    with opened(tmp_path, clock) as one, opened(tmp_path, clock) as other:

        def tokens(number: int) -> list[int]:
            together.wait()
            allocator = (one, other)[number % 2]
            return [allocator.acquire(sl(1), "SL").token for _ in range(10)]

        with ThreadPoolExecutor(8) as pool:
            found = [token for part in pool.map(tokens, range(8)) for token in part]
    assert sorted(found) == list(range(1, 81))


def test_failed_transaction_leaves_nothing(tmp_path, clock):
    with Database.in_directory(tmp_path, clock.lease_clock()) as database:
        with pytest.raises(RuntimeError), database.write() as transaction:
            transaction.next("token")
            raise RuntimeError
        with database.write() as transaction:
            assert transaction.next("token") == 1


def test_community_license_stays_as_installed_unless_seats_are_said(tmp_path, clock):
    def seats(default: dict[str, int], wanted: dict[str, int] | None) -> dict[str, int]:
        with Database.in_directory(tmp_path, clock.lease_clock()) as database:
            services = Services(database)
            services.licenses.install_community(default, wanted)
            return {feature: capacity for feature, (capacity, _) in services.allocator.status().items() if capacity}

    assert seats({"SL": 2}, None) == {"SL": 2}
    assert seats({"SL": 7}, None) == {"SL": 2}
    assert seats({"SL": 7, "SN": 1}, {"SL": 3}) == {"SL": 3, "SN": 1}


def test_smaller_license_takes_no_seat_from_those_who_hold_one(tmp_path, clock):
    with opened(tmp_path, clock) as allocator:
        held = [allocator.acquire(sl(number), "SL") for number in (1, 2)]
    with opened(tmp_path, clock, {"SL": 1}) as allocator:
        for number, lease in enumerate(held, start=1):
            allocator.renew(sl(number), lease.lease, lease.token)
            allocator.release(sl(number), lease.lease, lease.token)
        allocator.acquire(sl(3), "SL")
        with pytest.raises(NoSeatLeft):
            allocator.acquire(sl(4), "SL")


def test_directory_that_cannot_be_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file/data cannot be written"):
        Database.in_directory(tmp_path / "file" / "data")


def test_damaged_database_is_named_and_left_alone(tmp_path):
    damaged = tmp_path / DATABASE
    damaged.write_bytes(b"this was a database once" * 200)
    with pytest.raises(StorageError, match=r"licenses\.sqlite3 cannot be written: file is not a database"):
        Database.in_directory(tmp_path)
    assert damaged.read_bytes().startswith(b"this was")


def test_database_of_a_newer_release_is_left_alone(tmp_path: Path):
    Database.in_directory(tmp_path).close()
    connection = sqlite3.connect(tmp_path / DATABASE)
    connection.execute("UPDATE alembic_version SET version_num = '9999'")
    connection.commit()
    connection.close()
    with pytest.raises(StorageError, match="newer release"):
        Database.in_directory(tmp_path)


def test_database_can_be_read_by_its_owner_only(tmp_path):
    Database.in_directory(tmp_path).close()
    assert (tmp_path / DATABASE).stat().st_mode & 0o077 == 0
