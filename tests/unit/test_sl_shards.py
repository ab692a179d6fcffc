"""What the leader of a shared merge decides: whoever merges what, whoever fails, each segment is made and held."""

from collections.abc import Sequence
from random import Random

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.merge.layout import TensorSpec
from services.merge.work import Work
from services.sl import orders as say
from services.sl.shards import Shards, dealt, runs_of
from services.sl.sharing import Sharing
from services.sl.states import Held
from services.sl.view import CheckedIn, Config, Member, Model, Phase, View
from swarm_callback.digest import SEGMENT_BYTES

NAMES = ("sl-1", "sl-2", "sl-3")
SEGMENTS = 7
LAYOUT = {"w": TensorSpec("F32", (SEGMENTS * SEGMENT_BYTES // 4,))}


def view(method: str = "mean", min_peers: int = 2, weight: int = 1, followers: Sequence[str] = ()) -> View:
    return View(
        phase=Phase.MERGE, round=5, term=2, leader="sl-1", config=Config(min_peers, 1, method), layout="ab" * 32,
        layout_by="sl-1",
        members=tuple(Member(name, "h", 1, "f", True, may_lead=name not in followers) for name in NAMES),
        check_ins=tuple(CheckedIn(name, name, 99, weight, False) for name in NAMES), last=None,
    )  # fmt: skip


def begun(**changes: object) -> Sharing:
    sharing = Sharing("sl-1", view(**changes), None, LAYOUT)  # type: ignore[arg-type]
    sharing.begin()
    return sharing


def deals(orders: Sequence[tuple[str, say.Message]]) -> dict[str, list[int]]:
    """Which segments each merger was given."""
    found: dict[str, list[int]] = {}
    for name, order in orders:
        if isinstance(order, say.Deal):
            found.setdefault(name, []).extend(index for start, stop in order.runs for index in range(start, stop))
    return found


def hash_of(index: int) -> str:
    return f"{index:02x}" * 32


def make(sharing: Sharing, name: str, indices: Sequence[int], attempt: int = 1) -> None:
    for start, stop in runs_of(indices):
        sharing.heard(name, say.Merged(attempt, start, tuple(hash_of(index) for index in range(start, stop))))


def hold(sharing: Sharing, name: str, attempt: int = 1) -> None:
    sharing.heard(name, say.Holds(attempt, tuple(range(SEGMENTS))))


# --- dealing ---------------------------------------------------------------------------------------------------


@given(st.integers(0, 200), st.integers(1, 9))
def test_segments_are_dealt_evenly_and_each_once(count: int, mergers: int) -> None:
    shares = dealt(range(count), [f"sl-{index}" for index in range(mergers)])
    assert sorted(index for share in shares.values() for index in share) == list(range(count))
    assert max(map(len, shares.values())) - min(map(len, shares.values())) <= 1
    assert all(len(runs_of(share)) <= 1 for share in shares.values())


def test_runs_are_what_lies_in_a_row() -> None:
    assert runs_of([9, 3, 4, 5]) == ((3, 6), (9, 10))
    assert runs_of([]) == ()


@given(st.integers(), st.integers(1, 40), st.integers(1, 5))
def test_whatever_is_lost_everything_is_made_in_the_end(seed: int, count: int, mergers: int) -> None:
    dice = Random(seed)
    names = [f"sl-{index}" for index in range(mergers)]
    shards = Shards(count, names)
    owed = {name: list(share) for name, share in shards.deal().items()}
    while not shards.known:
        alive = sorted(owed)
        name = dice.choice(alive)
        if len(alive) > 1 and dice.random() < 0.3:
            owed.pop(name)
            for other, share in shards.lose(name).items():
                owed[other] = sorted({*owed.get(other, []), *share})
            continue
        if owed[name]:
            index = owed[name].pop(0)
            assert shards.made(name, index, [bytes([index])])
    assert [entry and entry[0] for entry in shards.hashes] == list(range(count))
    assert all(shards.holder_of(index) in owed for index in range(count))


def test_what_was_not_dealt_to_a_merger_or_is_another_than_before_does_not_count() -> None:
    shards = Shards(4, ["sl-1", "sl-2"])
    first = shards.deal()["sl-1"]
    other = next(index for index in range(4) if index not in first)
    assert not shards.made("sl-1", other, [b"x"])
    assert shards.made("sl-1", first[0], [b"x"])
    assert not shards.made("sl-1", first[0], [b"y"])
    assert not shards.made("sl-1", 4, [b"x"])
    assert not shards.known


# --- a merge ---------------------------------------------------------------------------------------------------


def test_a_result_counts_when_two_nodes_hold_it() -> None:
    sharing = begun()
    for name, indices in deals(sharing.orders()).items():
        make(sharing, name, indices)
    assert sharing.outcome(others_there=True) is None
    hold(sharing, "sl-3")
    assert sharing.outcome(others_there=True) is None
    assert sharing.outcome(others_there=False) is not None
    hold(sharing, "sl-2")
    outcome = sharing.outcome(others_there=True)
    assert outcome is not None
    assert outcome.model is not None
    assert outcome.left_out == ()


def test_what_is_held_counts_also_where_it_is_heard_of_before_it_was_made() -> None:
    sharing = begun()
    given = deals(sharing.orders())
    for name in NAMES:
        hold(sharing, name)
    for name, indices in given.items():
        make(sharing, name, indices)
    assert sharing.outcome(others_there=True) is not None


def test_all_others_are_told_who_makes_what_and_who_may_not_lead_makes_nothing() -> None:
    sharing = begun(followers=["sl-3"])
    orders = sharing.orders()
    assert deals(orders).keys() == {"sl-1", "sl-2"}
    told = {name: [order.by for to, order in orders if to == name and isinstance(order, say.Shared)] for name in NAMES}
    assert {name: sorted(by) for name, by in told.items()} == {
        "sl-1": ["sl-2"], "sl-2": ["sl-1"], "sl-3": ["sl-1", "sl-2"],
    }  # fmt: skip


def test_the_segments_of_a_lost_merger_go_to_the_others_but_for_those_that_somebody_holds() -> None:
    sharing = begun()
    given = deals(sharing.orders())
    make(sharing, "sl-2", given["sl-2"][:2])
    sharing.heard("sl-3", say.Holds(1, tuple(given["sl-2"][:1])))
    sharing.lost("sl-2", "it died")
    again = [index for share in deals(sharing.orders()).values() for index in share]
    assert sorted(again) == given["sl-2"][1:]
    assert not sharing.waits_for("sl-2")


def test_values_that_are_not_finite_begin_a_new_attempt_without_their_node() -> None:
    sharing = begun()
    given = deals(sharing.orders())
    sharing.heard("sl-3", say.NonFinite(1, "sl-2", "w"))
    orders = sharing.orders()
    begin = next(order for _, order in orders if isinstance(order, say.Begin))
    assert (begin.attempt, begin.names) == (2, ("sl-1", "sl-3"))
    make(sharing, "sl-1", given["sl-1"], attempt=1)  # of the attempt that is void
    for name, indices in deals(orders).items():
        make(sharing, name, indices, attempt=2)
        hold(sharing, name, attempt=2)
    outcome = sharing.outcome(others_there=True)
    assert outcome is not None
    assert outcome.left_out == (("sl-2", "non-finite values in tensor w"),)


def test_below_min_peers_there_is_no_result() -> None:
    sharing = begun(min_peers=3)
    sharing.heard("sl-1", say.NonFinite(1, "sl-2", "w"))
    outcome = sharing.outcome(others_there=True)
    assert outcome is not None
    assert outcome.model is None


def test_a_round_without_weight_keeps_the_last_result() -> None:
    held = Held(4, Model("cd" * 32, 9, "ab" * 32))
    sharing = Sharing("sl-1", view(weight=0), held, LAYOUT)
    sharing.begin()
    outcome = sharing.outcome(others_there=True)
    assert outcome is not None
    assert outcome.model == held.model


@pytest.mark.parametrize(("leader_has_it", "left_out"), [(True, ()), (False, (("sl-3", "gone"),))])
def test_what_a_merger_cannot_use_is_its_own_fault_where_the_leader_can(
    leader_has_it: bool, left_out: tuple[tuple[str, str], ...]
) -> None:
    sharing = begun()
    sharing.orders()
    sharing.heard("sl-2", say.Unusable("sl-3", "gone"))
    sharing.judge(lambda _: False)
    assert sharing.orders() == []  # the leader still tries
    if not leader_has_it:
        sharing.heard("sl-1", say.Unusable("sl-3", "gone"))
    sharing.judge(lambda _: leader_has_it)
    orders = sharing.orders()
    assert ("sl-2" in deals(orders)) != leader_has_it
    begin = next(order for _, order in orders if isinstance(order, say.Begin))
    assert ("sl-3" in begin.names) == (not left_out)


def test_a_merger_that_serves_other_bytes_than_it_made_loses_its_share_and_its_word() -> None:
    sharing = begun()
    given = deals(sharing.orders())
    for name in NAMES:
        make(sharing, name, given[name])
    hold(sharing, "sl-1")
    hold(sharing, "sl-2")
    sharing.heard("sl-1", say.ServedWrong(1, "sl-2"))
    again = deals(sharing.orders())
    assert "sl-2" not in again
    for name, indices in again.items():
        make(sharing, name, indices)
    hold(sharing, "sl-1")
    hold(sharing, "sl-2")
    assert sharing.outcome(others_there=True) is None  # what a liar says it holds is no copy
    hold(sharing, "sl-3")
    assert sharing.outcome(others_there=True) is not None


def test_who_alone_cannot_use_what_a_merger_serves_gets_it_from_the_leader() -> None:
    sharing = begun()
    sharing.orders()
    sharing.heard("sl-3", say.ServedWrong(1, "sl-2"))
    assert sharing.orders() == [("sl-3", say.Shared("sl-1", ((0, SEGMENTS),)))]


def test_the_parts_of_a_measure_are_added_in_the_order_of_segments_whoever_sends_them() -> None:
    random = np.random.default_rng(1)
    work = Work("geomedian", LAYOUT, dict.fromkeys(NAMES, 1))
    rows = [random.standard_normal((3, 5)) * 10.0**index for index in range(SEGMENTS)]
    parts = [some @ some.T for some in rows]
    plan = work.settle(parts)
    expected = say.Settled(tuple(share.hex() for share in plan.shares))  # type: ignore[union-attr]
    for order in ([0, 1, 2, 3, 4, 5, 6], [6, 2, 4, 0, 1, 3, 5]):
        sharing = begun(method="geomedian")
        sharing.orders()
        for index in order:
            sharing.heard("sl-2", say.Measured(1, 0, index, (say.packed(parts[index].tobytes()),)))
        settled = [message for _, message in sharing.orders() if isinstance(message, say.Settled)]
        assert settled
        assert set(settled) == {expected}


# --- what is said ------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "message",
    [
        say.Begin(1, 2, 3, ("a", "b")), say.Deal(((0, 3), (5, 6))), say.Shared("a", ((0, 1),)),
        say.Measure(1, 0, (1.5).hex()), say.Settled(None), say.Settled(((1 / 3).hex(),)), say.Offered("a", 3, ("00",)),
        say.Moves(4, True), say.Unusable("a", "b"), say.NonFinite(1, "a", "t"), say.Measured(1, 0, 2, ("AA==",)),
        say.Merged(1, 2, ("00",)), say.Holds(1, (2, 3)), say.Refused("why"),
        say.ServedWrong(1, "a"),
    ],
)  # fmt: skip
def test_messages_arrive_as_they_were_sent(message: say.Message) -> None:
    assert say.decode(say.encode(message)) == message


@pytest.mark.parametrize(
    "text",
    [
        "", "[]", "{}", '{"kind":"Message"}', '{"kind":"Deal"}', '{"kind":"Deal","runs":[[1]]}',
        '{"kind":"Moves","count":"1","waits":true}', '{"kind":"Moves","count":1,"waits":true,"more":1}',
        '{"kind":["Deal"],"runs":[]}', "[" * 100_000,
    ],
)  # fmt: skip
def test_what_is_no_message_is_refused(text: str) -> None:
    with pytest.raises(say.Unreadable):
        say.decode(text)
