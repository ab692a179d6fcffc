"""SwarmNetwork: which organizations there are, and what they vote on."""

from typing import Any

import pytest
from contract_bench import OTHER_SN, SN, STRANGER, Bench
from eth_utils.address import to_checksum_address

from services.chain.events import (
    CarriedOut,
    MemberExpelled,
    OrganizationAdmitted,
    OrganizationRemoved,
    Proposed,
    SNAccountAdded,
    SNAccountRemoved,
    Voted,
    Withdrawn,
)
from services.errors import (
    AnotherOrganization,
    Expelled,
    LastSN,
    MalformedCall,
    NoOrganizations,
    NoSNWouldBeLeft,
    NoSuchProposal,
    NotAMember,
    NotARegisteredSN,
    OrganizationNotHeld,
    ProposedByAnother,
    SNNotVotedIn,
    TooManyProposals,
)

ADMIT, ADMIT_SN, REMOVE, EXPEL = range(4)
IS_SN, SL = 1, 2
MOST_OPEN = 32
NOBODY = "0x" + "00" * 20
THIRD_SN = to_checksum_address("0x" + "33" * 20)
NEW_SN = to_checksum_address("0x" + "44" * 20)
CA_A, CA_B, CA_C = (bytes([number]) * 32 for number in (1, 2, 3))


def founded(*names: str, sns: dict[str, list[str]] | None = None) -> Bench:
    """A swarm of these organizations, whose sentinel sn-1 is of the first one. ``sns``: that need no vote."""
    expected = [(sns or {}).get(name, []) for name in names]
    return Bench((list(names), [[bytes([number + 1]) * 32] for number in range(len(names))], expected))


def three() -> Bench:
    """Of a, b and c, each with an SN."""
    bench = founded("a", "b", "c", sns={"b": ["sn-2"], "c": ["sn-3"]})
    bench.send_network("addSNAccount", OTHER_SN, "sn-2", "b")
    bench.send_network("addSNAccount", THIRD_SN, "sn-3", "c")
    return bench


def propose(bench: Bench, change: int, name: str, by: str = SN, **of: Any) -> list[Any]:
    asked = {"cas": [], "sn": "", "account": NOBODY, "author": "admin/ada"} | of
    return bench.send_network(
        "propose", change, name, asked["cas"], asked["sn"], asked["account"], asked["author"], by=by
    )


def register(bench: Bench, name: str, organization: str, role: int = SL) -> list[Any]:
    return bench.send_network("registerMember", name, role, "h", 1, name.encode().ljust(32), "sn-1", organization)


def expel(bench: Bench, name: str, role: int = SL, by: str = SN) -> list[Any]:
    return bench.send_network("expel", role, name, "admin/ada", by=by)


def withdraw(bench: Bench, number: int, by: str = SN) -> list[Any]:
    return bench.send_network("withdraw", number, "admin/ada", by=by)


def vote(bench: Bench, number: int, by: str) -> list[Any]:
    return bench.send_network("vote", number, "swci/op", by=by)


def held(bench: Bench) -> dict[str, list[bytes]]:
    return {name: list(cas) for name, cas, _, is_held in bench.read_network("organizations", 0, 10) if is_held}


def kinds(events: list[Any]) -> list[type]:
    return [type(event) for event in events]


def test_a_swarm_begins_with_the_organizations_it_is_given_and_lets_the_sentinel_write() -> None:
    bench = founded("a", "b")
    assert held(bench) == {"a": [CA_A], "b": [CA_B]}
    assert bench.read_network("isSN", SN)
    assert bench.read_network("votesNeeded") == 1  # b has no SN yet


def test_the_only_organization_decides_alone_and_its_author_is_recorded() -> None:
    bench = founded("a")
    events = propose(bench, ADMIT, "b", cas=[CA_B])
    assert kinds(events) == [Proposed, Voted, CarriedOut, OrganizationAdmitted]
    assert (events[1].organization, events[1].by) == ("a", "admin/ada")
    assert (events[3].name, events[3].cas) == ("b", (CA_B,))
    assert held(bench) == {"a": [CA_A], "b": [CA_B]}


def test_more_than_half_of_those_with_an_sn_must_vote_for_it() -> None:
    bench = three()
    assert bench.read_network("votesNeeded") == 2
    assert kinds(propose(bench, ADMIT, "d", cas=[CA_C])) == [Proposed, Voted]
    assert "d" not in held(bench)
    assert vote(bench, 1, SN) == []  # its organization has voted already
    assert kinds(vote(bench, 1, THIRD_SN)) == [Voted, CarriedOut, OrganizationAdmitted]
    assert "d" in held(bench)
    with pytest.raises(NoSuchProposal):
        vote(bench, 1, OTHER_SN)


