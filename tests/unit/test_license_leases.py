"""Who gets a seat and who has lost it, decided without a clock, a socket or a file."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.errors import LeaseUnknown, LicenceError, LicenceRevoked, NoSeatLeft, SettingsError, WrongRole
from services.license_server.leases import (
    Deadlines,
    Holder,
    Lease,
    require_current,
    require_feature,
    seat_of,
    seats_in_use,
)
from services.license_server.settings import LicenseServerSettings

TTL_S = 30.0


def holder(number: int = 1, role: str = "sl") -> Holder:
    return Holder(role=role, name=f"{role}-{number}", fingerprint=f"{number:064x}")


def lease(number: int = 1, feature: str = "SL", token: int = 1) -> Lease:
    return Lease(f"lease-{number}", token, feature, f"sl-{number}", f"{number:064x}", "2025-01-01T00:00:00+00:00")


def test_free_seat_is_given():
    assert seat_of(holder(2), "SL", [lease(1)], capacity=2) is None


def test_same_certificate_gets_its_seat_again_even_when_all_are_taken():
    assert seat_of(holder(1), "SL", [lease(1), lease(2)], capacity=2) == lease(1)


def test_full_house_names_who_holds_the_seats():
    with pytest.raises(NoSeatLeft, match=r"All 2 seats for SL are in use \(by sl-1, sl-2\)"):
        seat_of(holder(3), "SL", [lease(2), lease(1)], capacity=2)


def test_seats_of_another_feature_do_not_count():
    assert seat_of(holder(3), "SL", [lease(1, "SN"), lease(2, "SWOP")], capacity=1) is None


def test_feature_without_seats_is_refused():
    with pytest.raises(NoSeatLeft, match="nobody"):
        seat_of(holder(1), "SL", [], capacity=0)


@pytest.mark.parametrize(("role", "feature"), [("sl", "SN"), ("sn", "SL"), ("admin", "SL"), ("license", "SWCI")])
def test_seat_of_another_type_of_node_is_refused(role, feature):
    with pytest.raises(WrongRole, match=f"has the role {role}, but a seat for {feature} needs"):
        require_feature(holder(role=role), feature)


@pytest.mark.parametrize("feature", ["", "sl", "SL ", "GPU"])
def test_unknown_feature_is_refused_with_the_known_ones(feature):
    with pytest.raises(LicenceError, match="SN, SL, SWOP, SWCI"):
        require_feature(holder(), feature)


def test_only_its_holder_learns_of_a_lease():
    assert require_current(lease(1), "lease-1", 1, holder(1)) == lease(1)
    with pytest.raises(LeaseUnknown):
        require_current(lease(1), "lease-1", 1, holder(2))
    with pytest.raises(LeaseUnknown):
        require_current(None, "lease-1", 1, holder(1))


def test_older_token_is_told_that_it_was_taken_over():
    with pytest.raises(LicenceRevoked, match="another process with the same certificate"):
        require_current(lease(1, token=2), "lease-1", 1, holder(1))


def test_lease_is_stale_after_its_time_and_not_before():
    deadlines = Deadlines(TTL_S, [], now=0.0)
    deadlines.extend("lease-1", now=100.0)
    assert deadlines.stale([lease(1)], now=129.9) == []
    assert deadlines.stale([lease(1)], now=130.0) == [lease(1)]


def test_kept_leases_start_with_a_whole_term_after_a_restart():
    deadlines = Deadlines(TTL_S, [lease(1)], now=5.0)
    assert deadlines.stale([lease(1), lease(2)], now=34.9) == [lease(2)]
    assert deadlines.stale([lease(1)], now=35.0) == [lease(1)]


@given(st.lists(st.tuples(st.integers(1, 6), st.sampled_from(["take", "drop"])), max_size=60), st.integers(0, 4))
def test_capacity_is_never_exceeded_whatever_the_order(steps, capacity):
    taken: dict[str, Lease] = {}
    for number, what in steps:
        if what == "drop":
            taken.pop(f"lease-{number}", None)
            continue
        try:
            held = seat_of(holder(number), "SL", list(taken.values()), capacity)
        except NoSeatLeft:
            assert len(taken) == capacity
            assert f"lease-{number}" not in taken
            continue
        assert held in (None, taken.get(f"lease-{number}"))
        taken[f"lease-{number}"] = lease(number)
        assert len(taken) <= capacity


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
