"""The checker: a good history passes, and every promise that is broken in one is found, and called by its name."""

from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from tests.chaos.check import violations
from tests.chaos.faults import FAULTS
from tests.chaos.history import Diary, Event, Exit, FalseResult, History, Injected, Seen
from tests.chaos.model import states
from tests.chaos.plan import plan_of

NODES = ("a", "b", "c")
ROUNDS = 4


class Writer:
    """Writes down a run of three nodes, of which all goes well, as it would have been seen."""

    def __init__(self) -> None:
        self.history = History("seed", {}, min_peers=2, nodes=list(NODES))
        self.history.faults = [Injected("nothing", t=1.0, hit="nobody", allowed_s=5.0, recovered_t=2.0)]
        self.probes: dict[str, float] = {}
        self.t = 0.0

    def tell(self, kind: str, **facts: Any) -> None:
        self.history.chain.append(Event((len(self.history.chain), 0), kind, facts))

    def note(self, node: str, did: str, **facts: Any) -> None:
        self.t += 1.0
        self.history.diaries.append(Diary(self.t, node, 100 + NODES.index(node), did, facts))

    def begin(self) -> None:
        self.tell("Configured", config={"min_peers": 2}, by="a")
        for node in NODES:
            self.tell("Enrolled", name=node, fingerprint=node, may_lead=True, round=1)
            self.note(node, "started")

    def round(self, number: int, last: bool) -> None:
        merged = f"merged {number}"
        for node in NODES:
            digest = f"{node} {number}"
            self.probes[digest] = float(number * 10 + NODES.index(node))
            self.note(node, "sends", digest=digest, probe=[repr(self.probes[digest])])
            facts = {"round": number, "name": node, "digest": digest, "size": 1, "weight": 1, "finished": last}
            self.tell("CheckedIn", **facts)
        leader = NODES[(number + 1) % 3]
        self.tell("MergeStarted", round=number, term=1, leader=leader, participants=3)
        self.tell("RoundAccepted", round=number, term=1, leader=leader, digest=merged, size=1, participants=3)
        mean = sum(self.probes[f"{node} {number}"] for node in NODES) / 3
        for node in NODES:
            self.note(
                node, "gets", round=number, digest=merged, contributed=True, over=last, note="", probe=[repr(mean)]
            )
            if last:
                self.note(node, "ends", digest=merged)
        if last:
            self.tell("Completed", round=number, digest=merged)

    def end(self) -> History:
        history = self.history
        history.records, history.record_blocks = {"sn-1": list(history.chain)}, {"sn-1": len(history.chain)}
        for count, state in enumerate(states(history.chain, history.first_keys)):
            last = (state.last, state.accepted[state.last].digest) if state.accepted else None
            history.seen.append(
                Seen(
                    float(count), "sn-1", (count + 1) << 20, state.phase, state.round, state.term, state.leader, last,
                    tuple(state.active), tuple(state.check_ins),
                )
            )  # fmt: skip
        return history


def good() -> History:
    writer = Writer()
    writer.begin()
    for number in range(1, ROUNDS + 1):
        writer.round(number, last=number == ROUNDS)
    return writer.end()


def at(history: History, kind: str, number: int = 2) -> int:
    """Where the chain has an event of this kind for this round."""
    return next(n for n, it in enumerate(history.chain) if it.kind == kind and it.facts.get("round") == number)


def change(history: History, kind: str, **facts: Any) -> None:
    place = at(history, kind)
    event = history.chain[place]
    history.chain[place] = replace(event, facts={**event.facts, **facts})
    history.records["sn-1"] = list(history.chain)


def rewrite(history: History, node: str, did: str, number: int = 2, **facts: Any) -> None:
    """Another line in a diary; ``sends`` are numbered as their rounds are."""
    lines = [n for n, line in enumerate(history.diaries) if (line.node, line.did) == (node, did)]
    line = history.diaries[lines[number - 1]]
    history.diaries[lines[number - 1]] = replace(line, facts={**line.facts, **facts})


