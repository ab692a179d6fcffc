"""The fold of a training's events, where a history on a chain does not show it."""

from collections.abc import Iterable
from itertools import count

import pytest

from services.chain.events import (
    CheckedIn,
    Completed,
    Configured,
    Enrolled,
    Left,
    LeftOut,
    MergeStarted,
    Reported,
    Reset,
    RoundAccepted,
    RoundReopened,
    TrainingConfig,
    TrainingEvent,
)
from services.chain.receipts import Position
from services.rpc.swarm_pb2 import RoundState
from services.sn.statuses import status
from services.sn.training import Progress, TrainingView

CONFIG = TrainingConfig(2, 8, "mean", False, 1000)


class Told:
    """A view that is told events in order."""

    def __init__(self) -> None:
        self.view = TrainingView(contract="t", location="0x1")
        self._blocks = count()

    def at(self) -> Position:
        return Position(next(self._blocks), 0)

    def tell(self, event: TrainingEvent) -> TrainingView:
        assert self.view.apply(event)
        return self.view

    def enrol(self, *names: str) -> None:
        for name in names:
            self.tell(Enrolled(self.at(), name, name.encode() * 32, True, self.view.round))

    def check_in(self, *names: str, finished: bool = False) -> None:
        for name in names:
            self.tell(CheckedIn(self.at(), self.view.round, name, b"d" * 32, 9, 100, finished, f"host-{name}", 5))

    def merge(self, leader: str) -> None:
        self.tell(MergeStarted(self.at(), self.view.round, self.view.term + 1, leader, len(self.view.check_ins)))

    def accept(self) -> None:
        view = self.view
        self.tell(RoundAccepted(self.at(), view.round, view.term, view.leader, b"r" * 32, 9, len(view.check_ins)))


@pytest.fixture
def told() -> Told:
    made = Told()
    made.tell(Configured(made.at(), CONFIG, "a"))
    made.enrol("a", "b", "c")
    return made


def test_an_event_that_comes_twice_is_folded_once(told: Told) -> None:
    event = CheckedIn(told.at(), 1, "a", b"d" * 32, 9, 100, False, "host-a", 5)
    told.tell(event)
    version = told.view.version
    assert not told.view.apply(event)
    assert told.view.version == version


def test_an_unknown_kind_of_event_is_a_bug(told: Told) -> None:
    with pytest.raises(TypeError, match="TrainingEvent"):
        told.view.apply(TrainingEvent(told.at()))


def test_awaited_are_the_active_that_are_not_in_in_the_order_of_enrolment(told: Told) -> None:
    told.check_in("b")
    assert told.view.awaited == ["a", "c"]
    told.tell(Left(told.at(), "c", "lost", 1))
    assert told.view.awaited == ["a"]
    assert told.view.participants["c"].left_reason == "lost"
    told.check_in("a")
    told.merge("a")
    assert told.view.awaited == []


def names(left_out: Iterable[LeftOut]) -> list[tuple[str, str]]:
    return [(event.name, event.reason) for event in left_out]


def test_a_reopened_round_names_who_was_left_out_until_it_is_in_again(told: Told) -> None:
    told.check_in("a", "b", "c")
    told.merge("a")
    told.tell(LeftOut(told.at(), 1, 1, "b", "NaN in w"))
    told.tell(LeftOut(told.at(), 1, 1, "c", "unreachable"))
    view = told.tell(RoundReopened(told.at(), 1, 1, 1, 2))
    assert (view.state, view.leader, list(view.check_ins)) == (RoundState.CHECKIN, "", ["a"])
    assert names(view.left_out) == [("b", "NaN in w"), ("c", "unreachable")]
    told.check_in("b")
    assert names(view.left_out) == [("c", "unreachable")]
    told.merge("b")
    told.accept()
    assert view.last_result is not None
    assert names(view.last_result.left_out) == [("c", "unreachable")]
    assert (view.last_result.merged, view.left_out) == (("a", "b"), [])


def test_a_complete_training_stays_in_its_last_round(told: Told) -> None:
    told.check_in("a", "b", "c", finished=True)
    told.merge("a")
    told.accept()
    assert (told.view.state, told.view.round) == (RoundState.CHECKIN, 2)
    view = told.tell(Completed(told.at(), 1, b"r" * 32))
    assert (view.state, view.round, view.awaited) == (RoundState.COMPLETE, 1, [])


def test_versions_grow_are_never_0_and_forget_only_progress(told: Told) -> None:
    assert TrainingView(contract="t", location="0x1").version > 0
    seen = [told.view.version]
    told.check_in("a", "b", "c")
    told.merge("a")
    seen.append(told.view.version)
    told.view.move(Progress(1, 2, 0.0))
    seen.append(told.view.version)
    told.view.move(Progress(2, 2, 0.0))
    seen.append(told.view.version)
    told.accept()
    seen.append(told.view.version)
    assert seen == sorted(set(seen))
    assert told.view.progress is None


def test_a_node_that_enrols_anew_has_not_reported_on_the_training_before(told: Told) -> None:
    told.check_in("a", "b", "c", finished=True)
    told.merge("a")
    told.accept()
    told.tell(Reported(told.at(), 1, "a", 0.5, 0.25, 3, 3))
    assert [who.report_round for who in status(told.view, 0.0, lambda _: None).participants] == [1, 0, 0]
    told.tell(Completed(told.at(), 1, b"r" * 32))
    told.tell(Reset(told.at(), 2))
    told.tell(Configured(told.at(), CONFIG, "a"))
    told.enrol("a", "b")
    anew = status(told.view, 0.0, lambda _: None).participants[0]
    assert (anew.report_round, anew.HasField("loss"), anew.epochs_done, anew.epochs_total) == (0, False, 0, 0)
    assert anew.active
