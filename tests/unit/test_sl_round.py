"""One node's round, step by step: each state, each event, and what is decided."""

import subprocess
import sys
from dataclasses import replace
from typing import Any

import pytest

from services import errors
from services.rpc.swarm_pb2 import RoundState
from services.sl.round import actions as do
from services.sl.round import events as on
from services.sl.round.machine import TRANSITIONS, UnlistedPair, needed, step
from services.sl.round.states import (
    Awaiting,
    CheckingIn,
    DiagnosingMismatch,
    Ended,
    EnrolledNode,
    Enrolling,
    Fetching,
    Finishing,
    HeldModel,
    Merging,
    Part,
    Publishing,
    SLState,
    Training,
    Unopened,
    WaitingForRound,
)
from services.sl.view import AcceptedResult, CheckInEntry, Config, Exclusion, Model, TrainingMember, View

ME, OTHER, THIRD = "sl-1", "sl-2", "sl-3"
NAMES = (ME, OTHER, THIRD)


def model(mark: str) -> Model:
    return Model(digest=mark * 64, size=1024, layout="a" * 64)


MINE, MERGED, NEWER = model("1"), model("e"), model("f")
NAN = Exclusion(ME, "non-finite values in tensor w", not_finite=True)


def member(name: str, active: bool = True) -> TrainingMember:
    return TrainingMember(name, "localhost", 30305, name * 4, active)


def entry(name: str, finished: bool = False) -> CheckInEntry:
    return CheckInEntry(name, MINE.digest, MINE.size, 1, finished)


def view(phase: RoundState = RoundState.CHECKIN, round_: int = 1, **changes: Any) -> View:
    base = View(
        phase=phase,
        round=round_,
        term=1 if phase == RoundState.MERGE else 0,
        leader="",
        config=Config(min_peers=2, sync_frequency=16, merge_method="mean"),
        layout="",
        layout_by="",
        members=tuple(member(name) for name in NAMES),
        check_ins=(),
        last=None,
    )
    return replace(base, **changes)


def result(round_: int, by: Model = MERGED, merged: tuple[str, ...] = NAMES, **changes: Any) -> AcceptedResult:
    return AcceptedResult(round_, by.digest, by.size, OTHER, merged, **changes)


OPENED = on.SessionOpened(ME, "training", 16, 2, "mean", False, weight=7)
OFFER = on.Offer(seq=1, model=MINE, epochs_done=3)
NODE = EnrolledNode(OPENED, view(), offer=OFFER)
ALL_IN = tuple(entry(name) for name in NAMES)

STATES: dict[type[SLState], SLState] = {
    Unopened: Unopened(),
    Enrolling: Enrolling(OPENED),
    Training: Training(replace(NODE, offer=None)),
    CheckingIn: CheckingIn(NODE, 1),
    WaitingForRound: WaitingForRound(NODE, errors.RoundClosed(round=1)),
    DiagnosingMismatch: DiagnosingMismatch(NODE),
    Awaiting: Awaiting(NODE, 1, 5),
    Merging: Merging(NODE, 1, 5, term=1),
    Publishing: Publishing(NODE, 1, 5, term=1),
    Fetching: Fetching(NODE, result(1), Part(True, "")),
    Finishing: Finishing(replace(NODE, offer=None)),
    Ended: Ended(None),
}
EVENTS: tuple[on.RoundEvent, ...] = (
    OPENED,
    on.ParametersOffered(OFFER),
    on.ModelReported(1, 0.5, 0.5, 1, 2),
    on.SessionClosed(),
    on.MLEnded(ME),
    on.EnrolmentAccepted(view()),
    on.StatusChanged(view()),
    on.CheckInAccepted(5),
    on.CheckInRefused(errors.RoundClosed(round=1)),
    on.Published(),
    on.PublishRefused(errors.StaleTerm(round=1, given=1, current=2)),
    on.MergeDone(MERGED, ()),
    on.TooFew((Exclusion(THIRD, "gone"),)),
    on.Fetched(MERGED),
    on.FetchFailed(errors.ResultUnavailable(round=1, tried=OTHER)),
    on.LeaderSilent(1, 1),
    on.ServingOver(),
    on.Failed(errors.DiskFull(path="/data", needed=2, free=1)),
    on.StopRequested(ME),
)


def of(actions: tuple[do.Action, ...], kind: type[do.Action]) -> list[Any]:
    return [action for action in actions if isinstance(action, kind)]


