"""Leases compared with a model of a few lines, in any order of steps, for two servers on one database."""

import tempfile
from pathlib import Path

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.errors import LeaseUnknown, LicenseRevoked, NoSeatLeft, NoSuchThing
from services.license_server.actor import SYSTEM
from services.license_server.clock import LeaseClock
from services.license_server.database import Database
from services.license_server.lease_allocator import Granted
from services.license_server.leases import LeaseHolder
from services.license_server.services import Services

LEASE_S = 30
NODES = st.integers(1, 6)
SERVERS = st.integers(0, 1)


def holder(number: int) -> LeaseHolder:
    return LeaseHolder("sl", f"sl-{number}", f"{number:064x}")


class LeaseModel(RuleBasedStateMachine):
    """The model: which node holds a seat, with which token, until when; who is revoked; how many seats there are."""

    def __init__(self) -> None:
        super().__init__()
        self._directory = tempfile.TemporaryDirectory()
        self.now, self.date = 0.0, 1_700_000_000.0
        self._databases = [self._open(), self._open()]
        self.servers = [Services(database) for database in self._databases]
        self.capacity = 3
        self.servers[0].licenses.install_community({"SL": self.capacity}, None)
        self.held: dict[int, Granted] = {}
        self.until: dict[int, float] = {}
        self.old: list[tuple[int, Granted]] = []
        self.revoked: set[int] = set()
        self.last_token = 0

    def _open(self) -> Database:
        clock = LeaseClock(lambda: self.now, lambda: self.date, max_step_s=float("inf"))
        return Database.in_directory(Path(self._directory.name), clock)

    def teardown(self) -> None:
        for database in self._databases:
            database.close()
        self._directory.cleanup()

    @rule(number=NODES, server=SERVERS)
    def acquire(self, number: int, server: int) -> None:
        self._free()
        allocator = self.servers[server].allocator
        if number in self.revoked:
            with pytest.raises(LicenseRevoked):
                allocator.acquire(holder(number), "SL")
        elif number not in self.held and len(self.held) >= self.capacity:
            with pytest.raises(NoSeatLeft):
                allocator.acquire(holder(number), "SL")
        else:
            granted = allocator.acquire(holder(number), "SL")
            assert granted.token > self.last_token
            self.last_token = granted.token
            if number in self.held:
                assert granted.lease == self.held[number].lease
                self.old.append((number, self.held[number]))
            self.held[number], self.until[number] = granted, self.now + LEASE_S

    @precondition(lambda self: self.held)
    @rule(data=st.data(), server=SERVERS)
    def renew(self, data: st.DataObject, server: int) -> None:
        number = data.draw(st.sampled_from(sorted(self.held)))
        granted = self.held[number]
        self._free()
        allocator = self.servers[server].allocator
        if number not in self.held:
            with pytest.raises(LeaseUnknown):
                allocator.renew(holder(number), granted.lease, granted.token)
            return
        if number in self.revoked:
            with pytest.raises(LicenseRevoked):
                allocator.renew(holder(number), granted.lease, granted.token)
        else:
            assert allocator.renew(holder(number), granted.lease, granted.token).lease == granted.lease
        self.until[number] = self.now + LEASE_S

    @precondition(lambda self: self.old)
    @rule(data=st.data(), server=SERVERS)
    def act_with_an_old_token(self, data: st.DataObject, server: int) -> None:
        number, granted = data.draw(st.sampled_from(self.old))
        self._free()
        with pytest.raises((LicenseRevoked, LeaseUnknown)):
            self.servers[server].allocator.renew(holder(number), granted.lease, granted.token)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), server=SERVERS)
    def release(self, data: st.DataObject, server: int) -> None:
        number = data.draw(st.sampled_from(sorted(self.held)))
        granted = self.held.pop(number)
        self.until.pop(number)
        self.servers[server].allocator.release(holder(number), granted.lease, granted.token)

    @precondition(lambda self: self.held)
    @rule(data=st.data(), server=SERVERS)
    def revoke(self, data: st.DataObject, server: int) -> None:
        number = data.draw(st.sampled_from(sorted(self.held)))
        granted = self.held[number]
        self._free()
        leases = self.servers[server].leases
        if number not in self.held:
            with pytest.raises(NoSuchThing):
                leases.revoke(SYSTEM, granted.lease, "why not")
            return
        leases.revoke(SYSTEM, granted.lease, "why not")
        self.revoked.add(number)

    @precondition(lambda self: self.revoked)
    @rule(data=st.data(), server=SERVERS)
    def readmit(self, data: st.DataObject, server: int) -> None:
        number = data.draw(st.sampled_from(sorted(self.revoked)))
        leases = self.servers[server].leases
        for found in leases.revocations(SYSTEM):
            if found.fingerprint == holder(number).fingerprint:
                leases.readmit(SYSTEM, found.id)
        self.revoked.discard(number)

    @rule(capacity=st.integers(0, 5))
    def install_another_license(self, capacity: int) -> None:
        self.servers[0].licenses.install_community({}, {"SL": capacity})
        self.capacity = capacity

    @rule(seconds=st.sampled_from([1, 5, 12, 29]))
    def pass_time(self, seconds: int) -> None:
        self.now += seconds
        self.date += seconds

    @rule(jump=st.sampled_from([-1e8, -60, 60, 1e8]))
    def change_the_system_clock(self, jump: float) -> None:
        self.date += jump

    @rule(server=SERVERS)
    def sweep(self, server: int) -> None:
        self.servers[server].allocator.sweep()
        self._free()

    @rule(server=SERVERS)
    def restart(self, server: int) -> None:
        self._free()
        self.servers[server].allocator.sweep()  # ended leases are counted before the restart, as in a server
        self._databases[server].close()
        self._databases[server] = self._open()
        self.servers[server] = Services(self._databases[server])
        self.servers[server].allocator.sweep()

    @invariant()
    def the_same_nodes_hold_seats(self) -> None:
        living = sorted(f"sl-{number}" for number, until in self.until.items() if until > self.now)
        for server in self.servers:
            assert server.allocator.status().get("SL", (0, []))[1] == living

    @invariant()
    def the_audit_log_verifies(self) -> None:
        assert self.servers[0].audit.verify(SYSTEM).good

    def _free(self) -> None:
        for number in [number for number, until in self.until.items() if until <= self.now]:
            self.held.pop(number)
            self.until.pop(number)


TestLeaseModel = LeaseModel.TestCase
TestLeaseModel.settings = settings(
    max_examples=25, stateful_step_count=40, deadline=None, suppress_health_check=list(HealthCheck)
)