def test_a_good_history_has_no_violations() -> None:
    assert violations(good()) == []


def test_a_history_is_the_same_when_it_was_saved_and_loaded(tmp_path: Path) -> None:
    history = good()
    history.exits.append(Exit(1.0, "a", "sl", -9, True))
    history.restarts.append((1.0, "sn-1"))
    history.faults[0].false_results.append(FalseResult("a", 1, 1, "made up"))
    history.save(tmp_path)
    assert History.load(tmp_path) == history


def accepted_twice(history: History) -> None:
    history.chain.insert(at(history, "RoundAccepted") + 1, history.chain[at(history, "RoundAccepted")])


def by_a_stale_leader(history: History) -> None:
    change(history, "RoundAccepted", leader="b")


def in_an_old_term(history: History) -> None:
    change(history, "RoundAccepted", term=0)


def of_another_size(history: History) -> None:
    change(history, "RoundAccepted", size=2)


def without_a_merge(history: History) -> None:
    del history.chain[at(history, "MergeStarted")]


def led_out_of_turn(history: History) -> None:
    change(history, "MergeStarted", leader="b")


def other_bytes(history: History) -> None:
    rewrite(history, "b", "gets", digest="something else")


def other_final_model(history: History) -> None:
    rewrite(history, "b", "ends", number=1, digest="something else")


def a_stranger(history: History) -> None:
    change(history, "CheckedIn", name="stranger")


def twice_in(history: History) -> None:
    place = at(history, "CheckedIn")
    history.chain.insert(place + 1, history.chain[place])


def from_an_old_round(history: History) -> None:
    change(history, "CheckedIn", digest="a 1")


def never_made(history: History) -> None:
    change(history, "CheckedIn", digest="out of thin air")


def another_mean(history: History) -> None:
    for node in NODES:
        rewrite(history, node, "gets", probe=["1000.0"])


def contributed_and_not_merged(history: History) -> None:
    place = at(history, "RoundAccepted")
    facts = {"round": 2, "term": 1, "name": "b", "reason": "no reason"}
    history.chain.insert(place, Event((place, 1), "LeftOut", facts))
    change(history, "RoundAccepted", participants=2)


def below_min_peers(history: History) -> None:
    place = at(history, "MergeStarted")
    del history.chain[place - 2 : place]
    change(history, "MergeStarted", participants=1, leader="a")


def a_result_that_is_gone(history: History) -> None:
    history.seen.append(replace(history.seen[-1], result=(9, "gone")))


def a_state_that_never_was(history: History) -> None:
    history.seen[5] = replace(history.seen[5], checked_in=("a", "b", "c"))


def back_in_time(history: History) -> None:
    history.seen.append(history.seen[3])


def not_finite(history: History) -> None:
    rewrite(history, "c", "gets", probe=["nan"])


def too_slow(history: History) -> None:
    history.faults[0].recovered_t = 100.0


def out_of_order(history: History) -> None:
    record = history.records["sn-1"]
    record[5], record[6] = record[6], record[5]


def held_back(history: History) -> None:
    history.records["sn-1"].pop()


def a_healthy_leader_deposed(history: History) -> None:
    history.faults[0].may_depose = False
    place = at(history, "MergeStarted") + 1
    history.chain.insert(place, Event((place, 1), "LeaderDeposed", {"round": 2, "term": 1, "leader": "a"}))


def a_made_up_result(history: History) -> None:
    accepted = history.chain[at(history, "RoundAccepted")].facts
    lie = FalseResult(accepted["leader"], accepted["round"], accepted["term"], accepted["digest"])
    history.faults[0].false_results.append(lie)


def a_liar_that_stays(history: History) -> None:
    a_made_up_result(history)
    (lie,) = history.faults[0].false_results
    history.faults[0].false_results[:] = [replace(lie, digest="made up")]


def an_honest_node_left_out(history: History) -> None:
    history.faults[0].may_leave_out = False
    contributed_and_not_merged(history)


