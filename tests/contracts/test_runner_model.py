"""Whatever SWOPs and those who command them do, in whatever order, TaskRunner does what its model does."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
from contract_bench import STRANGER, Bench
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test
from runner_model import Refused, RunnerModel

from services.chain.reverts import error_class
from services.chain.task_events import PeerState, RunnerState
from services.errors import NotARegisteredSN, SwarmError

NAMES = ("a", "b", "c")
names = st.sampled_from(NAMES)
drift = st.sampled_from([0] * 18 + [1, -1])
ends = st.sampled_from([*PeerState, PeerState.COMPLETE, PeerState.ERROR, PeerState.ERROR])
AT = 1_700_000_000_000

BENCH = Bench.shared()


class RunnerMachine(RuleBasedStateMachine):
    """Each rule does one thing to both and compares what came of it."""

    def __init__(self) -> None:
        super().__init__()
        self.model = RunnerModel()
        self.start = BENCH.snapshot()

    def teardown(self) -> None:
        BENCH.revert(self.start)

    def both(self, on_model: Callable[[RunnerModel], None], function: str, *arguments: Any) -> None:
        draft = copy.deepcopy(self.model)
        try:
            on_model(draft)
            expected = None
        except Refused as refused:
            expected = str(refused)
        try:
            BENCH.send_runner(function, *arguments)
            got = None
        except SwarmError as error:
            got = type(error)
        assert got is (None if expected is None else error_class(expected)), (expected, got)
        if expected is None:
            self.model = draft

    def near(self, drifted: int) -> int:
        return max(0, self.model.assignment + drifted)

    @initialize(peers=st.lists(st.integers(1, 2), min_size=2, max_size=3))
    def some_attend(self, peers: list[int]) -> None:
        for name, count in zip(NAMES, peers, strict=False):
            self.attend(name, count)

    @rule(name=names, peers=st.integers(1, 3))
    def attend(self, name: str, peers: int) -> None:
        if name in self.model.agents and self.model.state != "IDLE" and self.model.agents[name].attends:
            peers = self.model.agents[name].peers  # a profile changes between tasks
        self.both(lambda model: model.attend(name, peers), "attend", name, "group", peers, b"\x01" * 32)

    @rule(name=names, seldom=st.sampled_from([False] * 3 + [True]))
    def quit(self, name: str, seldom: bool) -> None:
        if seldom:
            self.both(lambda model: model.quit(name), "quit", name, "lost", AT)

    @rule(
        pairs=st.booleans(),
        needed=st.sampled_from([0, 1, 1, 2, 2, 3, 4, 7]),
        only=st.sampled_from(["", "", "", *NAMES]),
    )
    def assign(self, pairs: bool, needed: int, only: str) -> None:
        assigned = ("task", "RUN_SWARM", pairs, b"\x02" * 32, needed, only, "swci/x")
        self.both(lambda model: model.assign(pairs, needed, only), "assign", assigned, AT)

    @rule(name=names, drifted=drift)
    def add_target(self, name: str, drifted: int) -> None:
        number = self.near(drifted)
        self.both(lambda model: model.add_target(number, name), "addTarget", number, name, "swci/x")

    @rule(name=names, drifted=drift, more=drift)
    def enrol(self, name: str, drifted: int, more: int) -> None:
        known = self.model.agents.get(name)
        brings = (known.peers if self.model.pairs else 1) if known else 1
        number, peers = self.near(drifted), max(0, brings + more)
        self.both(lambda model: model.enrol(number, name, peers), "enrol", number, name, peers, AT)

    @rule(name=names, index=st.sampled_from([0, 0, 0, 1, 1, 2]), state=ends, drifted=drift)
    def report(self, name: str, index: int, state: PeerState, drifted: int) -> None:
        number = self.near(drifted)
        said = (name, index, int(state), "sl", "text")
        self.both(lambda model: model.report(number, name, index, state.name), "report", number, said, AT)

    @rule(drifted=drift, seldom=st.sampled_from([False] * 3 + [True]))
    def reset(self, drifted: int, seldom: bool) -> None:
        if not seldom and self.model.state in {"ASSIGNED", "RUNNING"}:
            return  # else hardly any task would come to its end
        number = self.near(drifted)
        self.both(lambda model: model.reset(number), "reset", number, "swci/x")

    @rule(name=names, drifted=drift)
    def release(self, name: str, drifted: int) -> None:
        number = self.near(drifted)
        self.both(lambda model: model.release(number, name), "release", number, name)

    @invariant()
    def both_tell_the_same(self) -> None:
        state, assignment, *_ = BENCH.read_runner("status")
        assert (RunnerState(state).name, assignment) == (self.model.state, self.model.assignment)
        for (name, index), peer in self.model.peers.items():
            assert PeerState(BENCH.read_runner("peerState", self.model.assignment, name, index)).name in {peer, "NONE"}
        for name, agent in self.model.agents.items():
            found = BENCH.read_runner("agentNamed", name)
            assert (found[2], found[3], found[4], found[7]) == (
                agent.peers, agent.attends, agent.enrolled_in, agent.released,
            )  # fmt: skip


def test_the_contract_does_what_the_model_does() -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        RunnerMachine,
        settings=settings(
            max_examples=50, stateful_step_count=50, deadline=None, suppress_health_check=[HealthCheck.too_slow]
        ),
    )


@pytest.mark.parametrize(
    "call",
    [
        ("attend", "a", "g", 1, b"\x01" * 32),
        ("quit", "a", "why", AT),
        ("assign", ("t", "RUN_SWARM", True, b"\x02" * 32, 1, "", "x"), AT),
        ("addTarget", 1, "a", "x"),
        ("enrol", 1, "a", 1, AT),
        ("report", 1, ("a", 0, 1, "", ""), AT),
        ("reset", 1, "x"),
        ("release", 1, "a"),
    ],
    ids=lambda call: str(call[0]),
)
def test_only_sns_write(call: tuple[Any, ...]) -> None:
    with pytest.raises(NotARegisteredSN):
        BENCH.send_runner(*call, by=STRANGER)
