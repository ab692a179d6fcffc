"""SwarmNetwork: who belongs to the swarm, who may write, where its contracts are."""

from typing import Any

import pytest
from contract_bench import OTHER_SN, SN, STRANGER, Bench

from services.chain.events import ContractRegistered, MemberLeft, MemberRegistered, SNAccountAdded, SNAccountRemoved
from services.errors import (
    ContractNameTaken,
    KeyWasReplaced,
    LastSN,
    MalformedCall,
    NameTaken,
    NotAMember,
    NotARegisteredSN,
)

SL = 2
FINGERPRINT = b"\x01" * 32


@pytest.fixture
def bench() -> Bench:
    return Bench()


def register(
    bench: Bench,
    name: str = "sl-a",
    host: str = "host-a",
    fingerprint: bytes = FINGERPRINT,
    organization: str = "",
) -> None:
    bench.send_network("registerMember", name, SL, host, 30305, fingerprint, "sn-1", organization)


def test_a_member_that_comes_back_may_have_moved_but_not_changed_its_key(bench: Bench) -> None:
    register(bench)
    bench.send_network("markMemberLeft", SL, "sl-a", "stopped")
    assert bench.read_network("memberNamed", SL, "sl-a")[6] is False

    register(bench, host="host-b")

    assert bench.read_network("members", 0, 10) == (("sl-a", SL, "host-b", 30305, FINGERPRINT, "sn-1", True, ""),)
    with pytest.raises(NameTaken) as refused:
        register(bench, fingerprint=b"\x02" * 32)
    assert refused.value.facts == {"name": "sl-a", "enrolledFingerprint": FINGERPRINT.hex()}


def replace_key(bench: Bench, before: bytes, key: bytes) -> list[Any]:
    return bench.send_network("replaceKey", SL, "sl-a", before, key, "sl/sl-a", 1_700_000_000_000, 600)


def test_a_new_key_replaces_the_known_one_and_no_old_one_comes_back(bench: Bench) -> None:
    second, third = b"\x02" * 32, b"\x03" * 32
    with pytest.raises(NotAMember):
        replace_key(bench, FINGERPRINT, second)
    register(bench)

    assert replace_key(bench, FINGERPRINT, second)[0].by == "sl/sl-a"

    assert bench.read_network("keyOfSL", "sl-a") == second
    register(bench, fingerprint=second)
    with pytest.raises(NameTaken):
        register(bench)
    with pytest.raises(NameTaken):
        replace_key(bench, FINGERPRINT, third)
    with pytest.raises(KeyWasReplaced):
        replace_key(bench, second, FINGERPRINT)
    with pytest.raises(KeyWasReplaced):
        replace_key(bench, second, second)


def test_a_member_has_the_organization_that_was_found_last() -> None:
    bench = Bench((["hospital-a", "hospital-b"], [[FINGERPRINT], [FINGERPRINT]], [[], []]))
    register(bench, organization="hospital-b")
    assert bench.read_network("memberNamed", SL, "sl-a")[7] == "hospital-b"
    register(bench, organization="hospital-a")
    assert bench.read_network("memberNamed", SL, "sl-a")[7] == "hospital-a"


def test_the_same_name_in_two_roles_is_two_members(bench: Bench) -> None:
    register(bench, name="a")
    bench.send_network("registerMember", "a", 1, "host", 30304, b"\x02" * 32, "a", "")

    assert bench.read_network("memberCount") == 2


def test_changes_are_events(bench: Bench) -> None:
    events = [
        *bench.send_network("registerMember", "sl-a", SL, "h", 1, FINGERPRINT, "sn-1", ""),
        *bench.send_network("markMemberLeft", SL, "sl-a", "stopped"),
        *bench.send_network("addSNAccount", OTHER_SN, "sn-2", ""),
        *bench.send_network("removeSNAccount", OTHER_SN),
        *bench.send_network("registerContract", "bb", "training", bench.training, []),
    ]

    assert [type(event) for event in events] == [
        MemberRegistered, MemberLeft, SNAccountAdded, SNAccountRemoved, ContractRegistered,
    ]  # fmt: skip
    assert isinstance(events[1], MemberLeft)
    assert (events[1].role, events[1].reason) == ("sl", "stopped")


@pytest.mark.parametrize(
    ("function", "arguments"),
    [
        ("addSNAccount", (STRANGER, "me", "")),
        ("removeSNAccount", (SN,)),
        ("registerMember", ("me", SL, "h", 1, FINGERPRINT, "sn-1", "")),
        ("replaceKey", (SL, "sl-a", FINGERPRINT, b"\x02" * 32, "sl/sl-a", 1, 600)),
        ("markMemberLeft", (SL, "sl-a", "")),
        ("registerContract", ("bb", "training", STRANGER, [])),
    ],
)
def test_a_stranger_writes_nothing(bench: Bench, function: str, arguments: tuple[object, ...]) -> None:
    with pytest.raises(NotARegisteredSN):
        bench.send_network(function, *arguments, by=STRANGER)


def test_an_account_writes_from_its_addition_to_its_removal(bench: Bench) -> None:
    bench.send_network("addSNAccount", OTHER_SN, "sn-2", "")
    bench.send_network("addSNAccount", OTHER_SN, "sn-2", "")
    assert bench.read_network("snCount") == 2
    bench.send_network("removeSNAccount", SN, by=OTHER_SN)

    with pytest.raises(NotARegisteredSN):
        register(bench)
    with pytest.raises(LastSN):
        bench.send_network("removeSNAccount", OTHER_SN, by=OTHER_SN)


def test_contract_names_are_given_once(bench: Bench) -> None:
    bench.send_network("registerContract", "bb", "training", bench.training, [])

    with pytest.raises(ContractNameTaken) as refused:
        bench.send_network("registerContract", "bb", "training", bench.network, [])
    assert refused.value.facts["existing"] == bench.training.lower()
    assert bench.read_network("contractNamed", "bb") == bench.training.lower()
    assert int(bench.read_network("contractNamed", "cc"), 16) == 0


@pytest.mark.parametrize(
    ("function", "arguments", "field"),
    [
        ("registerMember", ("", SL, "h", 1, FINGERPRINT, "sn-1", ""), "name"),
        ("registerMember", ("a", 0, "h", 1, FINGERPRINT, "sn-1", ""), "role"),
        ("registerMember", ("a", SL, "h", 1, bytes(32), "sn-1", ""), "fingerprint"),
        ("registerContract", ("", "training", SN, []), "name"),
        ("registerContract", ("bb", "training", "0x" + "00" * 20, []), "location"),
        ("addSNAccount", ("0x" + "00" * 20, "sn-2", ""), "account"),
    ],
)
def test_what_is_missing_is_named(bench: Bench, function: str, arguments: tuple[object, ...], field: str) -> None:
    with pytest.raises(MalformedCall) as refused:
        bench.send_network(function, *arguments)
    assert refused.value.facts == {"field": field}


def test_nobody_unknown_leaves(bench: Bench) -> None:
    with pytest.raises(NotAMember):
        bench.send_network("markMemberLeft", SL, "nobody", "")


def test_pages_are_short_at_the_end_and_empty_beyond(bench: Bench) -> None:
    for number in range(5):
        register(bench, name=f"sl-{number}")

    pages = [[member[0] for member in bench.read_network("members", offset, 2)] for offset in (0, 2, 4, 6)]

    assert pages == [["sl-0", "sl-1"], ["sl-2", "sl-3"], ["sl-4"], []]
