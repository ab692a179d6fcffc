"""What the events of a training add up to, and what a record that was tampered with gives away."""

import hashlib
import json
from typing import Any

import pytest

from services.audit.data import EventFile, json_text, record_data
from services.audit.fold import fold
from services.audit.record import Record
from services.chain import events as on_chain
from services.chain.receipts import Position
from services.rpc import swarm_pb2 as pb
from services.rpc.client import MESSAGE_LIMIT_BYTES
from services.sn.record import entry, pages

CONFIG = on_chain.TrainingConfig(2, 16, "mean", False, 1000, first_merge="average")
D = {name: bytes([number]) * 32 for number, name in enumerate(["a", "b", "c", "merged"], 1)}


def enrolled(name: str, may_lead: bool = True) -> tuple[Any, ...]:
    return on_chain.Enrolled, name, D[name], may_lead, 1


def checked_in(name: str, round_number: int = 1, finished: bool = False) -> tuple[Any, ...]:
    return on_chain.CheckedIn, round_number, name, D[name], 64, 50, finished, f"host-{name}", 30305


START = [(on_chain.Configured, CONFIG, "a"), enrolled("a"), enrolled("b"), enrolled("c")]
MERGE = [*START, checked_in("a"), checked_in("b"), checked_in("c"), (on_chain.MergeStarted, 1, 1, "b", 3)]
ROUND = [*MERGE, (on_chain.RoundAccepted, 1, 1, "b", D["merged"], 64, 3)]
CUT_OFF = [
    *START, checked_in("a", finished=True), checked_in("b", finished=True), checked_in("c"),
    (on_chain.MergeStarted, 1, 1, "b", 3), (on_chain.RoundAccepted, 1, 1, "b", D["merged"], 64, 3),
]  # fmt: skip
OWN = on_chain.TrainingConfig(2, 16, "mean", False, 1000, first_merge="leader")


def messages(history: list[tuple[Any, ...]]) -> list[pb.RecordEvent]:
    """Each event in a block of its own, as an SN sends it."""
    return [entry(kind(Position(block, 0), *facts)) for block, (kind, *facts) in enumerate(history, 1)]


def record(history: list[tuple[Any, ...]]) -> Record:
    return fold("demo", messages(history))


def test_every_kind_of_event_can_be_sent_and_folded() -> None:
    sent = {field.name for field in pb.RecordEvent.DESCRIPTOR.oneofs_by_name["event"].fields}
    kinds = {cls.__name__ for cls in on_chain.TrainingEvent.__subclasses__()}
    assert {name.title().replace("_", "") for name in sent} == kinds
    for kind in sent:
        assert fold("demo", [pb.RecordEvent(block=1, **{kind: getattr(pb.RecordEvent(), kind)})]).count == 1


def test_an_accepted_round_tells_who_was_merged_with_what() -> None:
    found = record([*ROUND, (on_chain.Reported, 1, "a", 0.5, 0.25, 3, 10)])
    assert found.problems == []
    first = found.rounds[1]
    assert [(it.name, it.weight, it.fate, it.at.block) for it in first.merged] == [
        ("a", 50, "merged", 5), ("b", 50, "merged", 6), ("c", 50, "merged", 7)
    ]  # fmt: skip
    assert first.result is not None
    assert (first.result.digest, first.result.leader, first.result.at.block) == (D["merged"].hex(), "b", 9)
    assert [(it.name, it.loss) for it in first.reports] == [("a", 0.5)]


def test_a_deposed_leader_and_who_voted_stay_on_the_record() -> None:
    found = record([
        *MERGE, (on_chain.LeaderVotedOut, 1, 1, "a", 1, 2), (on_chain.LeaderVotedOut, 1, 1, "c", 2, 2),
        (on_chain.LeaderDeposed, 1, 1, "b"), (on_chain.MergeStarted, 1, 2, "c", 3),
        (on_chain.RoundAccepted, 1, 2, "c", D["merged"], 64, 3),
    ])  # fmt: skip
    assert found.problems == []
    first, second = found.rounds[1].terms
    assert (first.leader, first.ended, [vote.voter for vote in first.votes]) == ("b", "deposed", ["a", "c"])
    assert (second.leader, second.ended) == ("c", "accepted")


def test_who_is_left_out_or_absent_is_told_with_the_reason() -> None:
    found = record([
        *START, checked_in("a"), checked_in("b"), (on_chain.MergeStarted, 1, 1, "a", 2),
        (on_chain.LeftOut, 1, 1, "b", "non-finite"), (on_chain.RoundReopened, 1, 1, 1, 2), checked_in("b"),
        (on_chain.MergeStarted, 1, 2, "a", 2), (on_chain.RoundAccepted, 1, 2, "a", D["merged"], 64, 2),
    ])  # fmt: skip
    assert found.problems == []
    first = found.rounds[1]
    assert [(it.name, it.reason, it.term) for it in first.left_out] == [("b", "non-finite", 1)]
    assert [(it.name, it.fate) for it in first.check_ins] == [("a", "merged"), ("b", "left out"), ("b", "merged")]
    assert first.absent == ["c"]