def stuck(history: History) -> None:
    history.trouble.append("nothing came")


def a_bystander_dead(history: History) -> None:
    history.exits.append(Exit(1.0, "c", "sl", 70, False))


def a_fault_that_missed(history: History) -> None:
    history.faults[0].hit = ""


def too_little_traffic(history: History) -> None:
    del history.chain[at(history, "CheckedIn", 1) :]


BAD: list[tuple[Callable[[History], None], str]] = [
    (accepted_twice, "I1"), (by_a_stale_leader, "I1"), (in_an_old_term, "I1"), (without_a_merge, "I1"),
    (of_another_size, "I3"),
    (led_out_of_turn, "I1"), (other_bytes, "I2"), (other_final_model, "I2"), (a_made_up_result, "I2"),
    (a_stranger, "I3"), (twice_in, "I3"),
    (from_an_old_round, "I3"), (never_made, "I3"), (another_mean, "I3"), (contributed_and_not_merged, "I3"),
    (below_min_peers, "I4"), (a_result_that_is_gone, "I5"), (a_state_that_never_was, "I5"), (back_in_time, "I5"),
    (not_finite, "I6"), (too_slow, "I7"), (out_of_order, "I9"), (held_back, "I9"),
    (a_healthy_leader_deposed, "liveness"), (a_liar_that_stays, "liveness"), (an_honest_node_left_out, "liveness"),
    (stuck, "liveness"), (a_bystander_dead, "liveness"),
    (a_fault_that_missed, "traffic"), (too_little_traffic, "traffic"),
]  # fmt: skip


@pytest.mark.parametrize(("breaking", "promise"), BAD)
def test_a_broken_promise_is_found(breaking: Callable[[History], None], promise: str) -> None:
    history = good()
    breaking(history)
    assert any(text.startswith(promise) for text in violations(history)), violations(history)


def test_a_contribution_that_may_or_may_not_have_arrived_is_right_either_way() -> None:
    """A program that died in the middle of sending: its SL may have got it all."""
    history = good()
    place = next(n for n, line in enumerate(history.diaries) if (line.node, line.did) == ("c", "ends"))
    died = Diary(999.0, "c", 102, "sends", {"digest": "on its way", "probe": ["1.0"]})
    history.diaries.insert(place, died)
    assert violations(history) == []


@pytest.mark.parametrize(("own", "right"), [("c", True), ("a", False)])
def test_where_one_set_is_handed_out_first_it_is_that_of_the_leader(own: str, right: bool) -> None:
    history = good()
    configured = history.chain[0]
    config = {**configured.facts["config"], "first_merge": "leader"}
    history.chain[0] = replace(configured, facts={**configured.facts, "config": config})
    history.records["sn-1"] = list(history.chain)
    assert history.chain[at(history, "RoundAccepted", 1)].facts["leader"] == "c"
    sends = [line for line in history.diaries if (line.node, line.did) == (own, "sends")]
    for node in NODES:
        rewrite(history, node, "gets", number=1, probe=sends[0].facts["probe"])
    assert (violations(history) == []) == right


def test_an_sn_whose_record_could_not_be_read_is_told_as_such() -> None:
    history = good()
    history.records["sn-2"] = []
    history.trouble.append("sn-2 does not have the whole record: TimeoutError()")
    found = violations(history)
    assert any("sn-2 does not have the whole record" in text for text in found)


def test_no_run_waits_for_a_moment_that_its_shape_does_not_have() -> None:
    """A leader that shares a merge out does not write it alone."""
    shared, alone = FAULTS["silent merger"], [fault for fault in FAULTS.values() if fault.merges_alone]
    assert len(alone) == 2
    assert {plan_of(f"s.{number}", [shared, *alone]).faults for number in range(50)} == {(shared.name,)}
    free = FAULTS["follower stopped"]
    drawn = {plan_of(f"s.{number}", [free, *alone]).faults for number in range(50)}
    assert drawn == {(free.name,), *((free.name, fault.name) for fault in alone)}