def test_the_same_proposal_of_another_organization_is_a_vote_for_it() -> None:
    bench = three()
    propose(bench, ADMIT, "d", cas=[CA_C])
    assert kinds(propose(bench, ADMIT, "d", by=OTHER_SN, cas=[CA_C])) == [Voted, CarriedOut, OrganizationAdmitted]
    assert len(bench.read_network("proposals", 0, 10)) == 1


def test_two_sns_of_one_organization_have_one_vote() -> None:
    bench = founded("a")
    bench.send_network("addSNAccount", OTHER_SN, "sn-2", "a")
    propose(bench, ADMIT, "b", cas=[CA_B])
    propose(bench, ADMIT_SN, "b", sn="b-1", account=THIRD_SN)
    propose(bench, ADMIT, "c", cas=[CA_C])
    assert vote(bench, 3, OTHER_SN) == []
    assert "c" not in held(bench)
    vote(bench, 3, THIRD_SN)
    assert "c" in held(bench)


def test_an_organization_is_given_other_cas_by_the_same_vote() -> None:
    bench = founded("a")
    propose(bench, ADMIT, "a", cas=[CA_A, CA_C])
    assert held(bench) == {"a": [CA_A, CA_C]}


def test_with_several_organizations_an_sn_needs_votes_for_its_very_account() -> None:
    bench = founded("a", "b", sns={"b": ["sn-2"]})
    bench.send_network("addSNAccount", OTHER_SN, "sn-2", "b")  # expected from the start
    for account, name in ((NEW_SN, "sn-4"), (NEW_SN, "sn-2")):  # not expected, and expected only once
        with pytest.raises(SNNotVotedIn):
            bench.send_network("addSNAccount", account, name, "b")
    propose(bench, ADMIT_SN, "b", sn="sn-2", account=NEW_SN, author="")
    assert bench.read_network("requestOf", "b", "sn-2", NEW_SN) == 1
    vote(bench, 1, SN)
    assert not bench.read_network("isSN", NEW_SN)
    events = vote(bench, 1, OTHER_SN)
    assert kinds(events) == [Voted, CarriedOut, SNAccountAdded, SNAccountRemoved]  # it had lost its data
    assert (events[2].account, events[2].name, events[2].organization) == (NEW_SN, "sn-2", "b")
    assert events[3].account == OTHER_SN


def test_an_sn_that_asks_with_another_account_takes_its_first_request_back() -> None:
    bench = founded("a", "b")
    propose(bench, ADMIT_SN, "b", sn="b-1", account=NEW_SN, author="")
    propose(bench, ADMIT_SN, "b", sn="b-1", account=THIRD_SN, author="")
    with pytest.raises(NoSuchProposal):
        vote(bench, 1, SN)
    vote(bench, 2, SN)
    assert bench.read_network("isSN", THIRD_SN)
    assert not bench.read_network("isSN", NEW_SN)


def test_an_organization_that_is_removed_writes_and_votes_no_more() -> None:
    bench = three()
    propose(bench, ADMIT, "d", by=OTHER_SN, cas=[CA_C])
    propose(bench, REMOVE, "b")
    events = vote(bench, 2, THIRD_SN)
    assert kinds(events) == [Voted, CarriedOut, SNAccountRemoved, OrganizationRemoved]
    with pytest.raises(NotARegisteredSN):
        vote(bench, 1, OTHER_SN)
    with pytest.raises(OrganizationNotHeld):
        bench.send_network("registerMember", "sl-1", 2, "h", 1, CA_A, "sn-1", "b")
    assert kinds(vote(bench, 1, SN)) == [Voted]  # the vote of b does not count any more
    assert kinds(vote(bench, 1, THIRD_SN)) == [Voted, CarriedOut, OrganizationAdmitted]


def test_an_organization_that_was_removed_may_be_voted_in_again() -> None:
    bench = three()
    propose(bench, REMOVE, "b")
    vote(bench, 1, THIRD_SN)
    propose(bench, ADMIT, "b", cas=[CA_C])
    vote(bench, 2, THIRD_SN)
    assert held(bench)["b"] == [CA_C]
    assert not bench.read_network("isSN", OTHER_SN)