def walk(state: SLState, *events: on.RoundEvent) -> tuple[SLState, list[do.Action]]:
    done: list[do.Action] = []
    for event in events:
        state, actions = step(state, event)
        done.extend(actions)
    return state, done


def awaiting(**changes: Any) -> Awaiting:
    """Checked in to round 1, in block 5."""
    seen = view(check_ins=(entry(ME),), awaited=(OTHER, THIRD), block=5)
    return replace(Awaiting(replace(NODE, view=seen), 1, 5), **changes)


# --- the table -----------------------------------------------------------------------------------------------


def test_every_state_and_every_event_is_tried_here() -> None:
    assert set(STATES) == set(TRANSITIONS)
    assert {type(event) for event in EVENTS} == {event for row in TRANSITIONS.values() for event in row}


@pytest.mark.parametrize("state", STATES.values(), ids=lambda state: type(state).__name__)
@pytest.mark.parametrize("event", EVENTS, ids=lambda event: type(event).__name__)
def test_a_listed_pair_is_handled_and_another_one_names_both(state: SLState, event: on.RoundEvent) -> None:
    if type(event) in TRANSITIONS[type(state)]:
        following, _ = step(state, event)
        assert type(following) in TRANSITIONS[type(state)][type(event)]
    else:
        with pytest.raises(UnlistedPair, match=f"{type(event).__name__} in the state {type(state).__name__}"):
            step(state, event)


# --- a plain round ---------------------------------------------------------------------------------------------


def test_opening_enrols_and_answers() -> None:
    state, actions = walk(Unopened(), OPENED, on.EnrolmentAccepted(view()))
    assert actions == [do.Enrol(OPENED), do.AnswerOpen(1, late=False)]
    assert isinstance(state, Training)


def test_a_follower_checks_in_waits_fetches_and_hands_over() -> None:
    merging = view(RoundState.MERGE, leader=OTHER, check_ins=ALL_IN)
    accepted = view(round_=2, last=result(1))
    state, actions = walk(
        STATES[Training],
        on.ParametersOffered(OFFER),
        on.CheckInAccepted(5),
        on.StatusChanged(merging),
        on.StatusChanged(accepted),
        on.Fetched(MERGED),
    )
    assert actions == [
        do.SendCheckIn(1, 0, MINE, 7, False),
        do.NotifyML("waiting for more nodes: 0 of 2 in"),
        do.NotifyML("round 1 is being merged by sl-2"),
        do.ArmLeaderTimer(1, 1),
        do.Fetch(result(1)),
        do.Deliver(1, HeldModel(1, MERGED), contributed=True, note="", over=False, next_sync_interval=16),
        do.SaveProgress(HeldModel(1, MERGED), epochs_done=3),
    ]
    assert isinstance(state, Training)
    assert state.node.base == 1


def test_the_leader_merges_and_publishes_and_takes_its_own_result() -> None:
    merging = view(RoundState.MERGE, leader=ME, check_ins=ALL_IN)
    left_out = (Exclusion(THIRD, "non-finite values in tensor w", not_finite=True),)
    accepted = view(round_=2, last=result(1, merged=(ME, OTHER)))
    state, actions = walk(
        awaiting(),
        on.StatusChanged(merging),
        on.MergeDone(MERGED, left_out),
        on.Published(),
        on.StatusChanged(accepted),
        on.Fetched(MERGED),
    )
    assert actions[:3] == [do.StartMerge(merging, None), do.Publish(1, 1, MERGED, left_out), do.Fetch(accepted.last)]
    assert isinstance(state, Training)


def test_a_result_that_shows_before_the_reply_is_taken_after_it() -> None:
    accepted = view(round_=2, last=result(1))
    state, actions = walk(STATES[Publishing], on.StatusChanged(accepted))
    assert (type(state), actions) == (Publishing, [])
    state, actions = walk(state, on.Published())
    assert (type(state), actions) == (Fetching, [do.Fetch(result(1))])


def test_waiting_names_who_is_awaited() -> None:
    waiting = view(check_ins=(entry(ME),), awaited=(OTHER, THIRD))
    _, actions = step(awaiting(), on.StatusChanged(waiting))
    assert actions == (do.NotifyML("waiting for sl-2, sl-3: 1 of 3 in"),)


# --- behind, late, left out ---------------------------------------------------------------------------------


