"""Who gets a seat and who has lost it, decided without a clock, a socket or a file."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.errors import (
    LeaseUnknown,
    LicenseError,
    LicenseExpired,
    LicenseNotYetValid,
    LicenseRevoked,
    NodeNotAllowed,
    NoSeatLeft,
    SeatsReserved,
    SettingsError,
    WrongRole,
)
from services.license_server.clock import LeaseClock
from services.license_server.leases import (
    LeaseHolder,
    Reservation,
    SeatPool,
    Taken,
    matches,
    place_for,
    require_current,
    require_feature,
    seats_in_use,
)
from services.license_server.settings import LicenseServerSettings

LEASE_S = 30.0


def holder(number: int = 1, role: str = "sl") -> LeaseHolder:
    return LeaseHolder(role=role, name=f"{role}-{number}", fingerprint=f"{number:064x}")


def lease(number: int = 1, feature: str = "SL", token: int = 1, reservation: int | None = None) -> Taken:
    return Taken(f"lease-{number}", token, feature, f"sl-{number}", f"{number:064x}", reservation)


def test_free_seat_is_given():
    assert place_for(holder(2), SeatPool("SL", 2), [lease(1)], LEASE_S) is None


def test_full_house_names_who_holds_the_seats():
    with pytest.raises(NoSeatLeft, match=r"All 2 seats for SL are in use \(by sl-1, sl-2\)"):
        place_for(holder(3), SeatPool("SL", 2), [lease(2), lease(1)], LEASE_S)


def test_full_house_of_many_names_some_and_counts_the_others():
    with pytest.raises(NoSeatLeft, match="and 88 more"):
        place_for(holder(300), SeatPool("SL", 100), [lease(number) for number in range(100)], LEASE_S)


def test_feature_without_seats_is_refused():
    with pytest.raises(NoSeatLeft, match="nobody"):
        place_for(holder(1), SeatPool("SL", 0), [], LEASE_S)


def test_license_that_ended_or_has_not_begun_is_said_to():
    with pytest.raises(LicenseExpired, match="expired at yesterday"):
        place_for(holder(1), SeatPool("SL", 0, expired="yesterday"), [], LEASE_S)
    with pytest.raises(LicenseNotYetValid, match="valid only from tomorrow"):
        place_for(holder(1), SeatPool("SL", 0, begins="tomorrow"), [], LEASE_S)


def test_restricted_pool_serves_only_those_it_names():
    pool = SeatPool("SL", 5, allowed=("hospital-a-*", f"sha256:{7:064x}"))
    assert place_for(LeaseHolder("sl", "hospital-a-3", "ff" * 32), pool, [], LEASE_S) is None
    assert place_for(holder(7), pool, [], LEASE_S) is None
    with pytest.raises(NodeNotAllowed, match=r"hospital-a-\*"):
        place_for(holder(8), pool, [], LEASE_S)


def test_reserved_seats_are_kept_for_whom_they_are_reserved():
    pool = SeatPool("SL", 3, reservations=(Reservation(9, "sl-1*", 2),))
    assert place_for(holder(2), pool, [], LEASE_S) is None
    with pytest.raises(SeatsReserved, match="reserved for others"):
        place_for(holder(3), pool, [lease(2)], LEASE_S)
    assert place_for(holder(1), pool, [lease(2)], LEASE_S) == 9
    assert place_for(holder(12), pool, [lease(2), lease(1, reservation=9)], LEASE_S) == 9
    with pytest.raises(NoSeatLeft):
        place_for(holder(13), pool, [lease(2), lease(1, reservation=9), lease(12, reservation=9)], LEASE_S)


def test_reservation_beyond_a_smaller_license_gives_no_seat_that_is_not_there():
    pool = SeatPool("SL", 1, reservations=(Reservation(1, "sl-1", 3),))
    with pytest.raises(NoSeatLeft):
        place_for(holder(1), pool, [lease(5)], LEASE_S)
    with pytest.raises(SeatsReserved):
        place_for(holder(2), pool, [], LEASE_S)


@pytest.mark.parametrize("pattern", ["sha256:", "sha256:0000000", "SL-1", "sl-?x", ""])
def test_pattern_that_does_not_fit_fits_nobody(pattern):
    assert not matches(pattern, "sl-1", f"{1:064x}")


@pytest.mark.parametrize(("role", "feature"), [("sl", "SN"), ("sn", "SL"), ("admin", "SL"), ("license", "SWCI")])
def test_seat_of_another_type_of_node_is_refused(role, feature):
    with pytest.raises(WrongRole, match=f"has the role {role}, but a seat for {feature} needs"):
        require_feature(holder(role=role), feature)


@pytest.mark.parametrize("feature", ["", "sl", "SL ", "GPU"])
def test_unknown_feature_is_refused_with_the_known_ones(feature):
    with pytest.raises(LicenseError, match="SN, SL, SWOP, SWCI"):
        require_feature(holder(), feature)


def test_only_its_holder_learns_of_a_lease():
    assert require_current(lease(1), "lease-1", 1, holder(1)) == lease(1)
    with pytest.raises(LeaseUnknown):
        require_current(lease(1), "lease-1", 1, holder(2))
    with pytest.raises(LeaseUnknown):
        require_current(None, "lease-1", 1, holder(1))


def test_older_token_is_told_that_it_was_taken_over():
    with pytest.raises(LicenseRevoked, match="another process with the same certificate"):
        require_current(lease(1, token=2), "lease-1", 1, holder(1))


class Time:
    """A monotonic and a wall clock in the test's hand."""

    def __init__(self) -> None:
        self.now, self.date = 1_000.0, 1_700_000_000.0

    def clock(self, max_step_s: float = 5.0) -> LeaseClock:
        return LeaseClock(lambda: self.now, lambda: self.date, max_step_s)


