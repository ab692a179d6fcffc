"""Leases over a real database, with a clock in the test's hand."""

import sqlite3
import threading
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.errors import LeaseUnknown, LicenceRevoked, NoSeatLeft, StorageError
from services.license_server.desk import LicenseDesk
from services.license_server.leases import Holder
from services.license_server.store import DATABASE, Store

DEFAULT = {"SN": 1, "SL": 2}
TTL_S = 30.0


@dataclass
class Clock:
    now: float = 1000.0

    def __call__(self) -> float:
        return self.now


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.fixture
def store(tmp_path):
    with Store(tmp_path) as opened:
        yield opened


@pytest.fixture
def desk(store, clock) -> LicenseDesk:
    return opened_desk(store, clock)


def opened_desk(store: Store, clock: Clock, seats: dict[str, int] | None = None) -> LicenseDesk:
    desk = LicenseDesk(store, TTL_S, clock)
    desk.install_community_licence(DEFAULT, seats)
    return desk


def sl(number: int) -> Holder:
    return Holder(role="sl", name=f"sl-{number}", fingerprint=f"{number:064x}")


def holders(desk: LicenseDesk) -> list[str]:
    return desk.status()["SL"][1]


def test_seats_are_given_until_there_are_none_and_again_when_one_is_given_back(desk):
    first, capacity = desk.acquire(sl(1), "SL")
    assert capacity == 2
    desk.acquire(sl(2), "SL")
    with pytest.raises(NoSeatLeft):
        desk.acquire(sl(3), "SL")
    desk.release(sl(1), first.id, first.token)
    desk.acquire(sl(3), "SL")
    assert holders(desk) == ["sl-2", "sl-3"]


def test_same_node_has_one_seat_however_often_it_asks(desk):
    leases = [desk.acquire(sl(1), "SL")[0] for _ in range(3)]
    assert len({lease.id for lease in leases}) == 1
    assert [lease.token for lease in leases] == sorted({lease.token for lease in leases})
    assert holders(desk) == ["sl-1"]


def test_earlier_process_of_a_node_can_neither_renew_nor_give_back_the_seat(desk):
    old, _ = desk.acquire(sl(1), "SL")
    new, _ = desk.acquire(sl(1), "SL")
    with pytest.raises(LicenceRevoked):
        desk.renew(sl(1), old.id, old.token)
    with pytest.raises(LicenceRevoked):
        desk.release(sl(1), old.id, old.token)
    desk.renew(sl(1), new.id, new.token)
    assert holders(desk) == ["sl-1"]


def test_another_node_can_neither_renew_nor_give_back_a_seat(desk):
    lease, _ = desk.acquire(sl(1), "SL")
    with pytest.raises(LeaseUnknown):
        desk.renew(sl(2), lease.id, lease.token)
    desk.release(sl(2), lease.id, lease.token)
    assert holders(desk) == ["sl-1"]


def test_seat_of_a_silent_node_is_free_within_a_minute(desk, clock):
    silent, _ = desk.acquire(sl(1), "SL")
    alive, _ = desk.acquire(sl(2), "SL")
    clock.now += 20
    desk.renew(sl(2), alive.id, alive.token)
    with pytest.raises(NoSeatLeft):
        desk.acquire(sl(3), "SL")
    clock.now += 10
    desk.acquire(sl(3), "SL")
    assert holders(desk) == ["sl-2", "sl-3"]
    with pytest.raises(LeaseUnknown):
        desk.renew(sl(1), silent.id, silent.token)


def test_restarted_server_keeps_the_seats_and_frees_those_that_stay_silent(tmp_path, clock):
    with Store(tmp_path) as store:
        desk = opened_desk(store, clock)
        kept, _ = desk.acquire(sl(1), "SL")
        desk.acquire(sl(2), "SL")
    clock.now = 3.0  # a clock that counts from the start of the machine begins anew
    with Store(tmp_path) as store:
        desk = opened_desk(store, clock)
        with pytest.raises(NoSeatLeft):
            desk.acquire(sl(3), "SL")
        clock.now += 20
        desk.renew(sl(1), kept.id, kept.token)
        clock.now += 10
        newcomer, _ = desk.acquire(sl(3), "SL")
        assert holders(desk) == ["sl-1", "sl-3"]
        assert newcomer.token > kept.token