def test_a_late_joiner_with_another_model_is_told_what_differs() -> None:
    late = view(round_=5, last=result(4), layout_by=OTHER)
    mine = replace(MINE, layout="b" * 64)
    state, actions = walk(
        Training(EnrolledNode(OPENED, late)), on.ParametersOffered(replace(OFFER, model=mine)), on.Fetched(MERGED)
    )
    assert isinstance(state, DiagnosingMismatch)
    diagnose_mismatch = actions[-1]
    assert isinstance(diagnose_mismatch, do.DiagnoseMismatch)
    assert (diagnose_mismatch.model, diagnose_mismatch.merged) == (mine, MERGED)
    assert diagnose_mismatch.agreed_by == OTHER


def test_a_late_joiner_gets_the_last_result_without_checking_in() -> None:
    late = view(round_=5, last=result(4, merged=(OTHER, THIRD)))
    _, opening = walk(Enrolling(OPENED), on.EnrolmentAccepted(late))
    assert opening == [do.AnswerOpen(5, late=True)]
    state, actions = walk(Training(EnrolledNode(OPENED, late)), on.ParametersOffered(OFFER), on.Fetched(MERGED))
    assert not of(tuple(actions), do.SendCheckIn)
    (deliver,) = of(tuple(actions), do.Deliver)
    assert (deliver.contributed, deliver.held.round) == (False, 4)
    assert "without this node" in deliver.note
    _, actions = walk(state, on.ParametersOffered(on.Offer(2, MINE)))
    assert actions == [do.SendCheckIn(5, 4, MINE, 7, False)]


WITHOUT_ME = result(1, merged=(OTHER, THIRD))


@pytest.mark.parametrize(
    ("refusal", "shown"),
    [
        (errors.StaleRound(given=1, current=2), view(round_=2, last=WITHOUT_ME)),
        (errors.Behind(base=0, lastAccepted=1), view(round_=2, last=WITHOUT_ME)),
        (errors.RoundClosed(round=1), view(round_=2, last=WITHOUT_ME)),
        (errors.TrainingComplete(round=1), view(RoundState.COMPLETE, last=WITHOUT_ME)),
    ],
    ids=lambda value: getattr(value, "code", ""),
)
@pytest.mark.parametrize("view_first", [True, False])
def test_an_overtaken_check_in_takes_the_result_once_it_shows(
    refusal: errors.SwarmError, shown: View, view_first: bool
) -> None:
    events: list[on.RoundEvent] = [on.StatusChanged(shown), on.CheckInRefused(refusal)]
    state, actions = walk(STATES[CheckingIn], *(events if view_first else reversed(events)))
    assert actions == [do.Fetch(shown.last)]
    assert isinstance(state, Fetching)
    assert not state.part.contributed


def test_a_check_in_that_was_taken_before_the_connection_broke_counts() -> None:
    """Sent again, it comes too late; the result says that it was in."""
    refusal = errors.StaleRound(given=1, current=2)
    state, _ = walk(STATES[CheckingIn], on.CheckInRefused(refusal), on.StatusChanged(view(round_=2, last=result(1))))
    assert isinstance(state, Fetching)
    assert state.part.contributed


def test_views_of_an_sn_that_lags_behind_are_ignored() -> None:
    known = view(round_=3, last=result(2), source="sn-1")
    for behind in (view(round_=2, last=result(1)), view(RoundState.MERGE, round_=2, last=result(1))):
        state, actions = walk(Training(replace(NODE, view=known)), on.StatusChanged(replace(behind, source="sn-2")))
        assert (state.node_or_none.view, actions) == (known, [])  # type: ignore[union-attr]


@pytest.mark.parametrize(
    ("before", "after"),
    [
        (view(round_=2), view(RoundState.MERGE, round_=2)),
        (view(RoundState.MERGE, round_=2), view(round_=2, term=1)),
        (view(round_=2, term=1), view(RoundState.MERGE, round_=2, term=2)),
        (view(RoundState.MERGE, round_=2, term=2), view(round_=3)),
        (view(RoundState.MERGE, round_=2), view(RoundState.COMPLETE, round_=2)),
        (view(RoundState.COMPLETE, round_=2), view(RoundState.UNCONFIGURED, round_=3)),
        (view(RoundState.UNCONFIGURED, round_=3), view(round_=3)),
        (view(version=1 << 20), view(version=2 << 20)),
        (view(version=1, source="sn-1"), view(version=2, source="sn-1")),
    ],
)
def test_views_are_in_the_order_of_the_training(before: View, after: View) -> None:
    assert before.older_than(after)
    assert not after.older_than(before)


