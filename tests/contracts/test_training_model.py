"""Whatever nodes do, in whatever order, TrainingContract does what the model of the round does."""

import copy
from collections.abc import Callable
from typing import Any

import pytest
from contract_bench import STRANGER, Bench
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from round_model import Refused, RoundModel

from services.chain.reverts import error_class
from services.errors import NotARegisteredSN, SwarmError

STATES = ("UNCONFIGURED", "CHECKIN", "MERGE", "COMPLETE")

# Mostly what a sound node says, now and then what a confused or late one does.
names = st.sampled_from(["a", "b", "c", "d"])
drift = st.sampled_from([0, 0, 0, 0, 0, 0, 1, -1])
rarely = st.sampled_from([False] * 7 + [True])
mostly = rarely.map(lambda value: not value)
sizes = st.sampled_from([10] * 7 + [11])
left_out = st.one_of(st.just([]), st.just([]), st.lists(names, unique=True, max_size=3))

BENCH = Bench()


def word(text: str) -> bytes:
    """Text as the 32 bytes of a digest or fingerprint; nothing is zero."""
    return text.encode().ljust(32, b"\0")


class TrainingMachine(RuleBasedStateMachine):
    """Each rule does one thing to both and compares what came of it."""

    def __init__(self) -> None:
        super().__init__()
        self.model = RoundModel()
        self.start = BENCH.snapshot()
        self.changed = True
        self.seen_results: dict[int, str] = {}

    def teardown(self) -> None:
        BENCH.revert(self.start)

    def both(self, on_model: Callable[[RoundModel], None], function: str, *arguments: Any) -> None:
        draft = copy.deepcopy(self.model)
        try:
            on_model(draft)
            expected = None
        except Refused as refused:
            expected = error_class(str(refused))
        else:
            self.model, self.changed = draft, True
        try:
            BENCH.send(function, *arguments)
            found = None
        except SwarmError as error:
            found = type(error)
        assert found is expected, f"{function}{arguments}: {found} instead of {expected}"

    # --- joining and checking in --------------------------------------------------------------------

    @initialize(
        min_peers=st.integers(1, 3),
        count=st.integers(2, 4),
        leads=st.lists(mostly, min_size=4, max_size=4),
    )
    def begin(self, min_peers: int, count: int, leads: list[bool]) -> None:
        self.min_peers = min_peers
        for name, may_lead in zip("abcd"[:count], leads, strict=False):
            self.enrol(name, may_lead, other_certificate=False, other_config=False)

    @rule(name=names, may_lead=mostly, other_certificate=rarely, other_config=rarely)
    def enrol(self, name: str, may_lead: bool, other_certificate: bool, other_config: bool) -> None:
        certificate = f"{name}{'x' if other_certificate else ''}"
        config = (self.min_peers, "median" if other_config else "mean")
        self.both(
            lambda model: model.enrol(name, certificate, may_lead, config),
            "enrol", name, word(certificate), may_lead, (config[0], 16, config[1], False, 1000, "none", "leader", "",
             "fixed", 0, False),
        )  # fmt: skip

    @rule(
        name=names, late=drift, behind=drift, digest=st.sampled_from("ddde"), layout=st.sampled_from("lllllk"),
        finished=rarely, size=sizes,
    )  # fmt: skip
    def check_in(  # noqa: PLR0917 - one argument per thing that can be wrong
        self, name: str, late: int, behind: int, digest: str, layout: str, finished: bool, size: int
    ) -> None:
        round_number, base = max(self.model.round + late, 0), max(self.model.last_accepted + behind, 0)
        call = (round_number, base, name, word(digest), size, word(layout), 100, finished, "host", 30305)
        self.both(
            lambda model: model.check_in(round_number, base, name, digest, layout, finished, size), "checkIn", call
        )

    @rule(steps=st.integers(1, 8), finished=rarely)
    def the_training_goes_on(self, steps: int, finished: bool) -> None:
        for _ in range(steps):
            self.next_sound_step(finished)

    def next_sound_step(self, finished: bool) -> None:
        """What sound nodes do next; drives the training to where faults are interesting."""
        model = self.model
        absent = [name for name in "abc" if name not in model.nodes or not model.nodes[name].active]
        awaited = [name for name, node in model.nodes.items() if node.active and name not in model.check_ins]
        if model.state == "COMPLETE":
            self.reset()
        elif model.state == "MERGE":
            self.publish(0, 0, None, [], self._most_announce())
        elif absent:
            self.enrol(absent[0], may_lead=True, other_certificate=False, other_config=False)
        elif awaited:
            self.check_in(awaited[0], 0, 0, "d", model.layout or "l", finished, model.size or 10)

    @precondition(lambda self: self.model.state == "CHECKIN")
    @rule(late=drift, stale=drift)
    def close_round(self, late: int, stale: int) -> None:
        round_number, term = max(self.model.round + late, 0), max(self.model.term + stale, 0)
        self.both(lambda model: model.close_round(round_number, term), "closeRound", round_number, term)

    # --- merging ------------------------------------------------------------------------------------

    @precondition(lambda self: self.model.state == "MERGE")
    @rule(late=drift, stale=drift, impostor=st.one_of(st.none(), st.none(), names), out=left_out, size=sizes)
    def publish(self, late: int, stale: int, impostor: str | None, out: list[str], size: int) -> None:
        round_number, term, leader = self._fence(late, stale, impostor)
        digest = f"result-{round_number}-{term}"
        self.both(
            lambda model: model.publish(round_number, term, leader, digest, size, out),
            "publish", round_number, term, leader, word(digest), size, out, ["NaN"] * len(out),
        )  # fmt: skip

    @precondition(lambda self: self.model.state == "MERGE")
    @rule(late=drift, stale=drift, impostor=st.one_of(st.none(), st.none(), names), out=left_out)
    def reopen(self, late: int, stale: int, impostor: str | None, out: list[str]) -> None:
        round_number, term, leader = self._fence(late, stale, impostor)
        self.both(
            lambda model: model.reopen(round_number, term, leader, out),
            "reopen", round_number, term, leader, out, ["NaN"] * len(out),
        )  # fmt: skip

    @precondition(lambda self: self.model.state == "MERGE")
    @rule(late=drift, stale=drift, voter=names)
    def vote_out(self, late: int, stale: int, voter: str) -> None:
        round_number, term, _ = self._fence(late, stale, voter)
        self.both(lambda model: model.vote_out(round_number, term, voter), "voteOut", round_number, term, voter)

    @precondition(lambda self: self.model.state == "MERGE")
    @rule()
    def followers_vote(self) -> None:
        term = self.model.term
        for name in [name for name in self.model.check_ins if name != self.model.leader]:
            if self.model.term == term and self.model.nodes[name].active:
                self.vote_out(0, 0, name)

    @rule(what=st.sampled_from(["publish", "reopen", "vote_out", "close_round", "reset"]), name=names)
    def at_any_time(self, what: str, name: str) -> None:
        match what:
            case "publish":
                self.publish(0, 0, name, [], 10)
            case "reopen":
                self.reopen(0, 0, name, [])
            case "vote_out":
                self.vote_out(0, 0, name)
            case "close_round":
                self.close_round(0, 0)
            case "reset":
                self.reset()

    def _most_announce(self) -> int:
        sizes = [size for _, _, size in self.model.check_ins.values()]
        return max(sizes, key=sizes.count, default=10)

    def _fence(self, late: int, stale: int, leader: str | None) -> tuple[int, int, str]:
        return max(self.model.round + late, 0), max(self.model.term + stale, 0), leader or self.model.leader or "a"

    # --- the rest -----------------------------------------------------------------------------------

    @rule(name=names, late=st.integers(-2, 1))
    def report(self, name: str, late: int) -> None:
        round_number = max(self.model.last_accepted + late, 0)
        self.both(lambda model: model.report(round_number, name), "report", round_number, name, 1, 2, 3, 4)

    @rule(name=names)
    def leave(self, name: str) -> None:
        self.both(lambda model: model.leave(name), "leave", name, "stopped")

    @precondition(lambda self: self.model.state == "COMPLETE")
    @rule()
    def reset(self) -> None:
        self.both(RoundModel.reset, "reset")

    @rule(
        call=st.sampled_from([("leave", "a", "bye"), ("reset",), ("closeRound", 1, 0), ("report", 1, "a", 0, 0, 0, 0)])
    )
    def stranger(self, call: tuple[Any, ...]) -> None:
        with pytest.raises(NotARegisteredSN):
            BENCH.send(*call, by=STRANGER)

    # --- what always holds --------------------------------------------------------------------------

    @invariant()
    def both_stand_at_the_same_point(self) -> None:
        if not self.changed:  # the EVM undoes a refused call as a whole; reading it all again shows nothing
            return
        self.changed = False
        model = self.model
        state, round_number, term, leader, accepted, first, _, layout, _, active = BENCH.read("status")
        assert (STATES[state], round_number, term) == (model.state, model.round, model.term)
        assert (accepted, first) == (model.last_accepted, model.first_round)
        assert active == sum(node.active for node in model.nodes.values())
        assert layout == (word(model.layout) if model.layout else bytes(32))
        rows = BENCH.read("participants", 0, 10)
        assert [(row[0], row[4], row[5], row[8]) for row in rows] == [
            (name, node.may_lead, node.active, node.report_round) for name, node in model.nodes.items()
        ]
        if model.state == "MERGE":
            assert rows[leader][0] == model.leader
        entries = {rows[entry[0]][0]: (entry[5], entry[3], entry[1]) for entry in BENCH.read("checkIns", model.round)}
        assert entries == {
            name: (word(digest), finished, size) for name, (digest, finished, size) in model.check_ins.items()
        }

    @invariant()
    def a_size_that_a_result_has_is_that_of_all_it_was_merged_of(self) -> None:
        accepted = self.model.last_accepted
        if accepted:
            size = BENCH.read("result", accepted)[1]
            assert {entry[1] for entry in BENCH.read("checkIns", accepted)} == {size} == {self.model.size}

    @invariant()
    def a_result_once_accepted_never_changes(self) -> None:
        for number, digest in self.model.results.items():
            assert self.seen_results.setdefault(number, digest) == digest
        if self.model.last_accepted:
            assert BENCH.read("result", self.model.last_accepted)[0] == word(
                self.model.results[self.model.last_accepted]
            )


def test_the_contract_is_the_model() -> None:
    run_state_machine_as_test(  # type: ignore[no-untyped-call]
        TrainingMachine,
        settings=settings(
            max_examples=20,
            stateful_step_count=40,
            deadline=None,
            suppress_health_check=[HealthCheck.too_slow, HealthCheck.filter_too_much],
        ),
    )
