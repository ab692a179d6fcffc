"""Who may read a contribution, and who a result."""

from dataclasses import replace

import pytest

from services.identity.identity import PeerIdentity
from services.rpc.swarm_pb2 import RoundState
from services.runtime.signals import ChangeSignal
from services.sl.transfer.readers import SHARED_FROM_BYTES, Readers
from services.sl.view import AcceptedResult, CheckInEntry, Config, TrainingMember, View

MINE, RESULT, NEXT = "1" * 64, "2" * 64, "3" * 64
LARGE = SHARED_FROM_BYTES + 1
NAMES = ("sl-1", "sl-2", "sl-3", "sl-4", "sl-5")


def merging(size: int = 8, leader: str = "sl-2", term: int = 1) -> View:
    """sl-1 to sl-4 have checked in, sl-4 may not lead, sl-5 only takes part."""
    return View(
        phase=RoundState.MERGE,
        round=4,
        term=term,
        leader=leader,
        config=Config(min_peers=2, sync_frequency=1, merge_method="mean"),
        layout="",
        layout_by="",
        members=tuple(TrainingMember(name, "here", 1, f"key-{name}", True, may_lead=name != "sl-4") for name in NAMES),
        check_ins=tuple(
            CheckInEntry(name, MINE if name == "sl-1" else f"{name:*<64}", size, 1, False) for name in NAMES[:4]
        ),
        last=AcceptedResult(3, RESULT, size, "sl-1", ("sl-1", "sl-2")),
    )


def readers_of(view: View | None, digest: str = MINE, *results: str) -> list[str]:
    readers = Readers(lambda: view, lambda: {RESULT, *results}, ChangeSignal())
    return [name for name in NAMES if readers.may_read(PeerIdentity("sl", name, f"key-{name}"), digest)]


def test_a_contribution_is_for_the_leader_where_it_merges_alone() -> None:
    assert readers_of(merging()) == ["sl-2"]
    assert readers_of(merging(leader="sl-3", term=2)) == ["sl-3"]


def test_a_contribution_is_for_all_who_merge_where_the_merge_is_shared() -> None:
    assert readers_of(merging(LARGE)) == ["sl-1", "sl-2", "sl-3"]
    assert readers_of(merging(LARGE, leader="sl-4")) == ["sl-1", "sl-2", "sl-3", "sl-4"]


@pytest.mark.parametrize("phase", [RoundState.CHECKIN, RoundState.COMPLETE])
def test_a_contribution_is_for_nobody_while_nothing_is_merged(phase: RoundState) -> None:
    assert readers_of(replace(merging(LARGE), phase=phase)) == []


def test_what_was_checked_in_to_another_round_or_to_none_is_for_nobody() -> None:
    assert readers_of(merging(LARGE), "f" * 64) == []


def test_a_result_is_for_every_participant() -> None:
    assert readers_of(merging(), RESULT) == list(NAMES)
    assert readers_of(merging(), NEXT, NEXT) == list(NAMES)
    assert readers_of(merging(), MINE, MINE) == list(NAMES)  # the result may be what one of them brought


def test_a_name_counts_only_under_its_certificate() -> None:
    readers = Readers(merging, lambda: {RESULT}, ChangeSignal())
    assert not readers.may_read(PeerIdentity("sl", "sl-2", "another"), MINE)
    assert readers.seats(PeerIdentity("sl", "sl-2", "another")) == 0
    assert readers.seats(PeerIdentity("sl", "sl-2", "key-sl-2")) == 1


def test_before_it_is_enrolled_a_node_serves_nobody() -> None:
    assert readers_of(None) == []
    assert Readers(lambda: None, set, ChangeSignal()).seats(PeerIdentity("sl", "sl-1", "key-sl-1")) == 0