def test_an_sn_takes_no_account_from_another_organization() -> None:
    bench = three()
    with pytest.raises(AnotherOrganization):
        bench.send_network("removeSNAccount", OTHER_SN)
    bench.send_network("removeSNAccount", OTHER_SN, by=OTHER_SN)
    assert bench.read_network("votesNeeded") == 2  # of a and c


def test_whoever_has_all_sns_cannot_be_removed() -> None:
    bench = founded("a", "b")
    with pytest.raises(NoSNWouldBeLeft):
        propose(bench, REMOVE, "a")


def test_a_swarm_that_began_without_a_trust_file_is_one_organization() -> None:
    bench = Bench()
    assert held(bench) == {"": []}
    with pytest.raises(NoOrganizations):
        propose(bench, ADMIT, "b", cas=[CA_B])
    bench.send_network("addSNAccount", OTHER_SN, "sn-2", "")
    with pytest.raises(OrganizationNotHeld):
        bench.send_network("addSNAccount", THIRD_SN, "sn-3", "b")


def test_a_training_is_for_organizations_that_the_swarm_has() -> None:
    bench = founded("a", "b")
    bench.send_network("registerContract", "ours", "training", bench.training, ["a", "b"])
    assert bench.read_network("contracts", 0, 10)[0][3] == ("a", "b")
    with pytest.raises(OrganizationNotHeld):
        bench.send_network("registerContract", "theirs", "training", bench.training, ["a", "c"])


@pytest.mark.parametrize(
    ("change", "name", "of", "field"),
    [
        (ADMIT, "", {"cas": [CA_B]}, "organization"),
        (ADMIT, "b", {}, "cas"),
        (ADMIT, "b", {"cas": [CA_B], "sn": "sn-2"}, "sn"),
        (ADMIT, "b", {"cas": [CA_B], "account": NEW_SN}, "account"),
        (ADMIT, "b", {"cas": [CA_B], "author": ""}, "by"),
        (REMOVE, "b", {"author": ""}, "by"),
        (ADMIT_SN, "b", {"account": NEW_SN}, "sn"),
        (ADMIT_SN, "b", {"sn": "sn-2"}, "account"),
        (ADMIT_SN, "b", {"sn": "sn-1", "account": SN}, "account"),
        (ADMIT_SN, "b", {"sn": "sn-2", "account": NEW_SN, "cas": [CA_B]}, "cas"),
        (EXPEL, "b", {}, "change"),
    ],
)
def test_what_is_missing_or_too_much_in_a_proposal_is_named(
    change: int, name: str, of: dict[str, Any], field: str
) -> None:
    with pytest.raises(MalformedCall) as refused:
        propose(founded("a", "b"), change, name, **of)
    assert refused.value.facts == {"field": field}


def test_a_stranger_neither_proposes_nor_votes() -> None:
    bench = founded("a")
    with pytest.raises(NotARegisteredSN):
        propose(bench, ADMIT, "b", by=STRANGER, cas=[CA_B])
    with pytest.raises(NotARegisteredSN):
        vote(bench, 1, STRANGER)


@pytest.mark.parametrize("number", [0, 7])
def test_nobody_votes_for_what_is_not_proposed(number: int) -> None:
    with pytest.raises(NoSuchProposal):
        vote(founded("a"), number, SN)


def test_whoever_proposed_withdraws_and_nobody_else() -> None:
    bench = three()
    propose(bench, ADMIT, "d", cas=[CA_C])
    with pytest.raises(ProposedByAnother) as refused:
        withdraw(bench, 1, OTHER_SN)
    assert refused.value.facts == {"number": 1, "organization": "a"}
    events = withdraw(bench, 1)
    assert [(event.number, event.by) for event in events] == [(1, "admin/ada")]
    with pytest.raises(NoSuchProposal):
        vote(bench, 1, OTHER_SN)
    with pytest.raises(NoSuchProposal):
        withdraw(bench, 1)
    assert kinds(propose(bench, ADMIT, "d", cas=[CA_C])) == [Proposed, Voted]  # anew, without the votes of before


def test_each_organization_withdraws_what_one_has_left_that_is_gone() -> None:
    bench = three()
    propose(bench, ADMIT, "d", by=OTHER_SN, cas=[CA_C])
    propose(bench, REMOVE, "b")
    vote(bench, 2, THIRD_SN)
    assert kinds(withdraw(bench, 1)) == [Withdrawn]


