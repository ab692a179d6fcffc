"""What has changed in a training adds up to its whole state, whatever has happened and whoever was slow to look."""

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.chain import events as on
from services.chain.receipts import Position
from services.errors import SNUnreachable
from services.rpc import swarm_pb2 as pb
from services.sl.gateway import Shown
from services.sl.view import View
from services.sn.broadcast import CHANGES_KEPT, Broadcast
from services.sn.membership import DirectoryMember
from services.sn.statuses import StatusChanges, status
from services.sn.training import TrainingView

NAMES = ["a", "b", "c", "d"]
CONFIG = on.TrainingConfig(2, 8, "mean", False, 1000)
HERE = "sn"


class WatchedTraining:
    """A view that is told events, its directory, and who watches it."""

    def __init__(self) -> None:
        self.view = TrainingView("t", "0x1")
        self.members: dict[str, DirectoryMember] = {}
        changes = StatusChanges(self.view, lambda: 0.0, self.members.get)
        self.broadcast = Broadcast(self.view, lambda: self.whole().SerializeToString(), changes.since_last)
        self._block = 0

    def whole(self) -> pb.TrainingStatus:
        return status(self.view, 0.0, self.members.get)

    def happens(self, kind: str, name: str, flag: bool) -> None:
        """As far as the contract would let it."""
        view, number = self.view, self.view.round
        self._block += 1
        at, active = Position(self._block, 0), name in view.participants and view.participants[name].active
        event: on.TrainingEvent | None = None
        match kind:
            case "enrol":
                if view.config is None:
                    view.apply(on.Configured(at, CONFIG, name))
                event = on.Enrolled(Position(self._block, 1), name, name.encode(), flag, number)
            case "check_in" if active and name not in view.check_ins:
                event = on.CheckedIn(at, number, name, bytes([self._block % 256]), 9, 1, flag, "h", self._block)
            case "report" if active and view.last_result:
                event = on.Reported(at, number - 1, name, 0.5, None, self._block, 9)
            case "leave" if active:
                event = on.Left(at, name, "tired", number)
            case "merge" if view.check_ins:
                event = on.MergeStarted(at, number, view.term + 1, name, len(view.check_ins))
            case "left_out" if name in view.check_ins:
                event = on.LeftOut(at, number, view.term, name, "why")
            case "reopen" if view.check_ins:
                event = on.RoundReopened(at, number, view.term, 1, 2)
            case "accept" if view.check_ins:
                event = on.RoundAccepted(at, number, view.term, name, b"d", 9, len(view.check_ins))
            case "reset":
                event = on.Reset(at, number + 1)
            case "move":
                known = self.members.get(name) or DirectoryMember("sl", name, "h", 1, b"k", "")
                self.members[name] = replace(known, port=self._block)
                view.touch()
        if event is not None:
            view.apply(event)


class AssemblingWatcher:
    """``shown``: the newest state, put together from what came. ``wholes``: how often all of it came."""

    def __init__(self, world: WatchedTraining) -> None:
        self._world = world
        self._states = world.broadcast.states(0, changes=True)
        self._assembled = Shown(HERE)
        self.shown: View | None = None
        self.wholes = 0

    async def look(self) -> None:
        while self.shown is None or self.shown.version != self._world.view.version:
            message = pb.TrainingStatus.FromString(await anext(self._states))
            self.wholes += not message.since
            self.shown = self._assembled.take(message)


step = st.tuples(
    st.sampled_from(
        ["enrol", "check_in", "check_in", "report", "leave", "merge", "left_out", "reopen", "accept", "reset", "move"]
    ),
    st.sampled_from(NAMES),
    st.booleans(),
    st.sampled_from([(), (0,), (0, 1)]),
)


@settings(deadline=None)
@given(steps=st.lists(step, max_size=60))
async def test_changes_add_up_to_the_whole_state(steps: list[Any]) -> None:
    world = WatchedTraining()
    watchers = [AssemblingWatcher(world), AssemblingWatcher(world)]
    for kind, name, flag, who_looks in steps:
        world.happens(kind, name, flag)
        world.broadcast.wake()
        for index in who_looks:
            await watchers[index].look()
            assert watchers[index].shown == Shown(HERE).take(world.whole())
    world.broadcast.close()


async def test_whoever_keeps_up_gets_the_whole_state_once() -> None:
    world = WatchedTraining()
    quick, slow = AssemblingWatcher(world), AssemblingWatcher(world)
    await quick.look()
    await slow.look()
    for number in range(CHANGES_KEPT + 1):
        world.happens("enrol", f"sl-{number}", flag=True)
        world.broadcast.wake()
        await quick.look()
    await slow.look()
    assert (quick.wholes, slow.wholes) == (1, 2)
    assert quick.shown == slow.shown
    world.broadcast.close()


async def test_a_change_names_only_what_is_another() -> None:
    world = WatchedTraining()
    for number in range(100):
        world.happens("enrol", f"sl-{number}", flag=True)
    states = world.broadcast.states(0, changes=True)
    await anext(states)
    world.happens("check_in", "sl-7", flag=False)
    world.broadcast.wake()
    message = pb.TrainingStatus.FromString(await anext(states))
    assert [who.name for who in message.participants] == [entry.name for entry in message.check_ins] == ["sl-7"]
    world.broadcast.close()


async def test_what_others_reported_is_not_told_to_each_participant() -> None:
    world = WatchedTraining()
    for number in range(100):
        world.happens("enrol", f"sl-{number}", flag=True)
    world.happens("check_in", "sl-7", flag=False)
    world.happens("accept", "sl-7", flag=False)
    states = world.broadcast.states(0, changes=True)
    await anext(states)
    for number in range(100):
        world.happens("report", f"sl-{number}", flag=False)
    world.broadcast.wake()
    message = pb.TrainingStatus.FromString(await anext(states))
    assert message.version == world.view.version
    assert not message.participants
    assert {who.loss for who in world.whole().participants} == {0.5}
    world.broadcast.close()


def test_changes_to_what_was_not_shown_are_not_taken() -> None:
    with pytest.raises(SNUnreachable, match="it has not shown"):
        Shown(HERE).take(pb.TrainingStatus(version=5, since=4))