def test_signs_of_progress_of_two_sns_are_in_no_order() -> None:
    one, other = view(version=1, source="sn-1"), view(version=2, source="sn-2")
    assert not one.older_than(other)
    assert not other.older_than(one)


def test_locked_out_of_a_merge_it_waits_for_its_result() -> None:
    merging = view(RoundState.MERGE, leader=OTHER, check_ins=(entry(OTHER), entry(THIRD)))
    state, actions = walk(STATES[CheckingIn], on.CheckInRefused(errors.RoundClosed(round=1)), on.StatusChanged(merging))
    assert isinstance(state, WaitingForRound)
    assert not of(tuple(actions), do.SendCheckIn)
    still_open = view(check_ins=(entry(OTHER),))
    assert walk(state, on.StatusChanged(still_open))[1] == []
    reopened = replace(still_open, term=1)
    assert of(tuple(walk(state, on.StatusChanged(reopened))[1]), do.SendCheckIn)


def test_a_node_left_out_of_a_round_goes_on_from_its_result_with_the_reason() -> None:
    accepted = view(
        round_=2,
        last=result(1, merged=(OTHER, THIRD), left_out=(NAN,)),
    )
    _, actions = walk(awaiting(), on.StatusChanged(accepted), on.Fetched(MERGED))
    (deliver,) = of(tuple(actions), do.Deliver)
    assert not deliver.contributed
    assert (deliver.note, deliver.not_finite) == ("left out of round 1: non-finite values in tensor w", True)


@pytest.mark.parametrize(
    ("excluded", "kind"),
    [
        (NAN, errors.ModelNotFinite),
        (Exclusion(ME, "non-finite? its parameters could not be fetched"), errors.LeftOutOfRound),
    ],
)
def test_left_out_of_the_very_first_round_by_two_leaders_in_turn_ends_the_node(
    excluded: Exclusion, kind: type[errors.SwarmError]
) -> None:
    reopened = view(check_ins=(entry(OTHER),), left_out=(excluded,), block=6)
    state, actions = walk(awaiting(), on.StatusChanged(reopened))
    assert of(tuple(actions), do.SendCheckIn) == [do.SendCheckIn(1, 0, MINE, 7, False)]
    (told,) = of(tuple(actions), do.NotifyML)
    assert excluded.reason in told.text
    again = view(term=2, check_ins=(entry(OTHER),), left_out=(excluded,), block=8)
    state, actions = walk(state, on.CheckInAccepted(7), on.StatusChanged(again))
    assert isinstance(state, Ended)
    assert type(state.error) is kind
    assert [type(action) for action in actions[-2:]] == [do.AbortML, do.Leave]
    assert excluded.reason in actions[-1].reason  # type: ignore[attr-defined]


def test_left_out_of_a_later_round_that_reopened_it_goes_on_from_what_it_holds() -> None:
    held = replace(NODE, held=HeldModel(1, MERGED))
    reopened = view(round_=2, last=result(1), check_ins=(entry(OTHER),), left_out=(Exclusion(ME, "gone"),), block=6)
    state, actions = walk(Awaiting(held, 2, 5), on.StatusChanged(reopened), on.Fetched(MERGED))
    (deliver,) = of(tuple(actions), do.Deliver)
    assert (deliver.contributed, deliver.note) == (False, "left out of round 2: gone")
    _, actions = walk(state, on.ParametersOffered(on.Offer(2, NEWER)))
    assert actions == [do.SendCheckIn(2, 1, NEWER, 7, False)]


def test_a_node_in_the_last_round_before_its_restart_is_not_told_otherwise() -> None:
    again = Training(EnrolledNode(OPENED, view(round_=2, last=result(1))))
    _, actions = walk(again, on.ParametersOffered(OFFER), on.Fetched(MERGED))
    (deliver,) = of(tuple(actions), do.Deliver)
    assert not deliver.contributed
    assert deliver.note == "round 1 was merged with what this node had checked in before it was started again"


def test_an_old_reason_is_not_taken_for_a_new_one() -> None:
    """After it was left out and checked in again, a view from before its second check-in may still come."""
    stale = view(round_=2, last=result(1), left_out=(Exclusion(ME, "gone"),), block=4)
    node = replace(NODE, held=HeldModel(1, MERGED), view=stale, offer=None)
    state, _ = walk(Training(node), on.ParametersOffered(OFFER), on.CheckInAccepted(5), on.StatusChanged(stale))
    assert isinstance(state, Awaiting)