def test_an_organization_has_so_many_open_proposals_and_the_others_have_theirs() -> None:
    bench = three()
    for number in range(MOST_OPEN):
        propose(bench, ADMIT, f"d-{number}", cas=[CA_C])
    with pytest.raises(TooManyProposals) as refused:
        propose(bench, ADMIT, "more", cas=[CA_C])
    assert refused.value.facts == {"organization": "a", "limit": MOST_OPEN}
    propose(bench, ADMIT, "more", by=OTHER_SN, cas=[CA_C])
    withdraw(bench, 1)
    vote(bench, 2, OTHER_SN)  # carried out
    for name in ("e", "f"):
        propose(bench, ADMIT, name, cas=[CA_C])
    with pytest.raises(TooManyProposals):
        propose(bench, ADMIT, "g", cas=[CA_C])


def test_sns_that_ask_count_for_their_organization_and_once_each() -> None:
    bench = three()
    for number in range(MOST_OPEN + 1):  # it loses its data again and again
        events = propose(bench, ADMIT_SN, "b", sn="b-9", account=account(number), author="")
    assert kinds(events) == [Withdrawn, Proposed]
    for number in range(MOST_OPEN - 1):
        propose(bench, ADMIT_SN, "b", sn=f"sn-{number + 10}", account=account(number + 100), author="")
    with pytest.raises(TooManyProposals):
        propose(bench, ADMIT_SN, "b", sn="one-more", account=account(200), author="")
    propose(bench, ADMIT, "d", cas=[CA_C])  # of a, whose SN was asked
    with pytest.raises(ProposedByAnother):
        withdraw(bench, MOST_OPEN + 1)
    withdraw(bench, MOST_OPEN + 1, by=OTHER_SN)


def account(number: int) -> str:
    return to_checksum_address("0x" + f"{number + 1000:040x}")


def test_an_organization_expels_its_own_node_at_once_and_for_good() -> None:
    bench = three()
    for name in ("sl-1", "sl-10", "sl-2/1"):
        register(bench, name, "a")
    events = expel(bench, "sl-1")
    assert [(type(event), event.name, event.role, event.by) for event in events] == [
        (MemberExpelled, "sl-1", "sl", "admin/ada")
    ]
    for name in ("sl-1", "sl-1/slot"):
        with pytest.raises(Expelled):
            register(bench, name, "a")
    register(bench, "sl-10", "a")
    with pytest.raises(Expelled):
        bench.send_network("replaceKey", SL, "sl-1", b"sl-1".ljust(32), CA_A, "admin/ada", 1, 0)
    with pytest.raises(Expelled):
        expel(bench, "sl-1")
    expel(bench, "sl-2/1")
    with pytest.raises(Expelled):
        register(bench, "sl-2/7", "a")


def test_a_node_of_another_organization_is_expelled_by_vote() -> None:
    bench = three()
    register(bench, "sl-1", "b")
    assert kinds(expel(bench, "sl-1")) == [Proposed, Voted]
    register(bench, "sl-1", "b")
    events = vote(bench, 1, THIRD_SN)
    assert kinds(events) == [Voted, CarriedOut, MemberExpelled]
    assert events[2].by == ""
    with pytest.raises(Expelled):
        register(bench, "sl-1", "b")


def test_an_sn_that_is_expelled_writes_no_more_and_does_not_come_back() -> None:
    bench = three()
    register(bench, "sn-2", "b", IS_SN)
    expel(bench, "sn-2", IS_SN)
    events = vote(bench, 1, THIRD_SN)
    assert kinds(events) == [Voted, CarriedOut, SNAccountRemoved, MemberExpelled]
    with pytest.raises(NotARegisteredSN):
        vote(bench, 1, OTHER_SN)
    with pytest.raises(Expelled):
        propose(bench, ADMIT_SN, "b", sn="sn-2", account=NEW_SN, author="")
    assert bench.read_network("votesNeeded") == 2  # of a and c


def test_the_only_sn_is_not_expelled() -> None:
    bench = founded("a")
    register(bench, "sn-1", "a", IS_SN)
    with pytest.raises(LastSN):
        expel(bench, "sn-1", IS_SN)


def test_without_a_trust_file_a_node_is_expelled_too() -> None:
    bench = Bench()
    register(bench, "sl-1", "")
    assert kinds(expel(bench, "sl-1")) == [MemberExpelled]


def test_nobody_is_expelled_by_a_stranger_nor_one_whom_the_swarm_does_not_know() -> None:
    bench = three()
    with pytest.raises(NotAMember):
        expel(bench, "sl-1")
    register(bench, "sl-1", "a")
    with pytest.raises(NotARegisteredSN):
        expel(bench, "sl-1", by=STRANGER)
