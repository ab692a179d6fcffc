"""What a node has told the leader that it holds stays there until the round is decided."""

from collections.abc import Callable
from dataclasses import replace
from types import SimpleNamespace
from typing import Any

import pytest
from structlog.testing import capture_logs

from services.errors import ModelDiffers, NotTheLeader, TooManyCalls
from services.identity.identity import PeerIdentity
from services.rpc.result_copy import CopyClaim
from services.rpc.swarm_pb2 import ResultCopy, RoundState
from services.sl.round.actions import Fetch
from services.sl.round.tasks import COPIES_OF_A_TERM, RoundTasks, TaskContext
from services.sl.view import AcceptedResult, CheckInEntry, Config, Model, TrainingMember, View

ME, LEADER = "sl-1", "sl-2"
COPY = "c" * 64
MERGE = View(
    phase=RoundState.MERGE,
    round=4,
    term=1,
    leader=LEADER,
    config=Config(min_peers=2, sync_frequency=1, merge_method="mean"),
    layout="",
    layout_by="",
    members=(TrainingMember(ME, "here", 1, "f1", True), TrainingMember(LEADER, "there", 1, "f2", True)),
    check_ins=(CheckInEntry(ME, "1" * 64, 8, 1, False), CheckInEntry(LEADER, "2" * 64, 8, 1, False)),
    last=AcceptedResult(3, "3" * 64, 8, LEADER, (ME, LEADER)),
)


class Peers:
    """Notes what is fetched."""

    def __init__(self) -> None:
        self.fetched: list[str] = []
        self.layout = MERGE.layout

    async def fetch(self, digest: str, _size: int, _holders: Any, *, moved: Callable[[int], object]) -> Any:
        self.fetched.append(digest)
        return SimpleNamespace(model=Model(digest, 8, self.layout))

    async def fetch_result(self, _round: int, _digest: str, *_how: Any) -> Any:
        return SimpleNamespace(model=None)


class Standing:
    def __init__(self, pki: Any) -> None:
        self.view = MERGE
        self.peers = Peers()
        nothing: Any = None
        around = TaskContext(pki.identity("sl", ME), lambda: self.view, nothing, nothing, 1.0)
        peers: Any = self.peers
        store: Any = SimpleNamespace(get=lambda digest: digest if digest == COPY else None, like=lambda _: None)
        self.work = RoundTasks(around, store, peers, nothing)

    async def take_copy(self, name: str = LEADER, digest: str = COPY) -> ResultCopy:
        return await self.work.take_copy(PeerIdentity("sl", name, "f2"), digest, lambda _: None)


async def test_a_copy_stays_until_its_round_is_decided(pki: Any) -> None:
    node = Standing(pki)
    await node.take_copy()
    assert node.peers.fetched == [COPY]
    assert COPY in node.work.counted_on  # also where the result was accepted and this node has not heard of it yet
    node.view = replace(MERGE, term=2, leader=ME)
    assert COPY in node.work.counted_on
    node.view = replace(
        MERGE, round=5, phase=RoundState.CHECKIN, last=AcceptedResult(4, "4" * 64, 8, LEADER, (ME, LEADER))
    )
    assert node.work.counted_on == frozenset()


async def test_a_leader_has_no_more_results_copied_than_a_merge_can_have(pki: Any) -> None:
    node = Standing(pki)
    digests = [f"{number:064x}" for number in range(COPIES_OF_A_TERM + 1)]
    for digest in digests[:-1]:
        await node.take_copy(digest=digest)
    with pytest.raises(TooManyCalls):
        await node.take_copy(digest=digests[-1])
    await node.take_copy(digest=digests[0])
    assert digests[-1] not in node.peers.fetched
    node.view = replace(MERGE, term=2)
    await node.take_copy(digest=digests[-1])


async def test_only_the_leader_of_the_running_merge_has_a_copy_taken(pki: Any) -> None:
    node = Standing(pki)
    with pytest.raises(NotTheLeader):
        await node.take_copy(ME)
    node.view = replace(MERGE, phase=RoundState.CHECKIN)
    with pytest.raises(NotTheLeader):
        await node.take_copy()
    assert node.peers.fetched == []
    assert node.work.counted_on == frozenset()


async def test_a_copy_is_signed_for_once_it_is_here_and_no_stream_that_no_node_could_take(pki: Any) -> None:
    node = Standing(pki)
    identity = pki.identity("sl", ME)
    claim = CopyClaim(MERGE.location, MERGE.round, MERGE.term, COPY, ME)
    claim.check(await node.take_copy(), [identity.fingerprint], identity.trust)
    node.peers.layout = "another"
    with pytest.raises(ModelDiffers):
        await node.take_copy()


@pytest.mark.parametrize(
    ("digest", "term", "said"),
    [(COPY, 1, 0), ("d" * 64, 1, 1), ("d" * 64, 2, 0)],  # another leader may have merged something else
)
async def test_who_holds_another_result_than_the_leader_published_says_so(
    pki: Any, digest: str, term: int, said: int
) -> None:
    node = Standing(pki)
    await node.take_copy()
    result = AcceptedResult(MERGE.round, digest, 8, LEADER, (ME, LEADER), term=term)
    with capture_logs() as logs:
        await node.work.fetch(Fetch(result))
    warnings = [(entry["copy"], entry["leader"]) for entry in logs if entry["log_level"] == "warning"]
    assert warnings == [(COPY, LEADER)] * said