def test_left_out_before_the_reply_to_its_check_in_came() -> None:
    merging = view(RoundState.MERGE, leader=OTHER, check_ins=ALL_IN)
    reopened = view(term=1, check_ins=(entry(OTHER),), left_out=(Exclusion(ME, "gone"),), block=6)
    seen = on.StatusChanged(merging), on.StatusChanged(reopened), on.CheckInAccepted(5)
    _, actions = walk(STATES[CheckingIn], *seen)
    assert of(tuple(actions), do.SendCheckIn)


def test_a_finished_node_that_was_left_out_only_counts_as_finished_from_then_on() -> None:
    node = replace(NODE, held=HeldModel(1, MERGED), offer=on.Offer(1, MINE, "snapshot"))
    accepted = view(
        round_=3,
        last=result(2, NEWER, (OTHER, THIRD), left_out=(NAN,)),
    )
    _, actions = walk(Awaiting(node, 2, 5), on.StatusChanged(accepted), on.Fetched(NEWER))
    assert do.SendCheckIn(3, 2, NEWER, 0, True) in actions


def test_a_model_that_differs_is_explained_and_ends_the_node() -> None:
    refusal = errors.ModelDiffers(given="aa", agreed="bb", agreedBy=OTHER)
    state, actions = walk(STATES[CheckingIn], on.CheckInRefused(refusal))
    assert (type(state), actions) == (DiagnosingMismatch, [do.DiagnoseMismatch(OTHER, MINE)])
    state, actions = walk(state, on.Failed(errors.ModelDiffers(difference="Tensor w differs")))
    assert isinstance(state, Ended)
    assert [type(action) for action in actions] == [do.AbortML, do.Leave]


BEFORE = CheckInEntry(ME, NEWER.digest, NEWER.size, 1, False)


@pytest.mark.parametrize(
    "events",
    [
        (on.ParametersOffered(OFFER), on.CheckInRefused(errors.AlreadyCheckedIn(name=ME, round=1, digest="cc"))),
        (on.StatusChanged(view(check_ins=(BEFORE,))), on.ParametersOffered(OFFER)),
        (
            on.StatusChanged(view(RoundState.MERGE, leader=OTHER, check_ins=(BEFORE, entry(OTHER)))),
            on.ParametersOffered(OFFER),
        ),
    ],
    ids=["refused", "shown while open", "shown while merged"],
)
def test_a_check_in_from_before_a_restart_stands_and_its_result_is_waited_for(
    events: tuple[on.RoundEvent, ...],
) -> None:
    state, _ = walk(STATES[Training], *events)
    assert isinstance(state, Awaiting)
    assert state.earlier
    state, actions = walk(state, on.StatusChanged(view(round_=2, last=result(1))), on.Fetched(MERGED))
    (deliver,) = of(tuple(actions), do.Deliver)
    assert not deliver.contributed
    assert deliver.note == "round 1 was merged with what this node had checked in before it was started again"
    assert isinstance(state, Training)


def test_a_check_in_from_before_a_restart_that_is_left_out_is_replaced() -> None:
    reopened = view(term=1, check_ins=(entry(OTHER),), left_out=(Exclusion(ME, "gone"),), block=6)
    _, actions = walk(awaiting(earlier=True), on.StatusChanged(reopened))
    assert of(tuple(actions), do.SendCheckIn) == [do.SendCheckIn(1, 0, MINE, 7, False)]


def test_a_leader_that_was_started_again_hands_over_at_once() -> None:
    led = view(RoundState.MERGE, leader=ME, check_ins=ALL_IN, last=None)
    state, actions = walk(Enrolling(OPENED), on.EnrolmentAccepted(led), on.StatusChanged(led))
    assert [type(action) for action in actions] == [do.AnswerOpen, do.Leave]
    gone = replace(led, term=2, leader=OTHER, members=(member(ME, active=False), member(OTHER)))
    _, actions = walk(state, on.StatusChanged(gone))
    assert of(tuple(actions), do.Enrol) == [do.Enrol(OPENED, again=True)]


def test_a_node_that_was_started_again_watches_the_leader_of_the_merge_it_is_in() -> None:
    merging = view(RoundState.MERGE, leader=OTHER, check_ins=ALL_IN)
    state, actions = walk(
        Enrolling(OPENED), on.EnrolmentAccepted(merging), on.StatusChanged(merging), on.LeaderSilent(1, 1)
    )
    assert isinstance(state, Training)
    assert actions[1:] == [do.ArmLeaderTimer(1, 1), do.VoteOut(1, 1), do.ArmLeaderTimer(1, 1)]


