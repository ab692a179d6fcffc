"""After any history, an SN's view from a training's events equals the contract's own state."""

import asyncio
import hashlib
from collections.abc import Iterator
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from training_reader import TrainingReader

from services.chain.backend import ChainBackend
from services.chain.events import TrainingConfig
from services.chain.factory import open_chain
from services.chain.network import NetworkGateway
from services.chain.training import CheckInCall
from services.errors import SwarmError
from services.rpc.swarm_pb2 import RoundState
from services.sn.training import TrainingView

NAMES = ["a", "b", "c", "d"]
name = st.sampled_from(NAMES)
step = st.one_of(
    st.tuples(st.just("enrol"), name, st.booleans()),
    st.tuples(st.just("check_in"), name, st.booleans()),
    st.tuples(st.just("check_in"), name, st.booleans()),
    st.tuples(st.just("close_round"), st.just(""), st.booleans()),
    st.tuples(st.just("publish"), name, st.booleans()),
    st.tuples(st.just("reopen"), name, st.booleans()),
    st.tuples(st.just("vote_out"), name, st.booleans()),
    st.tuples(st.just("report"), name, st.booleans()),
    st.tuples(st.just("leave"), name, st.booleans()),
    st.tuples(st.just("reset"), st.just(""), st.booleans()),
)
Step = tuple[str, str, bool]


class History:
    """Plays steps on a contract; ``view``, folded from its events, is compared after each step.

    Histories include steps that the contract refuses.
    """

    def __init__(self, gateway: TrainingReader) -> None:
        self.gateway = gateway
        self.view = TrainingView(contract="test", location=gateway.address)

    async def play(self, steps: list[Step]) -> None:
        for kind, who, flag in steps:
            try:
                await self._do(kind, who, flag)
            except SwarmError:
                continue
            for event in await self.gateway.events(max(0, self.view.position.block)):
                self.view.apply(event)
            await assert_view_is_contract(self.gateway, self.view)

    async def _do(self, kind: str, who: str, flag: bool) -> None:
        gateway, now = self.gateway, await self.gateway.status()
        people = await gateway.participants()
        leader = people[now.leader].name if people else who
        left_out = [(who, "non-finite values", True)] if flag and who != leader else []
        match kind:
            case "enrol":
                agreed = TrainingConfig(2, 8, "mean", False, 1000, first_merge="average")
                await gateway.enrol(who, hashlib.sha256(who.encode()).digest(), flag or who == "a", agreed)
            case "check_in":
                digest = hashlib.sha256(f"{who}{now.round}".encode()).digest()
                call = CheckInCall(
                    now.round, now.last_accepted, who, digest, 64, b"\1" * 32, 50, flag, f"host-{who}", 1000
                )
                await gateway.check_in(call)
            case "close_round":
                await gateway.close_round(now.round, now.term)
            case "publish":
                await gateway.publish(now.round, now.term, leader, b"\2" * 32, 64, left_out)
            case "reopen":
                await gateway.reopen(now.round, now.term, leader, [(who, "non-finite values", True)])
            case "vote_out":
                await gateway.vote_out(now.round, now.term, who)
            case "report":
                await gateway.report(now.last_accepted, who, 0.25, 0.75, 3, 10)
            case "leave":
                await gateway.leave(who, "tired")
            case "reset":
                await gateway.reset()


async def assert_view_is_contract(gateway: TrainingReader, view: TrainingView) -> None:
    status = await gateway.status()
    people = await gateway.participants()
    by_index = [who.name for who in people]
    assert (view.state, view.round, view.first_round) == (status.state, status.round, status.first_round)
    assert view.term == status.term
    assert view.leader == (by_index[status.leader] if view.state == RoundState.MERGE else "")
    if view.config is not None:
        assert view.config == status.config
        assert (view.layout.rjust(32, b"\0"), view.layout_by) == (status.layout, status.layout_by)
    assert [_shape(who) for who in view.participants.values()] == [_shape(who) for who in people]
    assert len(view.active) == status.active_count
    if view.state != RoundState.COMPLETE:
        entries = [
            (by_index[entry.participant], entry.digest, entry.size, entry.weight, entry.finished)
            for entry in await gateway.check_ins(status.round)
        ]
        seen = [(it.name, it.digest, it.size, it.weight, it.finished) for it in view.check_ins.values()]
        assert sorted(seen) == sorted(entries)
    await assert_result_is_contract(gateway, view, status.last_accepted, by_index)


