"""What an SN decides in a swarm of several: whose an account is, who acts for the lost, where to join."""

import pytest

from services.sn.accounts import AccountNames
from services.sn.settings import SNSettings
from services.sn.succession import NEXT_AFTER_S, looks_after, stands_in_after_s


def test_an_account_has_the_name_and_the_organization_with_which_it_was_entered() -> None:
    accounts = AccountNames()
    accounts.added("0x1", "sn-1", "hospital-a")
    accounts.added("0x2", "sn-2", "hospital-b")
    assert accounts.owner("0x1") == "sn-1"
    assert accounts.owner("0x9") is None
    assert accounts.organizations == {"0x1": "hospital-a", "0x2": "hospital-b"}


def test_an_sn_that_lost_its_data_has_a_new_account_at_the_end() -> None:
    accounts = AccountNames()
    accounts.added("0x1", "sn-1")
    accounts.added("0x2", "sn-2")
    accounts.added("0x3", "sn-1")
    assert accounts.of("sn-1") == ["0x1", "0x3"]
    accounts.removed("0x1")
    assert accounts.of("sn-1") == ["0x3"]
    assert list(accounts.names) == ["0x2", "0x3"]


def test_the_first_that_is_there_acts_for_the_lost_and_the_others_stand_by() -> None:
    order, alive = ["sn-1", "sn-2", "sn-3"], {"sn-2", "sn-3"}
    assert stands_in_after_s("sn-2", order, alive) == 0
    assert stands_in_after_s("sn-3", order, alive) == NEXT_AFTER_S
    assert stands_in_after_s("sn-1", order, alive) is None
    assert stands_in_after_s("sn-4", order, {"sn-4"}) is None


@pytest.mark.parametrize(
    ("me", "parent", "present", "mine"),
    [
        ("sn-2", "sn-2", ["sn-1", "sn-2"], True),
        ("sn-2", "sn-1", ["sn-1", "sn-2"], False),
        ("sn-2", "sn-1", ["sn-2", "sn-3"], True),
        ("sn-3", "sn-1", ["sn-2", "sn-3"], False),
        ("sn-2", None, ["sn-2"], False),
        ("sn-2", "sn-1", [], False),
    ],
)
def test_orphans_are_looked_after_by_the_first_sn_that_is_there(
    me: str, parent: str | None, present: list[str], mine: bool
) -> None:
    assert looks_after(me, parent, present) is mine


@pytest.mark.parametrize(
    ("where", "address"),
    [
        ("10.0.0.1", "10.0.0.1:40000"),
        ("10.0.0.1:30304", "10.0.0.1:30304"),
        ("sn.example.org", "sn.example.org:40000"),
        ("::1", "[::1]:40000"),
        ("[::1]", "[::1]:40000"),
        ("[::1]:30304", "[::1]:30304"),
    ],
)
def test_the_sn_to_join_is_given_with_or_without_its_port(where: str, address: str) -> None:
    settings = SNSettings.load("sn", {"sentinel_ip": where, "sentinel_api_port": 40000, "host_ip": "h"})
    assert settings.through == address