def test_a_node_taken_for_dead_enrols_again_and_checks_in_again() -> None:
    dead = view(members=(member(ME, active=False), member(OTHER)), awaited=(OTHER,), block=6)
    state, actions = walk(awaiting(), on.StatusChanged(dead), on.StatusChanged(dead))
    assert actions == [do.Enrol(OPENED, again=True)]
    _, actions = walk(state, on.EnrolmentAccepted(view(block=7)))
    assert actions == [do.SendCheckIn(1, 0, MINE, 7, False)]


# --- leaders that fail -----------------------------------------------------------------------------------------


def test_a_silent_leader_is_voted_out_and_the_next_one_watched() -> None:
    first = view(RoundState.MERGE, leader=OTHER, check_ins=ALL_IN)
    second = replace(first, term=2, leader=THIRD)
    state, actions = walk(awaiting(), on.StatusChanged(first), on.LeaderSilent(1, 1), on.StatusChanged(second))
    assert of(tuple(actions), do.VoteOut) == [do.VoteOut(1, 1)]
    assert of(tuple(actions), do.ArmLeaderTimer)[-1] == do.ArmLeaderTimer(1, 2)
    _, actions = walk(state, on.LeaderSilent(1, 1))
    assert actions == []


def test_a_vote_that_is_lost_is_repeated_while_the_leader_stays_silent() -> None:
    merging = view(RoundState.MERGE, leader=OTHER, check_ins=ALL_IN)
    state, actions = walk(awaiting(), on.StatusChanged(merging), on.LeaderSilent(1, 1))
    assert actions[-2:] == [do.VoteOut(1, 1), do.ArmLeaderTimer(1, 1)]
    _, actions = walk(state, on.LeaderSilent(1, 1))
    assert actions == [do.VoteOut(1, 1), do.ArmLeaderTimer(1, 1)]


def test_who_waits_for_somebody_that_may_lead_is_told_so() -> None:
    members = tuple(replace(member(name), may_lead=False) for name in NAMES)
    round_of_followers = view(members=members, check_ins=ALL_IN)
    assert round_of_followers.waiting == "waiting for a node that may lead (SL_MAKE_ME_ADMIN=true): 3 of 3 in"


def test_a_deposed_leader_stops_merging_and_follows() -> None:
    merging = view(RoundState.MERGE, leader=ME, check_ins=ALL_IN)
    deposed = replace(merging, term=2, leader=OTHER)
    state, actions = walk(awaiting(), on.StatusChanged(merging), on.StatusChanged(deposed))
    assert [type(action) for action in actions] == [do.StartMerge, do.CancelMerge, do.NotifyML, do.ArmLeaderTimer]
    assert type(state) is Awaiting


@pytest.mark.parametrize(
    "refusal",
    [
        errors.StaleTerm(round=1, given=1, current=2),
        errors.StaleRound(given=1, current=2),
        errors.NotTheLeader(name=ME, leader=OTHER, round=1, term=2),
    ],
    ids=lambda error: error.code,
)
def test_a_stale_leader_is_refused_and_follows(refusal: errors.SwarmError) -> None:
    state, actions = walk(STATES[Publishing], on.PublishRefused(refusal))
    assert type(state) is Awaiting
    assert not of(tuple(actions), do.AbortML)


def test_a_leader_does_not_merge_the_same_term_twice() -> None:
    merging = view(RoundState.MERGE, leader=ME, check_ins=ALL_IN)
    _, actions = walk(
        awaiting(),
        on.StatusChanged(merging),
        on.MergeDone(MERGED, ()),
        on.PublishRefused(errors.StaleTerm(round=1, given=1, current=2)),
        on.StatusChanged(merging),
        on.StatusChanged(replace(merging, term=2)),
    )
    assert [action.view.term for action in of(tuple(actions), do.StartMerge)] == [1, 2]


def test_too_few_reopen_the_round() -> None:
    left_out = (Exclusion(OTHER, "gone"), Exclusion(THIRD, "gone"))
    state, actions = walk(STATES[Merging], on.TooFew(left_out))
    assert (type(state), actions) == (Publishing, [do.Reopen(1, 1, left_out)])


def test_a_result_nobody_serves_ends_the_node_unless_there_is_a_newer_one() -> None:
    failed = on.FetchFailed(errors.ResultUnavailable(round=1, tried=OTHER))
    state, _ = walk(STATES[Fetching], failed)
    assert isinstance(state, Ended)
    assert isinstance(state.error, errors.ResultUnavailable)
    newer = view(round_=3, last=result(2, NEWER))
    _, actions = walk(STATES[Fetching], on.StatusChanged(newer), failed)
    assert actions == [do.Fetch(result(2, NEWER))]