def test_lease_clock_counts_what_passed_and_begins_where_the_database_stands():
    time = Time()
    clock = time.clock()
    assert clock.advance(70.0) == 70.0
    time.now += 3
    assert clock.advance(70.0) == 73.0
    time.now += 2
    assert clock.advance(73.0) == 75.0


def test_lease_clock_takes_over_what_another_server_counted_meanwhile():
    time = Time()
    clock = time.clock()
    clock.advance(10.0)
    time.now += 1
    assert clock.advance(14.0) == 14.0
    time.now += 1
    assert clock.advance(14.0) == 15.0


def test_lease_clock_does_not_count_a_time_in_which_the_server_stood_still():
    time = Time()
    clock = time.clock()
    clock.advance(0.0)
    time.now += 3_600
    assert clock.advance(0.0) == 5.0


@given(st.lists(st.floats(-1e9, 1e9), min_size=1, max_size=20))
def test_changed_system_clock_moves_no_lease(jumps):
    time = Time()
    clock = time.clock()
    stored = clock.advance(0.0)
    for jump in jumps:
        time.date += jump
        time.now += 1
        stored, before = clock.advance(stored), stored
        assert stored == before + 1


def test_date_of_licenses_does_not_go_back_with_the_system_clock():
    time = Time()
    clock = time.clock()
    assert clock.wall(0.0) == 1_700_000_000.0
    time.now, time.date = time.now + 10, 0.0
    assert clock.wall(0.0) == 1_700_000_010.0
    restarted = time.clock()  # the date is 1970 now, and the database remembers better
    assert restarted.wall(1_700_000_010.0) == 1_700_000_010.0
    assert restarted.turned_back_s == 1_700_000_010.0
    time.now += 5
    assert restarted.wall(1_700_000_010.0) == 1_700_000_015.0


@given(
    st.lists(st.tuples(st.integers(1, 6), st.sampled_from(["take", "drop"])), max_size=60),
    st.integers(0, 4),
    st.lists(st.tuples(st.sampled_from(["sl-1", "sl-*", "sl-[23]", "x"]), st.integers(1, 3)), max_size=3),
)
def test_capacity_is_never_exceeded_whatever_the_order(steps, capacity, reserved):
    pool = SeatPool("SL", capacity, reservations=tuple(Reservation(id_, *place) for id_, place in enumerate(reserved)))
    taken: dict[int, Taken] = {}
    for number, what in steps:
        if what == "drop":
            taken.pop(number, None)
            continue
        if number in taken:
            continue
        try:
            place = place_for(holder(number), pool, list(taken.values()), LEASE_S)
        except SeatsReserved:
            assert len(taken) < capacity
            continue
        except NoSeatLeft:
            assert len(taken) == capacity
            continue
        taken[number] = lease(number, reservation=place)
        assert len(taken) <= capacity
        for kept in pool.reservations:
            assert sum(one.reservation == kept.id for one in taken.values()) <= kept.seats


def test_status_counts_by_feature():
    found = seats_in_use([lease(2), lease(1), lease(3, "SN")], {"SL": 4, "SN": 1, "SWOP": 2})
    assert found == {"SL": (4, ["sl-1", "sl-2"]), "SN": (1, ["sl-3"]), "SWOP": (2, [])}


def test_seats_are_read_from_a_flag_and_from_the_environment(monkeypatch):
    assert LicenseServerSettings.load("license-server", {}).seats is None
    assert LicenseServerSettings.load("license-server", {"seats": "SN=1, SL=2"}).seats == {"SN": 1, "SL": 2}
    monkeypatch.setenv("SWARM_LICENSE_SEATS", "SL=3")
    assert LicenseServerSettings.load("license-server", {}).seats == {"SL": 3}


@pytest.mark.parametrize("flags", [{"seats": "SL"}, {"seats": "GPU=1"}, {"seats": "SL=-1"}, {"port": 70000}])
def test_settings_that_cannot_be_are_refused_by_name(flags):
    with pytest.raises(SettingsError, match="license-server --help"):
        LicenseServerSettings.load("license-server", flags)


def test_port_of_some_other_program_in_the_environment_is_not_ours(monkeypatch):
    monkeypatch.setenv("PORT", "8080")
    monkeypatch.setenv("HOST", "example.org")
    settings = LicenseServerSettings.load("license-server", {})
    assert settings.port == 5814
    assert settings.host != "example.org"
