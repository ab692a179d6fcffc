"""What the leader of a shared merge decides: whoever merges what, whoever fails, each segment is made and held."""

import logging
from collections.abc import Sequence
from random import Random

import numpy as np
import pytest
import structlog
from hypothesis import given, settings
from hypothesis import strategies as st

from services.merge.layout import TensorLayout
from services.merge.work import MergeJob
from services.rpc.swarm_pb2 import RoundState
from services.sl.round.states import HeldModel
from services.sl.sharding import messages as say
from services.sl.sharding.scheduler import ShardScheduler
from services.sl.sharding.table import ShardTable, dealt, runs_of
from services.sl.view import CheckInEntry, Config, Exclusion, Model, TrainingMember, View
from swarm_callback.digest import SEGMENT_BYTES, combine

NAMES = ("sl-1", "sl-2", "sl-3")
SEGMENTS = 7
LAYOUT = {"w": TensorLayout("F32", (SEGMENTS * SEGMENT_BYTES // 4,))}


@pytest.fixture(autouse=True)
def _quiet() -> None:
    """Hundreds of merges are begun here, and lost."""
    structlog.configure(wrapper_class=structlog.make_filtering_bound_logger(logging.CRITICAL))


def view(method: str = "mean", min_peers: int = 2, weight: int = 1, followers: Sequence[str] = ()) -> View:
    return View(
        phase=RoundState.MERGE, round=5, term=2, leader="sl-1", config=Config(min_peers, 1, method), layout="ab" * 32,
        layout_by="sl-1",
        members=tuple(TrainingMember(name, "h", 1, "f", True, may_lead=name not in followers) for name in NAMES),
        check_ins=tuple(CheckInEntry(name, name, 99, weight, False) for name in NAMES), last=None,
    )  # fmt: skip


def begun(**changes: object) -> ShardScheduler:
    sharing = ShardScheduler("sl-1", view(**changes), None, LAYOUT)  # type: ignore[arg-type]
    sharing.begin()
    return sharing


def deals(orders: Sequence[tuple[str, say.ShardMessage]]) -> dict[str, list[int]]:
    """Which segments each merger was given."""
    found: dict[str, list[int]] = {}
    for name, order in orders:
        if isinstance(order, say.Deal):
            found.setdefault(name, []).extend(index for start, stop in order.runs for index in range(start, stop))
    return found


def hash_of(index: int) -> str:
    return f"{index:02x}" * 32


def make(sharing: ShardScheduler, name: str, indices: Sequence[int], attempt: int = 1) -> None:
    for start, stop in runs_of(indices):
        sharing.heard(name, say.MergedSegments(attempt, start, tuple(hash_of(index) for index in range(start, stop))))


def hold(sharing: ShardScheduler, name: str, attempt: int = 1) -> None:
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
    shards = ShardTable(count, names)
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
            assert shards.owns(name, index, index + 1)
            assert shards.made(name, index, [bytes([index])])
    assert [entry and entry[0] for entry in shards.hashes] == list(range(count))
    assert all(shards.holder_of(index) in owed for index in range(count))


def test_a_hash_that_was_told_stays_whoever_makes_the_segment_in_the_end() -> None:
    shards = ShardTable(4, ["sl-1", "sl-2"])
    first, *_ = shards.deal()["sl-1"]
    assert shards.owns("sl-1", first, first + 1)
    assert not shards.owns("sl-2", first, first + 1)
    assert not shards.owns("sl-1", 3, 5)
    assert shards.made("sl-1", first, [b"x"])
    assert not shards.made("sl-1", first, [b"x"])
    assert shards.contradicted(first, [b"y"]) == "sl-1"
    assert first in shards.lose("sl-1")["sl-2"]  # nobody holds it
    assert shards.contradicted(first, [b"y"]) == "sl-1"
    assert shards.contradicted(first, [b"x"]) is None
    assert not shards.known


def test_what_its_merger_has_served_is_made_also_where_it_never_says_so() -> None:
    shards = ShardTable(2, ["sl-1", "sl-2"])
    shares = shards.deal()
    (mine,), (other,) = shares["sl-1"], shares["sl-2"]
    shards.made("sl-1", mine, [b"x"])
    assert shards.seen("sl-1", other, b"y")
    assert shards.known
    assert not shards.owes("sl-2")
    assert not shards.seen("sl-1", other, b"z")
    assert shards.contradicted(other, [b"z"]) == "sl-2"
    shards.lose("sl-2")
    assert shards.known  # sl-1 holds it


# --- a merge ---------------------------------------------------------------------------------------------------


def test_a_result_counts_when_two_nodes_hold_it() -> None:
    sharing = begun()
    for name, indices in deals(sharing.orders()).items():
        make(sharing, name, indices)
    assert sharing.outcome(there=NAMES) is None
    hold(sharing, "sl-3")
    assert sharing.outcome(there=NAMES) is None
    assert sharing.outcome(there=()) is not None
    hold(sharing, "sl-2")
    outcome = sharing.outcome(there=NAMES)
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
    assert sharing.outcome(there=NAMES) is not None


def test_all_others_are_told_who_makes_what_and_who_may_not_lead_makes_nothing() -> None:
    sharing = begun(followers=["sl-3"])
    orders = sharing.orders()
    assert deals(orders).keys() == {"sl-1", "sl-2"}
    told = {
        name: [order.by for to, order in orders if to == name and isinstance(order, say.AssignedRuns)] for name in NAMES
    }
    assert {name: sorted(by) for name, by in told.items()} == {
        "sl-1": ["sl-2"], "sl-2": ["sl-1"], "sl-3": ["sl-1", "sl-2"],
    }  # fmt: skip


def test_segments_of_a_lost_merger_that_nobody_holds_go_to_the_others() -> None:
    sharing = begun()
    given = deals(sharing.orders())
    make(sharing, "sl-2", given["sl-2"][:2])
    sharing.heard("sl-3", say.Holds(1, tuple(given["sl-2"][:1])))
    sharing.lost("sl-2", "it died")
    again = [index for share in deals(sharing.orders()).values() for index in share]
    assert sorted(again) == given["sl-2"][1:]
    assert not sharing.waits_for("sl-2")


def owned(given: dict[str, list[int]], name: str) -> int:
    """A segment that was dealt to this one."""
    return given[name][0]


def test_values_that_are_not_finite_begin_a_new_attempt_without_their_node() -> None:
    sharing = begun()
    given = deals(sharing.orders())
    segment = owned(given, "sl-3")
    sharing.heard("sl-3", say.FoundNonFinite(1, "sl-2", segment))
    assert sharing.orders() == [("sl-1", say.Examine("sl-2", segment))]
    sharing.heard("sl-1", say.Examined("sl-2", segment, "w"))
    orders = sharing.orders()
    begin = next(order for _, order in orders if isinstance(order, say.BeginAttempt))
    assert (begin.attempt, begin.names) == (2, ("sl-1", "sl-3"))
    make(sharing, "sl-1", given["sl-1"], attempt=1)  # of the attempt that is void
    for name, indices in deals(orders).items():
        make(sharing, name, indices, attempt=2)
        hold(sharing, name, attempt=2)
    outcome = sharing.outcome(there=NAMES)
    assert outcome is not None
    assert outcome.left_out == (Exclusion("sl-2", "non-finite values in tensor w", not_finite=True),)


def test_below_min_peers_there_is_no_result() -> None:
    sharing = begun(min_peers=3)
    segment = owned(deals(sharing.orders()), "sl-1")
    sharing.heard("sl-1", say.FoundNonFinite(1, "sl-2", segment))
    assert sharing.orders() == [("sl-1", say.Examine("sl-2", segment))]  # for the name of the tensor
    sharing.heard("sl-1", say.Examined("sl-2", segment, "w"))
    outcome = sharing.outcome(there=NAMES)
    assert outcome is not None
    assert outcome.model is None


@pytest.mark.parametrize("victims", [["sl-1"], ["sl-2"], ["sl-1", "sl-2"]])
def test_who_calls_finite_values_not_finite_merges_nothing_more(victims: list[str]) -> None:
    sharing = begun()
    given = deals(sharing.orders())
    make(sharing, "sl-3", given["sl-3"][1:])
    segment = owned(given, "sl-3")
    for victim in victims:
        sharing.heard("sl-3", say.FoundNonFinite(1, victim, segment))
    assert not sharing.waits_for("sl-3")  # it is not its turn while the leader looks
    for victim in victims:
        sharing.heard("sl-1", say.Examined(victim, segment, ""))
    orders = sharing.orders()
    assert [order.names for to, order in orders if to == "sl-3" and isinstance(order, say.BeginAttempt)] == [NAMES]
    again = deals(orders)
    assert sorted(again) == ["sl-1", "sl-2"]
    for name, indices in again.items():
        make(sharing, name, indices, attempt=2)
    for name in ("sl-1", "sl-2"):
        hold(sharing, name, attempt=2)
    outcome = sharing.outcome(there=NAMES)
    assert outcome is not None
    assert outcome.left_out == ()


def test_each_is_examined_once_for_each_that_accuses() -> None:
    sharing = begun()
    first, second = deals(sharing.orders())["sl-3"][:2]
    for segment in (first, second, second):
        sharing.heard("sl-3", say.FoundNonFinite(1, "sl-2", segment))
    assert sharing.orders() == [("sl-1", say.Examine("sl-2", first))]


def test_only_the_leader_itself_says_what_the_leader_has_found() -> None:
    sharing = begun()
    segment = owned(deals(sharing.orders()), "sl-3")
    sharing.heard("sl-2", say.Examined("sl-3", segment, "w"))
    sharing.heard("sl-2", say.Seen(1, 0, (hash_of(9),)))
    assert sharing.orders() == []


def test_a_round_without_weight_keeps_the_last_result() -> None:
    held = HeldModel(4, Model("cd" * 32, 9, "ab" * 32))
    sharing = ShardScheduler("sl-1", view(weight=0), held, LAYOUT)
    sharing.begin()
    outcome = sharing.outcome(there=NAMES)
    assert outcome is not None
    assert outcome.model == held.model


@pytest.mark.parametrize("leader_has_it", [True, False])
def test_what_a_merger_cannot_use_is_its_own_fault_where_the_leader_can(leader_has_it: bool) -> None:
    sharing = begun()
    sharing.orders()
    sharing.heard("sl-2", say.Unusable("sl-3", "gone", 2))
    assert sharing.orders() == [("sl-1", say.Examine("sl-3", 2))]
    if leader_has_it:
        sharing.heard("sl-1", say.Examined("sl-3", 2, ""))
    else:
        sharing.heard("sl-1", say.Unusable("sl-3", "gone", 2))
    orders = sharing.orders()
    assert ("sl-2" in deals(orders)) != leader_has_it
    begin = next(order for _, order in orders if isinstance(order, say.BeginAttempt))
    assert ("sl-3" in begin.names) == leader_has_it


def test_a_merger_that_serves_other_bytes_than_it_made_loses_its_share_and_its_word() -> None:
    sharing = begun()
    given = deals(sharing.orders())
    for name in NAMES:
        make(sharing, name, given[name])
    hold(sharing, "sl-1")
    sharing.heard("sl-1", say.ServedWrong(1, "sl-2"))
    again = deals(sharing.orders())
    assert sorted(index for share in again.values() for index in share) == list(
        range(SEGMENTS)
    )  # all it has told is void
    assert "sl-2" not in again
    for name, indices in again.items():
        make(sharing, name, indices, attempt=2)
    hold(sharing, "sl-1", attempt=2)
    hold(sharing, "sl-2", attempt=2)
    assert sharing.outcome(there=NAMES) is None  # what a liar says it holds is no copy
    hold(sharing, "sl-3", attempt=2)
    assert sharing.outcome(there=NAMES) is not None


def test_the_result_waits_for_no_copy_of_one_who_is_distrusted() -> None:
    """Of two, or where all others have left: it would wait for ever, as what that one says it holds does not count."""
    sharing = begun()
    given = deals(sharing.orders())
    for name in NAMES:
        make(sharing, name, given[name])
    sharing.heard("sl-1", say.ServedWrong(1, "sl-2"))
    for name, indices in deals(sharing.orders()).items():
        make(sharing, name, indices, attempt=2)
    hold(sharing, "sl-1", attempt=2)
    assert sharing.outcome(there=["sl-2", "sl-3"]) is None
    assert sharing.outcome(there=["sl-2"]) is not None


def test_the_result_waits_for_no_copy_of_one_who_is_cut_off() -> None:
    sharing = begun()
    sharing.orders()
    for name in ("sl-2", "sl-3"):
        sharing.cut_off(name, "it sent a message that makes no sense")
    make(sharing, "sl-1", range(SEGMENTS))
    assert sharing.outcome(there=["sl-2", "sl-3"]) is not None


def test_a_hash_told_by_one_who_is_distrusted_is_forgotten() -> None:
    sharing = begun()
    given = deals(sharing.orders())
    lie = owned(given, "sl-2")
    sharing.heard("sl-2", say.MergedSegments(1, lie, ("ee" * 32,)))
    for name in ("sl-1", "sl-3"):
        make(sharing, name, given[name])
        hold(sharing, name)
    sharing.heard("sl-1", say.ServedWrong(1, "sl-2"))
    for name, indices in deals(sharing.orders()).items():
        make(sharing, name, indices, attempt=2)
    for name in ("sl-1", "sl-3"):
        hold(sharing, name, attempt=2)
    outcome = sharing.outcome(there=NAMES)
    assert outcome is not None
    assert outcome.model is not None
    right = [bytes.fromhex(hash_of(index)) for index in range(SEGMENTS)]
    assert outcome.model.digest == combine(bytes.fromhex("ab" * 32), right).hex()


def test_who_tells_two_hashes_of_one_segment_merges_nothing() -> None:
    sharing = begun()
    segment = owned(deals(sharing.orders()), "sl-2")
    sharing.heard("sl-2", say.MergedSegments(1, segment, (hash_of(1),)))
    sharing.orders()
    sharing.heard("sl-2", say.MergedSegments(1, segment, (hash_of(2),)))
    assert sorted(deals(sharing.orders())) == ["sl-1", "sl-3"]


def test_another_hash_than_a_lost_merger_told_voids_the_attempt_without_blame() -> None:
    sharing = begun()
    segment = owned(deals(sharing.orders()), "sl-2")
    sharing.heard("sl-2", say.MergedSegments(1, segment, (hash_of(1),)))
    sharing.lost("sl-2", "it died")
    (heir,) = (name for name, share in deals(sharing.orders()).items() if segment in share)
    sharing.heard(heir, say.MergedSegments(1, segment, (hash_of(2),)))
    assert sorted(deals(sharing.orders())) == ["sl-1", "sl-3"]


def test_what_the_leader_was_served_is_not_made_again_when_its_merger_is_lost() -> None:
    sharing = begun()
    given = deals(sharing.orders())
    served, *rest = given["sl-2"]
    sharing.heard("sl-1", say.Seen(1, served, (hash_of(served),)))
    offered = [to for to, order in sharing.orders() if order == say.Serves("sl-1", served, (hash_of(served),))]
    assert sorted(offered) == list(NAMES)  # the leader too: it stands by this hash
    sharing.lost("sl-2", "its line broke")
    assert sorted(index for share in deals(sharing.orders()).values() for index in share) == rest


def test_a_merger_that_serves_all_of_its_share_and_says_nothing_holds_nobody_up() -> None:
    sharing = begun()
    given = deals(sharing.orders())
    for name in ("sl-1", "sl-3"):
        make(sharing, name, given[name])
    assert sharing.waits_for("sl-2")
    for index in given["sl-2"]:
        sharing.heard("sl-1", say.Seen(1, index, (hash_of(index),)))
    hold(sharing, "sl-1")
    hold(sharing, "sl-3")
    assert sharing.outcome(there=NAMES) is not None


def test_who_alone_cannot_use_what_a_merger_serves_gets_it_from_the_leader() -> None:
    sharing = begun()
    sharing.orders()
    sharing.heard("sl-3", say.ServedWrong(1, "sl-2"))
    assert sharing.orders() == [("sl-3", say.AssignedRuns("sl-1", ((0, SEGMENTS),)))]


def test_parts_of_a_measure_are_added_in_the_order_of_segments() -> None:
    random = np.random.default_rng(1)
    work = MergeJob("geomedian", LAYOUT, dict.fromkeys(NAMES, 1))
    rows = [random.standard_normal((3, 5)) * 10.0**index for index in range(SEGMENTS)]
    parts = [some @ some.T for some in rows]
    plan = work.settle(parts)
    expected = say.Settled(tuple(share.hex() for share in plan.shares))  # type: ignore[union-attr]
    for order in ([0, 1, 2, 3, 4, 5, 6], [6, 2, 4, 0, 1, 3, 5]):
        sharing = begun(method="geomedian")
        owner = {index: name for name, share in deals(sharing.orders()).items() for index in share}
        for index in order:
            sharing.heard(owner[index], say.Measured(1, 0, index, (say.packed(parts[index].tobytes()),)))
        settled = [message for _, message in sharing.orders() if isinstance(message, say.Settled)]
        assert settled
        assert set(settled) == {expected}


# --- what makes no sense ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "answer",
    [
        say.MergedSegments(1, SEGMENTS, (hash_of(1),)),
        say.MergedSegments(2, 0, (hash_of(1),)),
        say.MergedSegments(1, 2**31 - 1, (hash_of(1),)),
        say.Holds(1, (0, SEGMENTS)),
        say.FoundNonFinite(1, "sl-2", SEGMENTS),
        say.FoundNonFinite(1, "nobody", 0),
        say.Unusable("nobody", "gone", 0),
        say.Unusable("sl-2", "gone", SEGMENTS),
        say.ServedWrong(1, "nobody"),
        say.Measured(1, 0, SEGMENTS, ("AAAA",)),
    ],
)
def test_an_answer_that_makes_no_sense_is_refused_and_changes_nothing(answer: say.Answer) -> None:
    sharing = begun()
    sharing.orders()
    with pytest.raises(say.Unreadable):
        sharing.heard("sl-3", answer)
    assert sharing.orders() == []


def test_a_merger_says_nothing_of_the_segments_of_others() -> None:
    sharing = begun()
    foreign = owned(deals(sharing.orders()), "sl-2")
    for answer in (say.MergedSegments(1, foreign, (hash_of(1),)), say.FoundNonFinite(1, "sl-1", foreign)):
        with pytest.raises(say.Unreadable):
            sharing.heard("sl-3", answer)
    sharing.lost("sl-3", "its line broke")
    sharing.orders()
    sharing.heard("sl-3", say.MergedSegments(1, foreign, (hash_of(1),)))  # said before it heard that it was given up
    assert sharing.orders() == []


@pytest.mark.parametrize("part", [b"short", bytes(9 * 8 + 8), bytes(8)])
def test_what_is_no_matrix_of_the_sets_is_refused(part: bytes) -> None:
    sharing = begun(method="geomedian")
    segment = owned(deals(sharing.orders()), "sl-2")
    with pytest.raises(say.Unreadable):
        sharing.heard("sl-2", say.Measured(1, 0, segment, (say.packed(part),)))


def test_what_was_measured_may_be_too_large_once_and_then_costs_who_says_so() -> None:
    sharing = begun(method="geomedian")
    given = deals(sharing.orders())
    endless = say.packed(np.full((3, 3), np.inf).tobytes())
    for name, indices in given.items():
        for index in indices:
            sharing.heard(name, say.Measured(1, 0, index, (endless if name == "sl-2" else UNIT,)))
    assert {order.number for _, order in sharing.orders() if isinstance(order, say.Measure)} == {1}
    with pytest.raises(say.Unreadable, match="not finite"):
        sharing.heard("sl-2", say.Measured(1, 1, owned(given, "sl-2"), (endless,)))


UNIT = say.packed(np.eye(3).tobytes())
ANSWERS = st.one_of(
    st.builds(say.Moves, st.integers(0, 2**40), st.booleans()),
    st.builds(say.Unusable, st.sampled_from([*NAMES, "nobody"]), st.just("gone"), st.integers(0, SEGMENTS)),
    st.builds(say.FoundNonFinite, st.integers(0, 3), st.sampled_from([*NAMES, "nobody"]), st.integers(0, SEGMENTS)),
    st.builds(
        say.Measured, st.integers(0, 3), st.integers(0, 2), st.integers(0, SEGMENTS),
        st.lists(st.sampled_from([say.packed(bytes(72)), UNIT, "AAAA"]), min_size=1).map(tuple),
    ),
    st.builds(
        say.MergedSegments, st.integers(0, 3), st.integers(0, SEGMENTS),
        st.lists(st.sampled_from([hash_of(1), hash_of(2)]), min_size=1, max_size=SEGMENTS).map(tuple),
    ),
    st.builds(say.Holds, st.integers(0, 3), st.sets(st.integers(0, SEGMENTS), min_size=1).map(sorted).map(tuple)),
    st.builds(say.ServedWrong, st.integers(0, 3), st.sampled_from([*NAMES, "nobody"])),
    st.builds(say.Declined, st.just("no")),
)  # fmt: skip


class Leader:
    """What the leader's own merger makes of its orders, where all parameters are as they should be."""

    def __init__(self, sharing: ShardScheduler) -> None:
        self.sharing = sharing
        self.attempt = self.frame = 0
        self.to_measure: set[int] = set()
        self.to_merge: set[int] = set()
        self.settled = False

    def works(self) -> None:
        while orders := [order for to, order in self.sharing.orders() if to == "sl-1"]:
            for order in orders:
                self.takes(order)
            if self.settled:
                for index in sorted(self.to_merge):
                    self.sharing.heard("sl-1", say.MergedSegments(self.attempt, index, (hash_of(index),)))
                self.to_merge.clear()
            else:
                for index in sorted(self.to_measure):
                    self.sharing.heard("sl-1", say.Measured(self.attempt, self.frame, index, (UNIT,)))
                self.to_measure.clear()

    def takes(self, order: say.ShardMessage) -> None:
        match order:
            case say.BeginAttempt():
                self.__init__(self.sharing)  # type: ignore[misc]
                self.attempt = order.attempt
            case say.Deal(runs):
                dealt = {index for start, stop in runs for index in range(start, stop)}
                self.to_measure |= dealt
                self.to_merge |= dealt
            case say.Measure(number, _, _):
                self.frame = number
                self.to_measure = set(self.to_merge)
            case say.Settled():
                self.settled = True
            case say.Examine(name, segment):
                self.sharing.heard("sl-1", say.Examined(name, segment, ""))
            case say.Serves(_, start, hashes):
                self.sharing.heard("sl-1", say.Holds(self.attempt, tuple(range(start, start + len(hashes)))))


@settings(max_examples=150)
@given(st.sampled_from(["mean", "geomedian"]), st.lists(ANSWERS, max_size=20))
def test_whatever_two_liars_say_nobody_is_left_out_and_the_leader_can_end_the_merge(
    method: str, lies: list[say.Answer]
) -> None:
    """What makes no sense costs whoever says it line and share, and nobody else anything."""
    sharing = begun(method=method)
    leader = Leader(sharing)
    for number, lie in enumerate(lies):
        liar = ("sl-2", "sl-3")[number % 2]
        try:
            sharing.heard(liar, lie)
        except say.Unreadable:
            sharing.cut_off(liar, "it sent a message that makes no sense")
        leader.works()
    for liar in ("sl-2", "sl-3"):
        sharing.lost(liar, "it is over")
    leader.works()
    outcome = sharing.outcome(there=())
    assert outcome is not None
    assert outcome.model is not None
    assert outcome.left_out == ()
