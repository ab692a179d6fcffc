"""Who seals where several organizations share a chain: none has more than one signer more than another."""

from collections import Counter
from collections.abc import Iterable
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.chain.signer_election import next_vote


def organization_of(accounts: Iterable[str]) -> dict[str, str]:
    """Accounts are named like a1: of the organization a."""
    return {account: account[0] for account in accounts}


def elected(signers: list[str], live: list[str]) -> list[list[str]]:
    """The signers after each vote, until none is cast any more."""
    steps = [list(signers)]
    for _ in range(40):
        now = steps[-1]
        vote = next_vote(sorted(now), live, organization_of({*live, *now}))
        if vote is None:
            return steps
        steps.append([*now, vote.account] if vote.authorize else [it for it in now if it != vote.account])
    raise AssertionError(f"they never agree: {steps}")


def lead(signers: list[str], live: list[str]) -> int:
    """How many signers one organization has more than another, of those with an SN present."""
    seats = Counter(signer[0] for signer in signers)
    counts = [seats[organization] for organization in {account[0] for account in live}]
    return max(counts) - min(counts)


@pytest.mark.parametrize(
    ("live", "wanted"),
    [
        ("a1 b1", "a1"),
        ("a1 a2 b1", "a1 a2 b1"),
        ("a1 a2 a3 a4 b1", "a1 a2 b1"),
        ("a1 b1 c1", "a1 b1 c1"),
        ("a1 a2 a3 b1 c1", "a1 b1 c1"),
        ("a1 a2 b1 b2", "a1 a2 b1"),
        ("a1 a2 a3 b1 b2 b3 c1", "a1 a2 b1 b2 c1"),
        ("a1 b1 c1 d1", "a1 b1 c1"),
        ("a1 a2 a3", "a1 a2 a3"),
    ],
)
def test_the_organization_with_the_fewest_sns_sets_how_many_others_may_have(live: str, wanted: str) -> None:
    assert sorted(elected(["a1"], live.split())[-1]) == wanted.split()


def test_a_signer_of_an_organization_that_comes_later_takes_the_place_of_one_too_many() -> None:
    steps = elected(["a1", "a2", "a3"], ["a1", "a2", "a3", "b1"])
    assert steps[-1] == ["a1", "a2", "b1"]


def test_the_only_signer_of_an_organization_that_was_removed_hands_over_before_it_goes() -> None:
    live = ["b1", "b2", "c1"]
    vote = next_vote(["a1"], live, organization_of(live))
    assert vote is not None
    assert (vote.account, vote.authorize) == ("b1", True)
    after = next_vote(["a1", "b1"], live, organization_of(live))
    assert after is not None
    assert (after.account, after.authorize) == ("a1", False)


def test_the_only_signer_that_is_merely_out_of_touch_is_waited_for() -> None:
    assert next_vote(["a1"], ["b1"], organization_of(["a1", "b1"])) is None


accounts = st.lists(
    st.builds("{}{}".format, st.sampled_from("abcd"), st.integers(1, 4)), unique=True, min_size=1, max_size=10
)


@given(accounts, st.data())
def test_whatever_changes_there_is_a_signer_and_no_vote_makes_the_balance_worse(
    live: list[str], data: st.DataObject
) -> None:
    everybody = [*live, "e1"]
    signers = data.draw(
        st.lists(st.sampled_from(everybody), unique=True, min_size=1).filter(lambda it: set(it) & {*live})
    )
    steps = elected(signers, live)
    assert all(steps)
    assert set(steps[-1]) <= set(live)
    assert len(steps[-1]) % 2 == 1
    assert lead(steps[-1], live) <= 1
    living = [step for step in steps if set(step) <= set(live)]
    for before, after in pairwise(living):
        assert lead(after, live) <= max(1, lead(before, live))


@given(accounts)
def test_an_organization_never_leads_by_two_while_sns_join_that_were_balanced(joining: list[str]) -> None:
    signers = joining[:1]
    for count in range(1, len(joining) + 1):
        live = joining[:count]
        before = lead(signers, live)
        steps = elected(signers, live)
        assert all(lead(step, live) <= max(1, before) for step in steps)
        signers = steps[-1]