# --- the end ----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("mode", "first", "later"),
    [
        ("snapshot", (MINE, 7), (MINE, 7)),
        ("active", (MINE, 7), (MERGED, 7)),
        ("inactive", (MINE, 7), (MERGED, 0)),
    ],
)
def test_a_finished_node_takes_part_without_ml_until_the_training_is_complete(
    mode: on.CheckInMode, first: tuple[Model, int], later: tuple[Model, int]
) -> None:
    accepted = view(round_=2, last=result(1))
    state, actions = walk(
        STATES[Training],
        on.ParametersOffered(on.Offer(1, MINE, mode)),
        on.CheckInAccepted(5),
        on.StatusChanged(accepted),
        on.Fetched(MERGED),
    )
    check_ins = of(tuple(actions), do.SendCheckIn)
    assert check_ins == [do.SendCheckIn(1, 0, *first, True), do.SendCheckIn(2, 1, *later, True)]
    assert not of(tuple(actions), do.Deliver)
    complete = view(RoundState.COMPLETE, round_=2, last=result(2, NEWER))
    state, actions = walk(state, on.CheckInAccepted(5), on.StatusChanged(complete), on.Fetched(NEWER))
    (deliver,) = of(tuple(actions), do.Deliver)
    assert (deliver.over, deliver.held.model) == (True, NEWER)
    assert do.Leave("finished") in actions
    assert isinstance(state, Finishing)


def test_a_node_still_training_fetches_the_final_model_ahead() -> None:
    complete = view(RoundState.COMPLETE, last=result(1, merged=(OTHER, THIRD)))
    state, actions = walk(STATES[Training], on.StatusChanged(complete), on.StatusChanged(complete))
    assert actions == [do.Fetch(complete.last, ahead=True)]
    _, actions = walk(state, on.ParametersOffered(OFFER), on.Fetched(MERGED))
    (deliver,) = of(tuple(actions), do.Deliver)
    assert deliver.over
    assert deliver.note.startswith(f"all others had finished ({OTHER}, {THIRD})")


def test_a_training_that_completes_during_a_fetch_ends_with_its_final_model() -> None:
    complete = view(RoundState.COMPLETE, round_=2, last=result(2, NEWER))
    _, actions = walk(STATES[Fetching], on.StatusChanged(complete), on.Fetched(MERGED), on.Fetched(NEWER))
    (deliver,) = of(tuple(actions), do.Deliver)
    assert (deliver.over, deliver.held.model) == (True, NEWER)


def test_a_holder_stays_until_the_others_have_left_and_ml_is_done() -> None:
    gone = view(RoundState.COMPLETE, members=(member(ME), member(OTHER, False), member(THIRD, False)))
    assert type(walk(STATES[Finishing], on.SessionClosed())[0]) is Finishing
    assert walk(STATES[Finishing], on.StatusChanged(gone), on.SessionClosed())[0] == Ended(None)
    assert walk(STATES[Finishing], on.SessionClosed(), on.StatusChanged(gone))[0] == Ended(None)
    assert walk(STATES[Finishing], on.ServingOver(), on.SessionClosed())[0] == Ended(None)
    assert walk(STATES[Finishing], on.MLEnded(ME), on.ServingOver())[0] == Ended(None)


def test_the_final_model_is_kept_for_nodes_that_were_taken_for_dead() -> None:
    lost = replace(member(OTHER, active=False), lost=True)
    away = view(RoundState.COMPLETE, members=(member(ME), lost, member(THIRD, active=False)))
    assert type(walk(STATES[Finishing], on.StatusChanged(away), on.SessionClosed())[0]) is Finishing
    assert walk(STATES[Finishing], on.StatusChanged(away), on.SessionClosed(), on.ServingOver())[0] == Ended(None)


@pytest.mark.parametrize(
    ("kind", "when"),
    [
        (Unopened, "before it opened its session"),
        (Training, "while it trained"),
        (Awaiting, "while it waited for the merge"),
        (Merging, "while it waited for the merge"),
    ],
)
def test_an_ml_program_that_ends_early_ends_the_node_and_says_when(kind: type[SLState], when: str) -> None:
    state, actions = walk(STATES[kind], on.MLEnded(ME))
    assert isinstance(state, Ended)
    assert isinstance(state.error, errors.MLGone)
    assert when in str(state.error)
    assert [type(action) for action in actions] == ([] if kind is Unopened else [do.Leave])