async def assert_result_is_contract(
    gateway: TrainingReader, view: TrainingView, accepted: int, by_index: list[str]
) -> None:
    if accepted == 0:
        assert view.last_result is None
        return
    result, merged = await gateway.result(accepted), await gateway.check_ins(accepted)
    assert result is not None and view.last_result is not None
    mine = view.last_result
    assert (mine.round, mine.digest, mine.size, mine.term) == (accepted, result.digest, result.size, result.term)
    assert mine.leader == by_index[result.leader]
    assert sorted(mine.merged) == sorted(by_index[entry.participant] for entry in merged)


def _shape(who: Any) -> tuple[Any, ...]:
    reported = (who.report_round, who.loss, who.metric, who.epochs_done, who.epochs_total)
    return (who.name, who.fingerprint, who.host, who.port, who.may_lead, who.active, *reported)


@pytest.fixture(scope="module")
def chain(tmp_path_factory: pytest.TempPathFactory) -> Iterator[tuple[asyncio.Runner, ChainBackend, NetworkGateway]]:
    """One chain for all examples; each deploys its own contract."""
    directory = tmp_path_factory.mktemp("history")

    async def opened() -> tuple[ChainBackend, NetworkGateway]:
        backend = await open_chain("embedded", directory)
        return backend, await NetworkGateway.deploy(backend)

    with asyncio.Runner() as runner:
        backend, network = runner.run(opened())
        yield runner, backend, network
        runner.run(backend.close())


@settings(max_examples=12, deadline=None, suppress_health_check=[HealthCheck.too_slow])
@given(steps=st.lists(step, min_size=4, max_size=24))
def test_folded_events_are_what_the_contract_says(chain: Any, steps: list[Step]) -> None:
    # Two nodes are enrolled from the start and sometimes checked in, so that histories make progress.
    opening: list[Step] = [("enrol", "a", True), ("enrol", "b", True), ("check_in", "a", False)]
    play_and_compare(chain, opening + steps)


def test_folded_events_agree_on_a_history_with_every_transition(chain: Any) -> None:
    history = [
        ("enrol", "a", True), ("enrol", "b", True), ("enrol", "c", True),
        ("check_in", "a", False), ("check_in", "b", False), ("check_in", "c", False),
        ("vote_out", "a", True), ("vote_out", "b", True), ("vote_out", "c", True),
        ("leave", "a", True), ("publish", "d", False), ("report", "b", True),
        ("check_in", "b", True), ("check_in", "c", True), ("reopen", "b", True), ("reopen", "c", True),
        ("check_in", "b", True), ("check_in", "c", True), ("publish", "d", False), ("report", "c", True),
        ("reset", "", True), ("enrol", "c", True), ("enrol", "d", True), ("check_in", "d", False),
    ]  # fmt: skip
    view = play_and_compare(chain, history)
    assert view.first_round > 1 and list(view.check_ins) == ["d"]


def test_folded_events_agree_when_the_only_leader_leaves_a_merge(chain: Any) -> None:
    history = [
        ("enrol", "a", True), ("enrol", "b", False), ("check_in", "a", False), ("check_in", "b", False),
        ("leave", "a", True), ("enrol", "a", True), ("check_in", "a", False),
    ]  # fmt: skip
    view = play_and_compare(chain, history)
    assert (view.state, view.leader, view.term) == (RoundState.MERGE, "a", 2)


def play_and_compare(chain: Any, steps: list[Step]) -> TrainingView:
    runner, backend, network = chain

    async def run() -> TrainingView:
        played = History(await TrainingReader.deploy(backend, network.address))
        await played.play(steps)
        return played.view

    return runner.run(run())