def test_capacity_holds_when_all_ask_at_once(store, clock):
    nodes, capacity = 24, 5
    desk = opened_desk(store, clock, {"SL": capacity})
    together = threading.Barrier(nodes, timeout=30)

    def ask(number: int) -> bool:
        together.wait()
        try:
            desk.acquire(sl(number), "SL")
        except NoSeatLeft:
            return False
        return True

    with ThreadPoolExecutor(nodes) as pool:
        granted = list(pool.map(ask, range(nodes)))
    assert sum(granted) == capacity == len(holders(desk))


def test_transactions_of_two_connections_do_not_interleave(store):
    """Read, then write, from many threads past the desk's own lock: a lost update would repeat a token."""
    together = threading.Barrier(8, timeout=30)

    def tokens(_number: int) -> list[int]:
        together.wait()
        found = []
        for _ in range(10):
            with store.transaction() as transaction:
                transaction.leases()
                found.append(transaction.next_token())
        return found

    with ThreadPoolExecutor(8) as pool:
        found = [token for part in pool.map(tokens, range(8)) for token in part]
    assert sorted(found) == list(range(1, 81))


def test_failed_transaction_leaves_nothing(store):
    with pytest.raises(RuntimeError), store.transaction() as transaction:
        transaction.install("x", "y", {"SL": 9})
        raise RuntimeError
    with store.transaction() as transaction:
        assert transaction.capacities() == {}


def test_community_licence_stays_as_installed_unless_seats_are_said(tmp_path, clock):
    def seats(default: dict[str, int], wanted: dict[str, int] | None) -> dict[str, int]:
        with Store(tmp_path) as store:
            desk = LicenseDesk(store, TTL_S, clock)
            desk.install_community_licence(default, wanted)
            return {feature: capacity for feature, (capacity, _) in desk.status().items()}

    assert seats({"SL": 2}, None) == {"SL": 2}
    assert seats({"SL": 7}, None) == {"SL": 2}
    assert seats({"SL": 7, "SN": 1}, {"SL": 3}) == {"SL": 3, "SN": 1}


def test_smaller_licence_takes_no_seat_from_those_who_hold_one(tmp_path, clock):
    with Store(tmp_path) as store:
        held = [opened_desk(store, clock).acquire(sl(number), "SL")[0] for number in (1, 2)]
        desk = opened_desk(store, clock, {"SL": 1})
        for number, lease in enumerate(held, start=1):
            desk.release(sl(number), lease.id, lease.token)
        desk.acquire(sl(3), "SL")
        with pytest.raises(NoSeatLeft):
            desk.acquire(sl(4), "SL")


def test_two_servers_on_one_directory_are_refused(tmp_path):
    with Store(tmp_path), pytest.raises(StorageError, match="another license server uses it"):
        Store(tmp_path)
    Store(tmp_path).close()


def test_directory_that_cannot_be_is_named(tmp_path):
    (tmp_path / "file").write_text("")
    with pytest.raises(StorageError, match="file/data cannot be written"):
        Store(tmp_path / "file" / "data")


def test_damaged_database_is_named_and_left_alone(tmp_path):
    damaged = tmp_path / DATABASE
    damaged.write_bytes(b"this was a database once" * 200)
    with pytest.raises(StorageError, match=r"licences\.sqlite3 cannot be written: file is not a database"):
        Store(tmp_path)
    assert damaged.read_bytes().startswith(b"this was")


def test_database_of_a_newer_release_is_left_alone(tmp_path: Path):
    Store(tmp_path).close()
    connection = sqlite3.connect(tmp_path / DATABASE)
    connection.execute("PRAGMA user_version = 99")
    connection.close()
    with pytest.raises(StorageError, match="newer release"):
        Store(tmp_path)