def test_ml_that_dies_in_the_middle_of_a_write_is_said_to_have() -> None:
    state, _ = walk(STATES[Training], on.MLEnded(ME, "in the middle of sending its parameters"))
    assert isinstance(state, Ended)
    assert "in the middle of sending its parameters" in str(state.error)


@pytest.mark.parametrize("kind", [Training, CheckingIn, Awaiting, Merging, Fetching])
def test_stopping_tells_ml_leaves_and_is_no_error(kind: type[SLState]) -> None:
    state, actions = walk(STATES[kind], on.StopRequested(ME))
    assert state == Ended(None)
    assert [type(action) for action in actions] == [do.AbortML, do.Leave]


def test_a_refused_enrolment_refuses_the_session() -> None:
    refusal = errors.ConfigurationDiffers(field="minPeers", given="2", agreed="3")
    state, actions = walk(Enrolling(OPENED), on.Failed(refusal))
    assert state == Ended(refusal)
    assert actions == [do.AbortML(refusal, opened=False)]


def test_needed_keeps_what_is_offered_held_merged_and_checked_in() -> None:
    other = replace(entry(ME), digest="9" * 64)
    node = replace(NODE, held=HeldModel(1, MERGED), view=view(round_=3, last=result(2, NEWER), check_ins=(other,)))
    assert needed(Training(node)) == {MINE.digest, MERGED.digest, NEWER.digest, "9" * 64}
    assert needed(Unopened()) == frozenset()


def test_what_decides_knows_no_network_clock_thread_or_file() -> None:
    code = (
        "import sys, services.sl.round.machine\n"
        "outside = {'socket', 'asyncio', 'threading', 'aiohttp', 'grpc', 'numpy'}\n"
        "ours = [module for name, module in sys.modules.items() if name.startswith('services.')]\n"
        "used = {getattr(it, '__name__', '') for module in ours for it in vars(module).values()}\n"
        "print(sorted(outside & used | (outside - {'threading'}) & sys.modules.keys()))"  # protobuf itself has a lock
    )
    done = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True, timeout=60)
    assert done.stdout.strip() == "[]"


def test_what_missed_its_round_is_merged_with_the_next_one() -> None:
    node = replace(NODE, held=HeldModel(1, MERGED))
    missed = view(round_=5, last=result(4, merged=(OTHER, THIRD)))
    state, actions = walk(Training(replace(node, view=missed)), on.ParametersOffered(OFFER))
    assert actions == [do.SendCheckIn(5, 1, MINE, 7, False)]
    assert isinstance(state, CheckingIn)
    done = view(round_=6, last=result(5, merged=(ME, OTHER, THIRD)))
    state, actions = walk(state, on.CheckInAccepted(1), on.StatusChanged(done), on.Fetched(MERGED))
    (deliver,) = of(tuple(actions), do.Deliver)
    assert (deliver.contributed, deliver.late, deliver.next_sync_interval) == (True, 3, 4)
    assert deliver.note == "round 5 holds what this node trained from round 1 on, with 1/4 of its weight"


def test_what_may_have_been_merged_already_does_not_come_a_second_time() -> None:
    held = replace(NODE, held=HeldModel(1, MERGED), view=view(round_=2, last=result(1)))
    refused = errors.StaleRound(given=2, current=3)
    checking = CheckingIn(replace(held, offer=OFFER), 2, 0)
    in_it = view(round_=3, last=result(2, merged=(ME, OTHER)))
    state, actions = walk(checking, on.StatusChanged(in_it), on.CheckInRefused(refused))
    assert actions == [do.Fetch(in_it.last)]
    assert state.part.contributed
    not_in_it = view(round_=3, last=result(2, merged=(OTHER, THIRD)))
    _, actions = walk(checking, on.StatusChanged(not_in_it), on.CheckInRefused(refused))
    assert actions == [do.SendCheckIn(3, 1, MINE, 7, False)]


def test_a_training_that_is_over_takes_nothing_that_comes_late() -> None:
    over = view(RoundState.COMPLETE, round_=4, last=result(4, merged=(OTHER, THIRD)))
    state, _ = walk(Training(replace(NODE, held=HeldModel(1, MERGED), view=over)), on.ParametersOffered(OFFER))
    assert isinstance(state, Fetching)
    assert not state.part.contributed