def test_a_reset_training_starts_over_and_keeps_its_record() -> None:
    complete = [
        *START, *(checked_in(name, finished=True) for name in "abc"), (on_chain.MergeStarted, 1, 1, "b", 3),
        (on_chain.RoundAccepted, 1, 1, "b", D["merged"], 64, 3), (on_chain.Completed, 1, D["merged"]),
    ]  # fmt: skip
    again = [
        (on_chain.Reset, 2), (on_chain.Configured, CONFIG, "b"), enrolled("a"), enrolled("b"), checked_in("a", 2),
        (on_chain.Left, "a", "tired", 2),
    ]  # fmt: skip
    found = record([*complete, *again])
    assert found.problems == []
    assert (found.state, found.active) == (pb.CHECKIN, ["b"])
    assert found.rounds[1].completed
    assert [it.fate for it in found.rounds[2].check_ins] == ["withdrawn"]

    everyone_left = [(on_chain.Left, "b", "tired", 2), (on_chain.Reset, 3), (on_chain.Configured, CONFIG, "b")]
    found = record([*complete, *again, *everyone_left])
    assert (found.problems, found.state) == ([], pb.CHECKIN)


@pytest.mark.parametrize(
    ("history", "problem"),
    [
        ([*ROUND, (on_chain.RoundAccepted, 1, 1, "b", D["a"], 64, 3)], "accepted a second time"),
        ([*MERGE, (on_chain.RoundAccepted, 1, 1, "a", D["merged"], 64, 3)], "a publishes, and b leads"),
        ([*MERGE, (on_chain.RoundAccepted, 1, 2, "b", D["merged"], 64, 3)], "does not run"),
        ([*MERGE, (on_chain.RoundAccepted, 1, 1, "b", D["merged"], 64, 2)], "counts 2 check-ins"),
        ([*START, checked_in("a"), (on_chain.MergeStarted, 1, 1, "a", 1)], "merged with 1 of at least 2"),
        ([*START[:2], checked_in("b")], "without being enrolled"),
        ([*START, checked_in("a"), checked_in("a")], "checks in twice"),
        ([*START, checked_in("a", 2)], "round 1 runs"),
        ([*MERGE, (on_chain.LeaderVotedOut, 1, 1, "b", 1, 2)], "and may not"),
        ([*MERGE, (on_chain.LeftOut, 1, 1, "a", "x"), (on_chain.LeftOut, 1, 1, "a", "x")], "was not in it"),
        ([*ROUND, (on_chain.Completed, 1, D["merged"])], "ends when 0 have finished"),
        ([*ROUND, (on_chain.Completed, 1, D["a"])], "another model"),
        ([*CUT_OFF, (on_chain.Completed, 1, D["merged"])], "ends before c had finished"),
        ([(on_chain.Configured, OWN, "a"), *ROUND[1:]], "is the own set of none of its participants"),
        ([(on_chain.Reset, 2)], "not complete"),
    ],
)  # fmt: skip
def test_a_record_against_the_rules_says_where(history: list[tuple[Any, ...]], problem: str) -> None:
    found = record(history)
    assert any(problem in said for said in found.problems), found.problems
    assert all(said.startswith("block ") for said in found.problems)


@pytest.mark.parametrize("missing", range(1, len(MERGE) - 1))
def test_an_event_that_is_held_back_is_noticed(missing: int) -> None:
    assert record([event for number, event in enumerate(ROUND) if number != missing]).problems


def test_events_in_another_order_than_on_the_chain_are_noticed() -> None:
    sent = messages(ROUND)
    sent[5], sent[6] = sent[6], sent[5]
    assert any("it comes after block 7" in said for said in fold("demo", sent).problems)


def as_json(history: list[tuple[Any, ...]]) -> dict[str, Any]:
    with EventFile() as events:
        for event in messages(history):
            events.add(event)
        found: dict[str, Any] = json.loads("".join(json_text(record_data(record(history)), events)))
    return found


def test_data_lists_events_in_the_order_of_the_chain_in_numbers_of_json() -> None:
    history = [*ROUND, (on_chain.Reported, 1, "a", float("nan"), None, 3, 10)]
    data = as_json(history)
    assert [(it["block"], it["event"]) for it in data["events"]][-2:] == [(9, "round_accepted"), (10, "reported")]
    assert (data["events"][-1]["loss"], data["events"][-1]["metric"]) == ("NaN", None)
    (report,) = data["rounds"][0]["reports"]
    assert (report["loss"], report["metric"]) == ("NaN", None)
    assert data["final"]["digest"] == D["merged"].hex()
    assert data["record_digest"] != as_json(ROUND)["record_digest"]
    assert data["record_digest"] == as_json(history)["record_digest"]
    assert data["record_digest"] == hashlib.sha256(json.dumps(data["events"], sort_keys=True).encode()).hexdigest()
    assert as_json([])["events"] == []


def test_a_page_of_the_record_is_far_below_the_limit_of_a_message() -> None:
    events = [on_chain.Left(Position(number, 0), "a", "x" * 20_000, 1) for number in range(1, 100)]
    sent = pages("0x1", 1200, events)
    assert [event.block for page in sent for event in page.events] == list(range(1, 100))
    assert max(page.ByteSize() for page in sent) < MESSAGE_LIMIT_BYTES / 10
    assert {(page.location, page.block) for page in sent} == {("0x1", 1200)}
    long = [on_chain.Left(Position(1, 0), "a", "x" * 1_000_000, 1)]
    assert len(pages("0x1", 7, [*events[:1], *long, *events[:1]])) == 3
